"""HTTP/1.1 by hand, for requests that no well-behaved client would send."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self

BOUNDARY = "test-boundary-7f3a"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, after checking that it has OpenAI's shape."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-voxgate-request-id"].startswith("req_")
        return error


class Connection:
    """One connection, over which a request can be sent in pieces."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def head(self, path: str, headers: dict[str, str], *, method: str = "POST") -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: voxgate", *(f"{name}: {value}" for name, value in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def response(self) -> Response:
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 20)).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await asyncio.wait_for(self._reader.readexactly(int(headers.get("content-length", 0))), 20)
        return Response(int(head[0].split()[1]), headers, body)


def field(name: str, value: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def file_start(filename: str = "speech.wav", media_type: str = "audio/wav") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    return f"{head}Content-Type: {media_type}\r\n\r\n".encode()


END = f"--{BOUNDARY}--\r\n".encode()


def form(data: bytes, *, file_first: bool = False, filename: str = "speech.wav", **fields: str) -> bytes:
    """A whole form."""
    texts = b"".join(field(name, value) for name, value in fields.items())
    file = file_start(filename) + data + b"\r\n"
    return (file + texts if file_first else texts + file) + END


async def post(port: int, path: str, body: bytes, headers: dict[str, str]) -> Response:
    """Sends a whole request."""
    async with Connection(port) as connection:
        await connection.head(path, {"content-type": FORM, "content-length": str(len(body)), **headers})
        await connection.send(body)
        return await connection.response()


async def get(port: int, path: str, headers: dict[str, str]) -> Response:
    """Asks for something."""
    async with Connection(port) as connection:
        await connection.head(path, headers, method="GET")
        return await connection.response()
