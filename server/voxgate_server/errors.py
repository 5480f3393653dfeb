"""Every error a call can end with, and what each is called on either surface.

    VoxgateError
    ├── CallerError                  the caller has to change something
    │   ├── InvalidRequest           a field is missing or wrong            400  INVALID_ARGUMENT
    │   │   ├── UnsupportedParameter the model cannot do what was asked     400  INVALID_ARGUMENT
    │   │   ├── UnsupportedAudio     not audio, or nobody can read it       415  INVALID_ARGUMENT
    │   │   ├── EmptyAudio           no bytes                               400  INVALID_ARGUMENT
    │   │   ├── ChecksumMismatch     size or digest is not what was sent    400  INVALID_ARGUMENT
    │   │   └── MessageOutOfOrder    a stream's messages are out of order   400  INVALID_ARGUMENT
    │   ├── UploadIncomplete         the upload broke off                   400  FAILED_PRECONDITION
    │   ├── UploadIdle               no audio for too long                  408  ABORTED
    │   ├── AudioTooLarge            above a limit                          413  RESOURCE_EXHAUSTED
    │   ├── UnknownModel             no such model                          404  NOT_FOUND
    │   ├── UnknownRoute             no such path or method                 404  UNIMPLEMENTED
    │   ├── NotFound                 no such thing, by its id               404  NOT_FOUND
    │   ├── Unauthenticated          no key, or a wrong one                 401  UNAUTHENTICATED
    │   ├── PermissionDenied         the key does not permit it             403  PERMISSION_DENIED
    │   └── Cancelled                the caller went away                   499  CANCELLED
    ├── GatewayError                 the gateway cannot, whatever the caller does
    │   ├── Overloaded               at a limit of its own                  503  RESOURCE_EXHAUSTED
    │   ├── DeadlineExceeded         the caller's or the server's limit     504  DEADLINE_EXCEEDED
    │   ├── CancelledByOperator      an operator ended the call             499  CANCELLED
    │   ├── NotInThisRelease         part of a later release                501  UNIMPLEMENTED
    │   └── InternalError            a fault of ours                        500  INTERNAL
    └── ProviderError                a provider did not answer well         502  UNAVAILABLE
        ├── ProviderUnavailable      5xx, refused, reset, cut answer        502  UNAVAILABLE
        │   ├── ProviderGarbled      an answer that makes no sense          502  UNAVAILABLE
        │   │   └── AnswerTooLarge   an answer larger than is read          502  RESOURCE_EXHAUSTED
        │   └── DrillFailure         a failure the caller asked for         502  UNAVAILABLE
        ├── EmptyTranscript          no text; only among the attempts       502  UNAVAILABLE
        ├── ProviderCredential       it refused the operator's key          502  UNAVAILABLE
        ├── ProviderTimeout          too slow                               504  DEADLINE_EXCEEDED
        ├── ProviderRateLimited      429                                    429  RESOURCE_EXHAUSTED
        ├── ProviderQuotaExceeded    the operator's account is empty        502  UNAVAILABLE
        ├── NoDeploymentAvailable    all cool down or are at their limits   503  UNAVAILABLE
        └── ProviderRejected         it refused the request itself          400  INVALID_ARGUMENT

The numbers follow the table in the API's error_reason.proto; HTTP bodies have OpenAI's error object.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from grpc import StatusCode
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt

__all__ = [
    "AnswerTooLarge",
    "AudioTooLarge",
    "CallerError",
    "Cancelled",
    "CancelledByOperator",
    "ChecksumMismatch",
    "DeadlineExceeded",
    "DrillFailure",
    "EmptyAudio",
    "EmptyTranscript",
    "GatewayError",
    "InternalError",
    "InvalidRequest",
    "MessageOutOfOrder",
    "NoDeploymentAvailable",
    "NotFound",
    "NotInThisRelease",
    "Overloaded",
    "PermissionDenied",
    "ProviderCredential",
    "ProviderError",
    "ProviderGarbled",
    "ProviderQuotaExceeded",
    "ProviderRateLimited",
    "ProviderRejected",
    "ProviderTimeout",
    "ProviderUnavailable",
    "Unauthenticated",
    "UnknownModel",
    "UnknownRoute",
    "UnsupportedAudio",
    "UnsupportedParameter",
    "UploadIdle",
    "UploadIncomplete",
    "VoxgateError",
]


class VoxgateError(Exception):
    """An error that may be shown to the caller as it is: its message names the cause, the limit and the way out.

    Args:
        message: For people. Never contains a secret, a path or another caller's data.
        param: REST name of the field that is wrong, or None.
        metadata: Values the message mentions, for programs (gRPC ErrorInfo.metadata), lower snake case keys.
        retry_after: Seconds after which it is worth trying again, or None.
        attempts: What was tried before the call failed.
    """

    status: ClassVar[StatusCode] = StatusCode.INTERNAL
    """gRPC status code."""
    http_status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    """OpenAI's `error.type`."""
    code: ClassVar[str | None] = None
    """OpenAI's `error.code`."""
    reason: ClassVar[str] = "INTERNAL"
    """Name in ErrorReason, without its prefix."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        attempts: Sequence[ProviderAttempt] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.attempts = list(attempts)
        self.provider_status: int | None = None
        """HTTP status of the provider whose failure this is; None when there was none."""


class CallerError(VoxgateError):
    """The caller has to change something; trying again as it was is of no use."""

    status = StatusCode.INVALID_ARGUMENT
    http_status = 400
    type = "invalid_request_error"
    reason = "INVALID_REQUEST"


class InvalidRequest(CallerError):
    """A field is missing or wrong; `param` says which."""


class UnsupportedParameter(InvalidRequest):
    """The model cannot do what an option asks for."""

    code = "unsupported_value"
    reason = "UNSUPPORTED_PARAMETER"


class UnsupportedAudio(InvalidRequest):
    """The bytes are not audio, or audio that nobody here can read."""

    http_status = 415
    code = "unsupported_format"
    reason = "UNSUPPORTED_FORMAT"


class EmptyAudio(InvalidRequest):
    """The recording has no bytes."""

    code = "audio_empty"
    reason = "AUDIO_EMPTY"


class ChecksumMismatch(InvalidRequest):
    """Size or digest differs from what was received."""

    code = "checksum_mismatch"
    reason = "CHECKSUM_MISMATCH"


class MessageOutOfOrder(InvalidRequest):
    """The messages of a stream did not come in the order its state machine demands."""

    code = "message_out_of_order"
    reason = "CONFIG_EXPECTED_FIRST"


class UploadIncomplete(CallerError):
    """The upload ended before it was complete."""

    status = StatusCode.FAILED_PRECONDITION
    code = "upload_incomplete"
    reason = "UPLOAD_INCOMPLETE"


class UploadIdle(CallerError):
    """No audio came for longer than the limit."""

    status = StatusCode.ABORTED
    http_status = 408
    code = "audio_idle_timeout"
    reason = "AUDIO_IDLE_TIMEOUT"


class AudioTooLarge(CallerError):
    """More bytes or seconds than a limit allows."""

    status = StatusCode.RESOURCE_EXHAUSTED
    http_status = 413
    code = "audio_too_large"
    reason = "AUDIO_TOO_LARGE"


class UnknownModel(CallerError):
    """No such model, or none the caller may use."""

    status = StatusCode.NOT_FOUND
    http_status = 404
    code = "model_not_found"
    reason = "UNKNOWN_MODEL"


class UnknownRoute(CallerError):
    """No such path, or not with this method."""

    status = StatusCode.UNIMPLEMENTED
    http_status = 404
    code = "unknown_url"


class NotFound(CallerError):
    """Nothing has the id that `param` gives."""

    status = StatusCode.NOT_FOUND
    http_status = 404
    code = "not_found"


class Unauthenticated(CallerError):
    """No key, or a wrong one."""

    status = StatusCode.UNAUTHENTICATED
    http_status = 401
    code = "invalid_api_key"
    reason = "INVALID_API_KEY"


class PermissionDenied(CallerError):
    """The key is right and does not permit this."""

    status = StatusCode.PERMISSION_DENIED
    http_status = 403
    code = "permission_denied"
    reason = "PERMISSION_DENIED"


class Cancelled(CallerError):
    """The caller went away. Seen in the log only: there is nobody left to tell."""

    status = StatusCode.CANCELLED
    http_status = 499
    code = "cancelled"
    reason = "CANCELLED"


class GatewayError(VoxgateError):
    """The gateway cannot serve the call, whatever the caller changes."""


class Overloaded(GatewayError):
    """The gateway is at a limit of its own; `retry_after` says when to come back."""

    status = StatusCode.RESOURCE_EXHAUSTED
    http_status = 503
    code = "server_overloaded"
    reason = "SERVER_OVERLOADED"


class DeadlineExceeded(GatewayError):
    """The caller's own limit, or the server's for a whole call, has passed."""

    status = StatusCode.DEADLINE_EXCEEDED
    http_status = 504
    type = "timeout"
    code = "deadline_exceeded"
    reason = "DEADLINE_EXCEEDED"


class CancelledByOperator(GatewayError):
    """An operator ended the call while it was in progress."""

    status = StatusCode.CANCELLED
    http_status = 499
    code = "cancelled_by_operator"
    reason = "CANCELLED"


class NotInThisRelease(GatewayError):
    """The API knows it, this release does not do it yet."""

    status = StatusCode.UNIMPLEMENTED
    http_status = 501
    code = "not_implemented"
    reason = "NOT_IMPLEMENTED"


class InternalError(GatewayError):
    """A fault of the gateway itself. Its cause is in the log under the request id, never in the answer."""


class ProviderError(VoxgateError):
    """A provider did not answer well. The router decides by the class what happens next."""

    status = StatusCode.UNAVAILABLE
    http_status = 502
    code = "provider_unavailable"
    reason = "PROVIDER_UNAVAILABLE"


class ProviderUnavailable(ProviderError):
    """5xx, connection refused or reset, an answer that was cut off."""


class ProviderGarbled(ProviderUnavailable):
    """An answer that makes no sense: not JSON, no text, an early success, a redirect."""

    code = "provider_invalid_response"


class AnswerTooLarge(ProviderGarbled):
    """An answer larger than the gateway reads, be it announced or endless."""

    status = StatusCode.RESOURCE_EXHAUSTED
    code = "provider_answer_too_large"
    reason = "UPSTREAM_TOO_LARGE"


class DrillFailure(ProviderUnavailable):
    """The caller asked that the first group fails (`mock_testing_fallbacks`)."""

    code = "mock_testing_fallbacks"


class EmptyTranscript(ProviderError):
    """It heard nothing, and the operator wants another one to listen (`voxgate.empty_transcript: fallback`).

    Never the end of a call: where nobody hears anything, the first empty transcript is the answer.
    """

    code = "provider_empty_transcript"
    reason = "EMPTY_TRANSCRIPT"


class ProviderCredential(ProviderError):
    """The provider refused the operator's key. Never shown as the caller's own 401."""

    code = "provider_credential_refused"


class ProviderTimeout(ProviderError):
    """The provider was too slow."""

    status = StatusCode.DEADLINE_EXCEEDED
    http_status = 504
    type = "timeout"
    code = "provider_timeout"
    reason = "PROVIDER_TIMEOUT"


class ProviderRateLimited(ProviderError):
    """The provider asks to slow down; `retry_after` is its own hint."""

    status = StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    reason = "RATE_LIMITED"


class ProviderQuotaExceeded(ProviderError):
    """The operator's account at the provider is empty; waiting does not help."""

    code = "provider_quota_exceeded"


class NoDeploymentAvailable(ProviderError):
    """Nobody could be asked: all deployments cool down or are at their limits; `retry_after` says until when."""

    http_status = 503
    code = "no_deployment_available"
    reason = "ALL_PROVIDERS_FAILED"


class ProviderRejected(ProviderError):
    """The provider refused the request itself, as the caller's fault."""

    status = StatusCode.INVALID_ARGUMENT
    http_status = 400
    type = "invalid_request_error"
    code = "provider_rejected"
    reason = "PROVIDER_REJECTED"
