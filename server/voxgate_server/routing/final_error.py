"""Which of several failures a caller is told about, and how."""

from collections.abc import Sequence

from voxgate.transcription.v1.extra_fields_pb2 import ATTEMPT_OUTCOME_TIMED_OUT, ProviderAttempt

from voxgate_server.errors import (
    DrillFailure,
    PermissionDenied,
    ProviderCredential,
    ProviderQuotaExceeded,
    VoxgateError,
)

__all__ = ["most_useful", "with_attempts"]

_SHOWN = 5
_NAME_CHARACTERS = 64


def most_useful(errors: Sequence[VoxgateError]) -> VoxgateError:
    """The failure that tells a caller most: the first one about which he can do something, or wait for its end.

    A credential that is refused and an empty account are the operator's business, and a drill is no cause at all.
    What the caller may not do at all comes before everything else.

    Args:
        errors: In the order of the attempts; at least one.
    """
    idle = (DrillFailure, ProviderCredential, ProviderQuotaExceeded)
    forbidden = (error for error in errors if isinstance(error, PermissionDenied))
    return next(forbidden, None) or next((error for error in errors if not isinstance(error, idle)), errors[0])


def with_attempts(error: VoxgateError, attempts: Sequence[ProviderAttempt]) -> VoxgateError:
    """The error with what was tried; its message sums that up when it was more than one attempt.

    Call it once for an error, when it leaves for the caller.
    """
    error.attempts = list(attempts)
    if len(attempts) > 1:
        shown = [_summary(attempt) for attempt in attempts[-_SHOWN:]]
        if len(attempts) > _SHOWN:
            shown.insert(0, "…")
        error.message = f"{error.message} ({len(attempts)} attempts: {', '.join(shown)})"
        error.args = (error.message,)
    return error


def _summary(attempt: ProviderAttempt) -> str:
    if attempt.outcome == ATTEMPT_OUTCOME_TIMED_OUT:
        how = "timeout"
    elif attempt.HasField("http_status") and not 200 <= attempt.http_status < 300:
        how = str(attempt.http_status)
    else:
        how = "unusable answer" if attempt.HasField("http_status") else "failed"
    return f"{attempt.provider} {attempt.model[:_NAME_CHARACTERS]} {how}"
