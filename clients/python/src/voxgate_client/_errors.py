"""Every error a call can end with.

    VoxgateError
    ├── InvalidRequestError          something about the request is wrong     INVALID_ARGUMENT, FAILED_PRECONDITION,
    │   │                                                                     OUT_OF_RANGE, ALREADY_EXISTS
    │   └── AudioTooLargeError       above a limit                            RESOURCE_EXHAUSTED
    ├── UploadInterruptedError       the audio stopped before its end         FAILED_PRECONDITION, ABORTED
    ├── AuthenticationError          no key, or a wrong one                   UNAUTHENTICATED
    ├── PermissionDeniedError        the key does not permit it               PERMISSION_DENIED
    ├── NotFoundError                there is no such thing                   NOT_FOUND
    │   └── UnknownModelError        there is no such model                   NOT_FOUND
    ├── RateLimitedError             too much at once, or a budget is spent   RESOURCE_EXHAUSTED
    ├── UnavailableError             no connection, or no provider answered   UNAVAILABLE, RESOURCE_EXHAUSTED
    │   └── CertificateError         TLS does not trust what it sees          UNAVAILABLE
    ├── DeadlineExceededError        too slow                                 DEADLINE_EXCEEDED
    ├── CallCancelledError           ended by the server or by close()        CANCELLED
    ├── UnimplementedError           this server cannot                       UNIMPLEMENTED
    └── ServerError                  a fault of the server                    INTERNAL, UNKNOWN, DATA_LOSS

What is wrong before anything is sent is no VoxgateError: ValueError and TypeError for arguments, and whatever opening
the file raises (FileNotFoundError, PermissionError). An exception of an iterator given as audio is raised as it is.
"""

from collections.abc import Mapping, Sequence

from grpc import StatusCode
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt

__all__ = [
    "AudioTooLargeError",
    "AuthenticationError",
    "CallCancelledError",
    "CertificateError",
    "DeadlineExceededError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ServerError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownModelError",
    "UploadInterruptedError",
    "VoxgateError",
]


class VoxgateError(Exception):
    """A call that failed.

    Args:
        message: For people: what happened and what to do. Never contains the API key.
        code: gRPC status code.
        reason: Name in ErrorReason without its prefix, e.g. `RATE_LIMITED`. None when no voxgate server said one.
        request_id: Tell it to the operator: the server's log has it. None when the call never reached a server.
        metadata: Values that the message mentions, e.g. `limit_bytes`.
        retry_after: Seconds after which it is worth trying again. None when nobody said.
        attempts: Which providers were tried, in order, at most the last 5.
        param: Name of the field that is wrong, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        # Defaults throughout, so that an error survives pickle (worker processes send them).
        code: StatusCode = StatusCode.UNKNOWN,
        reason: str | None = None,
        request_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        attempts: Sequence[ProviderAttempt] = (),
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.request_id = request_id
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.attempts = list(attempts)
        self.param = param

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class InvalidRequestError(VoxgateError):
    """Something about the request is wrong; sending it again as it was is of no use. `param` may say which field."""


class AudioTooLargeError(InvalidRequestError):
    """More bytes or seconds of audio than a limit allows."""


class UploadInterruptedError(VoxgateError):
    """The audio stopped before its end, or nothing of it came for too long. Nothing was transcribed; send it again."""


class AuthenticationError(VoxgateError):
    """There was no API key, or a wrong one."""


class PermissionDeniedError(VoxgateError):
    """The API key is right and does not permit this."""


class NotFoundError(VoxgateError):
    """There is no such thing."""


class UnknownModelError(NotFoundError):
    """There is no such model, or none this key may use; `metadata["nearest"]` may name similar ones."""


class RateLimitedError(VoxgateError):
    """Too many calls, or a budget is spent. `retry_after` says when to come back, if that helps."""


class UnavailableError(VoxgateError):
    """There is no connection to the server, or no provider answered it; `attempts` lists what was tried."""


class CertificateError(UnavailableError):
    """TLS does not trust what it sees: a certificate expired, belongs to another name or is signed by a stranger."""


class DeadlineExceededError(VoxgateError):
    """The call took longer than its timeout, or than the server permits."""


class CallCancelledError(VoxgateError):
    """The call was ended by the server, by something in between or by `close()`, not by the task that made it."""


class UnimplementedError(VoxgateError):
    """The server does not know the method, or what was asked for is not part of its release."""


class ServerError(VoxgateError):
    """A fault of the server. Tell its operator the `request_id`."""
