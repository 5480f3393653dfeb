"""Around every request: names it, checks the key, and lets nothing out but errors meant for the caller."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxgate_server.call import Caller, RequestContext, new_request_id
from voxgate_server.edges.header_options import call_id
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.rest.headers import TRACE_HEADER, identifying_headers
from voxgate_server.edges.rest.respond import send_error
from voxgate_server.errors import Cancelled, InternalError, Overloaded, VoxgateError
from voxgate_server.telemetry import get_logger

__all__ = ["Fence", "request_context", "request_headers"]

_log = get_logger("rest")

_PUBLIC = frozenset({"/health/liveliness", "/health/liveness", "/health/readiness"})
"""Paths that answer without a key: whether the server lives."""
_BIFROST = "/litellm/"
"""Paths of Bifrost, whose clients look for more than OpenAI's error object."""


def request_context(scope: Scope) -> RequestContext:
    """What is known about the request."""
    context = scope["voxgate.context"]
    assert isinstance(context, RequestContext)
    return context


def request_headers(scope: Scope) -> Mapping[str, str]:
    """The request's headers; names in lower case, of several with one name the last."""
    headers = scope["voxgate.headers"]
    assert isinstance(headers, dict)
    return headers


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
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = new_request_id()
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        async def refuse(error: VoxgateError) -> None:
            if not started:
                await send_error(
                    sending, error, headers=identifying_headers(request_id, headers.get(TRACE_HEADER, "")),
                    call=scope.get("voxgate.call"), bifrost=scope["path"].startswith(_BIFROST),
                )  # fmt: skip

        try:
            caller = Caller()
            if scope["path"] not in _PUBLIC:
                caller = self._caller(headers)
                request_id = call_id(headers) or request_id
            scope["voxgate.context"] = RequestContext(request_id, caller, f"{scope['method']} {scope['path'][:200]}")
            scope["voxgate.headers"] = headers
            await self._app(scope, receive, sending)
        except Cancelled:
            return
        except asyncio.CancelledError:
            # Nobody cancels requests but the server, when the time for its calls in progress is over.
            await refuse(_stopping("the call was not done in time"))
        except Exception as error:
            if not isinstance(error, VoxgateError):
                _log.error("unexpected error", request_id=request_id, exc_info=error)
                error = InternalError("The server failed. Tell its operator the request id.")
            await refuse(error)

    def _caller(self, headers: dict[str, str]) -> Caller:
        caller = self._identity.caller(headers)
        if not self._ready():
            raise _stopping("it takes no new requests")
        return caller


def _stopping(what: str) -> Overloaded:
    return Overloaded(f"This server is stopping, and {what}. Send the request again.", retry_after=1)
