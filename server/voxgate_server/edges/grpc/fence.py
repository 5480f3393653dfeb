"""The outermost interceptor: names the call, checks the key, and lets nothing out but errors meant for the caller."""

# The stubs know types as generic that are not so at run time.
from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from voxgate_server.call import Caller, RequestContext, new_request_id
from voxgate_server.edges.grpc.status import abort
from voxgate_server.edges.identity import Identity
from voxgate_server.errors import InternalError, InvalidRequest, PermissionDenied, VoxgateError
from voxgate_server.telemetry import get_logger

__all__ = ["Fence", "current_rpc"]

_log = get_logger("grpc")

_PUBLIC = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Methods that answer without a key: whether the server lives, and what its public API is."""


_UNREADABLE = object()
"""Stands for a message that could not be parsed: an exception of a deserializer goes out with its text."""

_current: ContextVar[RequestContext] = ContextVar("rpc")


def current_rpc() -> RequestContext:
    """The call that is being handled."""
    return _current.get()


class Fence(aio.ServerInterceptor):
    """Wraps every handler of the server.

    Args:
        identity: Knows the keys.
        admins_only: Everything but health checks and reflection needs an admin key.
    """

    def __init__(self, identity: Identity, *, admins_only: bool = False) -> None:
        self._identity = identity
        self._admins_only = admins_only
        self.calls: set[asyncio.Task[Any]] = set()
        """The tasks of all calls in progress, from their first byte on; without health checks and reflection."""
        self._watches: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler that the call would go to."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # No such method: grpc answers UNIMPLEMENTED itself.
        method = handler_call_details.method
        public = method.startswith(_PUBLIC)
        task = asyncio.current_task()
        if task is not None:
            tasks = self._watches if public else self.calls
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                return getattr(grpc, f"{kind}_rpc_method_handler")(  # type: ignore[no-any-return]
                    self._fenced(behaviour, method, _each_readable if handler.request_streaming else _readable),
                    request_deserializer=_tolerant(handler.request_deserializer),
                    response_serializer=handler.response_serializer,
                )
        return handler

    async def end_watches(self, patience: float) -> None:
        """Ends health checks and reflection, which may go on for ever, after `patience` seconds."""
        if watches := set(self._watches):
            _, late = await asyncio.wait(watches, timeout=patience)
            self._ending = True
            for watch in late:
                watch.cancel()

    def _fenced(self, behaviour: Callable[..., Any], method: str, readable: Callable[[Any], Any]) -> Callable[..., Any]:
        public = method.startswith(_PUBLIC)

        if inspect.isasyncgenfunction(behaviour):

            async def streaming(request: object, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
                try:
                    await self._enter(context, method, public)
                    async for response in behaviour(readable(request), context):
                        yield response
                except asyncio.CancelledError:
                    await self._end_watch(context, public)
                    raise
                except Exception as error:
                    await _end(context, error)

            return streaming

        async def whole(request: object, context: aio.ServicerContext[Any, Any]) -> Any:
            try:
                await self._enter(context, method, public)
                return await behaviour(readable(request), context)
            except asyncio.CancelledError:
                await self._end_watch(context, public)
                raise
            except Exception as error:
                await _end(context, error)

        return whole

    async def _end_watch(self, context: aio.ServicerContext[Any, Any], public: bool) -> None:
        # A cancelled handler alone leaves the stream open.
        if public and self._ending:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This server is stopping.")

    async def _enter(self, context: aio.ServicerContext[Any, Any], method: str, public: bool) -> None:
        # The id is set first: an error of the key check needs it as well.
        request_id = new_request_id()
        _current.set(RequestContext(request_id, Caller()))
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        if not public:
            caller = self._identity.caller(headers)
            if self._admins_only and not caller.is_admin:
                raise PermissionDenied("This listener is the operator's: it needs an admin key.")
            _current.set(RequestContext(request_id, caller, method))
        context.set_trailing_metadata((("x-voxgate-request-id", request_id),))


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    def parse(data: bytes) -> Any:
        assert deserialize is not None
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return deserialize and parse


def _readable(message: Any) -> Any:
    """A message as it came. Raises InvalidRequest for one that could not be parsed."""
    if message is _UNREADABLE:
        raise InvalidRequest("This is no message of the method's type. Use the API's own definition of it.")
    return message


async def _each_readable(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _readable(message)


async def _end(context: aio.ServicerContext[Any, Any], error: Exception) -> None:
    if isinstance(error, aio.AbortError):
        raise error
    request_id = _current.get().request_id
    if not isinstance(error, VoxgateError):
        _log.error("unexpected error", request_id=request_id, exc_info=error)
        error = InternalError("The server failed. Tell its operator the request id.")
    await abort(context, error, request_id)
