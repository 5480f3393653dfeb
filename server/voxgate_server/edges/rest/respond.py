"""Whole responses, as ASGI messages."""

import math
from collections.abc import Iterable

from starlette.types import Send

from voxgate_server.call import Call
from voxgate_server.edges.rest.encode import bifrost_error_body, error_body
from voxgate_server.edges.rest.headers import call_headers
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
                (b"x-content-type-options", b"nosniff"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, body: bytes, *, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Sends a JSON document."""
    await send_response(send, body, _JSON, headers=headers)


async def send_error(
    send: Send, error: VoxgateError, *, headers: Iterable[tuple[bytes, bytes]], call: Call | None, bifrost: bool
) -> None:
    """Sends OpenAI's error object.

    Args:
        send: Where to.
        error: What went wrong.
        headers: Further headers.
        call: The call that failed, for what is known about it; None when there is none.
        bifrost: Add what Bifrost's clients look for beside the error object.
    """
    headers = list(headers)
    if call is not None:
        headers += call_headers(call)
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    body = bifrost_error_body(error, call) if bifrost else error_body(error)
    await send_response(send, body, _JSON, status=error.http_status, headers=headers)
