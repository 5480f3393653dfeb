"""Where live sessions are: opens them for every surface alike, and tells all of them when the server stops."""

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
from voxgate_server.call import RequestContext
from voxgate_server.errors import MessageOutOfOrder
from voxgate_server.gateway import Gateway
from voxgate_server.live.calls import TurnCalls, opened
from voxgate_server.live.complete import complete_recording
from voxgate_server.live.intake import LiveIntake, Started
from voxgate_server.live.session import HangUp, LiveLimits, LiveSession, next_message
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

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def streams(self) -> list[TurnStream]:
        """What recognises, of every session."""
        return [session.stream for session in self._sessions.values()]

    def go_away(self, seconds: float) -> None:
        """Tells all sessions that the server stops.

        Args:
            seconds: What is left.
        """
        for session in self._sessions.values():
            session.go_away(seconds)

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
            hang_up: Tells a client that reads nothing why it is left, where the iterator cannot; may take for ever.

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
                events = self._live(messages, request, start, intake, seconds_left, hang_up)
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event

    async def _live(
        self,
        messages: AsyncIterator[TranscribeLiveRequest],
        request: RequestContext,
        start: LiveStart,
        intake: LiveIntake,
        seconds_left: float | None,
        hang_up: HangUp | None,
    ) -> AsyncGenerator[TranscribeLiveResponse, None]:
        session_id = f"live_{secrets.token_hex(16)}"
        stream = self._stream(request, start, intake.sample_rate)
        session = LiveSession(
            session_id, request, start, intake, stream, self.limits, seconds_left=seconds_left, hang_up=hang_up
        )
        self._sessions[session_id] = session
        try:
            await session.start()
            async with contextlib.aclosing(session.run(messages)) as events:
                async for event in events:
                    yield event
        finally:
            del self._sessions[session_id]
            await session.aclose()

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
