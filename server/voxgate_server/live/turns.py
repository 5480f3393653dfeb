"""A live stream for every model: turns are cut here, recognised several at once, and completed in order."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator

from voxgate.transcription.v1.transcription_service_pb2 import (
    AudioCursors,
    AudioDropped,
    PartialText,
    ProviderSwitched,
    SessionNotice,
    SpeechStarted,
    SpeechStopped,
    TranscribeLiveResponse,
    TurnCommitted,
    TurnCompleted,
    TurnError,
)

from voxgate_server.audio.pcm import SAMPLE_BYTES
from voxgate_server.audio.voice import Detector, TurnBegan, TurnEnded, TurnEvent, TurnSamples
from voxgate_server.errors import AudioTooLarge, VoxgateError
from voxgate_server.live.transcript import shift

__all__ = ["Turn", "TurnStream"]

_TURNS = 32
"""Turns that may be under way, however short."""
_EVENTS = 64
"""Events that may wait to be taken before no more audio is."""
_FAILURES = 3
"""Turns in a row that cannot be recognised before the stream fails."""


class Turn:
    """One turn, possibly still being spoken."""

    def __init__(
        self, item_id: str, start: float, understood: "Callable[[Turn, str, float], None]", *, spoken: bool
    ) -> None:
        self.item_id = item_id
        self.spoken = spoken
        """Speech was heard in it, as far as that is listened for."""
        self.start = start
        """In seconds since the stream's first sample."""
        self.pcm = bytearray()
        """Its samples so far."""
        self.committed = False
        """It is over."""
        self.done = False
        """It was recognised, or cannot be."""
        self.error: VoxgateError | None = None
        """Why it cannot be."""
        self.told = False
        """Some of its text was told."""
        self.partials = 0
        self.partial = ""
        """What was understood of it last."""
        self.pending: deque[TranscribeLiveResponse] = deque()
        """What is to be told of it when its time has come."""
        self.task: asyncio.Task[None] | None = None
        self._understood = understood
        self._changed = asyncio.Event()

    def append(self, pcm: bytes) -> None:
        """Its next samples."""
        self.pcm += pcm
        self._changed.set()

    def commit(self) -> None:
        """It is over."""
        self.committed = True
        self._changed.set()

    def understood(self, text: str, seconds: float) -> None:
        """What it sounds like so far.

        Args:
            text: All of it.
            seconds: How much of the turn that is.
        """
        self._understood(self, text, seconds)

    async def wait_committed(self) -> None:
        """Waits until it is over."""
        while not self.committed:
            await self._change()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Its samples as they come, until it is over."""
        taken = 0
        while True:
            if taken < len(self.pcm):
                piece = bytes(memoryview(self.pcm)[taken:])
                taken += len(piece)
                yield piece
            elif self.committed:
                return
            else:
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class TurnStream:
    """See `providers.live.LiveStream`.

    Args:
        detector: Says where turns begin and end.
        recognise: What becomes of a turn: `delta`*, `segment`*, `turn_completed`, with times since its start.
        sample_rate: In Hz.
        while_spoken: Turns are given to `recognise` when they begin, not when they are over.
        parallel: How many turns are recognised at a time.
        backlog_seconds: Turns that are over may wait with so much audio; no more is taken meanwhile.
        longest_seconds: The longest turn.
    """

    def __init__(
        self,
        detector: Detector,
        recognise: Callable[[Turn], AsyncGenerator[TranscribeLiveResponse, None]],
        *,
        sample_rate: int,
        while_spoken: bool,
        parallel: int = 4,
        backlog_seconds: float = 60.0,
        longest_seconds: float = 60.0,
    ) -> None:
        self._detector = detector
        self._recognise = recognise
        self._rate = sample_rate
        self._while_spoken = while_spoken
        self.backlog_seconds = 0.0
        """Audio of turns that are over and not recognised yet."""
        self._longest_backlog = backlog_seconds
        self._longest_seconds = longest_seconds
        self._slots = asyncio.Semaphore(parallel)
        self._progress = asyncio.Event()
        self._turns: deque[Turn] = deque()
        """In order; the last one may still be open."""
        self._open: Turn | None = None
        self._count = self._completed = self._failures = 0
        self._failure: VoxgateError | None = None
        self._finishing = self._suspended = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._out: asyncio.Queue[TranscribeLiveResponse | BaseException | None] = asyncio.Queue()

    @property
    def silence(self) -> float:
        """Seconds of audio since speech was heard last; 0 where it is not listened for."""
        return self._detector.silence

    async def send(self, pcm: bytes) -> None:
        """See LiveStream.

        Raises:
            AudioTooLarge: The turn, which only the caller can end, has reached its limit.
        """
        await self._room()
        self._apply(self._detector.feed(pcm))
        if self._open is not None and self._seconds(self._open) > self._longest_seconds + 1:
            raise AudioTooLarge(
                f"The turn is longer than {self._longest_seconds:g} s, which is the limit. Send `commit` in time.",
                param="commit",
                metadata={"limit_seconds": f"{self._longest_seconds:g}"},
            )

    async def commit(self) -> None:
        """See LiveStream."""
        await self._room()
        self._apply(self._detector.commit())

    async def clear(self) -> None:
        """See LiveStream."""
        self._detector.clear()
        if self._open is not None:
            self._turns.remove(self._open)
            if self._open.task is not None:
                self._open.task.cancel()
            self._open = None

    async def finish(self) -> None:
        """See LiveStream."""
        self._apply(self._detector.commit())
        self._finishing = True
        self._flush()

    async def events(self) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """See LiveStream.

        Raises:
            VoxgateError: Several turns in a row, or all there were, could not be recognised.
        """
        while (event := await self._out.get()) is not None:
            self._progress.set()
            if isinstance(event, BaseException):
                raise event
            yield event

    async def aclose(self) -> None:
        """See LiveStream."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def suspend(self) -> None:
        """Ends everything that costs something; what is not recognised yet will be after `resume`."""
        self._suspended = True
        await self.aclose()
        for turn in self._turns:
            if not turn.done:
                turn.task = None
                turn.pending.clear()

    async def resume(self) -> None:
        """Goes on where `suspend` has stopped."""
        self._suspended = False
        for turn in self._turns:
            if not turn.done and (turn.committed or self._while_spoken):
                if turn.told:
                    # The text begins anew.
                    void = ProviderSwitched(reason="CANCELLED")
                    turn.pending.append(TranscribeLiveResponse(notice=SessionNotice(provider_switched=void)))
                    turn.told = False
                self._start(turn)
        self._flush()

    async def _room(self) -> None:
        """Waits while too much is still to be recognised, or to be taken."""
        while self.backlog_seconds > self._longest_backlog or len(self._turns) > _TURNS or self._out.qsize() > _EVENTS:
            self._progress.clear()
            await self._progress.wait()

    def _apply(self, events: Iterator[TurnEvent]) -> None:
        for event in events:
            match event:
                case TurnBegan(start, spoken):
                    self._begin(start, spoken=spoken)
                    if spoken:
                        self._tell(TranscribeLiveResponse(speech_started=SpeechStarted(audio_start=start)))
                case TurnSamples(pcm):
                    assert self._open is not None
                    self._open.append(pcm)
                case TurnEnded(end):
                    self._end(end)

    def _begin(self, start: float, *, spoken: bool) -> None:
        self._count += 1
        self._open = Turn(str(self._count), start, self._understood, spoken=spoken)
        self._turns.append(self._open)
        if self._while_spoken:
            self._start(self._open)

    def _end(self, end: float) -> None:
        turn, self._open = self._open, None
        assert turn is not None
        if turn.spoken:
            self._tell(TranscribeLiveResponse(speech_stopped=SpeechStopped(audio_end=end)))
        self._tell(TranscribeLiveResponse(turn_committed=TurnCommitted(item_id=turn.item_id)))
        self.backlog_seconds += self._seconds(turn)
        turn.commit()
        if turn.task is None:
            self._start(turn)
        self._flush()

    def _start(self, turn: Turn) -> None:
        if self._suspended:
            return
        turn.task = asyncio.create_task(self._run(turn), name="voxgate-live-turn")
        self._tasks.add(turn.task)
        turn.task.add_done_callback(self._tasks.discard)

    async def _run(self, turn: Turn) -> None:
        try:
            async with self._slots, contextlib.aclosing(self._recognise(turn)) as events:
                async for event in events:
                    self._place(event, turn)
                    turn.pending.append(event)
                    self._flush()
        except VoxgateError as error:
            # An error of a turn that is still open is told when it is over.
            await turn.wait_committed()
            self._failed(turn, error)
        except Exception as error:
            self._out.put_nowait(error)
            return
        turn.done = True
        self.backlog_seconds -= self._seconds(turn)
        self._progress.set()
        self._flush()

    def _failed(self, turn: Turn, error: VoxgateError) -> None:
        turn.error = error
        end = turn.start + self._seconds(turn)
        dropped = SessionNotice(audio_dropped=AudioDropped(start=turn.start, end=end))
        completed = TurnCompleted(
            item_id=turn.item_id, error=TurnError(reason=error.reason, message=error.message[:500])
        )
        completed.transcription.extra_fields.attempts.extend(error.attempts)
        turn.pending.append(TranscribeLiveResponse(notice=dropped))
        turn.pending.append(TranscribeLiveResponse(turn_completed=completed))

    def _understood(self, turn: Turn, text: str, seconds: float) -> None:
        if turn.done or turn not in self._turns or not text or text == turn.partial:
            return
        event = TranscribeLiveResponse(
            partial=PartialText(item_id=turn.item_id, revision=turn.partials, text=text),
            cursors=AudioCursors(processed=turn.start + seconds),
        )
        turn.partial, turn.partials = text, turn.partials + 1
        self._tell(event)

    def _place(self, event: TranscribeLiveResponse, turn: Turn) -> None:
        match event.WhichOneof("event"):
            case "segment":
                event.segment.segment.start += turn.start
                event.segment.segment.end += turn.start
            case "turn_completed":
                shift(event.turn_completed.transcription, turn.start)

    def _flush(self) -> None:
        """Tells what is to be told of the turns, each after the one before it is complete."""
        while self._turns and self._turns[0].committed:
            turn = self._turns[0]
            while turn.pending:
                event = turn.pending.popleft()
                turn.told |= event.HasField("delta") or event.HasField("segment")
                if event.HasField("turn_completed"):
                    event.cursors.final = turn.start + self._seconds(turn)
                self._tell(event)
            if not turn.done:
                return
            self._turns.popleft()
            self._completed += turn.error is None
            self._failures = 0 if turn.error is None else self._failures + 1
            self._failure = turn.error or self._failure
            if self._failures == _FAILURES:
                self._out.put_nowait(self._failure)
        if self._finishing and not self._turns:
            self._finishing = False
            self._out.put_nowait(None if self._completed else self._failure)

    def _tell(self, event: TranscribeLiveResponse) -> None:
        settled = self._turns[0].start if self._turns else self._detector.settled
        event.cursors.final = max(event.cursors.final, settled)
        self._out.put_nowait(event)

    def _seconds(self, turn: Turn) -> float:
        return len(turn.pcm) / SAMPLE_BYTES / self._rate
