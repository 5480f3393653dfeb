"""Which adapter serves a deployment of the configuration."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from pydantic import SecretStr

from voxgate_server.config import GatewayConfig, ModelEntry
from voxgate_server.config.hosts import Network
from voxgate_server.providers.base import Builder, Provider, ProviderParams

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

__all__ = ["ENTRY_POINTS", "PROVIDERS", "build_for_caller", "build_provider", "provider_names"]

ENTRY_POINTS = "voxgate.providers"
"""Group of entry points by which other distributions bring providers; each is a `Builder`."""

PROVIDERS: Mapping[str, str | Builder] = {
    "openai": "openai:build",
    "azure": "azure:build",
    "groq": "openai:build",
    "fireworks_ai": "openai:build",
    "ovhcloud": "openai:build",
    "mistral": "openai:build",
    "hosted_vllm": "openai:build",
    "openai_like": "openai:build",
    "custom_openai": "openai:build",
    "litellm_proxy": "openai:build",
    "lm_studio": "openai:build",
    "xinference": "openai:build",
    "deepinfra": "openai:build",
    "scaleway": "openai:build",
    "together_ai": "openai:build",
    "deepgram": "deepgram:build",
    "gemini": "gemini:build",
    "elevenlabs": "elevenlabs:build",
    "assemblyai": "assemblyai:build",
    "azure_speech": "azure_speech:build",
    "vertex_ai": "vertex:build",
    "nvidia_riva": "riva:build",
    "local": "local:build",
    "faster_whisper": "local.whisper:build",
    "sherpa_onnx": "local.sherpa:build",
}
"""Builders by the provider's name, as it stands before the slash of `provider/model`: `module:function` below
`voxgate_server.providers`. Imported when a deployment needs them: what they need may be an extra."""

_VALUES = (
    "api_key", "api_base", "api_version", "organization", "region_name", "tenant_id", "client_id", "client_secret",
    "azure_ad_token", "vertex_project", "vertex_location", "vertex_credentials", "nvcf_function_id", "use_ssl",
)  # fmt: skip


def provider_names() -> list[str]:
    """Every provider there is, those of other distributions after our own."""
    return [*PROVIDERS, *(name for name in _installed() if name not in PROVIDERS)]


def build_provider(entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str]) -> Provider:
    """The adapter of one deployment.

    Args:
        entry: The deployment.
        config: The configuration it is part of.
        environ: Where the provider's usual variables are looked up.

    Raises:
        ValueError: There can be none; the message says why.
    """
    params = entry.litellm_params
    values = {name: _plain(value) for name in _VALUES if (value := getattr(params, name)) is not None}
    return _build(
        ProviderParams(
            provider=params.provider,
            model=params.provider_model,
            # Price lists name models with their provider, and that is where most people copy it from.
            base_model=(entry.model_info.base_model or "").rpartition("/")[2] or None,
            values=values,
            extra_headers={name: value.get_secret_value() for name, value in params.extra_headers.items()},
            drop_params=config.drops_params(entry),
            allowed_extra_params=frozenset(params.allowed_openai_params),
            default_params=params.extras,
            environ=environ,
            local=config.voxgate.local.model_dump(),
        )
    )


def build_for_caller(
    provider: str,
    model: str,
    params: Mapping[str, str],
    networks: Sequence[Network] | None = None,
    resolver: "AbstractResolver | None" = None,
) -> Provider:
    """The adapter of a place that no deployment of the configuration names.

    Nothing comes from the environment: a key of the operator's must not go where a caller points.

    Args:
        provider: Its name.
        model: By the provider's name of it.
        params: `api_key` and `api_base`, where there are any.
        networks: What the host in `api_base` may lead to; nothing means every public address, None that the operator
            chose it, wherever it leads.
        resolver: Finds the host's addresses; None means the system's.

    Raises:
        ValueError: There can be none; the message says why.
    """
    if networks is None:
        return _build(ProviderParams(provider=provider, model=model, values=params))
    from voxgate_server.providers.http import AiohttpTransport
    from voxgate_server.providers.pinning import PinningResolver

    made: list[AiohttpTransport] = []

    def pinned() -> AiohttpTransport:
        made.append(AiohttpTransport(resolver=PinningResolver(networks, resolver=resolver)))
        return made[-1]

    built = _build(ProviderParams(provider=provider, model=model, values=params, pinned=pinned))
    if not made:
        # It would dial by itself, wherever the name leads.
        raise ValueError(f"'{provider}' goes to no host of a caller's choice in this release")
    return built


def _build(params: ProviderParams) -> Provider:
    builder = PROVIDERS.get(params.provider)
    if builder is None:
        if params.provider not in _installed():
            raise ValueError(f"this release has no provider '{params.provider}'; it has {', '.join(provider_names())}")
        builder = _loaded(_installed()[params.provider])
    if isinstance(builder, str):
        module, _, function = builder.partition(":")
        builder = getattr(import_module(f"voxgate_server.providers.{module}"), function)
    built: Provider = builder(params)
    return built


def _loaded(point: EntryPoint) -> Builder:
    try:
        builder: Builder = point.load()
    except Exception as error:  # whatever goes wrong in somebody else's package, the other deployments serve
        raise ValueError(f"the package of the provider '{point.name}' cannot be loaded: {error!r}"[:300]) from error
    return builder


@cache
def _installed() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _plain(value: str | bool | SecretStr) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.get_secret_value() if isinstance(value, SecretStr) else value
