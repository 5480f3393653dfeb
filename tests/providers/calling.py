"""How the tests of the OpenAI dialect make a call."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.providers.base import Attempt, Provider
from voxgate_server.providers.openai import OpenAIProvider

from tests.providers import openai_emulator as emulation
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording

WAV = recording("demo-congrats.wav").data
KEY = "sk-emulator-0123456789"


@asynccontextmanager
async def provider_at(emulator: OpenAIEmulator, model: str = "whisper-1", **kwargs) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(model=model, **{"api_base": emulator.url, "api_key": KEY, **kwargs})
    checked: Provider = provider
    assert checked.name == "openai"
    assert checked.model == model
    try:
        yield provider
    finally:
        await provider.aclose()


def attempt_with(
    spool: Spool, config: str = "", *, seconds: float = 30, audio: AudioHeader | None = None, data: bytes = WAV
) -> Attempt:
    message = text_format.Parse(config, TranscriptionConfig(model="anything"))
    return Attempt("req_1", message, audio or AudioHeader(), spool, time.monotonic() + seconds, sniff(data))


async def run(provider: OpenAIProvider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events] == ["done"]
    assert events[0].sequence == 0
    return events[0].done.transcription


class Calling:
    """Sends the recording with some options and remembers the attempt."""

    def __init__(self, emulator: OpenAIEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store
        self.attempt: Attempt | None = None

    async def __call__(
        self, config: str = "", model: str = "whisper-1", *, data: bytes = WAV, seconds: float = 30,
        audio: AudioHeader | None = None, **kwargs,
    ) -> Transcription:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            provider_at(self.emulator, model, **kwargs) as provider,
        ):
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds, audio=audio, data=data)
            return await run(provider, self.attempt)


async def answered(call: Calling, body: bytes | str, config: str = "", **kwargs) -> Transcription:
    """What becomes of an answer with this body."""
    call.emulator.script(emulation.raw(body, **kwargs))
    return await call(config)
