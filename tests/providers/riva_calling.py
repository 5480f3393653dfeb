"""How the tests of Riva make a call."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.providers import Attempt, Provider
from voxgate_server.providers.riva import RivaProvider

from tests.providers.riva_emulator import RivaEmulator
from tests.recordings import recording

WAV = recording("demo-congrats.wav").data


@asynccontextmanager
async def riva_at(target: str, model: str = "default", **kwargs: Any) -> AsyncIterator[RivaProvider]:
    provider = RivaProvider(**{"model": model, "api_base": target, **kwargs})
    checked: Provider = provider
    assert checked.name == "nvidia_riva"
    try:
        yield provider
    finally:
        await provider.aclose()


def attempt_with(spool: Spool, config: str = "", *, data: bytes = WAV, audio: str = "", seconds: float = 60) -> Attempt:
    message = text_format.Parse(config, TranscriptionConfig(model="anything"))
    header = text_format.Parse(audio, AudioHeader())
    return Attempt("req_1", message, header, spool, time.monotonic() + seconds, sniff(data))


@dataclass
class Answer:
    """What came of a call."""

    attempt: Attempt
    deltas: list[str] = field(default_factory=list)
    transcription: Transcription = field(default_factory=Transcription)


async def follow(provider: Provider, attempt: Attempt) -> Answer:
    """Runs an attempt to its end and holds the order of events to the rules."""
    answer, done = Answer(attempt), False
    async for event in provider.transcribe(attempt):
        assert not done
        if event.HasField("done"):
            answer.transcription, done = event.done.transcription, True
        else:
            answer.deltas.append(event.delta.delta)
    assert done
    assert "".join(answer.deltas) == answer.transcription.text
    return answer


class RivaCalling:
    """Sends a whole recording with some options."""

    def __init__(self, emulator: RivaEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store

    async def __call__(
        self, config: str = "", model: str = "default", *, data: bytes = WAV, audio: str = "", seconds: float = 60,
        **kwargs: Any,
    ) -> Answer:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            riva_at(kwargs.pop("target", self.emulator.target), model, **kwargs) as provider,
        ):
            await spool.write(data)
            spool.finish()
            return await follow(provider, attempt_with(spool, config, data=data, audio=audio, seconds=seconds))
