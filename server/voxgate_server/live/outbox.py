"""What a live session has to say, until it is taken: numbered, bounded, with cursors that only move forward."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from voxgate.transcription.v1.transcription_service_pb2 import AudioCursors, TranscribeLiveResponse

from voxgate_server.errors import NotFound

__all__ = ["Outbox"]

_EVENTS = 256
_BYTES = 256 * 1024
_KEPT_EVENTS = 1024
_KEPT_BYTES = 256 * 1024


class Outbox:
    """A queue of events between those who say something and whoever passes it on.

    Args:
        keep: Keeps what was taken, within bounds, for a reader that comes back.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._queue: deque[TranscribeLiveResponse] = deque()
        self._kept: deque[TranscribeLiveResponse] = deque()
        self._bytes = self._kept_bytes = 0
        self._next = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None
        self.cursors = AudioCursors()
        """How far the session has come."""

    def advance(self, *, received: float = 0.0, processed: float = 0.0, final: float = 0.0) -> None:
        """Moves the cursors forward; none ever moves back, and none overtakes the one before it. In seconds."""
        cursors = self.cursors
        cursors.received = max(cursors.received, received)
        cursors.final = min(max(cursors.final, final), cursors.received)
        cursors.processed = min(max(cursors.processed, processed, cursors.final), cursors.received)

    async def put(self, event: TranscribeLiveResponse) -> None:
        """Says something; waits while there is no room.

        A partial takes the place of one of the same turn that nobody has taken yet.
        """
        event.cursors.CopyFrom(self.cursors)
        if event.HasField("partial") and self._queue and self._queue[-1].partial.item_id == event.partial.item_id:
            self._bytes -= self._queue.pop().ByteSize()
        else:
            await self.room()
        self._queue.append(event)
        self._bytes += event.ByteSize()
        self._changed.set()

    async def room(self) -> None:
        """Waits until there is room for another event."""
        while len(self._queue) >= _EVENTS or self._bytes >= _BYTES:
            await self._change()

    def close(self, error: BaseException | None = None) -> None:
        """Ends the events, after those that are still to be taken. The first time counts.

        Args:
            error: What the reader is told after them; None: it is a good end.
        """
        if not self._closed:
            self._closed, self._error = True, error
            self._changed.set()

    @property
    def next_sequence(self) -> int:
        """Number of the event that is taken next."""
        return self._next

    def rewind(self, sequence: int) -> None:
        """The next event to be taken is this one, which was taken before.

        Raises:
            NotFound: It is not kept any more, or was never there.
        """
        first = self._next - len(self._kept)
        if not first <= sequence <= self._next:
            raise NotFound(
                f"Event {sequence} of the session is not there; it has those from {first} to {self._next}.",
                param="resume_sequence",
                metadata={"first_sequence": str(first), "next_sequence": str(self._next)},
            )
        while self._next > sequence:
            event = self._kept.pop()
            self._kept_bytes -= event.ByteSize()
            self._queue.appendleft(event)
            self._bytes += event.ByteSize()
            self._next -= 1

    async def events(self) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """The events, numbered.

        Raises:
            BaseException: What `close` was given.
        """
        while True:
            while not self._queue:
                if self._closed:
                    if self._error is not None:
                        raise self._error
                    return
                await self._change()
            event = self._queue.popleft()
            self._bytes -= event.ByteSize()
            event.sequence = self._next
            self._next += 1
            self._changed.set()
            self._retain(event)
            yield event

    def _retain(self, event: TranscribeLiveResponse) -> None:
        if not self._keep:
            return
        self._kept.append(event)
        self._kept_bytes += event.ByteSize()
        while len(self._kept) > _KEPT_EVENTS or self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= self._kept.popleft().ByteSize()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
