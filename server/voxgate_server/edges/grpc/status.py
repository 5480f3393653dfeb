"""Errors as gRPC has them: a code, and google.rpc details small enough to arrive."""

# The stubs know types as generic that are not so at run time.
from __future__ import annotations

from typing import NoReturn

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from voxgate.transcription.v1.error_reason_pb2 import RoutingFailure

from voxgate_server.errors import UnknownModel, VoxgateError

__all__ = ["DOMAIN", "abort", "to_status"]

DOMAIN = "voxgate.dev"
"""Domain of every ErrorInfo."""

_DETAILS_BYTES = 6 * 1024
"""Trailers above 8 KiB are dropped at random on the way; base64 and the other trailers need the rest."""
_MESSAGE_CHARACTERS = 1000
_VALUE_CHARACTERS = 200
_ATTEMPTS = 5


def to_status(error: VoxgateError, request_id: str) -> status_pb2.Status:
    """The status of an error, at most 6 KiB long.

    Always with ErrorInfo and RequestInfo; with BadRequest, ResourceInfo, RetryInfo and RoutingFailure where they say
    something.
    """
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in {**error.metadata, "request_id": request_id}.items():
        info.metadata[key] = value[:_VALUE_CHARACTERS]
    details: list[Message] = [info, error_details_pb2.RequestInfo(request_id=request_id)]
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after * 1e9))
        details.append(retry)
    if error.param is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.param, description=error.message[:_VALUE_CHARACTERS]
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, UnknownModel):
        details.append(
            error_details_pb2.ResourceInfo(resource_type="model", resource_name=error.metadata.get("model", ""))
        )
    # The last attempts say most; as many of them as there is room for.
    details += [
        RoutingFailure(attempts=error.attempts[-count:]) for count in range(len(error.attempts[-_ATTEMPTS:]), 0, -1)
    ]
    status = status_pb2.Status(code=error.status.value[0], message=error.message[:_MESSAGE_CHARACTERS])
    for detail in details:
        status.details.add().Pack(detail)
        if status.ByteSize() > _DETAILS_BYTES:
            del status.details[-1]
        elif isinstance(detail, RoutingFailure):
            break
    return status


async def abort(context: aio.ServicerContext[object, object], error: VoxgateError, request_id: str) -> NoReturn:
    """Ends a call with an error. Never returns."""
    status = to_status(error, request_id)
    await context.abort(
        error.status,
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()), ("x-voxgate-request-id", request_id)),
    )
