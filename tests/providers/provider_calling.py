"""How the tests of an adapter make a call, whichever adapter it is."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf import text_format
from google.protobuf.struct_pb2 import Struct
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt, Provider

from tests.providers.calling import WAV, attempt_with, run
from tests.providers.emulator import Emulator, raw

__all__ = ["DIARIZED", "ProviderCalling", "extras", "run"]

DIARIZED = "response_format: RESPONSE_FORMAT_DIARIZED_JSON "


def extras(**values: object) -> str:
    """A configuration with `extra_params`."""
    struct = Struct()
    struct.update(values)  # type: ignore[arg-type]
    return f"extra_params {{ {text_format.MessageToString(struct, as_one_line=True)} }}"


class ProviderCalling:
    """Sends the recording with some options and remembers the attempt.

    Args:
        emulator: Who answers.
        store: Where recordings are kept.
        make: Makes the adapter; takes what a call says besides the configuration and the audio.
    """

    def __init__(self, emulator: Emulator, store: SpoolStore, make: Callable[..., Provider]) -> None:
        self.emulator, self.store, self._make = emulator, store, make
        self.attempt: Attempt | None = None

    @asynccontextmanager
    async def provider(self, **kwargs: Any) -> AsyncIterator[Provider]:
        provider = self._make(**kwargs)
        try:
            yield provider
        finally:
            await provider.aclose()

    async def __call__(
        self, config: str = "", *, data: bytes = WAV, seconds: float = 30, audio: AudioHeader | None = None,
        **kwargs: Any,
    ) -> Transcription:  # fmt: skip
        async with self.store.open(max_bytes=1 << 40) as spool, self.provider(**kwargs) as provider:
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds, audio=audio, data=data)
            return await run(provider, self.attempt)

    async def answered(self, body: bytes | str, config: str = "", **kwargs: Any) -> Transcription:
        """What becomes of an answer with this body."""
        self.emulator.script(raw(body))
        return await self(config, **kwargs)
