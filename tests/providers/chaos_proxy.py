"""A TCP proxy on the loopback that spoils connections, with toxiproxy's vocabulary.

    async with ChaosProxy(emulator.url) as proxy:
        proxy.script(upstream(reset_peer=10_000), healthy())   # the next two connections; after that: `proxy.usual`
        ... talk to proxy.url ...
        await proxy.links[0].closed.wait()

`upstream` is the direction from the client to the server, `downstream` the way back.
"""

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.providers import http_wire

__all__ = ["ChaosProxy", "Link", "Toxics", "both", "downstream", "healthy", "upstream"]

_READ = 16 * 1024


@dataclass(frozen=True)
class Toxics:
    """What happens to one direction of a connection. Offsets count this direction's bytes, from 0."""

    latency: float = 0.0
    """Seconds every piece is late."""
    jitter: float = 0.0
    """At most so many seconds more, at random."""
    bandwidth: float | None = None
    """Bytes a second."""
    timeout: int | None = None
    """From this byte on nothing passes any more and the connection stays open: a black hole."""
    reset_peer: int | None = None
    """At this byte both ends are reset (RST). 0 resets as soon as the connection is there."""
    limit_data: int | None = None
    """At this byte both ends are closed in good order (FIN)."""
    slicer: int | None = None
    """Pieces have at most so many bytes."""
    slow_close: float = 0.0
    """Seconds by which the end of this direction is late."""

    @property
    def end(self) -> int | None:
        """The byte at which the direction ends, if a toxic ends it."""
        return min((at for at in (self.timeout, self.reset_peer, self.limit_data) if at is not None), default=None)


_Pair = tuple[Toxics, Toxics]


def healthy() -> _Pair:
    """Nothing happens."""
    return Toxics(), Toxics()


def upstream(**toxics: float) -> _Pair:
    """Spoils what the client sends."""
    return Toxics(**toxics), Toxics()  # type: ignore[arg-type]


def downstream(**toxics: float) -> _Pair:
    """Spoils what the server sends."""
    return Toxics(), Toxics(**toxics)  # type: ignore[arg-type]


def both(**toxics: float) -> _Pair:
    """Spoils both directions alike."""
    return Toxics(**toxics), Toxics(**toxics)  # type: ignore[arg-type]


@dataclass
class Link:
    """One connection through the proxy."""

    toxics: _Pair
    sent: list[int] = field(default_factory=lambda: [0, 0])
    """Bytes that passed upstream and downstream."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """The connection is over, whoever ended it."""
    client_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """The client ended it, in good order or by RST."""


class _Cut(Exception):
    """A toxic ends the connection."""


class ChaosProxy:
    """The proxy. Ends with all its connections when the block ends.

    Args:
        target: Address of the server, as an http URL; its path is kept in `url`.
        usual: What happens to connections for which nothing is scripted.
    """

    def __init__(self, target: str, usual: _Pair | None = None) -> None:
        self._target = urlsplit(target)
        self.usual = usual or healthy()
        self.links: list[Link] = []
        self._script: deque[_Pair] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random(0)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._target.path}"

    def script(self, *pairs: _Pair) -> None:
        """What happens to the next connections, in order."""
        self._script.extend(pairs)

    async def down(self) -> None:
        """Refuses connections from now on, and resets those there are."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def up(self) -> None:
        """Takes connections again, on the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def __aenter__(self) -> Self:
        self._port = 0
        await self.up()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        link = Link(self._script.popleft() if self._script else self.usual)
        self.links.append(link)
        writers = [writer]
        try:
            if 0 in (link.toxics[0].reset_peer, link.toxics[1].reset_peer):
                http_wire.reset(writer)
                return
            try:
                target_reader, target_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
            except OSError:
                http_wire.reset(writer)
                return
            writers.append(target_writer)
            await self._serve(link, (reader, writer), (target_reader, target_writer))
        except asyncio.CancelledError:
            for each in writers:
                http_wire.reset(each)
            # Only `down` cancels, and it wants nothing but the end.
        finally:
            for each in writers:
                each.close()
            link.closed.set()

    async def _serve(
        self,
        link: Link,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        pumps = [
            asyncio.ensure_future(self._pump(link, 0, client[0], server[1])),
            asyncio.ensure_future(self._pump(link, 1, server[0], client[1])),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            if any(isinstance(pump.exception(), _Cut) for pump in pumps if pump.done()) and self._is_reset(link):
                http_wire.reset(client[1])
                http_wire.reset(server[1])
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _is_reset(self, link: Link) -> bool:
        return any(
            toxics.reset_peer is not None and link.sent[way] >= toxics.reset_peer
            for way, toxics in enumerate(link.toxics)
        )

    async def _pump(self, link: Link, way: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copies one direction. Raises _Cut when a toxic, or a broken end, ends the whole connection."""
        toxics = link.toxics[way]
        try:
            while True:
                room = _READ if toxics.end is None else max(toxics.end - link.sent[way], 0)
                if not room:
                    await self._ended(link, way, reader)
                data = await reader.read(min(room, toxics.slicer or _READ, _READ))
                if not data:
                    break
                await asyncio.sleep(self._delay(toxics, len(data)))
                writer.write(data)
                await writer.drain()
                link.sent[way] += len(data)
        except ConnectionError as error:
            if way == 0:
                link.client_closed.set()
            raise _Cut from error
        if way == 0:
            link.client_closed.set()
        await asyncio.sleep(toxics.slow_close)
        with contextlib.suppress(OSError):
            writer.write_eof()
        if way == 0:
            # The gateway never half-closes: when its side ends, the whole exchange is over.
            raise _Cut

    async def _ended(self, link: Link, way: int, reader: asyncio.StreamReader) -> None:
        toxics = link.toxics[way]
        if toxics.timeout is None or link.sent[way] < toxics.timeout:
            raise _Cut
        # What still comes is swallowed, so that the end of the other side is noticed.
        while await reader.read(_READ):
            pass
        if way == 0:
            link.client_closed.set()
        raise _Cut

    def _delay(self, toxics: Toxics, count: int) -> float:
        delay = toxics.latency + self._rng.uniform(0, toxics.jitter)
        return delay + (count / toxics.bandwidth if toxics.bandwidth else 0.0)
