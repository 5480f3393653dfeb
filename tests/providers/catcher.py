"""A server that nobody should come to, or that wants to know who did."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.providers import http_wire

__all__ = ["Catcher", "catching"]


@dataclass
class Catcher:
    """A server that notes who came."""

    port: int = 0
    connections: int = 0
    heads: list[http_wire.Head] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    """What TLS clients asked for."""


@asynccontextmanager
async def catching(
    host: str = "127.0.0.1", context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Catcher]:
    catcher = Catcher()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        catcher.connections += 1
        try:
            while (head := await http_wire.read_head(reader)) is not None:
                async for _ in http_wire.read_body(reader, head):
                    pass
                catcher.heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        finally:
            writer.close()

    if context is not None:
        context.sni_callback = lambda _socket, name, _context: catcher.server_names.append(name)
    async with await asyncio.start_server(handler, host, port, ssl=context) as server:
        catcher.port = server.sockets[0].getsockname()[1]
        yield catcher
