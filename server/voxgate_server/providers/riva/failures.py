"""What gRPC statuses of Riva mean for the router and may say to the caller."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, Self

import grpc

from voxgate_server.errors import (
    AnswerTooLarge,
    AudioTooLarge,
    ProviderCredential,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.providers.http_errors import Upstream, excerpt, retry_after

__all__ = ["Status", "StatusWatch", "failure_of"]

_TOO_LARGE = "larger than max"
"""What gRPC's libraries say of a message above a limit, on either side."""


_LOST = "Internal error from Core"
_STATUS_SECONDS = 1.0


class Status(NamedTuple):
    """How an RPC ended."""

    code: grpc.StatusCode
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Self:
        """The status an error stands for."""
        return cls(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))


class StatusWatch:
    """Remembers how an RPC that sends a stream was ended by the server.

    When a write fails because the RPC is over, grpc.aio replaces the server's status, before or after it has arrived,
    by INTERNAL (github.com/grpc/grpc/issues/36066): a key that was refused would look like a broken server.

    Args:
        call: The RPC, just begun.
    """

    def __init__(self, call: Any) -> None:
        self._status: Status | None = None
        self._known = asyncio.Event()
        call.add_done_callback(self._look)

    async def status(self, error: grpc.aio.AioRpcError) -> Status:
        """How the RPC ended, given what was raised."""
        if error.details() != _LOST:
            return Status.of(error)
        try:
            async with asyncio.timeout(_STATUS_SECONDS):
                await self._known.wait()
        except TimeoutError:
            return Status.of(error)
        assert self._status is not None
        return self._status

    def _look(self, call: Any) -> None:
        # Called each time a status is set, and the only moment to see one that is replaced.
        status = Status(_now(call.code()), _now(call.details()) or "", tuple(_now(call.trailing_metadata()) or ()))
        if self._status is None and status.details != _LOST:
            self._status = status
            self._known.set()


def _now(question: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for."""
    try:
        question.send(None)
    except StopIteration as done:
        return done.value
    question.close()
    raise RuntimeError("the RPC is not over")


def failure_of(status: Status, upstream: Upstream, *, one_message: bool) -> VoxgateError:
    """The error for an RPC that failed.

    Only what the server says about the request is passed on: gRPC's own texts contain addresses.

    Args:
        status: How it failed.
        upstream: Who was spoken to.
        one_message: The whole recording was in one message.
    """
    code, details, trailing = status
    metadata = {"provider": upstream.provider, "provider_code": code.name.lower()}
    quote = excerpt(details, upstream.secrets)
    suffix = f": {quote}" if quote else "."
    match code:
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return ProviderCredential(
                f"{upstream} refused the gateway's credential. The operator has to check the deployment's api_key.",
                metadata=metadata,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in details and one_message:
            return AudioTooLarge(
                f"The recording is larger than {upstream} takes in one message. Send a shorter one, or choose a model "
                "that takes streams.",
                param="file",
                metadata=metadata,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in details:
            return AnswerTooLarge(f"{upstream} sent an answer larger than is read.", metadata=metadata)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            trailers = {str(name).lower(): str(value) for name, value in trailing}
            return ProviderRateLimited(
                f"{upstream} asks to slow down{suffix}", metadata=metadata, retry_after=retry_after(trailers)
            )
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return ProviderRejected(f"{upstream} refused the request{suffix}", metadata=metadata)
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.UNIMPLEMENTED:
            return ProviderUnavailable(
                f"{upstream} does not know the function, the model or the method. The operator has to check the "
                f"deployment's model, api_base and nvcf_function_id{suffix}",
                metadata=metadata,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ProviderTimeout(f"{upstream} did not answer in the time that was left.", metadata=metadata)
    return ProviderUnavailable(f"{upstream} broke off with gRPC status {code.name}.", metadata=metadata)
