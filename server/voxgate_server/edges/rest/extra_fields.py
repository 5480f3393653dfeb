"""`extra_fields` of an answer, with Bifrost's names and those that came later."""

import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.extra_fields_pb2 import (
    AttemptOutcome,
    CacheDebug,
    ExtraFields,
    ProviderAttempt,
    RawPayload,
)

__all__ = ["attempt_object", "extra_fields_object"]

_OUTCOME_PREFIX = len("ATTEMPT_OUTCOME_")


def extra_fields_object(fields: ExtraFields, synthesized: list[str]) -> dict[str, object]:
    """The JSON object: what is unknown is absent, `latency` is whole milliseconds.

    Args:
        fields: What is known about the answer.
        synthesized: Names of the fields the gateway made up, in place of `fields.synthesized_fields`.
    """
    result: dict[str, object] = {"request_type": fields.request_type or "transcription"}
    if fields.provider:
        result["provider"] = fields.provider
    if fields.original_model_requested:
        result["model_requested"] = fields.original_model_requested
    if fields.resolved_model_used:
        result["model_deployment"] = fields.resolved_model_used
    if fields.HasField("latency"):
        result["latency"] = _milliseconds(fields.latency)
    result["chunk_index"] = fields.chunk_index
    for name in ("raw_request", "raw_response"):
        if fields.HasField(name):
            payload: RawPayload = getattr(fields, name)
            result[name] = _payload(payload)
            if payload.truncated:
                result[f"{name}_truncated"] = True
    if fields.HasField("cache_debug"):
        result["cache_debug"] = _cache_debug(fields.cache_debug)
    if fields.original_model_requested:
        result["original_model_requested"] = fields.original_model_requested
    if fields.resolved_model_used:
        result["resolved_model_used"] = fields.resolved_model_used
    if fields.request_id:
        result["request_id"] = fields.request_id
    if fields.attempts:
        result["attempts"] = [attempt_object(attempt) for attempt in fields.attempts]
    if fields.dropped_params:
        result["dropped_params"] = list(fields.dropped_params)
    if synthesized:
        result["synthesized_fields"] = synthesized
    if fields.HasField("coverage"):
        result["coverage"] = round(fields.coverage, 3)
    if fields.provider_response_headers:
        result["provider_response_headers"] = dict(fields.provider_response_headers)
    return result


def attempt_object(attempt: ProviderAttempt) -> dict[str, object]:
    """One try at one provider, `latency` in whole milliseconds."""
    result: dict[str, object] = {
        "provider": attempt.provider,
        "model": attempt.model,
        "retry_count": attempt.retry_count,
        "outcome": AttemptOutcome.Name(attempt.outcome)[_OUTCOME_PREFIX:].lower(),
    }
    if attempt.HasField("latency"):
        result["latency"] = _milliseconds(attempt.latency)
    if attempt.HasField("http_status"):
        result["http_status"] = attempt.http_status
    if attempt.error_code:
        result["error_code"] = attempt.error_code
    if attempt.error_message:
        result["error_message"] = attempt.error_message
    return result


def _milliseconds(duration: Duration) -> int:
    return duration.seconds * 1000 + (duration.nanos + 500_000) // 1_000_000


def _cache_debug(debug: CacheDebug) -> dict[str, object]:
    result: dict[str, object] = {"cache_hit": debug.cache_hit}
    if debug.HasField("cache_id"):
        result["cache_id"] = debug.cache_id
    if debug.HasField("hit_type"):
        result["hit_type"] = debug.hit_type
    if debug.HasField("provider_used"):
        result["provider_used"] = debug.provider_used
    if debug.HasField("model_used"):
        result["model_used"] = debug.model_used
    if debug.HasField("input_tokens"):
        result["input_tokens"] = debug.input_tokens
    if debug.HasField("threshold"):
        result["threshold"] = debug.threshold
    if debug.HasField("similarity"):
        result["similarity"] = debug.similarity
    if debug.HasField("requested_provider"):
        result["requested_provider"] = debug.requested_provider
    if debug.HasField("requested_model"):
        result["requested_model"] = debug.requested_model
    return result


def _payload(payload: RawPayload) -> object:
    """The JSON value that the payload is, otherwise its text."""
    if not payload.truncated:
        try:
            # Encoded anew and not passed on as it is: in a stream of events an answer must stay on one line.
            return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(payload.data)))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # no JSON, or none that can be written again: text, then
    return payload.data.decode("utf-8", "replace")
