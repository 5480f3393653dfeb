"""The transport: every way a connection can fail has its own exception, and an early answer is never lost."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from voxgate_server.providers.http import AiohttpTransport, ResponseTooLarge

from tests.providers import http_wire

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TIMEOUT = {"connect": 5.0, "write": 5.0, "read": 5.0}
CHUNK = bytes(64 * 1024)


class Body(httpx.AsyncByteStream):
    """Chunks, as often as wanted; then perhaps an exception."""

    def __init__(self, count: int, error: Exception | None = None, gate: asyncio.Event | None = None) -> None:
        self.count, self.error, self.gate = count, error, gate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            yield CHUNK
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def serving(handler: Handler, **kwargs) -> AsyncIterator[str]:
    failures: list[BaseException] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except BaseException as error:  # a handler's assertion must fail the test
            failures.append(error)
            raise
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, **kwargs)
    scheme = "https" if kwargs.get("ssl") else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        assert not [failure for failure in failures if isinstance(failure, AssertionError)]


@pytest.fixture
async def transport():
    transport = AiohttpTransport()
    yield transport
    await transport.aclose()


def post(url: str, body: bytes | httpx.AsyncByteStream = b"x", **timeout: float | None) -> httpx.Request:
    return httpx.Request("POST", url, content=body, extensions={"timeout": {**TIMEOUT, **timeout}})


async def send(transport: AiohttpTransport, request: httpx.Request) -> tuple[int, bytes]:
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()


async def read_all(reader: asyncio.StreamReader) -> http_wire.Head:
    head = await http_wire.read_head(reader)
    assert head is not None
    async for _ in http_wire.read_body(reader, head):
        pass
    return head


def answering(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_all(reader)
        writer.write(answer)
        await writer.drain()

    return handler


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 1 << 20])
@pytest.mark.parametrize("streamed", [False, True])
async def test_bodies_of_any_size_arrive(transport: AiohttpTransport, size: int, streamed: bool):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    seen: list[tuple[str, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await http_wire.read_head(reader)
        assert head is not None
        seen.append((head.framing, b"".join([chunk async for chunk in http_wire.read_body(reader, head)])))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield data[start : start + 100_000]

    async with serving(handler) as url:
        request = httpx.Request("POST", url, content=pieces() if streamed else data)
        assert await send(transport, request) == (200, b"ok")
    assert seen == [("chunked" if streamed else "length", data)]


async def test_nothing_is_sent_that_the_request_does_not_say(transport: AiohttpTransport):
    heads: list[http_wire.Head] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await read_all(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n")

    async with serving(handler) as url:
        for _ in range(2):
            await send(transport, httpx.Request("POST", url, content=b"x", headers={"accept-encoding": "identity"}))
    for head in heads:
        assert set(head.headers) == {"host", "content-length", "accept-encoding"}


async def test_proxies_of_the_environment_are_not_used(transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as url:
        assert await send(transport, post(url)) == (200, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(transport: AiohttpTransport, status: int):
    answer = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"
    async with serving(answering(answer.encode())) as url:
        assert (await send(transport, post(url)))[0] == status


async def test_refused():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        transport = AiohttpTransport()
        with pytest.raises(httpx.ConnectError):
            await send(transport, post(f"http://127.0.0.1:{unused.getsockname()[1]}/"))
        await transport.aclose()


async def test_a_name_that_does_not_exist(transport: AiohttpTransport):
    with pytest.raises(httpx.ConnectError):
        await send(transport, post("http://does-not-exist.invalid/"))


async def test_nobody_accepts(transport: AiohttpTransport):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # Fill the queue, so that the next connection gets no answer at all.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with pytest.raises(httpx.ConnectTimeout):
            await send(transport, post(f"http://127.0.0.1:{listener.getsockname()[1]}/", connect=0.2))
        for filler in fillers:
            filler.close()


async def test_a_certificate_of_nobody(transport: AiohttpTransport):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), ssl=context) as url:
        with pytest.raises(httpx.ConnectError):
            await send(transport, post(url))
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        other = AiohttpTransport(ssl_context=trusting)
        assert await send(other, post(url)) == (200, b"ok")
        await other.aclose()


async def test_tls_with_somebody_who_does_not_speak_it(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(handler) as url:
        with pytest.raises(httpx.ConnectError):
            await send(transport, post(url.replace("http:", "https:")))


async def test_reset_while_the_body_is_sent(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        http_wire.reset(writer)

    async with serving(handler) as url:
        with pytest.raises((httpx.WriteError, httpx.RemoteProtocolError)):
            await send(transport, post(url, Body(1000)))


async def test_reset_after_the_body(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_all(reader)
        http_wire.reset(writer)

    async with serving(handler) as url:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await send(transport, post(url, Body(3)))


async def test_closed_without_an_answer(transport: AiohttpTransport):
    async with serving(answering(b"")) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            await send(transport, post(url))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"nonsense\r\n\r\n",
    ],
)
async def test_cut_or_garbled_answers(transport: AiohttpTransport, answer: bytes):
    async with serving(answering(answer)) as url:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await send(transport, post(url))


async def test_silence(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handler) as url:
        with pytest.raises(httpx.ReadTimeout):
            await send(transport, post(url, read=0.1))


async def test_silence_inside_the_answer(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_all(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")
        await reader.read()

    async with serving(handler) as url:
        with pytest.raises(httpx.ReadTimeout):
            await send(transport, post(url, read=0.1))


async def test_a_peer_that_takes_no_more(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await closed.wait()

    closed = asyncio.Event()
    async with serving(handler) as url:
        with pytest.raises(httpx.WriteTimeout):
            await send(transport, post(url, Body(10_000), write=0.2))
        closed.set()


async def test_a_slow_caller_is_not_a_slow_peer(transport: AiohttpTransport):
    gate = asyncio.Event()
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as url:
        call = asyncio.create_task(send(transport, post(url, Body(1, gate=gate), write=0.1, read=0.1)))
        done, _ = await asyncio.wait([call], timeout=0.5)
        assert not done
        gate.set()
        # The rest is quick: neither limit is about the caller.
        assert await call == (200, b"ok")


@pytest.mark.parametrize("status", [401, 413])
@pytest.mark.parametrize("then", ["close", "keep"])
@pytest.mark.parametrize("with_length", [False, True])
async def test_an_early_answer_is_delivered(transport: AiohttpTransport, status: int, then: str, with_length: bool):
    heads = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        assert await http_wire.read_head(reader) is not None
        heads += 1
        writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 4\r\n\r\nfull".encode())
        await writer.drain()
        if then == "keep":
            # Whatever else comes must be the rest of this body and never another request.
            while chunk := await reader.read(http_wire.READ):
                assert b"HTTP/1.1" not in chunk

    async with serving(handler) as url:
        for _ in range(20):
            request = post(url, Body(300))
            if with_length:
                del request.headers["transfer-encoding"]
                request.headers["content-length"] = str(300 * len(CHUNK))
            assert await send(transport, request) == (status, b"full")
    assert heads == 20


async def test_an_early_answer_does_not_wait_for_the_caller(transport: AiohttpTransport):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 4\r\n\r\nfull")
        assert await read_until_closed(reader)

    async with serving(handler) as url:
        assert await send(transport, post(url, Body(1, gate=asyncio.Event()))) == (401, b"full")


async def read_until_closed(reader: asyncio.StreamReader) -> bool:
    try:
        while await reader.read(http_wire.READ):
            pass
    except ConnectionError:
        pass
    return True


class OwnError(Exception):
    pass


@pytest.mark.parametrize("count", [0, 1, 50])
async def test_a_body_that_breaks_is_cut_and_its_error_raised(transport: AiohttpTransport, count: int):
    ended = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await http_wire.read_head(reader)
        if head is not None:
            with pytest.raises(http_wire.BrokenBody):
                async for _ in http_wire.read_body(reader, head):
                    pass
        ended.set()

    async with serving(handler) as url:
        with pytest.raises(OwnError):
            await send(transport, post(url, Body(count, OwnError())))
        await ended.wait()


@pytest.mark.parametrize("moment", ["sending", "stuck", "waiting", "reading"])
async def test_cancelling_closes_the_connection(transport: AiohttpTransport, moment: str):
    reached, closed = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if moment in ("sending", "stuck"):
            await reader.read(1)
        else:
            await read_all(reader)
        if moment == "reading":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")
        reached.set()
        if moment == "stuck":
            writer.transport.pause_reading()
            await cancelled.wait()
            writer.transport.resume_reading()
        await read_until_closed(reader)
        closed.set()

    cancelled = asyncio.Event()
    body = Body(10_000) if moment == "stuck" else Body(2, gate=asyncio.Event() if moment == "sending" else None)
    async with serving(handler) as url:
        call = asyncio.create_task(send(transport, post(url, body)))
        await reached.wait()
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        cancelled.set()
        await closed.wait()


@pytest.mark.parametrize("end", ["cancelled", "answered"])
async def test_what_a_peer_does_not_take_is_not_waited_for(transport: AiohttpTransport, end: str):
    connected, over = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        if end == "answered":
            writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 4\r\n\r\nfull")
        connected.set()
        await over.wait()

    def open_sockets() -> int:
        links = list(Path("/proc/self/fd").iterdir())
        return sum(link.is_symlink() and link.readlink().name.startswith("socket:") for link in links)

    async with serving(handler) as url:
        before = open_sockets()
        if end == "cancelled":
            call = asyncio.create_task(send(transport, post(url, Body(10_000))))
            await connected.wait()
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            response = await transport.handle_async_request(post(url, Body(10_000)))
            assert [chunk async for chunk in response.stream] == [b"full"]
            await asyncio.sleep(0.05)
            await response.aclose()
        # Only the peer's own end is left; a graceful close would wait for it to read.
        while open_sockets() > before + 1:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        over.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n",
    ],
)
async def test_answers_are_bounded(answer: bytes):
    transport = AiohttpTransport(max_response_bytes=1000)
    async with serving(answering(answer)) as url:
        with pytest.raises((ResponseTooLarge, httpx.RemoteProtocolError)):
            await send(transport, post(url))
    await transport.aclose()


async def test_connections_are_used_again_and_not_limited(transport: AiohttpTransport):
    connections = waiting = 0
    all_there = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, waiting
        connections += 1
        while (head := await http_wire.read_head(reader)) is not None:
            async for _ in http_wire.read_body(reader, head):
                pass
            waiting += 1
            if waiting == 150:
                all_there.set()
            await all_there.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with serving(handler, backlog=200) as url:
        answers = await asyncio.gather(*[send(transport, post(url)) for _ in range(150)])
        assert answers == [(200, b"ok")] * 150
        assert connections == 150
        for _ in range(20):
            await send(transport, post(url, Body(2)))
        assert connections == 150
        await transport.aclose()


async def test_a_transport_can_be_used_again_in_another_session(transport: AiohttpTransport):
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as url:
        await send(transport, post(url))
        await transport.aclose()
        await send(transport, post(url))
