"""LiteLLM's part of the configuration, as far as this release reads it, checked and unchangeable."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from voxgate_server.config.hidden import Hidden
from voxgate_server.config.keys import ADAPTER_KEYS, Standing, standing
from voxgate_server.config.router import Cooldown, LitellmSettings, RouterSettings, fallback_map, meanings
from voxgate_server.config.settings import VoxgateSettings
from voxgate_server.config.types import Amount, Count, Headers, Seconds, SecretText, Section, Text, Texts, http_url

__all__ = [
    "GatewayConfig",
    "GeneralSettings",
    "LitellmParams",
    "ModelEntry",
    "ModelInfo",
    "split_model",
]

_OPENAI_FAMILIES = ("gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe", "gpt-live-transcribe")
_OPENAI_MODELS = frozenset({"whisper-1", "gpt-realtime-whisper"})

_GRPC_PROVIDERS = frozenset({"nvidia_riva"})
_HOST_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}", re.ASCII)

AUDIO_MODES = frozenset({"audio_transcription", "audio_translation"})
"""Values of `model_info.mode` that mean a model for this gateway."""


def split_model(model: str, custom_llm_provider: str | None = None) -> tuple[str, str]:
    """The provider and its own name of a model, as LiteLLM reads them.

    `groq/whisper-large-v3` is groq's `whisper-large-v3`; `azure/speech/…` is `azure_speech`, which has nothing in
    common with Azure's OpenAI but the name; a bare `whisper-1`, `gpt-4o-transcribe…`,
    `gpt-4o-mini-transcribe…` or `gpt-transcribe…` is OpenAI's.

    Args:
        model: `provider/model`, or a bare name.
        custom_llm_provider: The provider, where it is configured apart from the name. Its prefix, if any, is cut off.

    Raises:
        ValueError: A bare name that does not say whose it is, or nothing before or after the slash.
    """
    if custom_llm_provider:
        return _speech_apart(custom_llm_provider, model.removeprefix(custom_llm_provider + "/"))
    provider, slash, name = model.partition("/")
    if slash and provider and name:
        return _speech_apart(provider, name)
    if not slash and (model in _OPENAI_MODELS or model.startswith(_OPENAI_FAMILIES)):
        return "openai", model
    raise ValueError("does not say whose model it is; write provider/model, for example openai/whisper-1")


def _speech_apart(provider: str, name: str) -> tuple[str, str]:
    of_speech = name.removeprefix("speech/")
    return ("azure_speech", of_speech) if provider == "azure" and of_speech not in {name, ""} else (provider, name)


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


def _address(value: str, info: ValidationInfo) -> str:
    provider = info.data.get("custom_llm_provider") or str(info.data.get("model")).partition("/")[0]
    return value if provider in _GRPC_PROVIDERS and _HOST_PORT.fullmatch(value) else http_url(value)


class LitellmParams(_Prices):
    """How a deployment is reached."""

    model: Text
    """`provider/model`; see `split_model`."""
    custom_llm_provider: Text | None = None
    """The provider, where `model` does not name it."""
    api_key: SecretText | None = None
    """The operator's key at the provider. Default: the variable the provider itself documents."""
    api_base: Annotated[Text, AfterValidator(_address)] | None = Field(
        default=None, validation_alias=AliasChoices("api_base", "base_url")
    )
    """What stands before the provider's own path, without a slash at its end. Default: the provider's. For a provider
    that speaks gRPC also `host:port`."""
    api_version: Text | None = None
    """Version of the provider's API, exactly as written; an unquoted date stays its text."""
    organization: Text | None = None
    """Organisation at the provider that is billed."""
    region_name: Text | None = None
    """Region of the provider's that is asked."""
    tenant_id: Text | None = None
    """Directory of an application that fetches its own tokens."""
    client_id: Text | None = None
    """Name of that application."""
    client_secret: SecretText | None = None
    """Secret of that application."""
    azure_ad_token: SecretText | None = None
    """A token in place of `api_key`."""
    vertex_project: Text | None = None
    """Google project that is billed. Default: the credentials' own."""
    vertex_location: Text | None = None
    """Google location, e.g. `us-central1`."""
    vertex_credentials: Annotated[SecretText, BeforeValidator(_json)] | None = None
    """Google credentials: JSON text, or the path of a file; a map becomes JSON text."""
    nvcf_function_id: Text | None = None
    """Function of NVIDIA's cloud that is asked."""
    use_ssl: bool | None = None
    """Speak TLS with a gRPC server. Default: by its address."""
    extra_headers: Headers = Field(default={}, repr=False)
    """Headers sent along with every request to the provider."""
    timeout: Seconds | None = None
    """Seconds one attempt may take. Default: `router_settings.timeout`."""
    drop_params: bool | None = None
    """Leave out, and report, options the model cannot do. Default: `litellm_settings.drop_params`."""
    weight: Amount | None = None
    """Share of the group's calls."""
    rpm: Count | None = None
    """Requests it takes a minute."""
    order: Count = 1
    """Rank inside the group; higher ones are asked after all lower ones failed. Default 1."""
    tags: Texts = ()
    """Words by which callers choose among deployments."""
    max_parallel_requests: Count | None = None
    """Requests it takes at once."""
    cooldown_time: Cooldown | None = None
    """Seconds it is left alone when it fails, 0 for never, whatever the provider says. Default: by the router."""
    allowed_openai_params: Texts = ()
    """Further options callers may send, by their names at the provider."""
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
            if key in ADAPTER_KEYS or standing(("model_list", 0, "litellm_params", key)).standing is Standing.UNKNOWN
        }
        return {**{key: value for key, value in data.items() if key not in extras}, "extras": extras}

    @property
    def is_any_provider(self) -> bool:
        """Whether only the name a caller asks for tells the provider, as with the wildcard `*`."""
        return "*" in self.model.partition("/")[0] and self.custom_llm_provider is None

    @property
    def provider(self) -> str:
        """The provider's name, in front of the slash. Raises ValueError where `is_any_provider`."""
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
    """Which model it is, where its name does not say, as with Azure's deployments."""


class ModelEntry(Section):
    """A deployment. Several with one `model_name` form a group."""

    model_name: Text
    """The group: the name callers ask for. With one `*`, a group for every name that fits."""
    litellm_params: LitellmParams
    model_info: ModelInfo = ModelInfo()
    _problems: tuple[str, ...] = PrivateAttr(default=())

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every model whose name fits."""
        return "*" in self.model_name

    def concrete(self, name: str) -> "ModelEntry":
        """The deployment a wildcard stands for.

        Args:
            name: What the `*` stands for.
        """
        params = self.litellm_params
        info = self.model_info.model_copy(update={"id": f"{self.model_info.id}:{name}"})
        update = {
            "model_name": self.model_name.replace("*", name),
            "litellm_params": params.model_copy(update={"model": params.model.replace("*", name)}),
            "model_info": info,
        }
        return self.model_copy(update=update)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it cannot be used; empty when it can. Reported as warnings at load."""
        return self._problems

    def with_problems(self, problems: tuple[str, ...]) -> "ModelEntry":
        """The same deployment, marked as unusable."""
        entry = self.model_copy()
        entry._problems = problems  # noqa: SLF001 (of the same class)
        return entry


class GeneralSettings(Section):
    """Settings of the server."""

    master_key: SecretText | None = None
    """The key callers have to show. Default: the variable LITELLM_MASTER_KEY; without either, no key is asked for."""
    dangerously_allow_mock_testing_request_params: bool = False
    """Every caller may ask for a failure (`mock_testing_fallbacks`). Default false: only with an admin key."""


def _credentials(value: Any) -> Hidden[Hidden[Any]]:
    """By name. What is wrong with the list was found when names were looked up in it."""
    found: dict[str, Hidden[Any]] = {}
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(name := entry.get("credential_name"), str):
            values, info = entry.get("credential_values"), entry.get("credential_info")
            provider = info.get("custom_llm_provider") if isinstance(info, dict) else None
            whose = {"custom_llm_provider": provider} if isinstance(provider, str) else {}
            found[name] = Hidden({**whose, **(values if isinstance(values, dict) else {})})
    return Hidden(found)


class GatewayConfig(Section):
    """A whole configuration."""

    model_list: tuple[ModelEntry, ...] = ()
    """All deployments, in the order of the file."""
    router_settings: RouterSettings = RouterSettings()
    litellm_settings: LitellmSettings = LitellmSettings()
    general_settings: GeneralSettings = GeneralSettings()
    voxgate: VoxgateSettings = VoxgateSettings()
    credentials: Annotated[Hidden[Hidden[Any]], PlainValidator(_credentials), PlainSerializer(list)] = Field(
        default=Hidden({}), validation_alias="credential_list"
    )
    """The values of each entry of `credential_list`, by its name, with whose they are (`custom_llm_provider`)."""

    @property
    def master_key(self) -> SecretStr | None:
        """The key callers have to show; None when no key is asked for."""
        return self.general_settings.master_key

    @cached_property
    def fallbacks(self) -> Mapping[str, tuple[str, ...]]:
        """What is tried after each group, in order; `*` stands for the groups that have no entry."""
        router, general = self.router_settings, self.litellm_settings
        found = fallback_map(router.fallbacks or general.fallbacks)
        if default := router.default_fallbacks or general.default_fallbacks:
            found.setdefault("*", tuple(dict.fromkeys(default)))
        return found

    @cached_property
    def context_window_fallbacks(self) -> Mapping[str, tuple[str, ...]]:
        """What is tried instead after a provider found the recording too large, in the form of `fallbacks`."""
        router, general = self.router_settings, self.litellm_settings
        return fallback_map(router.context_window_fallbacks or general.context_window_fallbacks)

    @cached_property
    def content_policy_fallbacks(self) -> Mapping[str, tuple[str, ...]]:
        """What is tried instead after a provider refused the content, in the form of `fallbacks`."""
        router, general = self.router_settings, self.litellm_settings
        return fallback_map(router.content_policy_fallbacks or general.content_policy_fallbacks)

    @property
    def num_retries(self) -> int | None:
        """Attempts after the first at each group; None when nothing is configured."""
        own = self.router_settings.num_retries
        return self.litellm_settings.num_retries if own is None else own

    @property
    def allowed_fails(self) -> int:
        """Failures in a row after which a deployment is not yet left alone."""
        own = self.router_settings.allowed_fails
        return self.litellm_settings.allowed_fails if own is None else own

    @cached_property
    def aliases(self) -> Mapping[str, str]:
        """The group each alias means in the end."""
        return meanings({name: alias.model for name, alias in self.router_settings.model_group_alias.items()})

    @property
    def hidden_aliases(self) -> frozenset[str]:
        """Aliases that are not listed."""
        return frozenset(name for name, alias in self.router_settings.model_group_alias.items() if alias.hidden)

    def attempt_seconds(self, entry: ModelEntry) -> float | None:
        """Seconds one attempt at a deployment may take; None leaves it what is left of the call."""
        router, general = self.router_settings, self.litellm_settings
        return entry.litellm_params.timeout or router.timeout or general.request_timeout

    def drops_params(self, entry: ModelEntry) -> bool:
        """Whether options the model cannot do are left out, and reported, instead of refused.

        The embedded recogniser does unless it is told not to: every client sends a temperature.
        """
        own = entry.litellm_params.drop_params
        return (self.litellm_settings.drop_params or entry.litellm_params.provider == "local") if own is None else own

    def cost_per_second(self, entry: ModelEntry) -> float | None:
        """US dollars for a second of audio, as configured at the deployment; None when nothing is.

        Each price is that of `litellm_params`, else that of `model_info`. LiteLLM's lists put the price of audio on
        the output for some models and 0 for the rest, so an output price above 0 wins.
        """
        params, info = entry.litellm_params, entry.model_info
        output = info.output_cost_per_second if params.output_cost_per_second is None else params.output_cost_per_second
        if output:
            return output
        given = info.input_cost_per_second if params.input_cost_per_second is None else params.input_cost_per_second
        return output if given is None else given
