"""One attempt at one deployment, and the account of it."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import (
    ATTEMPT_OUTCOME_CANCELLED,
    ATTEMPT_OUTCOME_FAILED,
    ATTEMPT_OUTCOME_SUCCEEDED,
    ATTEMPT_OUTCOME_TIMED_OUT,
    AttemptOutcome,
    ExtraFields,
)

from voxgate_server.audio.convert import Converter
from voxgate_server.call import Call
from voxgate_server.errors import (
    DeadlineExceeded,
    DrillFailure,
    EmptyTranscript,
    ProviderGarbled,
    ProviderTimeout,
    VoxgateError,
)
from voxgate_server.fitting import fit
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.route import Try
from voxgate_server.telemetry.metrics import Metrics
from voxgate_server.transcript import complete

__all__ = ["deadline_passed", "run_attempt"]

_ATTEMPT_OUTCOMES = {
    ATTEMPT_OUTCOME_SUCCEEDED: "succeeded",
    ATTEMPT_OUTCOME_FAILED: "failed",
    ATTEMPT_OUTCOME_TIMED_OUT: "timed_out",
    ATTEMPT_OUTCOME_CANCELLED: "cancelled",
}
_LONG = 5000
"""Words and segments above which a transcript is completed in a thread."""


async def run_attempt(
    call: Call,
    step: Try,
    *,
    metrics: Metrics,
    converter: Converter,
    show_payloads: bool,
    empty_is_failure: bool = False,
) -> AsyncGenerator[TranscriptionEvent, None]:
    """One attempt: its events, and an account of it in the call, in the deployment's health and in the metrics.

    Args:
        call: For whom.
        step: Whom to ask, and until when.
        metrics: Where it is counted.
        converter: Converts audio that the provider does not take as it is.
        show_payloads: Raw requests and answers may be shown to the caller who asked for them.
        empty_is_failure: A transcript without text is one, unless a part of it went out already; the first one is
            kept as `call.empty`.

    Raises:
        EmptyTranscript: See above.
        VoxgateError: It failed; `provider_status` has the provider's HTTP status.
    """
    provider, health = step.deployment.provider, step.deployment.health
    started = time.monotonic()
    attempt = Attempt(
        call.request_id,
        step.hop.config,
        call.audio,
        call.spool,
        step.deadline,
        call.kind,
        on_partial=call.on_partial,
        max_audio_bytes=provider.capabilities.max_audio_bytes,
        streamed=call.streamed,
    )
    report = attempt.report
    report.provider, report.model, report.retry_count = provider.name, provider.model, step.retry
    report.outcome = ATTEMPT_OUTCOME_CANCELLED
    call.attempts.append(report)
    call.last_try = step
    failure: VoxgateError | None = None
    audio_seconds: float | None = None
    first = True
    probe = health.started(started)
    metrics.attempt_began(provider.name, retry=step.retry > 0, fallback=step.hop_index > 0)
    try:
        if call.config.routing.mock_testing_fallbacks and len(call.attempts) == 1:
            await _drill(call, provider.name)
        await fit(attempt, call, provider, converter)
        async with contextlib.aclosing(provider.transcribe(attempt)) as events:
            async for event in events:
                if event.HasField("done"):
                    _set_latency(report.latency, started)
                    answer = functools.partial(_answer, call, step, attempt, event, show_payloads=show_payloads)
                    if empty_is_failure and first and not event.done.transcription.text.strip():
                        call.empty = call.empty or answer
                        raise EmptyTranscript(f"{provider.name} heard nothing in the recording.")
                    whole = await answer()
                    audio_seconds = whole.done.transcription.duration or None
                    yield whole
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
            raise deadline_passed(call, provider.name) from error
        raise
    finally:
        _set_latency(report.latency, started)
        call.provider_headers = attempt.response_headers
        ended = time.monotonic()
        outcome = _ATTEMPT_OUTCOMES[report.outcome]
        # Counted once the answer is on its way.
        asyncio.get_running_loop().call_soon(
            metrics.attempt_ended, provider.name, step.deployment.id, outcome, ended - started, audio_seconds
        )
        if report.outcome == ATTEMPT_OUTCOME_SUCCEEDED:
            health.succeeded(ended, ended - started, audio_seconds, probe=probe)
        elif failure is None or call.spool.error is not None:
            health.abandoned(ended, probe=probe)
        else:
            limited = step.hop.timeout_by_caller or call.deadline <= step.deadline
            health.failed(ended, failure, probe=probe, caller_limited=limited)


async def _answer(
    call: Call, step: Try, attempt: Attempt, event: TranscriptionEvent, *, show_payloads: bool
) -> TranscriptionEvent:
    """Makes what an attempt gave the call's answer, complete with all that is told about it."""
    attempt.report.outcome = ATTEMPT_OUTCOME_SUCCEEDED
    attempt.report.ClearField("error_code")
    attempt.report.ClearField("error_message")
    call.served_by, call.provider_headers = step, attempt.response_headers
    await _complete(call, attempt, event, show_payloads=show_payloads)
    return event


async def _complete(call: Call, attempt: Attempt, event: TranscriptionEvent, *, show_payloads: bool) -> None:
    transcription = event.done.transcription
    extra = _provenance(call, attempt)
    extra.attempts.extend(call.attempts)
    if show_payloads:
        if attempt.raw_request is not None:
            extra.raw_request.CopyFrom(attempt.raw_request)
        if attempt.raw_response is not None:
            extra.raw_response.CopyFrom(attempt.raw_response)
        if call.config.debug.include_provider_headers:
            extra.provider_response_headers.update(attempt.response_headers)
    transcription.extra_fields.CopyFrom(extra)
    seconds = call.recording.seconds
    if len(transcription.words) + len(transcription.segments) > _LONG:
        # Hours of speech; making subtitles of them would hold up everybody else.
        await asyncio.to_thread(complete, transcription, call.config, seconds)
    else:
        complete(transcription, call.config, seconds)
    if call.streamed:
        event.extra_fields.CopyFrom(transcription.extra_fields)


def _provenance(call: Call, attempt: Attempt) -> ExtraFields:
    extra = ExtraFields(
        request_id=call.request_id,
        request_type="transcription_stream" if call.streamed else "transcription",
        provider=attempt.report.provider,
        original_model_requested=call.config.model,
        resolved_model_used=attempt.report.model,
        dropped_params=attempt.dropped_params,
    )
    _set_latency(extra.latency, call.started)
    return extra


async def _drill(call: Call, provider: str) -> None:
    """Does what an outage does: takes all of the audio, and fails."""
    async for _ in call.spool.cursor():
        pass
    raise DrillFailure(f"{provider} failed because mock_testing_fallbacks asked for it, after its audio was consumed.")


def _attempt_outcome(error: VoxgateError) -> AttemptOutcome.ValueType:
    return ATTEMPT_OUTCOME_TIMED_OUT if isinstance(error, ProviderTimeout) else ATTEMPT_OUTCOME_FAILED


def deadline_passed(call: Call, provider: str) -> DeadlineExceeded:
    """The error of a call whose time is over, by what it was waiting for."""
    seconds = round(call.deadline - call.started, 1)
    waiting_for = f"{provider} was working" if call.spool.finished else "the recording was still arriving"
    return DeadlineExceeded(
        f"The limit of {seconds} s for this call passed while {waiting_for}. Allow more time, or send less audio.",
        metadata={"limit_seconds": str(seconds)},
    )


def _set_latency(latency: Duration, started: float) -> None:
    latency.FromNanoseconds(round((time.monotonic() - started) * 1e9))
