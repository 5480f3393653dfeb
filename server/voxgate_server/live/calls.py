"""Each turn of a session is one ordinary call: routed, retried, limited, counted and logged like any other."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Iterator

from voxgate.transcription.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioHeader, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.transcription_service_pb2 import (
    ProviderSwitched,
    SessionNotice,
    TranscribeLiveResponse,
    TurnCompleted,
    TurnDelta,
    TurnSegment,
)

from voxgate_server.audio.pcm import wav
from voxgate_server.call import Call, RequestContext
from voxgate_server.errors import CallerError, Overloaded, VoxgateError
from voxgate_server.gateway import Gateway, Planner
from voxgate_server.live.turns import Turn
from voxgate_server.providers.live import LiveProvider
from voxgate_server.routing.plan import Hop, Recording

__all__ = ["TurnCalls", "event_of_turn", "opened"]

_SLICE = 256 * 1024
"""Bytes that go into the spool before others have a turn."""
_PATIENT_SECONDS = 150.0
"""An attempt with a shorter limit than this does not begin before its turn is over: it would have to wait for it."""

_CROWDED_SECONDS = 60.0
"""How long a turn waits for room."""
_CROWDED_PAUSE = 1.0


@contextlib.contextmanager
def opened(
    gateway: Gateway,
    request: RequestContext,
    config: TranscriptionConfig,
    audio: AudioHeader,
    *,
    surface: str,
    seconds_left: float | None = None,
    planner: Planner | None = None,
    admitted: bool = False,
) -> Iterator[Call]:
    """A call of the current task, planned and afterwards closed.

    Args:
        gateway: Where.
        request: Whose it is.
        config: Its options.
        audio: Its audio.
        surface: Where it comes in.
        seconds_left: Until the caller's own deadline; None when it has none.
        planner: Decides instead of the router.
        admitted: It is a part of another call in progress.

    Raises:
        VoxgateError: It is not admitted, or its options are wrong.
    """
    call = gateway.open(
        request_id=request.request_id,
        caller=request.caller,
        audio=audio,
        seconds_left=seconds_left,
        streamed=True,
        surface=surface,
        method=request.method,
        admitted=admitted,
    )
    failure: BaseException | None = None
    try:
        gateway.plan(call, config, planner)
        yield call
    except BaseException as error:
        failure = call.cause(error)
        if failure is not error:
            raise failure from error
        raise
    finally:
        gateway.close(call, failure)


class TurnCalls:
    """Recognises the turns of a session.

    A model that recognises while somebody speaks is given a turn as it is spoken, if partials are wanted; where it
    fails, and for all other models, the whole turn is sent as one WAV file once it is over.

    Args:
        gateway: Answers the calls.
        request: The session.
        config: Its options.
        sample_rate: Of its samples, in Hz.
        interim_results: Partials are wanted.
    """

    def __init__(
        self,
        gateway: Gateway,
        request: RequestContext,
        config: TranscriptionConfig,
        sample_rate: int,
        *,
        interim_results: bool,
    ) -> None:
        self._gateway = gateway
        self._request = request
        self._config = config
        self._sample_rate = sample_rate
        self.while_spoken = interim_results and bool(self._live_hops(config))
        """A turn is recognised from its beginning on."""

    async def events(self, turn: Turn) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """What becomes of a turn: `delta`*, `segment`*, then `turn_completed`. Waits for what is still to be spoken.

        Raises:
            VoxgateError: Nobody could recognise it.
        """
        said = False
        if self.while_spoken:
            try:
                async with contextlib.aclosing(self._spoken(turn)) as events:
                    async for event in events:
                        said = True
                        yield event
                return  # noqa: TRY300 (an else would hide the loop)
            except CallerError:
                raise
            except VoxgateError as error:
                lost = error
            await turn.wait_committed()
            if said:
                yield _switched(lost.attempts[-1].provider if lost.attempts else "", "", lost.reason)
        await turn.wait_committed()
        async with contextlib.aclosing(self._whole_in_the_end(turn)) as events:
            async for event in events:
                yield event

    async def _whole_in_the_end(self, turn: Turn) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """As `_whole`; while there is no room for it the turn waits, because nobody will say it again."""
        give_up = time.monotonic() + _CROWDED_SECONDS
        while True:
            said = False
            try:
                async with contextlib.aclosing(self._whole(turn)) as events:
                    async for event in events:
                        said = True
                        yield event
                return  # noqa: TRY300 (an else would hide the loop)
            except Overloaded as error:
                wait = min(error.retry_after or 1.0, _CROWDED_PAUSE)
                if said or time.monotonic() + wait > give_up:
                    raise
            await asyncio.sleep(wait)

    async def _spoken(self, turn: Turn) -> AsyncGenerator[TranscribeLiveResponse, None]:
        raw = RawAudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=self._sample_rate, channel_count=1)
        with self._opened(AudioHeader(raw_format=raw), self._live_hops) as call:
            call.on_partial = turn.understood
            feeding = asyncio.create_task(_feed(call, turn), name="voxgate-live-feed")
            try:
                async with contextlib.aclosing(self._translated(call, turn)) as events:
                    async for event in events:
                        yield event
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _whole(self, turn: Turn) -> AsyncGenerator[TranscribeLiveResponse, None]:
        recording = wav(bytes(turn.pcm), self._sample_rate)
        header = AudioHeader(filename="turn.wav", media_type="audio/wav", size_bytes=len(recording))
        with self._opened(header) as call:
            for start in range(0, len(recording), _SLICE):
                if start:
                    await asyncio.sleep(0)
                await call.spool.write(recording[start : start + _SLICE])
            call.spool.finish()
            async with contextlib.aclosing(self._translated(call, turn)) as events:
                async for event in events:
                    yield event

    async def _translated(self, call: Call, turn: Turn) -> AsyncGenerator[TranscribeLiveResponse, None]:
        call.takes_resets = True
        async with contextlib.aclosing(self._gateway.transcribe(call)) as events:
            async for event in events:
                if event.HasField("reset"):
                    lost, taken = call.attempts[-2:]
                    yield _switched(lost.provider, taken.provider, event.reset.reason)
                else:
                    yield event_of_turn(event, turn.item_id)

    def _opened(self, audio: AudioHeader, planner: Planner | None = None) -> contextlib.AbstractContextManager[Call]:
        return opened(self._gateway, self._request, self._config, audio, surface="live", planner=planner, admitted=True)

    def _live_hops(self, config: TranscriptionConfig) -> list[Hop]:
        """The plan for a turn that is still being spoken: at most the first hop's deployments that can do that."""
        first = self._gateway.router.plan(config, Recording())[0]
        able = [
            deployment
            for deployment in first.deployments
            if deployment.provider.capabilities.live
            and not isinstance(deployment.provider, LiveProvider)
            and ((deployment.timeout if first.timeout is None else first.timeout) or _PATIENT_SECONDS)
            >= _PATIENT_SECONDS
        ]
        return [dataclasses.replace(first, deployments=able)] if able else []


def event_of_turn(event: TranscriptionEvent, item_id: str) -> TranscribeLiveResponse:
    """A step of a transcription as a step of a turn."""
    match event.WhichOneof("event"):
        case "delta":
            return TranscribeLiveResponse(delta=TurnDelta(item_id=item_id, delta=event.delta))
        case "segment":
            return TranscribeLiveResponse(segment=TurnSegment(item_id=item_id, segment=event.segment))
        case "done":
            done = event.done.transcription
            return TranscribeLiveResponse(turn_completed=TurnCompleted(item_id=item_id, transcription=done))
    raise AssertionError(event)


def _switched(lost: str, taken: str, reason: str) -> TranscribeLiveResponse:
    switched = ProviderSwitched(from_provider=lost, to_provider=taken, reason=reason)
    return TranscribeLiveResponse(notice=SessionNotice(provider_switched=switched))


async def _feed(call: Call, turn: Turn) -> None:
    try:
        async with contextlib.aclosing(turn.pieces()) as pieces:
            async for piece in pieces:
                await call.spool.write(piece)
        call.spool.finish()
    except VoxgateError as error:
        call.spool.fail(error)  # Whoever reads it is told.
