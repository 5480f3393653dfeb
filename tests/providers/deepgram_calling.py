"""How the tests of Deepgram make a call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt, Provider
from voxgate_server.providers.deepgram import DeepgramProvider

from tests.providers.calling import WAV, attempt_with
from tests.providers.deepgram_emulator import KEY, DeepgramEmulator
from tests.providers.emulator import raw


@asynccontextmanager
async def deepgram_at(emulator: DeepgramEmulator, model: str = "nova-3", **kwargs) -> AsyncIterator[DeepgramProvider]:
    provider = DeepgramProvider(model=model, **{"api_base": emulator.url, "api_key": KEY, **kwargs})
    try:
        yield provider
    finally:
        await provider.aclose()


async def run(provider: Provider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events] == ["done"]
    return events[0].done.transcription


class DeepgramCalling:
    """Sends the recording with some options and remembers the attempt."""

    def __init__(self, emulator: DeepgramEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store
        self.attempt: Attempt | None = None

    async def __call__(
        self, config: str = "", model: str = "nova-3", *, data: bytes = WAV, seconds: float = 30,
        audio: AudioHeader | None = None, **kwargs,
    ) -> Transcription:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            deepgram_at(self.emulator, model, **kwargs) as provider,
        ):
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds, audio=audio, data=data)
            return await run(provider, self.attempt)

    async def answered(self, body: bytes | str, config: str = "", **kwargs) -> Transcription:
        """What becomes of an answer with this body."""
        self.emulator.script(raw(body, **kwargs))
        return await self(config)

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the last call, without those that every call has."""
        fields = self.emulator.records[-1].fields
        values = {name: [value for key, value in fields if key == name] for name, _ in fields}
        for name in ("model", "punctuate", "smart_format", "utterances", "detect_language"):
            if name == "model" or values.get(name) == ["true"]:
                del values[name]
        return values
