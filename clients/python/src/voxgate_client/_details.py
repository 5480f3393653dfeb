"""Reads error details (google.rpc.Status in the trailer `grpc-status-details-bin`) without googleapis-common-protos.

The few messages are described here and live in a pool of their own, so that they never clash with an installed
googleapis-common-protos. Names differ, field numbers and types are the same: that is all the wire knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from voxgate.transcription.v1.error_reason_pb2 import RoutingFailure
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt

__all__ = ["Details", "read_details"]

_PACKAGE = "voxgate_client.details"
_TRAILER = "grpc-status-details-bin"
_REQUEST_ID = "x-voxgate-request-id"

# message: field: (number, type); a type in capitals is a message of this table, a list is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str | list[str]]]] = {
    "Status": {"code": (1, "int32"), "message": (2, "string"), "details": (3, ["Any"])},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "ErrorInfo": {"reason": (1, "string"), "domain": (2, "string"), "metadata": (3, ["Entry"])},
    "Entry": {"key": (1, "string"), "value": (2, "string")},
    "RetryInfo": {"retry_delay": (1, "Duration")},
    "Duration": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "RequestInfo": {"request_id": (1, "string")},
    "BadRequest": {"field_violations": (1, ["FieldViolation"])},
    "FieldViolation": {"field": (1, "string"), "description": (2, "string")},
}


def _classes() -> dict[str, Any]:
    types = FieldDescriptorProto
    file = FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = DescriptorProto(name=name)
        for field_name, (number, kind) in fields.items():
            one = kind if isinstance(kind, str) else kind[0]
            label = types.LABEL_OPTIONAL if isinstance(kind, str) else types.LABEL_REPEATED
            entry = message.field.add(name=field_name, number=number, label=label)
            if one in _MESSAGES:
                entry.type, entry.type_name = types.TYPE_MESSAGE, f".{_PACKAGE}.{one}"
            else:
                entry.type = types.Type.Value(f"TYPE_{one.upper()}")
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


_CLASSES = _classes()


@dataclass(slots=True)
class Details:
    """What the trailers of a failed call say beyond code and message."""

    from_server: bool = False
    """A voxgate server wrote them; otherwise the gRPC library or something in between ended the call."""
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None
    retry_after: float | None = None
    """In seconds."""
    param: str | None = None
    attempts: list[ProviderAttempt] = field(default_factory=list)


def read_details(trailers: Iterable[tuple[str, str | bytes]] | None) -> Details:
    """Reads what can be read. Details of unknown types and broken ones are left out: the status itself is still true.

    Args:
        trailers: Trailing metadata of the call.
    """
    found = Details()
    for key, value in trailers or ():
        if key == _REQUEST_ID and isinstance(value, str):
            found.from_server, found.request_id = True, value
        elif key == _TRAILER and isinstance(value, bytes):
            try:
                status = _CLASSES["Status"].FromString(value)
            except DecodeError:
                continue
            for detail in status.details:
                _read_detail(found, detail.type_url.rpartition("/")[2], detail.value)
    return found


def _read_detail(found: Details, type_name: str, value: bytes) -> None:
    try:
        match type_name:
            case "google.rpc.ErrorInfo":
                info = _CLASSES["ErrorInfo"].FromString(value)
                found.from_server = True
                found.reason = info.reason or None
                found.metadata = {entry.key: entry.value for entry in info.metadata}
                found.request_id = found.metadata.pop("request_id", None) or found.request_id
            case "google.rpc.RequestInfo":
                found.request_id = _CLASSES["RequestInfo"].FromString(value).request_id or found.request_id
            case "google.rpc.RetryInfo":
                delay = _CLASSES["RetryInfo"].FromString(value).retry_delay
                found.retry_after = max(0.0, delay.seconds + delay.nanos / 1e9)
            case "google.rpc.BadRequest":
                violations = _CLASSES["BadRequest"].FromString(value).field_violations
                found.param = violations[0].field if violations else None
            case RoutingFailure.DESCRIPTOR.full_name:
                found.attempts = list(RoutingFailure.FromString(value).attempts)
            case _:
                pass  # A newer server may say more than this client knows.
    except DecodeError:
        return
