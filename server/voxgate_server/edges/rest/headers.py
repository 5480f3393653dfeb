"""Headers of an answer: who served it, what was tried, how long it took, with LiteLLM's and Portkey's names."""

import time
from functools import lru_cache

from voxgate_server import __version__
from voxgate_server.call import Call
from voxgate_server.routing.route import DEFAULT_RETRIES, Try

__all__ = ["TRACE_HEADER", "call_headers", "identifying_headers"]

Headers = list[tuple[bytes, bytes]]

TRACE_HEADER = "x-portkey-trace-id"
"""The header with which a caller names what its call is part of; the answer has it too."""

_TRACE_CHARACTERS = 256
_VALUE_CHARACTERS = 256
_VERSION = __version__.encode()


def identifying_headers(request_id: str, trace_id: str = "") -> Headers:
    """What every answer carries, whatever became of the request.

    Args:
        request_id: The call's id.
        trace_id: The caller's `x-portkey-trace-id`; without one, or with one that is no short printable ASCII, the
            request id takes its place.
    """
    call_id = request_id.encode()
    usable = trace_id.isascii() and trace_id.isprintable() and 0 < len(trace_id) <= _TRACE_CHARACTERS
    return [
        (b"x-voxgate-request-id", call_id),
        (b"x-request-id", call_id),
        (b"x-litellm-call-id", call_id),
        (b"x-litellm-version", _VERSION),
        (TRACE_HEADER.encode(), trace_id.encode() if usable else call_id),
    ]


def call_headers(call: Call, *, now: float | None = None) -> Headers:
    """What is known about a call: after its answer about the deployment that gave it, otherwise about the last asked.

    Args:
        call: The call, answered or failed.
        now: The time on the clock of `time.monotonic()`; None reads it.
    """
    elapsed = (time.monotonic() if now is None else now) - call.started
    trying = sum(attempt.latency.seconds + attempt.latency.nanos / 1e9 for attempt in call.attempts)
    headers = [
        (b"x-litellm-attempted-retries", b"%d" % sum(attempt.retry_count > 0 for attempt in call.attempts)),
        (b"x-litellm-response-duration-ms", b"%.3f" % (elapsed * 1e3)),
        (b"x-litellm-overhead-duration-ms", b"%.3f" % (max(elapsed - trying, 0.0) * 1e3)),
        (b"x-portkey-cache-status", b"DISABLED"),
    ]
    step = call.served_by or call.last_try
    if step is None:
        return headers
    deployment, hop = step.deployment, step.hop
    provider = deployment.provider
    retries = DEFAULT_RETRIES if hop.retries is None else hop.retries
    headers += _served_by(
        deployment.id, deployment.group, provider.name, provider.model, getattr(provider, "api_base", None)
    )
    headers += [
        (b"x-litellm-max-retries", b"%d" % retries),
        (b"x-litellm-attempted-fallbacks", b"%d" % step.hop_index),
        (b"x-litellm-timeout", _seconds(_limit(call, step))),
        (b"x-portkey-last-used-option-index", _option(hop.name)),
        (b"x-portkey-retry-attempt-count", b"%d" % (step.retry if call.served_by else -1)),
    ]
    for name, value in call.provider_headers.items():
        headers.append((b"llm_provider-" + name.encode("ascii", "replace"), _value(value)))
    return headers


@lru_cache(maxsize=1024)
def _served_by(deployment: str, group: str, provider: str, model: str, api_base: str | None) -> tuple[
    tuple[bytes, bytes], ...
]:  # fmt: skip
    headers = [
        (b"x-litellm-model-id", _value(deployment)),
        (b"x-litellm-model-name", _value(f"{provider}/{model}")),
        (b"x-litellm-model-group", _value(group)),
        (b"x-portkey-provider", _value(provider)),
    ]
    if api_base:
        headers.append((b"x-litellm-model-api-base", _value(api_base.partition("?")[0])))
    return tuple(headers)


def _limit(call: Call, step: Try) -> float:
    """Seconds an attempt of this kind has."""
    whole = call.deadline - call.started
    own = step.deployment.timeout if step.hop.timeout is None else step.hop.timeout
    return whole if own is None else min(own, whole)


def _seconds(seconds: float) -> bytes:
    return f"{round(seconds, 3):g}".encode()


def _option(hop: str) -> bytes:
    """The place in a routing object; plain groups have none."""
    return _value(hop) if hop.startswith("config.") else b"config"


def _value(text: str) -> bytes:
    """Configured and foreign text as it may stand in a header: nothing in it can end the header."""
    text = text[:_VALUE_CHARACTERS]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text.encode("ascii", "replace")
