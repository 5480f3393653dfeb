"""How the tests of live sessions talk to a gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf import text_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioTrailer
from voxgate_client._async_client import _write

from tests.running import METADATA, Gateway

PCM_16K = "raw_format {encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000}"
SECONDS = 60.0
"""A guard against hanging, never a measure."""


def start(
    model: str = "whisper-1", config: str = "", *, audio: str = PCM_16K, options: str = ""
) -> api.TranscribeLiveRequest:
    text = f'start {{ config {{ model: "{model}" {config} }} audio {{ {audio} }} {options} }}'
    return text_format.Parse(text, api.TranscribeLiveRequest())


def chunk(data: bytes) -> api.TranscribeLiveRequest:
    return api.TranscribeLiveRequest(chunk=AudioChunk(data=data))


def silence(milliseconds: int) -> api.TranscribeLiveRequest:
    return api.TranscribeLiveRequest(silence=api.SilenceChunk(duration_ms=milliseconds))


def finish(size: int, sha256: bytes | None = None) -> api.TranscribeLiveRequest:
    return api.TranscribeLiveRequest(finish=AudioTrailer(size_bytes=size, sha256=sha256))


async def eventually(holds: Callable[[], object]) -> None:
    """Waits for something that tells nobody when it comes true."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def reason(error: grpc.RpcError) -> str:
    """Why a session failed, as in ErrorReason."""
    return info(error).reason


def info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    status = rpc_status.from_call(error)
    assert status is not None, error
    found = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(found) for detail in status.details if detail.Is(found.DESCRIPTOR))
    return found


COMMIT = api.TranscribeLiveRequest(commit=api.CommitAudio())
CLEAR = api.TranscribeLiveRequest(clear=api.ClearAudio())
MANUAL = "turn_detection { manual {} }"


def chunks(data: bytes, size: int = 3200) -> list[api.TranscribeLiveRequest]:
    """100 ms each at 16 kHz."""
    return [chunk(data[at : at + size]) for at in range(0, len(data), size)]


def audio_size(messages: Iterable[api.TranscribeLiveRequest]) -> int:
    return sum(len(message.chunk.data) for message in messages)


class Session:
    """A session under way. Checks the rules that hold for every session as the events come."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.events: list[api.TranscribeLiveResponse] = []
        self._committed: list[str] = []
        self._completed: list[str] = []

    async def send(self, *messages: api.TranscribeLiveRequest, pause: float = 0.0) -> None:
        for message in messages:
            if not await _write(self.call, message):
                return  # The session is over; reading tells how.
            if pause:
                await asyncio.sleep(pause)

    async def next(self) -> api.TranscribeLiveResponse | None:
        """The next event; None at the end."""
        async with asyncio.timeout(SECONDS):
            event = await self.call.read()
        if not isinstance(event, api.TranscribeLiveResponse):
            status = await self.call.code()
            if status.value[0] != 0:
                await self._raise()
            return None
        self._check(event)
        self.events.append(event)
        return event

    async def _raise(self) -> None:
        async for _ in self.call:
            pass

    async def until(self, kind: str) -> api.TranscribeLiveResponse:
        while (event := await self.next()) is not None:
            if event.WhichOneof("event") == kind:
                return event
        raise AssertionError(f"no {kind}: {self.kinds}")

    async def rest(self) -> list[api.TranscribeLiveResponse]:
        while await self.next() is not None:
            pass
        return self.events

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]

    def of(self, kind: str) -> list[Any]:
        return [getattr(event, kind) for event in self.events if event.WhichOneof("event") == kind]

    def _check(self, event: api.TranscribeLiveResponse) -> None:
        kind = event.WhichOneof("event")
        assert kind is not None
        assert event.sequence == (self.events[-1].sequence + 1 if self.events else 0)
        assert (kind == "session_started") == (not self.events)
        cursors = event.cursors
        assert cursors.final <= cursors.processed <= cursors.received
        if self.events:
            before = self.events[-1].cursors
            assert before.received <= cursors.received
            assert before.processed <= cursors.processed
            assert before.final <= cursors.final
            assert self.events[-1].WhichOneof("event") != "done"
        match kind:
            case "turn_committed":
                assert event.turn_committed.item_id not in self._committed
                assert event.turn_committed.previous_item_id == (self._committed[-1] if self._committed else "")
                self._committed.append(event.turn_committed.item_id)
            case "delta" | "segment":
                item = getattr(event, kind).item_id
                assert item == self._committed[len(self._completed)]
            case "partial":
                assert event.partial.item_id not in self._completed
            case "turn_completed":
                assert event.turn_completed.item_id == self._committed[len(self._completed)]
                self._completed.append(event.turn_completed.item_id)
            case "done":
                assert self._completed == self._committed


@contextlib.asynccontextmanager
async def live(gateway: Gateway, *messages: api.TranscribeLiveRequest, **options: Any) -> AsyncIterator[Session]:
    """A session that these messages have begun."""
    call = gateway.stub.TranscribeLive(**{"metadata": METADATA, **options})
    session = Session(call)
    try:
        await session.send(*messages)
        yield session
    finally:
        call.cancel()


async def whole(gateway: Gateway, messages: Sequence[api.TranscribeLiveRequest], **options: Any) -> Session:
    """A session whose messages are sent as fast as they are taken, with `finish` at their end."""
    async with live(gateway, **options) as session, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(session.rest())
        await session.send(*messages, finish(audio_size(messages)))
        await session.call.done_writing()
        await reading
    return session
