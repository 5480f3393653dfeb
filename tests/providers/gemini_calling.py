"""How the tests of Gemini make a call."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt, Provider, ProviderParams
from voxgate_server.providers.gemini import GeminiProvider, build
from voxgate_server.providers.gemini_models import VERTEX_MEDIA_TYPES
from voxgate_server.providers.http_call import checked_base

from tests.providers.calling import WAV, attempt_with
from tests.providers.gemini_emulator import KEY, GeminiEmulator

GENERAL = "gemini-2.5-flash"
DEDICATED = "gemini-3.5-transcribe"
BOTH = (GENERAL, DEDICATED)


def provider_for(emulator: GeminiEmulator, model: str = GENERAL, **kwargs: Any) -> GeminiProvider:
    """At AI Studio, unless the emulator is Vertex AI."""
    if not emulator.vertex and not kwargs.keys() - {"default_params", "allowed_extra_params", "drop_params"}:
        values = {"api_key": kwargs.pop("api_key", KEY), "api_base": emulator.origin}
        allowed = frozenset(kwargs.pop("allowed_extra_params", ()))
        return build(ProviderParams("gemini", model, values, allowed_extra_params=allowed, **kwargs))
    key = kwargs.pop("api_key", KEY)

    async def headers(_: Attempt) -> Mapping[str, str]:
        return {"authorization": f"Bearer {key}"} if emulator.vertex else {"x-goog-api-key": key}

    place: dict[str, Any]
    if emulator.vertex:
        path = "/v1/projects/p-1/locations/global/publishers/google/models"
        place = {"name": "vertex_ai", "files_api": False, "media_types": VERTEX_MEDIA_TYPES}
    else:
        path, place = "/v1beta/models", {"name": "gemini", "files_api": True}
    return GeminiProvider(
        **{
            "model": model, "base": checked_base(emulator.origin, model), "secrets": (key,), "headers": headers,
            "path": lambda method: f"{path}/{model}:{method}", **place, **kwargs,
        }
    )  # fmt: skip


@asynccontextmanager
async def provider_at(emulator: GeminiEmulator, model: str = GENERAL, **kwargs: Any) -> AsyncIterator[GeminiProvider]:
    provider = provider_for(emulator, model, **kwargs)
    checked: Provider = provider
    assert (checked.name, checked.model) == ("vertex_ai" if emulator.vertex else "gemini", model)
    try:
        yield provider
    finally:
        await provider.aclose()


async def run(provider: GeminiProvider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events] == ["done"]
    return events[0].done.transcription


class Calling:
    """Sends the recording with some options and remembers the attempt."""

    def __init__(self, emulator: GeminiEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store
        self.attempt: Attempt | None = None

    async def __call__(
        self, config: str = "", model: str = GENERAL, *, data: bytes = WAV, seconds: float = 30,
        audio: AudioHeader | None = None, **kwargs: Any,
    ) -> Transcription:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            provider_at(self.emulator, model, **kwargs) as provider,
        ):
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds, audio=audio, data=data)
            return await run(provider, self.attempt)
