"""Answers of HTTP providers: whole, or piece by piece while they come."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple, Self, TypeVar

import httpx
from voxgate.transcription.v1.extra_fields_pb2 import RawPayload

from voxgate_server.errors import ProviderTimeout, VoxgateError
from voxgate_server.providers.http_errors import Upstream, redact

__all__ = ["Answer", "Incoming", "in_time", "raw_payload", "read_error"]

T = TypeVar("T")

_ERROR_BODY_SECONDS = 5.0
_ERROR_BODY_BYTES = 64 * 1024
_RAW_BYTES = 64 * 1024
_ENDING_SECONDS = 1.0
"""How long the end of an answer is waited for that has said that it is complete."""


class Answer(NamedTuple):
    """An answer of status 2xx, whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def media_type(self) -> str:
        """Media type in lower case, without parameters; empty when there is none."""
        return _media_type(self.headers)


class Incoming:
    """An answer of status 2xx whose body is still coming: an iterator over its pieces.

    Whoever takes them slowly slows the provider down: some 128 KiB of an answer are held, and no more.

    Args:
        response: The answer; whoever made this closes it.
        upstream: Who sends it.
        deadline: When it has to be over, on the clock of `time.monotonic()`, in seconds.
        idle_seconds: How long a piece may take once the first has come; None for no limit but the deadline.
        late: The error for a deadline that has passed.
        keep: Keep the beginning of the body for `shown`.
    """

    def __init__(
        self,
        response: httpx.Response,
        upstream: Upstream,
        *,
        deadline: float,
        idle_seconds: float | None = None,
        late: Callable[[], VoxgateError],
        keep: bool = False,
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status: int = response.status_code
        self.headers: httpx.Headers = response.headers
        self._pieces = aiter(response.stream)
        self._upstream = upstream
        self._deadline = deadline
        self._idle_seconds = idle_seconds
        self._late = late
        self._kept = bytearray() if keep else None
        self._begun = False
        self._ending: float | None = None

    @property
    def media_type(self) -> str:
        """Media type in lower case, without parameters; empty when there is none."""
        return _media_type(self.headers)

    @property
    def shown(self) -> RawPayload | None:
        """As much of the body as came and may be shown; None where nothing was to be kept."""
        if self._kept is None:
            return None
        media_type: str = self.headers.get("content-type", "")
        return raw_payload(media_type[:256], bytes(self._kept), self._upstream.secrets)

    def expect_end(self) -> None:
        """The answer says that it is complete: its end is waited for a second, and missed by nobody after that."""
        if self._ending is None:
            self._ending = time.monotonic() + _ENDING_SECONDS

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body.

        Raises:
            ProviderTimeout: It took too long.
            ProviderError: The connection broke, or the answer is too large.
        """
        # A limit for each wait and none around them all: whoever takes the pieces may do so from several tasks, and
        # takes his time in between, which is not the provider's.
        until: float = self._deadline
        late: Callable[[], Exception] = self._late
        if self._ending is not None and self._ending < until:
            until, late = self._ending, StopAsyncIteration
        elif self._begun and self._idle_seconds is not None and time.monotonic() + self._idle_seconds < until:
            until, late = time.monotonic() + self._idle_seconds, self._idle
        piece = await in_time(anext(self._pieces, None), until, late, self._upstream)
        if piece is None:
            raise StopAsyncIteration
        self._begun = True
        self._keep(piece)
        return piece

    async def read(self) -> Answer:
        """What is left of the body, within the deadline.

        Raises:
            ProviderError: As for a piece.
        """
        body = await in_time(self._rest(), self._deadline, self._late, self._upstream)
        self._keep(body)
        return Answer(self.status, self.headers, body)

    async def aclose(self) -> None:
        """Ends the iterator; the connection is cut by whoever made this."""
        if isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()

    async def _rest(self) -> bytes:
        return b"".join([piece async for piece in self._pieces])

    def _keep(self, piece: bytes) -> None:
        if self._kept is not None and len(self._kept) <= _RAW_BYTES:
            self._kept += piece[: _RAW_BYTES + 1]

    def _idle(self) -> ProviderTimeout:
        limit = self._idle_seconds or 0.0
        return ProviderTimeout(
            f"{self._upstream} sent nothing for {limit:g} s in the middle of its answer, which is the limit.",
            metadata={"provider": self._upstream.provider, "limit_seconds": f"{limit:g}"},
        )


async def in_time(work: Awaitable[T], until: float, late: Callable[[], Exception], upstream: Upstream) -> T:
    """Waits for a provider, with the errors that can come of it.

    Args:
        work: What is waited for.
        until: When it has to be done, on the clock of `time.monotonic()`, in seconds.
        late: The error when it is not.
        upstream: Who is waited for.

    Raises:
        ProviderError: The connection failed.
    """
    try:
        async with asyncio.timeout(until - time.monotonic()) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise late() from None
    except httpx.TransportError as error:
        raise upstream.breakdown(error) from error


def raw_payload(media_type: str, data: bytes, secrets: tuple[str, ...] = ()) -> RawPayload:
    """A body for `extra_fields`: at most 64 KiB of it, without the secrets."""
    shown = data[:_RAW_BYTES]
    if secrets:
        shown = redact(shown.decode("utf-8", "replace"), secrets).encode()[:_RAW_BYTES]
    return RawPayload(media_type=media_type, data=shown, truncated=len(data) > _RAW_BYTES)


async def read_error(response: httpx.Response) -> bytes:
    """As much of the body of an answer that is not 2xx as comes, at most 64 KiB within five seconds."""
    # The status is what counts: a body that is slow, cut or endless must not take it away.
    assert isinstance(response.stream, httpx.AsyncByteStream)
    received = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for chunk in response.stream:
                received += chunk
                if len(received) >= _ERROR_BODY_BYTES:
                    break
    except (TimeoutError, httpx.TransportError):
        pass
    return bytes(received[:_ERROR_BODY_BYTES])


def _media_type(headers: httpx.Headers) -> str:
    media_type: str = headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower()
