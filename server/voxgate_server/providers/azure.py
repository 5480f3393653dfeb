"""Azure OpenAI: the dialect of OpenAI at paths of its own, for whoever has a key or a token of Entra ID."""

from dataclasses import replace
from urllib.parse import quote

from voxgate_server.providers.azure_token import (
    DEFAULT_AUTHORITY,
    DEFAULT_SCOPE,
    Application,
    EntraToken,
    StaticToken,
    Token,
)
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.openai import OpenAIProvider
from voxgate_server.providers.openai_dialects import AZURE

__all__ = ["build"]

_V1 = frozenset({"v1", "preview", "latest"})
_WHISPER_VERSION = "2024-10-21"
"""The first dated version that is no preview; whispers cannot be asked without one."""
_SECRETS = {"azure_ad_token": "AZURE_AD_TOKEN", "client_secret": "AZURE_CLIENT_SECRET"}
_APPLICATION = {"tenant_id": "AZURE_TENANT_ID", "client_id": "AZURE_CLIENT_ID", "client_secret": "AZURE_CLIENT_SECRET"}


def build(params: ProviderParams) -> OpenAIProvider:
    """The adapter of a deployment of `azure`. The model is the name of the deployment there.

    Raises:
        ValueError: There is no address or no credential, or one of the parameters is wrong.
    """
    base = params.need("api_base", "AZURE_API_BASE").rstrip("/")
    # The provider's own path is appended here, whether or not its beginning was copied along with the address.
    base = base.removesuffix("/openai/v1").removesuffix("/openai")
    key, token = _credential(params)
    return OpenAIProvider(
        dialect=AZURE,
        model=params.model,
        base_model=params.base_model,
        api_key=key,
        token=token,
        api_base=base,
        path=_path(params),
        secrets=[secret for name in _SECRETS if (secret := params.get(name, _SECRETS[name]))],
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )


def _path(params: ProviderParams) -> str:
    version = params.get("api_version", "AZURE_API_VERSION")
    whisper = AZURE.family_of(params.base_model or params.model).part == "whisper"
    if whisper and version in _V1:
        raise ValueError(
            f"whisper is not served with api_version '{version}'; set a dated one, e.g. {_WHISPER_VERSION}"
        )
    if whisper and version is None:
        version = _WHISPER_VERSION
    query = f"?api-version={quote(version, safe='')}" if version else ""
    if version is None or version in _V1:
        return f"/openai/v1/audio/{{task}}{query}"
    return f"/openai/deployments/{quote(params.model, safe='')}/audio/{{task}}{query}"


def _credential(params: ProviderParams) -> tuple[str | None, Token | None]:
    """The key or the token: what the deployment says before what the environment does."""
    for source in (replace(params, environ={}), params):
        if token := source.get("azure_ad_token", "AZURE_AD_TOKEN"):
            if token.startswith("oidc/"):
                raise ValueError("azure_ad_token: this release does not exchange tokens of other providers (oidc/…)")
            return None, StaticToken(token)
        if key := source.get("api_key", "AZURE_API_KEY"):
            return key, None
        # In the environment they may be somebody else's: there they count when they are complete.
        given = [bool(source.get(name, variable)) for name, variable in _APPLICATION.items()]
        if all(given) or any(source.values.get(name) for name in _APPLICATION):
            return None, _entra(params)
    params.need("api_key", "AZURE_API_KEY", "AZURE_AD_TOKEN")
    raise AssertionError


def _entra(params: ProviderParams) -> EntraToken:
    needed = {name: params.need(name, variable) for name, variable in _APPLICATION.items()}
    application = Application(
        **needed,
        authority=params.environ.get("AZURE_AUTHORITY_HOST") or DEFAULT_AUTHORITY,
        scope=params.environ.get("AZURE_SCOPE") or DEFAULT_SCOPE,
    )
    return EntraToken(application, Upstream.with_secrets("azure", params.model, [application.client_secret]))
