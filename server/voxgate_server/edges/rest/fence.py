"""Around every request: names it, checks the key, and lets nothing out but errors meant for the caller."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxgate_server.call import Caller, RequestContext, new_request_id
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.rest.respond import send_error
from voxgate_server.errors import Cancelled, InternalError, Overloaded, VoxgateError
from voxgate_server.telemetry import get_logger

__all__ = ["Fence", "request_context"]

_log = get_logger("rest")

_PUBLIC = frozenset({"/health/liveliness", "/health/liveness", "/health/readiness"})
"""Paths that answer without a key: whether the server lives."""


def request_context(scope: Scope) -> RequestContext:
    """What is known about the request."""
    context = scope["voxgate.context"]
    assert isinstance(context, RequestContext)
    return context


class Fence:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        identity: Knows the keys.
        ready: Whether new calls are welcome.
    """

    def __init__(self, app: ASGIApp, identity: Identity, *, ready: Callable[[], bool]) -> None:
        self._app = app
        self._identity = identity
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request_id = new_request_id()
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            caller = Caller()
            if scope["path"] not in _PUBLIC:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                caller = self._caller(headers)
            scope["voxgate.context"] = RequestContext(request_id, caller, f"{scope['method']} {scope['path'][:200]}")
            await self._app(scope, receive, sending)
        except Cancelled:
            return
        except asyncio.CancelledError:
            # Nobody cancels requests but the server, when the time for its calls in progress is over.
            if not started:
                await send_error(sending, _stopping("the call was not done in time"), request_id)
        except Exception as error:
            if not isinstance(error, VoxgateError):
                _log.error("unexpected error", request_id=request_id, exc_info=error)
                error = InternalError("The server failed. Tell its operator the request id.")
            if not started:
                await send_error(sending, error, request_id)

    def _caller(self, headers: dict[str, str]) -> Caller:
        caller = self._identity.caller(headers)
        if not self._ready():
            raise _stopping("it takes no new requests")
        return caller


def _stopping(what: str) -> Overloaded:
    return Overloaded(f"This server is stopping, and {what}. Send the request again.", retry_after=1)
