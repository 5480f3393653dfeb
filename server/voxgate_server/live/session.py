"""One live session while it is connected: reads messages, drives a stream, and says what happens."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.transcription_service_pb2 import (
    GoingAway,
    LiveStart,
    SessionDone,
    SessionNotice,
    SessionStarted,
    TranscribeLiveRequest,
    TranscribeLiveResponse,
)

from voxgate_server.call import RequestContext
from voxgate_server.errors import Cancelled, DeadlineExceeded, InvalidRequest, Overloaded, UploadIdle, VoxgateError
from voxgate_server.live.intake import (
    Cleared,
    Committed,
    Finished,
    LiveIntake,
    RecordingBytes,
    Samples,
    Started,
)
from voxgate_server.live.outbox import Outbox
from voxgate_server.live.transcript import SessionTranscript
from voxgate_server.providers.live import LiveStream

__all__ = ["HangUp", "LiveLimits", "LiveSession", "SessionStream", "next_message"]

_NOTICE_SECONDS = 10.0
"""How long before its end a session is told of it, where there is that much time."""
_HANG_UP_SECONDS = 1.0
_TAKE_OVER_SECONDS = 5.0
_HALF_CLOSED_SECONDS = 0.25
_FAREWELL = 0.5
"""Share of the time that is left at which no more audio is taken, so that the last turns can be recognised."""

HangUp = Callable[[VoxgateError], Awaitable[None]]


class SessionStream(LiveStream, Protocol):
    """A stream that outlives its client for a while."""

    @property
    def silence(self) -> float:
        """Seconds of audio since speech was heard last; 0 where it is not listened for."""

    async def suspend(self) -> None:
        """Ends everything that costs something, and keeps all audio whose text is not final."""

    async def resume(self) -> None:
        """Goes on where `suspend` has stopped. Text of a turn that was told before it was complete is void."""


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What one session may use."""

    max_session_seconds: float = 14_400.0
    """The longest session."""
    idle_seconds: float = 60.0
    """How long nothing at all may come; an empty chunk is something."""
    max_silence_seconds: float = 900.0
    """How much audio may pass without speech."""
    max_turn_seconds: float = 60.0
    """The longest turn."""
    parallel_turns: int = 4
    """Turns of one session that are recognised at a time."""
    unread_seconds: float = 30.0
    """How long a client may read nothing; whoever passes the events on sees to it."""
    resume_seconds: float = 30.0
    """How long a session waits for a client that was cut off."""


class LiveSession:
    """Takes messages after `start` and gives events, from `session_started` to `done`.

    Args:
        session_id: What the client may resume it by.
        request: Whose it is.
        start: Its options.
        intake: Has taken `start`.
        stream: Recognises.
        limits: What it may use.
        seconds_left: Until the caller's own deadline; None when it has none.
    """

    def __init__(
        self,
        session_id: str,
        request: RequestContext,
        start: LiveStart,
        intake: LiveIntake,
        stream: SessionStream,
        limits: LiveLimits,
        *,
        seconds_left: float | None = None,
    ) -> None:
        self.id = session_id
        self.request = request
        self._hang_up: HangUp | None = None
        self._options = start
        self.detached = asyncio.Event()
        """Its client is gone, and may come back."""
        self._intake = intake
        self.stream = stream
        self._limits = limits
        self._transcript = SessionTranscript(start.config)
        self._outbox = Outbox(keep=limits.resume_seconds > 0)
        self._seconds = (
            limits.max_session_seconds if seconds_left is None else min(limits.max_session_seconds, seconds_left)
        )
        self._deadline = time.monotonic() + self._seconds
        self._ending: VoxgateError | None = None
        """Why it ends before the caller said so."""
        self._going_away: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[Any] | None = None
        """Passes the events on."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Says that the session is open."""
        await self._outbox.put(TranscribeLiveResponse(session_started=self._started(self._seconds)))
        self._task(self._pump(), "pump")
        self._task(self._age(), "age")

    async def run(
        self, messages: AsyncIterator[TranscribeLiveRequest], hang_up: HangUp | None
    ) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """The events of the session, while messages are taken.

        Args:
            messages: All after `start`.
            hang_up: Tells the client why its connection is ended, and may take for ever.

        Raises:
            VoxgateError: The session has failed.
        """
        self._hang_up = hang_up
        self._owner = asyncio.current_task()
        self._reading = self._task(self._read(messages), "read")
        async with contextlib.aclosing(self._outbox.events()) as events:
            async for event in events:
                yield event

    async def detach(self) -> None:
        """The client is gone: nothing is taken, recognised or told until it comes back."""
        await self._stop_reading()
        await self.stream.suspend()
        self._owner = self._hang_up = None
        self.detached.set()

    async def reattach(self, start: LiveStart) -> TranscribeLiveResponse:
        """The client is back.

        Args:
            start: What it says.

        Returns:
            What it has to be told first.

        Raises:
            InvalidRequest: It wants something else than before.
            NotFound: An event it wants again is not kept any more.
            Overloaded: The connection before could not be ended.
        """
        asked, own = LiveStart(), LiveStart()
        asked.CopyFrom(start)
        own.CopyFrom(self._options)
        for options in (asked, own):
            options.ClearField("resume_session_id")
            options.ClearField("resume_sequence")
        if asked != own:
            raise InvalidRequest("A session is resumed with the options it was opened with.", param="resume_session_id")
        if not self.detached.is_set():
            # To this side the connection before may seem alive for a long time.
            await self._hang_up_on(Cancelled("The session goes on over another connection."))
            try:
                async with asyncio.timeout(_TAKE_OVER_SECONDS):
                    await self.detached.wait()
            except TimeoutError:
                raise Overloaded("The session's connection before has not ended yet.", retry_after=1) from None
        if start.HasField("resume_sequence"):
            self._outbox.rewind(start.resume_sequence)
        self.detached.clear()
        self._intake.reconnected()
        await self.stream.resume()
        started = self._started(self._deadline - time.monotonic())
        return TranscribeLiveResponse(
            sequence=self._outbox.next_sequence, cursors=self._outbox.cursors, session_started=started
        )

    async def aclose(self) -> None:
        """Ends everything at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stream.aclose()

    def go_away(self, seconds: float) -> None:
        """Tells the client that the server stops, and ends the session in time.

        Args:
            seconds: What is left.
        """
        error = Overloaded(
            "The server stops. What was said so far is transcribed; open another session for the rest.", retry_after=1
        )
        self._task(self._leave(seconds, error), "leave")

    def _started(self, seconds_left: float) -> SessionStarted:
        started = SessionStarted(session_id=self.id)
        started.max_duration.CopyFrom(_duration(max(seconds_left, 0.0)))
        return started

    async def _read(self, messages: AsyncIterator[TranscribeLiveRequest]) -> None:
        try:
            while message := await next_message(messages, self._limits.idle_seconds):
                for action in self._intake.feed(message):
                    await self._act(action)
                if self._intake.finished:
                    # What comes after `finish` is refused as long as the session lasts.
                    continue
                await self._outbox.room()
            if not self._intake.finished:
                # A client that died has closed its side as well; this task then does not live to see the end of it.
                await asyncio.sleep(_HALF_CLOSED_SECONDS)
                await self.stream.finish()
        except UploadIdle as error:
            await self._end(error)
        except Exception as error:
            self._outbox.close(error)

    async def _act(self, action: Started | Samples | RecordingBytes | Committed | Cleared | Finished) -> None:
        match action:
            case Samples(pcm):
                # A large chunk is many of these.
                await asyncio.sleep(0)
                await self.stream.send(pcm)
                # Without waiting for anything, so that what was taken was also counted.
                self._outbox.advance(received=self._intake.seconds_with(pcm))
                if self.stream.silence > self._limits.max_silence_seconds:
                    raise UploadIdle(
                        f"Nothing was said for {self._limits.max_silence_seconds:g} s of audio, which is the limit. "
                        "Open a session when there is something to transcribe.",
                        metadata={"limit_seconds": f"{self._limits.max_silence_seconds:g}"},
                    )
            case Committed():
                await self.stream.commit()
            case Cleared():
                await self.stream.clear()
            case Finished():
                await self.stream.finish()
            case Started() | RecordingBytes():
                raise AssertionError(action)
            case _:
                assert_never(action)

    async def _pump(self) -> None:
        try:
            async with contextlib.aclosing(self.stream.events()) as events:
                async for event in events:
                    cursors = event.cursors
                    self._transcript.place(event, 0.0)
                    self._outbox.advance(processed=cursors.processed, final=cursors.final)
                    await self._outbox.put(event)
            if self._ending is None:
                seconds = self._intake.seconds
                self._outbox.advance(received=seconds, processed=seconds, final=seconds)
                whole = self._transcript.whole(seconds, self.request.request_id)
                await self._outbox.put(TranscribeLiveResponse(done=SessionDone(transcription=whole)))
            self._outbox.close(self._ending)
        except Exception as error:
            self._outbox.close(error)

    async def _age(self) -> None:
        left = self._deadline - time.monotonic()
        await asyncio.sleep(max(left - _NOTICE_SECONDS, left * _FAREWELL))
        error = DeadlineExceeded(
            f"The session has lasted {self._seconds:g} s, which is the limit. What was said so far is transcribed; "
            "open another session for the rest.",
            metadata={"limit_seconds": f"{self._seconds:g}"},
        )
        await self._leave(self._deadline - time.monotonic(), error)

    async def _leave(self, seconds: float, error: VoxgateError) -> None:
        try:
            notice = SessionNotice(going_away=GoingAway(time_left=_duration(max(seconds, 0.0))))
            await self._outbox.put(TranscribeLiveResponse(notice=notice))
            await asyncio.sleep(seconds * _FAREWELL)
            await self._end(error)
        except Exception as failure:
            self._outbox.close(failure)

    async def _end(self, error: VoxgateError) -> None:
        """Takes no more audio; what was said is still transcribed and told, before the error is."""
        if self._ending is None:
            self._ending = error
            await self._stop_reading()
            await self.stream.finish()

    async def _stop_reading(self) -> None:
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _hang_up_on(self, error: Cancelled) -> None:
        """Ends the connection of the client. Whoever passes the events on may wait for it to read."""
        # Its messages end with an error of their own, which is none of the session's.
        await self._stop_reading()
        if self._hang_up is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HANG_UP_SECONDS):
                    await self._hang_up(error)
        if self._owner is not None:
            self._owner.cancel()

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"voxgate-live-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def next_message(
    messages: AsyncIterator[TranscribeLiveRequest], idle_seconds: float
) -> TranscribeLiveRequest | None:
    """The next message; None when the caller has closed its side.

    Raises:
        UploadIdle: Nothing came in time.
    """
    try:
        async with asyncio.timeout(idle_seconds):
            return await anext(messages, None)
    except TimeoutError:
        raise UploadIdle(
            f"Nothing came for {idle_seconds:g} s, which is the limit. Send `silence`, or an empty chunk, while the "
            "microphone is off.",
            metadata={"limit_seconds": f"{idle_seconds:g}"},
        ) from None


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
