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
from voxgate_server.providers import azure as azure_module
from voxgate_server.providers.base import Attempt, Provider, ProviderParams
from voxgate_server.providers.openai import OpenAIProvider, build

from tests.providers import openai_emulator as emulation
from tests.providers.azure_emulator import AzureEmulator
from tests.providers.dialect_emulator import DialectEmulator
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


async def run(provider: Provider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events] == ["done"]
    assert events[0].sequence == 0
    return events[0].done.transcription


def built(emulator: DialectEmulator, model: str, **params) -> OpenAIProvider:
    """The adapter of a deployment at the emulator."""
    values = {"api_base": emulator.url, "api_key": emulator.key or ""}
    return build(ProviderParams(provider=emulator.provider, model=model, values=values, **params))


def azure(
    emulator: AzureEmulator, model: str = "whisper", *, base_model: str | None = None, **values: str | None
) -> OpenAIProvider:
    """The adapter of a deployment at Azure's emulator, with the key of the resource."""
    given = {"api_base": emulator.url, "api_key": emulator.key, **values}
    values = {name: value for name, value in given.items() if value is not None}
    return azure_module.build(ProviderParams(provider="azure", model=model, base_model=base_model, values=values))


def formatted(name: str) -> str:
    """The config of a call that wants this format."""
    return f"response_format: RESPONSE_FORMAT_{name.upper()}"


class Asking:
    """Asks any provider with the recording and some options, and remembers the attempt."""

    def __init__(self, store: SpoolStore) -> None:
        self.store = store
        self.attempt: Attempt | None = None

    async def __call__(
        self, provider: Provider, config: str = "", *, data: bytes = WAV, audio: AudioHeader | None = None,
        seconds: float = 30,
    ) -> Transcription:  # fmt: skip
        async with self.store.open(max_bytes=1 << 40) as spool:
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, audio=audio, data=data, seconds=seconds)
            try:
                return await run(provider, self.attempt)
            finally:
                await provider.aclose()


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
