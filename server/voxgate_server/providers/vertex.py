"""Google Cloud, `vertex_ai/…`: Gemini for the models of that name, Speech-to-Text v2 for all others."""

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping

from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import ProviderCredential
from voxgate_server.providers.base import Attempt, Provider, ProviderParams
from voxgate_server.providers.gemini import GeminiProvider
from voxgate_server.providers.gemini_models import VERTEX_MEDIA_TYPES
from voxgate_server.providers.google_auth import TokenSource, load_credentials
from voxgate_server.providers.http_call import checked_base, header_pairs
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.speech_v2 import SpeechV2Provider
from voxgate_server.providers.speech_v2_request import family_of

__all__ = ["VertexProvider", "build"]

# They become part of an address; whoever writes them must not choose the host.
_PROJECT = re.compile(r"(?:[a-z0-9.\-]{1,253}:)?[a-z0-9][a-z0-9\-]{0,62}")
_LOCATION = re.compile(r"[a-z][a-z0-9\-]{0,62}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@\-]{0,127}")
_TRANSCRIBE_SECONDS = 900
"""What gemini-3.5-transcribe takes on Vertex AI; at AI Studio it is an hour."""


class VertexProvider:
    """A provider together with the account it asks for.

    Args:
        provider: The provider.
        tokens: Where its tokens come from; closed with it.
    """

    def __init__(self, provider: Provider, tokens: TokenSource) -> None:
        self._provider = provider
        self._tokens = tokens

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._provider.name

    @property
    def model(self) -> str:
        """The model, by Google's name of it."""
        return self._provider.model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway."""
        return self._provider.capabilities

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt as the provider does; a token that is refused is not used again."""
        # One that is fetched for this very attempt and refused is not old but without the right.
        token = self._tokens.current
        try:
            async with contextlib.aclosing(self._provider.transcribe(attempt)) as events:
                async for event in events:
                    yield event
        except ProviderCredential:
            self._tokens.revoke(token)
            raise

    async def aclose(self) -> None:
        """Closes the connections, and gives up a token that is being fetched."""
        await self._provider.aclose()
        await self._tokens.aclose()


def build(params: ProviderParams) -> Provider:
    """The adapter of a deployment of `vertex_ai`.

    Raises:
        ValueError: There are no credentials or no project, or one of the parameters is wrong.
    """
    if not _MODEL.fullmatch(params.model):
        raise ValueError(f"'{params.model[:128]}' is no name of a model of Google's")
    key = params.get("api_key")
    credentials, found = load_credentials(params) if key is None else (None, None)
    project = params.get("vertex_project", "VERTEXAI_PROJECT", "GOOGLE_CLOUD_PROJECT") or found
    if project is None:
        raise ValueError("there is no vertex_project, and the credentials name none")
    if not _PROJECT.fullmatch(project):
        raise ValueError("vertex_project is not the name of a Google project")
    location = params.get("vertex_location", "VERTEXAI_LOCATION", "VERTEX_LOCATION")
    if location is not None and not _LOCATION.fullmatch(location):
        raise ValueError("vertex_location is not the name of a Google location")
    make = _gemini if params.model.startswith("gemini-") else _speech
    if credentials is None:
        return make(params, project, location, _Key(key or ""))
    tokens = TokenSource(credentials, Upstream(params.provider, params.model))
    return VertexProvider(make(params, project, location, tokens), tokens)


class _Key:
    """An API key, for places that take one instead of a token."""

    quota_project = None

    def __init__(self, key: str) -> None:
        header_pairs({"x-goog-api-key": key}, {})
        self._key = key

    async def headers(self, _attempt: Attempt) -> Mapping[str, str]:
        return {"x-goog-api-key": self._key}


def _speech(params: ProviderParams, project: str, location: str | None, account: TokenSource | _Key) -> Provider:
    # Google's own libraries name the project that pays in this header when the account belongs to another one.
    payer = account.quota_project or (project if isinstance(account, TokenSource) else None)
    return SpeechV2Provider(
        name=params.provider,
        model=params.model,
        project=project,
        location=location or family_of(params.model).location,
        headers=account.headers,
        api_base=params.get("api_base"),
        extra_headers=_with_payer(params.extra_headers, payer),
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        secrets=[params.get("api_key") or ""],
        credential=_credential(account),
        transport=params.transport(),
    )


def _gemini(params: ProviderParams, project: str, location: str | None, account: TokenSource | _Key) -> Provider:
    location = location or "global"
    match location:
        case "global":
            host = "aiplatform.googleapis.com"
        case "us" | "eu":
            host = f"aiplatform.{location}.rep.googleapis.com"
        case _:
            host = f"{location}-aiplatform.googleapis.com"
    place = f"/v1/projects/{project}/locations/{location}/publishers/google/models/{params.model}"
    return GeminiProvider(
        name=params.provider,
        model=params.model,
        base=checked_base(params.get("api_base") or f"https://{host}", f"{params.provider}/{params.model}"),
        path=lambda method: f"{place}:{method}",
        headers=account.headers,
        files_api=False,
        secrets=[params.get("api_key") or ""],
        credential=_credential(account),
        media_types=VERTEX_MEDIA_TYPES,
        max_audio_seconds=_TRANSCRIBE_SECONDS if "transcribe" in params.model else None,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        extra_headers=_with_payer(params.extra_headers, account.quota_project),
        transport=params.transport(),
    )


def _with_payer(extra_headers: Mapping[str, str], project: str | None) -> Mapping[str, str]:
    if project is None or any(name.lower() == "x-goog-user-project" for name in extra_headers):
        return extra_headers
    return {**extra_headers, "x-goog-user-project": project}


def _credential(account: TokenSource | _Key) -> str:
    return "vertex_credentials" if isinstance(account, TokenSource) else "api_key"
