"""One HTTP request of an attempt and its answer: limits, errors, and what may be shown of both.

What all adapters that speak HTTP have in common. An adapter says where to, with which headers and which body, and
gets an answer of status 2xx or an error of the right class.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

import httpx

from voxgate_server.errors import DeadlineExceeded, ProviderGarbled, ProviderTimeout, VoxgateError
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.http import AiohttpTransport
from voxgate_server.providers.http_answer import Answer, Incoming, in_time, raw_payload, read_error
from voxgate_server.providers.http_errors import Upstream, passable_headers

__all__ = ["IDLE_SECONDS", "Answer", "HttpCall", "Incoming", "checked_base", "header_pairs", "raw_payload"]

IDLE_SECONDS = 15.0
"""How long a streamed answer may pause once it has begun."""

_CONNECT_SECONDS = 3.0
_WRITE_SECONDS = 15.0
_SMALL_BYTES = 256 * 1024
"""Recordings up to this size go out as one piece."""
_THREAD_BYTES = 512 * 1024
"""Answers above this size are read in a thread, so that the event loop does not stand still."""
_OWN_HEADERS = frozenset(
    {"host", "accept-encoding", "content-type", "content-length", "transfer-encoding", "connection"}
)

Refusal = Callable[[int, httpx.Headers, bytes], VoxgateError]
"""The error for an answer that is not 2xx: its status, its headers, and as much of its body as arrived."""


def checked_base(api_base: str, who: str) -> httpx.URL:
    """An address to which a provider's own path can be appended, without a slash at its end.

    Raises:
        ValueError: It is no http(s) address, or contains a user, a query or a fragment.
    """
    base = httpx.URL(api_base.rstrip("/"))
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError(f"api_base of {who} is not an http(s) address")
    if base.userinfo or base.query or base.fragment:
        raise ValueError(f"api_base of {who} must not contain a user, a query or a fragment")
    return base


def header_pairs(own: Mapping[str, str], extra: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers every request to a provider has.

    Args:
        own: The adapter's, names in lower case.
        extra: The operator's; they win over the adapter's.

    Raises:
        ValueError: One of the operator's is set by the gateway itself, or contains what no header can.
    """
    headers = {
        "accept": "application/json",
        # Nothing is gained by compressing a transcript, and there is no bomb to be afraid of.
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        **own,
    }
    for name, value in extra.items():
        lower = name.lower()
        if lower in _OWN_HEADERS:
            raise ValueError(f"extra_headers must not contain {lower}: the gateway sets it")
        headers[lower] = value
    for name, value in headers.items():
        if not name.isascii() or not value.isascii() or not value.isprintable() or not name.isprintable():
            raise ValueError(f"the header {name!r} contains a character that is not printable ASCII")
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


class HttpCall:
    """Speaks HTTP to one provider for one deployment.

    Args:
        upstream: Who that is, for messages.
        headers: Sent with every request; see `header_pairs`.
        timeout: Seconds the provider may take to answer once it has the body; None means until the attempt's deadline.
        refusal: Instead of `upstream.refusal`, for providers whose errors have another shape.
        idle_seconds: How long a streamed answer may pause once it has begun.
        transport: Instead of connections of its own.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        headers: tuple[tuple[bytes, bytes], ...],
        timeout: float | None = None,
        refusal: Refusal | None = None,
        idle_seconds: float = IDLE_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.upstream = upstream
        self._headers = headers
        self._timeout = timeout
        self._refusal = refusal or upstream.refusal
        self._idle_seconds = idle_seconds
        self._transport = transport if transport is not None else AiohttpTransport()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    async def send(
        self,
        attempt: Attempt,
        url: httpx.URL,
        body: AudioBody | bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer, within the attempt's deadline.

        The attempt's report gets the status, and the attempt what may be passed on of the headers and the body.

        Args:
            attempt: For which.
            url: Where to.
            body: The recording's, or any other body; empty for none.
            method: HTTP method.
            headers: Of this request only, names in lower case; `content-type` for a body that is bytes.

        Raises:
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderError: The provider did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        async with self.stream(attempt, url, body, method=method, headers=headers) as incoming:
            return await incoming.read()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        attempt: Attempt,
        url: httpx.URL,
        body: AudioBody | bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Incoming]:
        """One request and its answer as it comes; the arguments and errors are those of `send`.

        Leaving the block before the answer has ended cuts the connection at once.

        Returns:
            The answer from its head on; its pieces raise ProviderError as well.
        """
        if time.monotonic() >= attempt.deadline:
            raise DeadlineExceeded(f"The time for the call was over before {self.upstream} was asked.")
        if isinstance(body, AudioBody):
            body.limit(attempt.max_audio_bytes, self.upstream)
        opening = self._opened(attempt, url, body, method, headers or {})
        response = await in_time(opening, attempt.deadline, lambda: self._too_late(body), self.upstream)
        try:
            incoming = Incoming(
                response,
                self.upstream,
                deadline=attempt.deadline,
                idle_seconds=self._idle_seconds,
                late=lambda: self._too_late(body),
                keep=attempt.config.debug.include_raw_response,
            )
            try:
                yield incoming
            finally:
                attempt.raw_response = incoming.shown or attempt.raw_response
                await incoming.aclose()
        finally:
            await response.aclose()

    async def pause(self, attempt: Attempt, seconds: float) -> None:
        """Waits, for providers that have to be asked again and again.

        Raises:
            ProviderTimeout: The attempt would be over before the wait is.
        """
        if time.monotonic() + seconds >= attempt.deadline:
            raise ProviderTimeout(
                f"{self.upstream} was still working when the time was over.",
                metadata={"provider": self.upstream.provider},
            )
        await asyncio.sleep(seconds)

    async def parse(self, answer: Answer, fill: Callable[[bytes], None]) -> None:
        """Reads an answer's body with `fill`, in a thread when it is so long that the event loop would stand still.

        Raises:
            ProviderGarbled: It is empty, a web page, or compressed.
            VoxgateError: Whatever `fill` raises.
        """
        if answer.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise ProviderGarbled(f"{self.upstream} sent a compressed answer that was not asked for.")
        start = answer.body[:64].lstrip()
        if not start:
            raise ProviderGarbled(f"{self.upstream} sent an empty answer.")
        if answer.media_type == "text/html" or start.startswith(b"<"):
            raise ProviderGarbled(f"{self.upstream} sent a web page instead of a transcript.")
        if len(answer.body) > _THREAD_BYTES:
            await asyncio.to_thread(fill, answer.body)
        else:
            fill(answer.body)

    async def _request(
        self, url: httpx.URL, body: AudioBody | bytes, method: str, headers: Mapping[str, str]
    ) -> httpx.Request:
        sent = [(b"host", url.netloc), *self._headers]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        if isinstance(body, AudioBody):
            length = body.content_length
            sent.append((b"content-type", body.content_type.encode()))
            sent.append((b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length))
            recording = body.recording_bytes
            whole = recording is not None and recording <= _SMALL_BYTES
            stream = httpx.ByteStream(await body.read()) if whole else body
        else:
            stream = httpx.ByteStream(body)
            if body or method != "GET":
                sent.append((b"content-length", b"%d" % len(body)))
        return httpx.Request(
            method,
            url,
            headers=sent,
            stream=stream,
            extensions={"timeout": {"connect": _CONNECT_SECONDS, "write": _WRITE_SECONDS, "read": self._timeout}},
        )

    async def _opened(
        self, attempt: Attempt, url: httpx.URL, body: AudioBody | bytes, method: str, headers: Mapping[str, str]
    ) -> httpx.Response:
        """The head of an answer of status 2xx; whoever asked closes it."""
        request = await self._request(url, body, method, headers)
        response = await self._transport.handle_async_request(request)
        try:
            await self._check(attempt, response, body)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _check(self, attempt: Attempt, response: httpx.Response, body: AudioBody | bytes) -> None:
        status = response.status_code
        attempt.report.http_status = status
        attempt.response_headers = passable_headers(response.headers)
        if 200 <= status < 300:
            if isinstance(body, AudioBody) and not body.complete:
                raise ProviderGarbled(f"{self.upstream} answered before it had the whole recording.")
            return
        answer = await read_error(response)
        if attempt.config.debug.include_raw_response:
            media_type = response.headers.get("content-type", "")[:256]
            attempt.raw_response = raw_payload(media_type, answer, self.upstream.secrets)
        raise self._refusal(status, response.headers, answer)

    def _too_late(self, body: AudioBody | bytes) -> VoxgateError:
        if isinstance(body, AudioBody) and body.waiting:
            return DeadlineExceeded(
                f"The time for the call was over while the recording was still coming in; {body.audio_bytes} bytes of "
                "it had been passed on. Send it faster, or allow the call more time."
            )
        if isinstance(body, AudioBody) and not body.complete:
            if not body.started:
                return self._timed_out("could not be connected to in the time that was left")
            return self._timed_out(f"had taken {body.audio_bytes} bytes of the recording when the time was over")
        return self._timed_out("did not answer in the time that was left")

    def _timed_out(self, what: str) -> ProviderTimeout:
        return ProviderTimeout(f"{self.upstream} {what}.", metadata={"provider": self.upstream.provider})
