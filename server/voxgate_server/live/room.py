"""Where live sessions are: opens them for every surface alike, and tells all of them when the server stops."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator

from voxgate.transcription.v1.config_pb2 import ServerVad
from voxgate.transcription.v1.transcription_service_pb2 import (
    AUDIO_PROCESSING_COMPLETE,
    LiveStart,
    TranscribeLiveRequest,
    TranscribeLiveResponse,
    TurnDetection,
)

from voxgate_server.audio.voice import Detector, ManualTurns, VoiceActivity
from voxgate_server.call import Call, RequestContext
from voxgate_server.errors import MessageOutOfOrder, NotFound, VoxgateError
from voxgate_server.gateway import Gateway
from voxgate_server.live.calls import TurnCalls, opened
from voxgate_server.live.complete import complete_recording
from voxgate_server.live.intake import LiveIntake, Started
from voxgate_server.live.session import HangUp, LiveLimits, LiveSession, SessionStream, next_message
from voxgate_server.live.turns import TurnStream

__all__ = ["LiveLimits", "LiveRoom"]

_PREFIX_MS = 300
_PAUSE_MS = 500
_THRESHOLD = 0.5


class LiveRoom:
    """All live sessions of a process.

    Args:
        gateway: Recognises their turns.
        limits: What each may use.
    """

    def __init__(self, gateway: Gateway, limits: LiveLimits | None = None) -> None:
        self.limits = limits or LiveLimits()
        self._gateway = gateway
        self._sessions: dict[str, LiveSession] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        """Sessions whose clients are gone, longest first, and what ends them."""
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def connected(self) -> int:
        """How many sessions have a client at present."""
        return len(self._sessions) - len(self._waiting)

    @property
    def streams(self) -> list[SessionStream]:
        """What recognises, of every session."""
        return [session.stream for session in self._sessions.values()]

    def go_away(self, seconds: float) -> None:
        """Tells all sessions that the server stops.

        Args:
            seconds: What is left.
        """
        self._stopping = True
        for session in self._sessions.values():
            session.go_away(seconds)

    async def aclose(self) -> None:
        """Ends all sessions."""
        self._stopping = True
        for session_id in list(self._sessions):
            self._drop(session_id)
        await asyncio.gather(*self._ending)

    async def run(
        self,
        messages: AsyncIterator[TranscribeLiveRequest],
        request: RequestContext,
        *,
        surface: str,
        seconds_left: float | None = None,
        hang_up: HangUp | None = None,
    ) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """One session, from `start` to `done`.

        Closing the iterator early (`aclose`, cancellation) ends everything that is done for it.

        Args:
            messages: The caller's; may end at any time.
            request: Who asks.
            surface: Where it comes in, for the records.
            seconds_left: Until the caller's own deadline; None when it has none.
            hang_up: Tells the client why its connection is ended, because it has another one; may take for ever.

        Raises:
            VoxgateError: The session has failed.
        """
        intake = LiveIntake()
        first = await next_message(messages, self.limits.idle_seconds)
        if first is None:
            raise MessageOutOfOrder("The stream ended without any message; it begins with `start`.")
        (started,) = intake.feed(first)
        assert isinstance(started, Started)
        start = started.start
        with opened(
            self._gateway, request, start.config, start.audio, surface=surface, seconds_left=seconds_left
        ) as call:
            if start.processing == AUDIO_PROCESSING_COMPLETE:
                events = complete_recording(self._gateway, call, intake, messages)
            else:
                events = self._live(messages, call, request, start, intake, seconds_left, hang_up)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

    async def _live(
        self,
        messages: AsyncIterator[TranscribeLiveRequest],
        call: Call,
        request: RequestContext,
        start: LiveStart,
        intake: LiveIntake,
        seconds_left: float | None,
        hang_up: HangUp | None,
    ) -> AsyncGenerator[TranscribeLiveResponse, None]:
        if start.HasField("resume_session_id"):
            session = self._find(start.resume_session_id, request)
            again = await session.reattach(start)
            if timer := self._waiting.pop(session.id, None):
                timer.cancel()
        else:
            again = None
            stream = self._stream(request, start, intake.sample_rate)
            session_id = f"live_{secrets.token_hex(16)}"
            session = LiveSession(session_id, request, start, intake, stream, self.limits, seconds_left=seconds_left)
            self._sessions[session_id] = session
            await session.start()
        cut_off = True
        try:
            if again is not None:
                yield again
            async with contextlib.aclosing(session.run(messages, hang_up)) as events:
                async for event in events:
                    yield event
            cut_off = False
        except VoxgateError:
            cut_off = False
            raise
        finally:
            comes_back = cut_off and not call.cancelled and not self._stopping
            if not comes_back or self.limits.resume_seconds <= 0:
                self._sessions.pop(session.id, None)
                await session.aclose()
            else:
                await session.detach()
                self._wait_for(session)

    def _find(self, session_id: str, request: RequestContext) -> LiveSession:
        session = self._sessions.get(session_id)
        if session is None or session.request.caller.key_id != request.caller.key_id:
            raise NotFound(
                f"There is no session to resume by this id. A session waits {self.limits.resume_seconds:g} s for its "
                "client, in the process that has it; open another one.",
                param="resume_session_id",
            )
        return session

    def _wait_for(self, session: LiveSession) -> None:
        loop = asyncio.get_running_loop()
        self._waiting[session.id] = loop.call_later(self.limits.resume_seconds, self._drop, session.id)
        if len(self._waiting) > self._gateway.limits.max_concurrent_calls:
            self._drop(next(iter(self._waiting)))

    def _drop(self, session_id: str) -> None:
        if timer := self._waiting.pop(session_id, None):
            timer.cancel()
        if session := self._sessions.pop(session_id, None):
            task = asyncio.create_task(session.aclose(), name="voxgate-live-drop")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _stream(self, request: RequestContext, start: LiveStart, sample_rate: int) -> TurnStream:
        calls = TurnCalls(self._gateway, request, start.config, sample_rate, interim_results=start.interim_results)
        return TurnStream(
            self._detector(start.turn_detection, sample_rate),
            calls.events,
            sample_rate=sample_rate,
            while_spoken=calls.while_spoken,
            parallel=self.limits.parallel_turns,
            longest_seconds=self.limits.max_turn_seconds,
        )

    def _detector(self, detection: TurnDetection, sample_rate: int) -> Detector:
        if detection.HasField("manual"):
            return ManualTurns(sample_rate)
        vad: ServerVad = detection.server_vad
        return VoiceActivity(
            sample_rate,
            threshold=vad.threshold if vad.HasField("threshold") else _THRESHOLD,
            prefix_seconds=(vad.prefix_padding_ms if vad.HasField("prefix_padding_ms") else _PREFIX_MS) / 1000,
            silence_seconds=(vad.silence_duration_ms if vad.HasField("silence_duration_ms") else _PAUSE_MS) / 1000,
            longest_seconds=self.limits.max_turn_seconds,
        )
