"""The way of a call, top to bottom: admit, plan, try, complete, close."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import (
    ATTEMPT_OUTCOME_CANCELLED,
    ATTEMPT_OUTCOME_FAILED,
    ATTEMPT_OUTCOME_SUCCEEDED,
    ATTEMPT_OUTCOME_TIMED_OUT,
    AttemptOutcome,
    ExtraFields,
)
from voxgate.transcription.v1.model_service_pb2 import Model
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.audio.sniff import HEAD_BYTES, describe, sniff
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.call import ActiveCalls, Call, Caller
from voxgate_server.errors import (
    Cancelled,
    DeadlineExceeded,
    DrillFailure,
    Overloaded,
    PermissionDenied,
    ProviderGarbled,
    ProviderTimeout,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.hedging import hedged
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.final_error import most_useful, with_attempts
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.route import GaveUp, Route, Try, Wait
from voxgate_server.routing.router import Router
from voxgate_server.telemetry import get_logger
from voxgate_server.telemetry.metrics import Metrics
from voxgate_server.transcript import complete
from voxgate_server.validation import validate

__all__ = ["Gateway", "GatewayLimits", "Planner"]

_log = get_logger("gateway")

Planner = Callable[[TranscriptionConfig], list[Hop]]
"""The hops for a call's options; at least one."""

_FEW_BYTES = 64
_ATTEMPT_OUTCOMES = {
    ATTEMPT_OUTCOME_SUCCEEDED: "succeeded",
    ATTEMPT_OUTCOME_FAILED: "failed",
    ATTEMPT_OUTCOME_TIMED_OUT: "timed_out",
    ATTEMPT_OUTCOME_CANCELLED: "cancelled",
}
_LONG = 5000
"""Words and segments above which a transcript is completed in a thread."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What one process takes on."""

    max_audio_bytes: int = 1 << 30
    """The largest recording."""
    upload_idle_seconds: float = 30.0
    """How long an upload may pause."""
    request_timeout_seconds: float = 600.0
    """The longest call; a shorter deadline of the caller's wins."""
    max_concurrent_calls: int = 1024
    """Calls in progress at once; more are refused."""
    allow_raw_payloads: bool = False
    """Whether callers may see raw requests and answers."""
    allow_drills: bool = False
    """Whether callers without an admin key may ask for a failure (`mock_testing_fallbacks`)."""


class Gateway:
    """Answers calls. One per process."""

    def __init__(
        self, router: Router, spools: SpoolStore, limits: GatewayLimits, metrics: Metrics | None = None
    ) -> None:
        self.router = router
        self.limits = limits
        self.metrics = metrics or Metrics()
        self._spools = spools
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

    def models(self) -> list[Model]:
        """What callers can ask for, in order of the ids."""
        return self.router.table.models()

    def model(self, model: str) -> Model:
        """One model. Raises UnknownModel."""
        return self.router.table.model(model)

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

        Raises:
            AudioTooLarge: The announced size is above the limit.
            Overloaded: Too many calls are in progress.
        """
        if len(self.active) >= self.limits.max_concurrent_calls:
            raise Overloaded(
                f"{len(self.active)} calls are in progress, which is this server's limit. Try again shortly.",
                metadata={"limit_calls": str(self.limits.max_concurrent_calls)},
                retry_after=1,
            )
        limit = self.limits.request_timeout_seconds
        spool = self._spools.open(
            max_bytes=self.limits.max_audio_bytes,
            expected_bytes=audio.size_bytes if audio.HasField("size_bytes") else None,
        )
        call = Call(
            request_id=request_id,
            caller=caller,
            audio=audio,
            spool=spool,
            deadline=time.monotonic() + (limit if seconds_left is None else min(seconds_left, limit)),
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
        call.hops = (planner or self.router.plan)(config)

    def close(self, call: Call, error: BaseException | None = None) -> None:
        """Ends a call: gives back what it held, and writes its line in the log once the answer is on its way."""
        self.active.remove(call)
        spool_bytes, seconds = call.spool.size, time.monotonic() - call.started
        call.spool.close()
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
            seconds=round(seconds, 6),
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
        failure of its attempt ends the call.

        Raises:
            VoxgateError: Nobody could answer; the first attempt's error, with all attempts.
        """
        try:
            async with asyncio.timeout(call.deadline - time.monotonic()):
                await self._identify(call)
        except TimeoutError:
            raise _deadline_passed(call, "the gateway") from None
        route = self.router.route(call.hops, deadline=call.deadline)
        errors: list[VoxgateError] = []
        while True:
            step = route.next(time.monotonic())
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                continue
            if isinstance(step, GaveUp):
                if not call.attempts and time.monotonic() >= call.deadline:
                    raise _deadline_passed(call, "the gateway")
                cause = most_useful(errors) if step.error in errors else step.error
                raise with_attempts(cause, call.attempts)
            sequence = 0
            try:
                async with contextlib.aclosing(self._events(call, route, step, errors)) as events:
                    async for event in events:
                        event.sequence = sequence
                        sequence += 1
                        if event.HasField("done"):
                            route.succeeded()
                        yield event
                return  # noqa: TRY300 (an else would hide the loop)
            except VoxgateError as error:
                if call.spool.error is not None:
                    raise  # The upload itself failed; nobody can mend that.
                errors.append(error)
                if (sequence and call.streamed) or time.monotonic() >= call.deadline:
                    with_attempts(error, call.attempts)
                    raise
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

    async def _attempt(self, call: Call, step: Try) -> AsyncGenerator[TranscriptionEvent, None]:
        provider, health = step.deployment.provider, step.deployment.health
        started = time.monotonic()
        attempt = Attempt(call.request_id, step.hop.config, call.audio, call.spool, step.deadline, call.kind)
        report = attempt.report
        report.provider, report.model, report.retry_count = provider.name, provider.model, step.retry
        report.outcome = ATTEMPT_OUTCOME_CANCELLED
        call.attempts.append(report)
        call.last_try = step
        failure: VoxgateError | None = None
        audio_seconds: float | None = None
        first = True
        probe = health.started(started)
        self.metrics.attempt_began(provider.name, retry=step.retry > 0, fallback=step.hop_index > 0)
        try:
            if call.config.routing.mock_testing_fallbacks and len(call.attempts) == 1:
                await _drill(call, provider.name)
            async with contextlib.aclosing(provider.transcribe(attempt)) as events:
                async for event in events:
                    if event.HasField("done"):
                        report.outcome = ATTEMPT_OUTCOME_SUCCEEDED
                        _set_latency(report.latency, started)
                        call.served_by = step
                        audio_seconds = event.done.transcription.duration or None
                        await self._complete(call, attempt, event)
                        yield event
                        return
                    if first and call.streamed:
                        event.extra_fields.CopyFrom(_provenance(call, attempt))
                    first = False
                    yield event
            raise ProviderGarbled(f"{provider.name} ended its answer before it was complete.")
        except VoxgateError as error:
            failure = error
            error.provider_status = report.http_status if report.HasField("http_status") else None
            report.outcome = _attempt_outcome(error)
            report.error_code, report.error_message = error.reason, error.message[:200]
            if isinstance(error, ProviderTimeout) and time.monotonic() >= call.deadline:
                raise _deadline_passed(call, provider.name) from error
            raise
        finally:
            _set_latency(report.latency, started)
            call.provider_headers = attempt.response_headers
            ended = time.monotonic()
            outcome = _ATTEMPT_OUTCOMES[report.outcome]
            # Counted once the answer is on its way.
            asyncio.get_running_loop().call_soon(
                self.metrics.attempt_ended, provider.name, step.deployment.id, outcome, ended - started, audio_seconds
            )
            if report.outcome == ATTEMPT_OUTCOME_SUCCEEDED:
                health.succeeded(ended, ended - started, audio_seconds, probe=probe)
            elif failure is None or call.spool.error is not None:
                health.abandoned(ended, probe=probe)
            else:
                limited = step.hop.timeout_by_caller or call.deadline <= step.deadline
                health.failed(ended, failure, probe=probe, caller_limited=limited)

    async def _complete(self, call: Call, attempt: Attempt, event: TranscriptionEvent) -> None:
        transcription = event.done.transcription
        extra = _provenance(call, attempt)
        extra.attempts.extend(call.attempts)
        extra.dropped_params.extend(attempt.dropped_params)
        if self.limits.allow_raw_payloads:
            if attempt.raw_request is not None:
                extra.raw_request.CopyFrom(attempt.raw_request)
            if attempt.raw_response is not None:
                extra.raw_response.CopyFrom(attempt.raw_response)
            if call.config.debug.include_provider_headers:
                extra.provider_response_headers.update(attempt.response_headers)
        transcription.extra_fields.CopyFrom(extra)
        if len(transcription.words) + len(transcription.segments) > _LONG:
            # Hours of speech; making subtitles of them would hold up everybody else.
            await asyncio.to_thread(complete, transcription, call.config.response_format)
        else:
            complete(transcription, call.config.response_format)
        if call.streamed:
            event.extra_fields.CopyFrom(transcription.extra_fields)


def _provenance(call: Call, attempt: Attempt) -> ExtraFields:
    extra = ExtraFields(
        request_id=call.request_id,
        request_type="transcription_stream" if call.streamed else "transcription",
        provider=attempt.report.provider,
        original_model_requested=call.config.model,
        resolved_model_used=attempt.report.model,
    )
    _set_latency(extra.latency, call.started)
    return extra


async def _drill(call: Call, provider: str) -> None:
    """Does what an outage does: takes all of the audio, and fails."""
    async for _ in call.spool.cursor():
        pass
    raise DrillFailure(f"{provider} failed because mock_testing_fallbacks asked for it, after its audio was consumed.")


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, asyncio.CancelledError):
        return Cancelled.reason
    return error.reason if isinstance(error, VoxgateError) else type(error).__name__


def _attempt_outcome(error: VoxgateError) -> AttemptOutcome.ValueType:
    return ATTEMPT_OUTCOME_TIMED_OUT if isinstance(error, ProviderTimeout) else ATTEMPT_OUTCOME_FAILED


def _deadline_passed(call: Call, provider: str) -> DeadlineExceeded:
    seconds = round(call.deadline - call.started, 1)
    waiting_for = f"{provider} was working" if call.spool.finished else "the recording was still arriving"
    return DeadlineExceeded(
        f"The limit of {seconds} s for this call passed while {waiting_for}. Allow more time, or send less audio.",
        metadata={"limit_seconds": str(seconds)},
    )


def _set_latency(latency: Duration, started: float) -> None:
    latency.FromNanoseconds(round((time.monotonic() - started) * 1e9))
