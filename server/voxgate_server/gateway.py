"""The way of a call, top to bottom: admit, plan, try, complete, close."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import Model
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.attempts import deadline_passed, run_attempt
from voxgate_server.audio.convert import Converter
from voxgate_server.audio.duration import DurationProbe
from voxgate_server.audio.sniff import HEAD_BYTES, describe, sniff
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.call import ActiveCalls, Call, Caller
from voxgate_server.errors import (
    Cancelled,
    EmptyTranscript,
    Overloaded,
    PermissionDenied,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.hedging import hedged
from voxgate_server.routing.final_error import most_useful, with_attempts
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.route import GaveUp, Route, Try, Wait
from voxgate_server.routing.router import Router, target_model
from voxgate_server.streaming import resets, segments_of
from voxgate_server.telemetry import get_logger
from voxgate_server.telemetry.metrics import Metrics
from voxgate_server.validation import check_sound, validate

__all__ = ["Gateway", "GatewayLimits", "Planner"]

_log = get_logger("gateway")

Planner = Callable[[TranscriptionConfig], list[Hop]]
"""The hops for a call's options; at least one."""

_FEW_BYTES = 64


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What one process takes on."""

    max_audio_bytes: int = 1 << 30
    """The largest recording."""
    upload_idle_seconds: float = 30.0
    """How long an upload may pause."""
    request_timeout_seconds: float = 600.0
    """The longest call; a shorter deadline of the caller's wins."""
    request_timeout_per_audio_second: float = 1.0
    """Seconds on top for every second of the recording, where the caller has no deadline of its own."""
    max_concurrent_calls: int = 1024
    """Calls in progress at once; more are refused."""
    allow_raw_payloads: bool = False
    """Whether callers may see raw requests and answers."""
    allow_drills: bool = False
    """Whether callers without an admin key may ask for a failure (`mock_testing_fallbacks`)."""
    unread_seconds: float = 30.0
    """How long a caller may leave the events of a streamed answer unread."""
    sse_restart: bool = False
    """Whether server-sent events that were lost midway end in the whole text of another attempt, or in an error."""


class Gateway:
    """Answers calls. One per process."""

    def __init__(
        self, router: Router, spools: SpoolStore, limits: GatewayLimits, metrics: Metrics | None = None
    ) -> None:
        self.router = router
        self.limits = limits
        self.metrics = metrics or Metrics()
        self._spools = spools
        self._converter = Converter(spools, max_bytes=limits.max_audio_bytes, temporary_directory=spools.directory)
        self.active = ActiveCalls()
        """The open calls."""

    @property
    def calls_in_progress(self) -> int:
        """How many calls are open."""
        return len(self.active)

    @property
    def spool_bytes(self) -> int:
        """Bytes of audio that open calls hold."""
        return self._spools.used_bytes

    async def aclose(self) -> None:
        """Ends the processes of the gateway's own. All calls have to be closed before."""
        await self._converter.aclose()

    def models(self, caller: Caller) -> list[Model]:
        """What a caller can ask for, in order of the ids."""
        return [model for model in self.router.table.models() if caller.may_use(model.id, *model.aliases)]

    def model(self, model: str, caller: Caller) -> Model:
        """One model.

        Raises:
            UnknownModel: There is none.
            PermissionDenied: The caller's key is not for it.
        """
        found = self.router.table.model(model)
        self._check_access(caller, model, "model")
        return found

    def open(
        self,
        *,
        request_id: str,
        caller: Caller,
        audio: AudioHeader,
        seconds_left: float | None = None,
        streamed: bool = False,
        surface: str = "command",
        method: str = "",
        admitted: bool = False,
    ) -> Call:
        """Admits a call of the current task and opens its spool. Every opened call must be closed.

        Args:
            request_id: The call's id.
            caller: Who asks.
            audio: What is known about the audio.
            seconds_left: Until the caller's own deadline; None when it has none.
            streamed: The answer goes out as events.
            surface: Where it comes in: `grpc`, `rest` or `command`.
            method: What is called, for operators to see.
            admitted: It is a part of another call in progress, and may not be refused for there being too many.

        Raises:
            AudioTooLarge: The announced size is above the limit.
            Overloaded: Too many calls are in progress.
        """
        if not admitted and len(self.active) >= self.limits.max_concurrent_calls:
            raise Overloaded(
                f"{len(self.active)} calls are in progress, which is this server's limit. Try again shortly.",
                metadata={"limit_calls": str(self.limits.max_concurrent_calls)},
                retry_after=1,
            )
        limit = self.limits.request_timeout_seconds
        probe = DurationProbe(audio.raw_format if audio.HasField("raw_format") else None)
        spool = self._spools.open(
            max_bytes=self.limits.max_audio_bytes,
            expected_bytes=audio.size_bytes if audio.HasField("size_bytes") else None,
            observe=probe.feed,
            verify=lambda size: check_sound(probe, size),
        )
        call = Call(
            request_id=request_id,
            caller=caller,
            audio=audio,
            spool=spool,
            probe=probe,
            deadline=time.monotonic() + (limit if seconds_left is None else min(seconds_left, limit)),
            patience=self.limits.request_timeout_per_audio_second if seconds_left is None else 0.0,
            streamed=streamed,
            surface=surface,
            method=method,
            task=asyncio.current_task(),
        )
        self.active.add(call)
        return call

    def plan(self, call: Call, config: TranscriptionConfig, planner: Planner | None = None) -> None:
        """Gives a call its options, or other ones, and decides where it goes. Nothing is sent yet.

        Args:
            call: Which.
            config: Its options.
            planner: Decides instead of the router.

        Raises:
            CallerError: The options are wrong, or the model is unknown.
        """
        validate(config, call.audio)
        if config.routing.mock_testing_fallbacks and not (call.caller.is_admin or self.limits.allow_drills):
            raise PermissionDenied(
                "mock_testing_fallbacks needs an admin key, or the operator's permission "
                "(general_settings.dangerously_allow_mock_testing_request_params).",
                param="mock_testing_fallbacks",
            )
        call.config = config
        call.hops = self.router.plan(config, call.recording) if planner is None else planner(config)
        if call.caller.models is not None:
            self._check_targets(call, config, planned=planner is not None)

    def _check_targets(self, call: Call, config: TranscriptionConfig, *, planned: bool) -> None:
        """Refuses a plan with a target of the caller's that its key is not for; the operator's own are his business.

        Args:
            call: Whose plan it is.
            config: The call's options.
            planned: A planner chose the targets, for which the options' own model may stand for nothing.
        """
        if not planned:
            self._check_access(call.caller, config.model, "model")
        for index, fallback in enumerate(config.routing.fallbacks):
            self._check_access(call.caller, target_model(fallback), f"fallbacks[{index}]")
        for hop in call.hops:
            if hop.param:
                for deployment in hop.deployments:
                    self._check_access(call.caller, deployment.group, hop.param)

    def _check_access(self, caller: Caller, model: str, param: str) -> None:
        if not caller.may_use(model, self.router.table.name(model)):
            raise PermissionDenied(
                f"The key '{caller.key_id[:64]}' is not for the model '{model[:100]}'. Ask the operator for it.",
                param=param,
                metadata={"model": model[:100]},
            )

    def close(self, call: Call, error: BaseException | None = None) -> None:
        """Ends a call: gives back what it held, and writes its line in the log once the answer is on its way."""
        self.active.remove(call)
        spool_bytes, seconds = call.spool.size, time.monotonic() - call.started
        call.spool.close()
        for conversion in call.converted:
            conversion.close()
        asyncio.get_running_loop().call_soon(self._record, call, _outcome(error), spool_bytes, seconds)

    def _record(self, call: Call, outcome: str, spool_bytes: int, seconds: float) -> None:
        labels = call.config.labels
        self.metrics.call_ended(call.surface, outcome, seconds, spool_bytes)
        _log.info(
            "call",
            request_id=call.request_id,
            key=call.caller.key_id,
            model=call.config.model,
            outcome=outcome,
            attempts=len(call.attempts),
            provider=call.attempts[-1].provider if call.attempts else None,
            audio_bytes=spool_bytes,
            audio_seconds=call.audio_seconds and round(call.audio_seconds, 3),
            seconds=round(seconds, 6),
            **({"converted": [one.name for one in call.converted]} if call.converted else {}),
            **({"user": labels.user} if labels.user else {}),
        )

    async def transcription(self, call: Call) -> Transcription:
        """Answers a call at once with the whole transcript.

        Raises:
            VoxgateError: No target could answer; the first target's error, with all attempts.
        """
        async with contextlib.aclosing(self.transcribe(call)) as events:
            async for event in events:
                if event.HasField("done"):
                    return event.done.transcription
        raise AssertionError("the stream of events ended without done")

    async def transcribe(self, call: Call) -> AsyncGenerator[TranscriptionEvent, None]:
        """Answers a call with events: `delta*`, `segment*`, then exactly one `done`.

        What is tried, and when, is the route's decision. Once an event went out to the caller of a streamed call, the
        failure of its attempt either voids what was said, by a `reset` before the next attempt's first event, or ends
        the call where the caller could not take anything back.

        Raises:
            VoxgateError: Nobody could answer; the first attempt's error, with all attempts.
        """
        try:
            async with asyncio.timeout(call.deadline - time.monotonic()):
                await self._identify(call)
        except TimeoutError:
            raise deadline_passed(call, "the gateway") from None
        call.extend_deadline()
        route = self.router.route(call.hops, deadline=call.deadline, recording=lambda: call.recording)
        errors: list[VoxgateError] = []
        sequence = generation = 0
        void: VoxgateError | None = None
        while True:
            step = route.next(time.monotonic())
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                continue
            if isinstance(step, GaveUp):
                if call.empty is not None:
                    yield await call.empty()
                    return
                if not call.attempts and time.monotonic() >= call.deadline:
                    raise deadline_passed(call, "the gateway")
                if not errors and (outgrown := self.router.size_refusal(call.hops, call.recording)):
                    raise outgrown
                cause = most_useful(errors) if step.error in errors else step.error
                raise with_attempts(cause, call.attempts)
            said = False
            try:
                async with contextlib.aclosing(self._events(call, route, step, errors)) as events:
                    async for event in events:
                        if event.HasField("done"):
                            route.succeeded()
                        for one in (*resets(void, generation), *([] if said else segments_of(call, event)), event):
                            one.sequence, sequence = sequence, sequence + 1
                            if one.HasField("extra_fields"):
                                one.extra_fields.chunk_index = one.sequence
                            said, void = True, None
                            yield one
                return  # noqa: TRY300 (an else would hide the loop)
            except VoxgateError as error:
                if call.spool.error is not None:
                    raise  # The upload itself failed; nobody can mend that.
                errors.append(error)
                final = said and call.streamed and not call.takes_resets
                if final or (time.monotonic() >= call.deadline and call.empty is None):
                    with_attempts(error, call.attempts)
                    raise
                if said and call.streamed:
                    void, generation = error, generation + 1
                if sum(isinstance(one, EmptyTranscript) for one in errors) > 1:
                    route.succeeded()  # Two heard nothing: it is silence.
                    continue
                route.failed(step, error, error.provider_status, time.monotonic())
                if special := self.router.special_hops(call.config, error):
                    route.redirect(special)

    def _events(
        self, call: Call, route: Route, step: Try, errors: list[VoxgateError]
    ) -> AsyncGenerator[TranscriptionEvent, None]:
        """The events of an attempt, or of the faster of two."""
        delay = step.hop.hedge_after()
        # Text that went out cannot be taken back, and an upload that still arrives says nothing about the provider.
        if delay is None or call.streamed or not call.spool.finished:
            return self._attempt(call, step)

        def failed(second: Try, error: VoxgateError) -> None:
            errors.append(error)
            route.failed(second, error, error.provider_status, time.monotonic())

        return hedged(
            lambda which: self._attempt(call, which), step, lambda: route.hedge(time.monotonic()), failed, delay
        )

    def _attempt(self, call: Call, step: Try) -> AsyncGenerator[TranscriptionEvent, None]:
        return run_attempt(
            call,
            step,
            metrics=self.metrics,
            converter=self._converter,
            show_payloads=self.limits.allow_raw_payloads,
            empty_is_failure=self.router.settings.empty_falls_back,
        )

    async def _identify(self, call: Call) -> None:
        """Tells what the audio is, and refuses what is none before anybody is bothered with it."""
        if call.audio.HasField("raw_format"):
            return
        # A dozen bytes tell nearly always; more are waited for only when they do not.
        for size in (_FEW_BYTES, HEAD_BYTES):
            head = await call.spool.head(size)
            call.kind = sniff(head)
            if call.kind is not None:
                return
        detected = describe(head)
        raise UnsupportedAudio(
            f"The file is not audio: it seems to be {detected}. Send wav, flac, mp3, m4a, ogg or webm.",
            param="file",
            metadata={"detected": detected},
        )


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    # A stream whose caller does not take the next event is closed where it stands.
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return Cancelled.reason
    return error.reason if isinstance(error, VoxgateError) else type(error).__name__
