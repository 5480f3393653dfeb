"""How the tests of streamed answers make a call."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt, Provider

from tests.providers.calling import WAV, attempt_with

__all__ = ["Canned", "Streaming", "deltas", "done"]


def deltas(events: Sequence[TranscriptionEvent]) -> list[str]:
    return [event.delta.delta for event in events if event.HasField("delta")]


def done(events: Sequence[TranscriptionEvent]) -> Transcription:
    """The transcript, after checking that it comes once and last."""
    assert [event.HasField("done") for event in events] == [False] * (len(events) - 1) + [True]
    return events[-1].done.transcription


class Streaming:
    """Asks any provider for a stream, and remembers the attempt."""

    def __init__(self, store: SpoolStore) -> None:
        self.store = store
        self.attempt: Attempt

    async def __call__(self, provider: Provider, config: str = "", *, seconds: float = 30) -> list[TranscriptionEvent]:
        try:
            return [event async for event in self.begun(provider, config, seconds=seconds)]
        finally:
            await provider.aclose()

    async def begun(
        self, provider: Provider, config: str = "", *, seconds: float = 30
    ) -> AsyncIterator[TranscriptionEvent]:
        """The events, one by one."""
        async with self.store.open(max_bytes=1 << 40) as spool:
            await spool.write(WAV)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds)
            self.attempt.streamed = True
            async with contextlib.aclosing(provider.transcribe(self.attempt)) as events:
                async for event in events:
                    yield event


class Canned(httpx.AsyncBaseTransport):
    """A connection that takes a request and gives pieces of a stream, without any socket.

    Args:
        pieces: Of the body.
        broken: It breaks after them, as a body does that is cut inside its framing.
    """

    def __init__(self, pieces: Sequence[bytes], *, broken: bool) -> None:
        self._pieces = pieces
        self._broken = broken

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:
            pass
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=_Pieces(self._pieces, broken=self._broken)
        )


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: Sequence[bytes], *, broken: bool) -> None:
        self._pieces = pieces
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._broken:
            raise httpx.RemoteProtocolError("cut")
