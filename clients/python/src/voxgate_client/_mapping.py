"""Turns what gRPC raises into the errors of `_errors`, the same for both clients."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import grpc
from grpc import StatusCode

from voxgate_client import _errors as errors
from voxgate_client._details import Details, read_details

__all__ = ["Rpc", "map_errors", "was_cancelled"]


@dataclass(frozen=True, slots=True)
class Rpc:
    """One call, as far as its errors have to speak of it."""

    target: str
    """Where it went, in the caller's own words."""
    method: str
    timeout: float
    """In seconds."""
    api_key: str | None = field(default=None, repr=False)
    """To be kept out of every message, whatever a server echoes."""


_BY_REASON: dict[str | None, type[errors.VoxgateError]] = {
    "UNKNOWN_MODEL": errors.UnknownModelError,
    "AUDIO_TOO_LARGE": errors.AudioTooLargeError,
    "UPLOAD_INCOMPLETE": errors.UploadInterruptedError,
    "AUDIO_IDLE_TIMEOUT": errors.UploadInterruptedError,
    "UPSTREAM_TOO_LARGE": errors.UnavailableError,
}
_BY_CODE: dict[StatusCode, type[errors.VoxgateError]] = {
    StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    StatusCode.FAILED_PRECONDITION: errors.InvalidRequestError,
    StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    StatusCode.ALREADY_EXISTS: errors.InvalidRequestError,
    StatusCode.ABORTED: errors.UploadInterruptedError,
    StatusCode.UNAUTHENTICATED: errors.AuthenticationError,
    StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    StatusCode.NOT_FOUND: errors.NotFoundError,
    StatusCode.RESOURCE_EXHAUSTED: errors.RateLimitedError,
    StatusCode.UNAVAILABLE: errors.UnavailableError,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    StatusCode.CANCELLED: errors.CallCancelledError,
    StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
}


class _Known(NamedTuple):
    """Something the gRPC library says where no voxgate server said anything."""

    code: StatusCode
    needle: str
    """What is in the library's own words, in lower case."""
    kind: type[errors.VoxgateError]
    text: str


# The first one that fits decides.
_LIBRARY = (
    _Known(
        StatusCode.UNAVAILABLE,
        "certificate_verify_failed",
        errors.CertificateError,
        "The certificate of {target} is not trusted ({why}). Renew it if it expired; if your own authority signed it, "
        "give that authority's certificate as TlsOptions(ca=...).",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "hostname verification",
        errors.CertificateError,
        "The certificate of {target} is for another name. Connect by a name that the certificate has.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "security handshaker",
        errors.CertificateError,
        "The certificates given in TlsOptions cannot be used for {target}: they have to be PEM, and the private key "
        "has to fit the certificate.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "wrong_version_number",
        errors.UnavailableError,
        "The server at {target} does not speak TLS. Leave `tls` and `https://` away, or turn TLS on at the server.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "http/2",
        errors.UnavailableError,
        "Something answers at {target}, but it does not speak gRPC. Is it the REST port (4000 by default)? The gRPC "
        "port is 50051 by default.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "errors resolving",
        errors.UnavailableError,
        "The name of {target} cannot be resolved. Check it for typing errors, and this machine's DNS.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "socket closed",
        errors.UnavailableError,
        "The server at {target} closed the connection. If it did so at once, it may demand TLS (`https://`) or a "
        "client certificate (TlsOptions).",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "failed to connect",
        errors.UnavailableError,
        "Cannot connect to the voxgate server at {target} ({why}). Check that `voxgate serve` runs there, that this "
        "is its gRPC port (50051 by default) and that no firewall is in between.",
    ),
    _Known(
        StatusCode.UNAVAILABLE,
        "",
        errors.UnavailableError,
        "The connection to the voxgate server at {target} was lost ({why}). It may be restarting; try again.",
    ),
    _Known(
        StatusCode.DEADLINE_EXCEEDED,
        "",
        errors.DeadlineExceededError,
        "No answer from {target} within the timeout of {timeout:g} s. Give a longer `timeout`, or check that the "
        "server can be reached.",
    ),
    _Known(
        StatusCode.RESOURCE_EXHAUSTED,
        "message larger than max",
        errors.AudioTooLargeError,
        "A message was larger than its receiver takes ({why}). transcribe() sends recordings of any size in pieces.",
    ),
    _Known(
        StatusCode.RESOURCE_EXHAUSTED,
        "concurrent rpc limit",
        errors.RateLimitedError,
        "The server at {target} has as many calls as it takes. Try again later.",
    ),
    _Known(
        StatusCode.UNIMPLEMENTED,
        "",
        errors.UnimplementedError,
        "The server at {target} does not know {method} ({why}). It is older than this client, or no voxgate server.",
    ),
    _Known(
        StatusCode.CANCELLED,
        "",
        errors.CallCancelledError,
        "The call to {target} was cancelled ({why}) by the server or by something in between.",
    ),
)
_WHY_CHARACTERS = 200


@contextlib.contextmanager
def map_errors(rpc: Rpc) -> Iterator[None]:
    """Raises VoxgateError for whatever gRPC raises inside. Cancellation of the running task stays what it is."""
    try:
        yield
    except grpc.FutureCancelledError:
        raise _cancelled(rpc) from None
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        raise _cancelled(rpc) from None
    except grpc.RpcError as error:
        # What the library says is in the message; a chain would print it again, and with it what a server echoed.
        raise _to_error(error, rpc) from None


def was_cancelled() -> bool:
    """Somebody cancelled the running task: grpc.aio raises CancelledError also when a call alone was."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cancelled(rpc: Rpc) -> errors.VoxgateError:
    return errors.CallCancelledError(
        f"The call to {rpc.target} was ended on this side, most likely because the client was closed.",
        code=StatusCode.CANCELLED,
    )


def _to_error(error: grpc.RpcError, rpc: Rpc) -> errors.VoxgateError:
    code: StatusCode = error.code()
    said: str = error.details() or ""
    # Pairs at run time in both clients, whatever the stubs call them.
    details = read_details(cast("Iterable[tuple[str, str | bytes]] | None", error.trailing_metadata()))
    if not details.from_server and (known := _library_error(code, said, rpc)):
        known.request_id = details.request_id
        return known
    return _server_error(code, said, details, rpc)


def _server_error(code: StatusCode, said: str, details: Details, rpc: Rpc) -> errors.VoxgateError:
    kind = _BY_REASON.get(details.reason) or _BY_CODE.get(code, errors.ServerError)
    return kind(
        _without_key(said, rpc) or f"The server at {rpc.target} ended {rpc.method} with {code.name}.",
        code=code,
        reason=details.reason,
        request_id=details.request_id,
        metadata={key: _without_key(value, rpc) for key, value in details.metadata.items()},
        retry_after=details.retry_after,
        attempts=details.attempts,
        param=details.param,
    )


def _library_error(code: StatusCode, said: str, rpc: Rpc) -> errors.VoxgateError | None:
    for known in _LIBRARY:
        if known.code is code and known.needle in said.lower():
            # The end is the specific part: everything before says which address and layer.
            why = _without_key(said.rpartition("last error: ")[2], rpc)[-_WHY_CHARACTERS:]
            return known.kind(
                known.text.format(target=rpc.target, method=rpc.method, timeout=rpc.timeout, why=why), code=code
            )
    return None


def _without_key(text: str, rpc: Rpc) -> str:
    return text.replace(rpc.api_key, "[API key]") if rpc.api_key else text
