"""Which adapter serves a deployment of the configuration."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from voxgate_server.config import GatewayConfig, ModelEntry
from voxgate_server.config.hosts import Network
from voxgate_server.providers.base import Provider

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

__all__ = ["PROVIDERS", "build_for_caller", "build_provider"]

# Adapters and the HTTP client are imported when a deployment needs them: the embedded recogniser is an extra, and the
# client takes its time.


def _local(entry: ModelEntry, config: GatewayConfig, _environ: Mapping[str, str]) -> Provider:
    from voxgate_server.providers.local import PocketsphinxProvider

    local = config.voxgate.local
    return PocketsphinxProvider(
        model=entry.litellm_params.provider_model, workers=local.workers, max_audio_seconds=local.max_audio_seconds
    )


def _openai(entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str]) -> Provider:
    base = entry.litellm_params.api_base or environ.get("OPENAI_BASE_URL") or environ.get("OPENAI_API_BASE")
    key = _api_key(entry, environ, "OPENAI_API_KEY")
    if key is None and base is None:
        raise ValueError("there is no api_key, and OPENAI_API_KEY is not set")
    return _openai_dialect(entry, config, key, base or "https://api.openai.com/v1")


def _hosted_vllm(entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str]) -> Provider:
    base = entry.litellm_params.api_base or environ.get("HOSTED_VLLM_API_BASE")
    if base is None:
        raise ValueError("there is no api_base, and HOSTED_VLLM_API_BASE is not set")
    return _openai_dialect(entry, config, _api_key(entry, environ, "HOSTED_VLLM_API_KEY"), base)


def _openai_dialect(entry: ModelEntry, config: GatewayConfig, api_key: str | None, api_base: str) -> Provider:
    from voxgate_server.providers.openai import OpenAIProvider

    params = entry.litellm_params
    return OpenAIProvider(
        name=params.provider,
        model=params.provider_model,
        api_key=api_key,
        api_base=api_base,
        organization=params.organization,
        extra_headers={name: value.get_secret_value() for name, value in params.extra_headers.items()},
        drop_params=config.drops_params(entry),
        allowed_extra_params=params.allowed_openai_params,
        default_params=params.extras,
    )


def _api_key(entry: ModelEntry, environ: Mapping[str, str], variable: str) -> str | None:
    key = entry.litellm_params.api_key
    return key.get_secret_value() if key is not None else environ.get(variable)


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
        provider: `openai` or `hosted_vllm`.
        model: By the provider's name of it.
        params: `api_key` and `api_base`, where there are any.
        networks: What the host in `api_base` may lead to; nothing means every public address, None that the operator
            chose it, wherever it leads.
        resolver: Finds the host's addresses; None means the system's.

    Raises:
        ValueError: There can be none; the message says why.
    """
    from voxgate_server.providers.http import AiohttpTransport
    from voxgate_server.providers.openai import OpenAIProvider
    from voxgate_server.providers.pinning import PinningResolver

    base = params.get("api_base")
    if provider == "hosted_vllm" and base is None:
        raise ValueError("hosted_vllm needs an api_base")
    pinning = None if networks is None else PinningResolver(networks, resolver=resolver)
    return OpenAIProvider(
        name=provider,
        model=model,
        api_key=params.get("api_key"),
        api_base=base or "https://api.openai.com/v1",
        transport=AiohttpTransport(resolver=pinning),
    )


PROVIDERS: Mapping[str, Callable[[ModelEntry, GatewayConfig, Mapping[str, str]], Provider]] = {
    "openai": _openai,
    "hosted_vllm": _hosted_vllm,
    "local": _local,
}
"""Builders of adapters by the provider's name, as it stands before the slash of `provider/model`."""


def build_provider(entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str]) -> Provider:
    """The adapter of one deployment.

    Args:
        entry: The deployment.
        config: The configuration it is part of.
        environ: Where the provider's usual variables are looked up.

    Raises:
        ValueError: There can be none; the message says why.
    """
    name = entry.litellm_params.provider
    if name not in PROVIDERS:
        raise ValueError(f"this release has no provider '{name}'; it has {', '.join(PROVIDERS)}")
    return PROVIDERS[name](entry, config, environ)
