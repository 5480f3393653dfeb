"""LiteLLM's part of the configuration, as far as this release reads it, checked and unchangeable."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, PrivateAttr, SecretStr, model_validator

from voxgate_server.config.keys import Standing, standing
from voxgate_server.config.settings import VoxgateSettings
from voxgate_server.config.types import Amount, Count, Headers, HttpUrl, Seconds, SecretText, Section, Text, Texts

__all__ = [
    "Alias",
    "GatewayConfig",
    "GeneralSettings",
    "LitellmParams",
    "LitellmSettings",
    "ModelEntry",
    "ModelInfo",
    "RouterSettings",
    "split_model",
]

_OPENAI_FAMILIES = ("gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe", "gpt-live-transcribe")
_OPENAI_MODELS = frozenset({"whisper-1", "gpt-realtime-whisper"})

AUDIO_MODES = frozenset({"audio_transcription", "audio_translation"})
"""Values of `model_info.mode` that mean a model for this gateway."""


def split_model(model: str, custom_llm_provider: str | None = None) -> tuple[str, str]:
    """The provider and its own name of a model, as LiteLLM reads them.

    `groq/whisper-large-v3` is groq's `whisper-large-v3`; a bare `whisper-1`, `gpt-4o-transcribe…`,
    `gpt-4o-mini-transcribe…` or `gpt-transcribe…` is OpenAI's.

    Args:
        model: `provider/model`, or a bare name.
        custom_llm_provider: The provider, where it is configured apart from the name. Its prefix, if any, is cut off.

    Raises:
        ValueError: A bare name that does not say whose it is, or nothing before or after the slash.
    """
    if custom_llm_provider:
        return custom_llm_provider, model.removeprefix(custom_llm_provider + "/")
    provider, slash, name = model.partition("/")
    if slash and provider and name:
        return provider, name
    if not slash and (model in _OPENAI_MODELS or model.startswith(_OPENAI_FAMILIES)):
        return "openai", model
    raise ValueError("does not say whose model it is; write provider/model, for example openai/whisper-1")


class _Prices(Section):
    input_cost_per_second: Amount | None = None
    """US dollars for a second of audio."""
    output_cost_per_second: Amount | None = None
    """US dollars for a second of audio, where a price list puts it on the output."""
    input_cost_per_token: Amount | None = None
    """US dollars for a token of the prompt."""
    input_cost_per_audio_token: Amount | None = None
    """US dollars for a token of audio."""
    output_cost_per_token: Amount | None = None
    """US dollars for a token of the transcript."""


def _json(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


class LitellmParams(_Prices):
    """How a deployment is reached."""

    model: Text
    """`provider/model`; see `split_model`."""
    custom_llm_provider: Text | None = None
    """The provider, where `model` does not name it."""
    api_key: SecretText | None = None
    """The operator's key at the provider. Default: the variable the provider itself documents."""
    api_base: HttpUrl | None = Field(default=None, validation_alias=AliasChoices("api_base", "base_url"))
    """What stands before the provider's own path, without a slash at its end. Default: the provider's."""
    api_version: Text | None = None
    """Version of the provider's API, exactly as written; an unquoted date stays its text."""
    organization: Text | None = None
    """Organisation at the provider that is billed."""
    client_secret: SecretText | None = None
    """Secret of an application that fetches its own tokens."""
    azure_ad_token: SecretText | None = None
    """A token in place of `api_key`."""
    vertex_credentials: Annotated[SecretText, BeforeValidator(_json)] | None = None
    """Google credentials: JSON text, or the path of a file; a map becomes JSON text."""
    extra_headers: Headers = Field(default={}, repr=False)
    """Headers sent along with every request to the provider."""
    timeout: Seconds | None = None
    """Seconds one attempt may take. Default: `router_settings.timeout`."""
    drop_params: bool | None = None
    """Leave out, and report, options the model cannot do. Default: `litellm_settings.drop_params`."""
    weight: Amount | None = None
    """Share of the group's calls."""
    rpm: Count | None = None
    """Requests a minute."""
    order: Count | None = None
    """Rank inside the group, 1 first."""
    tags: Texts = ()
    """Words by which callers choose among deployments."""
    max_parallel_requests: Count | None = None
    """Requests in progress at once."""
    extras: Mapping[str, Any] = Field(default={}, repr=False)
    """Keys LiteLLM has no meaning for, for the provider's adapter. May hold secrets: never show them."""

    @model_validator(mode="before")
    @classmethod
    def _collect_extras(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # LiteLLM's own keys never reach a provider, whether this release knows what to do with them or not.
        extras = {
            key: value
            for key, value in data.items()
            if standing(("model_list", 0, "litellm_params", key)).standing is Standing.UNKNOWN
        }
        return {**{key: value for key, value in data.items() if key not in extras}, "extras": extras}

    @property
    def provider(self) -> str:
        """The provider's name, in front of the slash."""
        return split_model(self.model, self.custom_llm_provider)[0]

    @property
    def provider_model(self) -> str:
        """The model, by the provider's own name."""
        return split_model(self.model, self.custom_llm_provider)[1]


class ModelInfo(_Prices):
    """What is known about a deployment."""

    id: Text = "unnamed"
    """Unique name of the deployment. Default: derived from its parameters when the file is loaded."""
    mode: Text | None = None
    """`audio_transcription`, or nothing; deployments with another mode are not served."""
    base_model: Text | None = None
    """Model the price is looked up by."""


class ModelEntry(Section):
    """A deployment. Several with one `model_name` form a group."""

    model_name: Text
    """The group: the name callers ask for."""
    litellm_params: LitellmParams
    model_info: ModelInfo = ModelInfo()
    _problems: tuple[str, ...] = PrivateAttr(default=())

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it cannot be used; empty when it can. Reported as warnings at load."""
        return self._problems

    def with_problems(self, problems: tuple[str, ...]) -> "ModelEntry":
        """The same deployment, marked as unusable."""
        entry = self.model_copy()
        entry._problems = problems  # noqa: SLF001 (of the same class)
        return entry


def fallback_rules(value: Any) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    """`(group, target, path)` of each target in a list of maps, in order, as far as it has that form.

    Args:
        value: `[{"group": ["target", …]}, …]`; a target may also be a map with `model`.
    """
    for index, rule in enumerate(value if isinstance(value, list | tuple) else ()):
        for group, targets in rule.items() if isinstance(rule, Mapping) else ():
            listed = [targets] if isinstance(targets, str) else targets if isinstance(targets, list | tuple) else []
            for number, target in enumerate(listed):
                name = target.get("model") if isinstance(target, Mapping) else target
                if isinstance(name, str):
                    yield group, name, (index, group, number)


def _target(value: Any) -> Any:
    return value["model"] if isinstance(value, dict) and "model" in value else value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Fallbacks = tuple[
    Mapping[str, Annotated[tuple[Annotated[Text, BeforeValidator(_target)], ...], BeforeValidator(_one_or_more)]], ...
]
"""LiteLLM's form: a list of maps from a group to the groups tried after it, in order."""


class Alias(Section):
    """Another name for a group."""

    model: Text
    """The group, or another alias."""
    hidden: bool = False
    """Not listed among the models. Default false."""


def meanings(direct: Mapping[str, str]) -> dict[str, str]:
    """What each name means in the end, where a name may mean another name. A circle ends where it is entered."""
    found: dict[str, str] = {}
    for name in direct:
        trail: dict[str, None] = {}
        end = name
        while end in direct and end not in found and end not in trail:
            trail[end] = None
            end = direct[end]
        found.update(dict.fromkeys(trail, found.get(end, end)))
    return found


def _alias(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class RouterSettings(Section):
    """How calls find their deployment."""

    timeout: Seconds | None = None
    """Seconds one attempt may take. Default: `litellm_settings.request_timeout`."""
    fallbacks: Fallbacks = ()
    """Groups tried after a group has failed."""
    default_fallbacks: Texts = ()
    """Groups tried after a group without fallbacks of its own has failed."""
    model_group_alias: Mapping[str, Annotated[Alias, BeforeValidator(_alias)]] = {}
    """Other names for groups. An alias wins over a group of the same name."""


class LitellmSettings(Section):
    """Settings of LiteLLM as a whole."""

    request_timeout: Seconds | None = None
    """Seconds one attempt may take. Default: the rest of the call's own time."""
    drop_params: bool = False
    """Leave out, and report, options a model cannot do. Default false: such a call is refused."""
    fallbacks: Fallbacks = ()
    """As in `router_settings`, where they win."""
    default_fallbacks: Texts = ()
    """As in `router_settings`, where they win."""


class GeneralSettings(Section):
    """Settings of the server."""

    master_key: SecretText | None = None
    """The key callers have to show. Default: the variable LITELLM_MASTER_KEY; without either, no key is asked for."""


class GatewayConfig(Section):
    """A whole configuration."""

    model_list: tuple[ModelEntry, ...] = ()
    """All deployments, in the order of the file."""
    router_settings: RouterSettings = RouterSettings()
    litellm_settings: LitellmSettings = LitellmSettings()
    general_settings: GeneralSettings = GeneralSettings()
    voxgate: VoxgateSettings = VoxgateSettings()

    @property
    def master_key(self) -> SecretStr | None:
        """The key callers have to show; None when no key is asked for."""
        return self.general_settings.master_key

    @cached_property
    def fallbacks(self) -> Mapping[str, tuple[str, ...]]:
        """What is tried after each group, in order; `*` stands for the groups that have no entry."""
        router, general = self.router_settings, self.litellm_settings
        found: dict[str, list[str]] = {}
        for group, target, _ in fallback_rules(router.fallbacks or general.fallbacks):
            found.setdefault(group, []).append(target)
        if default := router.default_fallbacks or general.default_fallbacks:
            found.setdefault("*", list(default))
        return {group: tuple(dict.fromkeys(targets)) for group, targets in found.items()}

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """The group each alias means in the end."""
        return meanings({name: alias.model for name, alias in self.router_settings.model_group_alias.items()})

    def attempt_seconds(self, entry: ModelEntry) -> float | None:
        """Seconds one attempt at a deployment may take; None leaves it what is left of the call."""
        router, general = self.router_settings, self.litellm_settings
        return entry.litellm_params.timeout or router.timeout or general.request_timeout

    def drops_params(self, entry: ModelEntry) -> bool:
        """Whether options the model cannot do are left out, and reported, instead of refused."""
        own = entry.litellm_params.drop_params
        return self.litellm_settings.drop_params if own is None else own
