"""HTTP/1.1 as a server sees it, byte by byte: what matters is whether a body really ended, which servers hide."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

READ = 64 * 1024


class BrokenBody(Exception):
    """The connection ended before the body did."""


@dataclass(frozen=True)
class Head:
    method: str
    target: str
    raw_headers: tuple[tuple[str, str], ...]

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.raw_headers)

    @property
    def framing(self) -> str:
        """`chunked`, `length` or `none`; both at once is refused."""
        names = [name for name, _ in self.raw_headers]
        chunked, length = names.count("transfer-encoding"), names.count("content-length")
        assert chunked + length <= 1, f"ambiguous framing: {self.raw_headers}"
        assert not chunked or self.headers["transfer-encoding"] == "chunked"
        return "chunked" if chunked else "length" if length else "none"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's head; None when the peer closed instead."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    if raw.startswith(b"PRI * HTTP/2.0"):
        return None  # some other program's gRPC channel, which looks for its server on a port that is ours by now
    request_line, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    method, target, version = request_line.split(" ")
    assert version == "HTTP/1.1"
    headers = []
    for line in lines:
        name, separator, value = line.partition(":")
        assert re.fullmatch(r"[!-9;-~]+:", name + separator), f"not a header: {line!r}"
        headers.append((name.lower(), value.strip()))
    return Head(method, target, tuple(headers))


async def read_body(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """The pieces of a body; raises BrokenBody unless it ends as its framing demands."""
    try:
        if head.framing == "length":
            left = int(head.headers["content-length"])
            while left:
                chunk = await reader.read(min(left, READ))
                if not chunk:
                    raise BrokenBody(f"{left} bytes are missing")
                left -= len(chunk)
                yield chunk
        while head.framing == "chunked":
            size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
            left = size
            while left:
                chunk = await reader.read(min(left, READ))
                if not chunk:
                    raise BrokenBody("inside a chunk")
                left -= len(chunk)
                yield chunk
            assert await reader.readexactly(2) == b"\r\n"
            if not size:
                return
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise BrokenBody(str(error)) from error


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
