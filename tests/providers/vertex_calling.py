"""How the tests of Google Cloud's models make a call."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.providers.base import Attempt, Provider, ProviderParams
from voxgate_server.providers.vertex import build

from tests.providers.vertex_emulator import VertexEmulator
from tests.recordings import recording

__all__ = ["THANKS", "VertexCalling", "attempt_at", "params_for", "provider_for", "run"]

THANKS = recording("demo-thanks.wav").data


def params_for(emulator: VertexEmulator, model: str = "chirp_3", **params: Any) -> ProviderParams:
    """The parameters of a deployment at the emulator."""
    values = {
        "api_base": emulator.origin,
        "vertex_credentials": json.dumps(emulator.tokens.account),
        "vertex_location": emulator.location,
        **params.pop("values", {}),
    }
    return ProviderParams("vertex_ai", model, {name: value for name, value in values.items() if value}, **params)


@asynccontextmanager
async def provider_for(params: ProviderParams) -> AsyncIterator[Provider]:
    provider: Provider = build(params)
    assert (provider.name, provider.model) == (params.provider, params.model)
    try:
        yield provider
    finally:
        await provider.aclose()


def attempt_at(
    spool: Spool, config: str = "", *, seconds: float = 30, audio: AudioHeader | None = None, head: bytes = THANKS
) -> Attempt:
    message = text_format.Parse(config, TranscriptionConfig(model="anything"))
    return Attempt("req_1", message, audio or AudioHeader(), spool, time.monotonic() + seconds, sniff(head))


async def run(provider: Provider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events][-1] == "done"
    return events[-1].done.transcription


class VertexCalling:
    """Sends a recording with some options and remembers the attempt."""

    def __init__(self, emulator: VertexEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store
        self.attempt: Attempt | None = None

    async def __call__(
        self, config: str = "", model: str = "chirp_3", *, data: bytes = THANKS, seconds: float = 30,
        audio: AudioHeader | None = None, **params: Any,
    ) -> Transcription:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            provider_for(params_for(self.emulator, model, **params)) as provider,
        ):
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_at(spool, config, seconds=seconds, audio=audio, head=data)
            return await run(provider, self.attempt)

    @property
    def sent(self) -> Mapping[str, Any]:
        """The last RecognitionConfig the emulator took."""
        config: dict[str, Any] = self.emulator.requests[-1]["config"]
        return config
