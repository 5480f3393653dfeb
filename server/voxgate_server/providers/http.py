"""HTTP to providers: the httpx API over aiohttp's connections.

Adapters are written against httpx (`AsyncBaseTransport`), so that a test can hand them any transport of that world.
What runs underneath is aiohttp, because transcription calls are long and many: httpx's own pool needs several
milliseconds of CPU a call once fifty are open, and loses an answer that comes while the body is still being sent.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Self

import aiohttp
import httpx
import yarl
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from voxgate_server.providers.pinning import PinningResolver

__all__ = ["MAX_RESPONSE_BYTES", "AiohttpTransport", "ResponseTooLarge"]

MAX_RESPONSE_BYTES = 16 * 1024 * 1024
"""The largest answer that is read, in bytes: a transcript of a whole day with word times is smaller."""

_DIRECT = 64 * 1024
"""Bodies up to this many bytes fit into the socket's buffer and need no watch over their progress."""

_NO_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class ResponseTooLarge(httpx.RemoteProtocolError):
    """The answer is larger than the transport reads."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests over connections of its own; one transport per deployment.

    No limit on connections, no cookies, no redirects, no proxies from the environment, no headers beyond the
    request's own. The time-outs are those of `request.extensions["timeout"]` in seconds (`connect`, `read`, `write`;
    absent or None means none): `connect` covers name, TCP and TLS; `read` the time without a byte once the body was
    sent; `write` the time in which the peer takes no more of a body. An answer that comes while the body is still
    being sent is delivered; the connection is then not used again.

    An exception raised by the request's body is raised to the caller unchanged, after the connection was cut.

    Args:
        ssl_context: For https; None means the system's certificate authorities.
        max_response_bytes: The largest answer that is read, in bytes.
        keepalive_timeout: How long an idle connection is kept, in seconds.
        resolver: Says where names may lead, for places that callers chose; None: wherever they lead. What it raises
            is raised to the caller unchanged, and nothing is dialled then.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        keepalive_timeout: float = 15,
        resolver: PinningResolver | None = None,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_response_bytes = max_response_bytes
        self._keepalive_timeout = keepalive_timeout
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[httpx.URL, yarl.URL] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request and returns as soon as the head of the answer is there.

        The caller reads `response.stream` and must `aclose` the response. Cancelling closes the connection at once.

        Raises:
            httpx.TransportError: In the class that says what happened: `ConnectError` and `ConnectTimeout` before
                anything was sent, `WriteError` and `WriteTimeout` while the body was on its way, `ReadError`,
                `ReadTimeout` and `RemoteProtocolError` after that.
        """
        session = self._session or self._open()
        timeout: dict[str, float | None] = request.extensions.get("timeout") or {}
        stream = request.stream
        body: bytes | _Exchange
        if isinstance(stream, httpx.ByteStream) and len(content := b"".join(stream)) <= _DIRECT:
            exchange = _Exchange(None, None)
            body = content
        else:
            assert isinstance(stream, httpx.AsyncByteStream)
            body = exchange = _Exchange(aiter(stream), timeout.get("write"))
        _current.set(exchange)
        try:
            answer = await session.request(
                request.method,
                self._url(request.url),
                # aiohttp chooses the framing itself: by content-length where there is one, chunked otherwise.
                headers=[
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in request.headers.raw
                    if name.lower() != b"transfer-encoding"
                ],
                data=body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=timeout.get("connect"), sock_read=timeout.get("read"), ceil_threshold=3600
                ),
            )
        except BaseException as error:
            raise exchange.failed(error) from error
        exchange.answer = answer
        declared = answer.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._max_response_bytes:
            exchange.close()
            raise ResponseTooLarge(f"an answer of {declared[:20]} bytes; at most {self._max_response_bytes} are read")
        return httpx.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=_AnswerStream(exchange, answer, self._max_response_bytes),
            request=request,
        )

    async def aclose(self) -> None:
        """Closes all connections, also those in use."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._resolver is not None:
            await self._resolver.close()

    def _open(self) -> aiohttp.ClientSession:
        # Here and not in __init__: a session belongs to the loop it was made in.
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                self._resolver,
                limit=0,
                ssl=self._ssl_context or True,
                keepalive_timeout=self._keepalive_timeout,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NO_AUTOMATIC_HEADERS,
            trust_env=False,
        )
        return self._session

    def _url(self, url: httpx.URL) -> yarl.URL:
        known = self._urls.get(url)
        if known is None:
            known = yarl.URL(str(url), encoded=True)
            # Adapters have one or two URLs; whoever has more pays for the conversion.
            if len(self._urls) < 16:
                self._urls[url] = known
        return known


class _Exchange:
    """One request and its answer: sends the body, watches its progress and can cut the connection at any time."""

    def __init__(self, body: AsyncIterator[bytes] | None, write_timeout: float | None) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: aiohttp.ClientResponse | None = None
        self.sent = body is None
        self._body = body
        self._write_timeout = write_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._stalled = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body. That it is asked for means that the one before was taken."""
        assert self._body is not None
        self._stop_timer()
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            self.sent = True
            raise
        except Exception as error:
            self._error = error
            raise
        if self._write_timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(self._write_timeout, self._stall)
        return chunk

    def connected(self, connection: Connection) -> None:
        """Takes note of the connection the request will use."""
        self.transport = connection.transport

    def close(self) -> None:
        """Gives the connection back if the exchange is complete, else cuts it at once."""
        self._stop_timer()
        answer = self.answer
        if answer is None or answer.connection is not None or not self.sent:
            # `abort`, not `close`: that would first wait until the peer took what is still buffered.
            if self.transport is not None:
                self.transport.abort()
            if answer is not None:
                answer.close()

    def failed(self, error: BaseException) -> BaseException:
        """Cuts the connection and says what to raise for an exception of aiohttp's."""
        self.close()
        if self._error is not None and isinstance(error, Exception):
            return self._error
        if self._stalled:
            return httpx.WriteTimeout(f"the peer took nothing of the body for {self._write_timeout:g} s")
        return _translate(error, sent=self.sent)

    def _stall(self) -> None:
        self._stalled = True
        if self.transport is not None:
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_current: ContextVar[_Exchange] = ContextVar("current_exchange")


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange which connection it got: aiohttp itself shows it only once there is an answer."""

    def __init__(self, pinning: PinningResolver | None, **options: Any) -> None:
        # aiohttp's own cache would hand one exception to several calls, and each call adds to its own.
        super().__init__(resolver=pinning, use_dns_cache=pinning is None, **options)
        self._pinning = pinning

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        if self._pinning is not None:
            # aiohttp dials addresses without asking any resolver.
            self._pinning.check_literal(req.url.raw_host or "")
        connection = await super().connect(req, traces, timeout)
        _current.get().connected(connection)
        return connection


class _AnswerStream(httpx.AsyncByteStream):
    """The body of an answer, as it came: neither decoded nor decompressed."""

    def __init__(self, exchange: _Exchange, answer: aiohttp.ClientResponse, limit: int) -> None:
        self._exchange = exchange
        self._answer = answer
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for chunk in self._answer.content.iter_any():
                received += len(chunk)
                if received > self._limit:
                    raise ResponseTooLarge(f"an answer of more than {self._limit} bytes")
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise self._exchange.failed(error) from error

    async def aclose(self) -> None:
        """Ends the exchange; an answer not read to its end costs the connection."""
        self._exchange.close()


_TRANSLATION: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[httpx.TransportError]], ...] = (
    # The most specific first: aiohttp's classes overlap (a connect time-out is also a server time-out and an OSError).
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    # Also names that do not resolve, and TLS.
    ((aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch), httpx.ConnectError),
    (aiohttp.ClientConnectorCertificateError, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (
        (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError),
        httpx.RemoteProtocolError,
    ),
)


def _translate(error: BaseException, *, sent: bool) -> BaseException:
    if not isinstance(error, (aiohttp.ClientError, OSError)):
        return error
    message = f"{type(error).__name__}: {error}"
    for kinds, target in _TRANSLATION:
        if isinstance(error, kinds):
            return target(message)
    # What is left are resets and broken pipes.
    kind: Any = httpx.ReadError if sent else httpx.WriteError
    result: httpx.TransportError = kind(message)
    return result
