"""Whole responses, as ASGI messages."""

from collections.abc import Iterable

from starlette.types import Send

from voxgate_server.edges.rest.encode import error_body
from voxgate_server.errors import Unauthenticated, VoxgateError

__all__ = ["send_error", "send_json", "send_response"]

_JSON = b"application/json"


async def send_response(
    send: Send, body: bytes, media_type: bytes, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Sends a response in one piece."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", media_type),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, body: bytes, *, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Sends a JSON document."""
    await send_response(send, body, _JSON, headers=headers)


async def send_error(send: Send, error: VoxgateError, request_id: str) -> None:
    """Sends OpenAI's error object."""
    headers = [(b"x-voxgate-request-id", request_id.encode()), (b"x-request-id", request_id.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    await send_response(send, error_body(error), _JSON, status=error.http_status, headers=headers)
