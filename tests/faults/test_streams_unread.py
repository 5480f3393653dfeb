"""Callers of streams who stop reading, or go away: nobody's memory fills up, and no provider works for nobody."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.edges.rest.http_client import FORM, form
from tests.faults.calling import GUARD
from tests.faults.streams import PATH, SPEECH, Streams, events_of, streams
from tests.providers.emulator import Behaviour, sse, stream
from tests.running import AUTH

FRAME = sse({"type": "transcript.text.delta", "delta": "word " * 1600})[0]
Leave = Callable[[], Awaitable[object]]
Door = Callable[[Streams], contextlib.AbstractAsyncContextManager[Leave]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Streams]:
    async with streams(tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def rest(house: Streams) -> AsyncIterator[Leave]:
    """Begins to read a stream over REST and stops, with hardly any room in its socket."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        await loop.sock_connect(client, ("127.0.0.1", house.gateway.rest_port))
        body = form(SPEECH, model="alone", stream="true")
        headers = {"host": "voxgate", "content-type": FORM, "content-length": str(len(body)), **AUTH}
        lines = [f"POST {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        await loop.sock_sendall(client, "\r\n".join(lines).encode() + body)
        assert (await asyncio.wait_for(loop.sock_recv(client, 15), GUARD)) == b"HTTP/1.1 200 OK"

        async def leave() -> None:
            client.close()

        yield leave


@contextlib.asynccontextmanager
async def events(house: Streams) -> AsyncIterator[Leave]:
    """Begins to read a stream over gRPC and stops."""
    call = events_of(house, "alone")
    response = await asyncio.wait_for(call.read(), GUARD)
    assert response.event.delta.delta.startswith("word")

    async def leave() -> None:
        call.cancel()

    yield leave
    call.cancel()


@pytest.fixture(params=[rest, events], ids=["rest", "grpc"])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


def endless() -> Behaviour:
    return Behaviour(frames=itertools.repeat(FRAME), media_type="text/event-stream")


async def standstill(house: Streams) -> int:
    """How much the provider had written when it could write no more for half a second."""
    record = await house.first.record(0)
    async with asyncio.timeout(GUARD):
        written = -1
        while written != record.answer_bytes:
            written = record.answer_bytes
            await asyncio.sleep(0.5)
    return written


async def test_the_provider_is_paused(house: Streams, door: Door):
    house.first.script(endless())
    async with door(house):
        written = await standstill(house)
        record = house.first.records[0]
        # What has left the provider lies in the buffers of two connections: had the gateway taken it, it would have
        # found the answer too large at 16 MiB, and cut it.
        assert written > 0
        assert not record.peer_closed.is_set()
        assert house.gateway.app.gateway.calls_in_progress == 1
    await asyncio.wait_for(record.peer_closed.wait(), GUARD)
    await house.at_rest()


async def test_who_does_not_read_is_given_up(house: Streams, door: Door, outcomes: list[str]):
    house.limit(unread_seconds=0.5)
    house.first.script(endless())
    async with door(house):
        record = await house.first.record(0)
        await asyncio.wait_for(record.peer_closed.wait(), GUARD)
        await house.at_rest()
        assert house.gateway.app.gateway.spool_bytes == 0
    assert outcomes == ["CANCELLED"]


async def test_who_leaves_ends_the_providers_work(house: Streams, door: Door):
    gate = asyncio.Event()
    open_gate = asyncio.Event()
    open_gate.set()
    house.first.script(stream(FRAME, FRAME, paces=[open_gate, gate]))
    async with door(house) as leave:
        await leave()
        record = await house.first.record(0)
        await asyncio.wait_for(record.peer_closed.wait(), GUARD)
    await house.at_rest()


async def test_who_reads_slowly_is_not_given_up(house: Streams):
    """The limit is for a client that takes nothing, not for a stream that is long."""
    house.limit(unread_seconds=0.5)
    house.first.script(stream(*[FRAME] * 400, *sse({"type": "transcript.text.done", "text": "word"})))
    call = events_of(house, "alone")
    kinds = []
    while (response := await asyncio.wait_for(call.read(), GUARD)) is not grpc.aio.EOF:
        kinds.append(response.event.WhichOneof("event"))
        await asyncio.sleep(0.003)
    assert kinds == ["delta"] * 400 + ["done"]


async def test_the_rpc_of_who_was_given_up_has_an_end(house: Streams):
    house.limit(unread_seconds=0.3)
    house.first.script(endless())
    call = events_of(house, "alone")
    await asyncio.wait_for(call.read(), GUARD)
    record = await house.first.record(0)
    await asyncio.wait_for(record.peer_closed.wait(), GUARD)

    async def rest_of_it() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    with contextlib.suppress(grpc.aio.AioRpcError):
        await asyncio.wait_for(rest_of_it(), GUARD)
    assert await asyncio.wait_for(call.code(), GUARD) == grpc.StatusCode.RESOURCE_EXHAUSTED
