"""A fast, strict provider with OpenAI's `POST /v1/audio/transcriptions`, for loads on 127.0.0.1.

The body is read as it arrives and nothing of the file is kept. Every transcript proves what the provider saw,

    rid=<prompt> sha=<16 hex digits of the file's SHA-256> bytes=<its size> first=<s> last=<s>

with the moments (CLOCK_MONOTONIC, seconds) at which the first byte of the file and the last of the body came, so
that the caller can judge a reply from the reply alone. The model chooses the behaviour:

    instant, throttled   answers at once
    failover             answers at once
    think-<ms>           answers that many milliseconds after the last byte

Below `/throttled/` a request's body is read at no more than 4 MB/s. Below `/fault/` every request is read and answered
with status 500; below `/second/` only a request whose prompt came to `/fault/` before is answered.
"""

import asyncio
import hashlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Final, cast

import httptools
import uvloop

__all__ = ["MODELS", "THROTTLED_BYTES_PER_SECOND", "UPSTREAM_KEY", "Form", "Provider"]

UPSTREAM_KEY: Final = "sk-upstream"
MODELS: Final = ("instant", "throttled", "failover", "think-1000", "think-3000")
THROTTLED_BYTES_PER_SECOND: Final = 4_000_000

# One for all connections: a loop fills it and has it read before it turns to the next connection.
_MEMORY: Final = memoryview(bytearray(256 * 1024))
_THROTTLED_READ_BYTES: Final = 8 * 1024
_FIELD_LIMIT: Final = 64 * 1024
_PART_NAME: Final = re.compile(rb'content-disposition:[ \t]*form-data;.*?[ \t;]name="([^"]+)"', re.IGNORECASE)
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}
_FAILED: Final[set[str]] = set()
"""Prompts of the requests that `/fault/` has answered, until `/second/` was asked."""


class Form:
    """A multipart/form-data body, read as it arrives.

    Attributes:
        fields: The values of the small fields, by name.
        size: Bytes of the file so far.
        first: When the file's first byte came (CLOCK_MONOTONIC, seconds), 0.0 before.
        complete: Whether the closing boundary was read.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.size = 0
        self.first = 0.0
        self.complete = False
        self._sha256 = hashlib.sha256()
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # makes the first boundary look like the others
        self._state = "preamble"
        self._name = ""
        self._value = b""

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the file's SHA-256."""
        return self._sha256.hexdigest()[:16]

    def feed(self, data: bytes) -> None:
        """Reads the next bytes of the body.

        Raises:
            ValueError: The body is not well-formed.
        """
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        """Reads one boundary or one part's head; False when more bytes are needed."""
        buffer = self._buffer
        if self._state == "head":
            at = buffer.find(b"\r\n\r\n")
            if at < 0:
                _require(len(buffer) <= _FIELD_LIMIT, "a part's head is too large")
                return False
            self._open_part(buffer[:at])
            self._buffer = buffer[at + 4 :]
            return True
        if self._state == "mark":  # what follows a boundary
            if len(buffer) < 2:
                return False
            _require(buffer[:2] in (b"\r\n", b"--"), "bytes behind a boundary")
            self._state = "head" if buffer[:2] == b"\r\n" else "end"
            self.complete = self._state == "end"
            self._buffer = buffer[2:]
            return True
        if self._state == "end":
            _require(not buffer.strip(b"\r\n"), "bytes behind the closing boundary")
            return False
        at = buffer.find(self._delimiter)
        # The last bytes may be the beginning of a boundary: they wait for what follows.
        end = at if at >= 0 else max(0, len(buffer) - len(self._delimiter) + 1)
        self._data(memoryview(buffer)[:end])
        if at < 0:
            self._buffer = buffer[end:]
            return False
        if self._state == "field":
            self.fields[self._name] = self._value.decode()
        self._buffer = buffer[at + len(self._delimiter) :]
        self._state = "mark"
        return True

    def _open_part(self, head: bytes) -> None:
        found = _PART_NAME.search(head)
        _require(found is not None, "a part without a name")
        assert found is not None
        self._name, self._value = found.group(1).decode(), b""
        if self._name == "file":
            _require(not self.size and b"filename=" in head, "one file with a name is expected")
            self._state = "file"
        else:
            _require(self._name not in self.fields or self._name.endswith("[]"), "a field is given twice")
            self._state = "field"

    def _data(self, data: memoryview) -> None:
        if not data:
            return
        if self._state == "file":
            self.first = self.first or time.monotonic()
            self.size += len(data)
            self._sha256.update(data)
        else:
            _require(self._state == "field", "bytes before the first boundary")
            self._value += data
            _require(len(self._value) <= _FIELD_LIMIT, "a field is too large")


class Provider(asyncio.BufferedProtocol):
    """One connection to the provider: keep-alive, one request at a time, `UPSTREAM_KEY` or nothing."""

    def __init__(self) -> None:
        self._link_free = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_begin()

    # -- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:
        return _MEMORY[:_THROTTLED_READ_BYTES] if self._throttled else _MEMORY

    def buffer_updated(self, nbytes: int) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(_MEMORY[:nbytes])
        except httptools.HttpParserError as error:
            self._refuse(400, f"bad request: {error}")
        if self._throttled:
            now = time.monotonic()
            self._link_free = max(self._link_free, now) + nbytes / THROTTLED_BYTES_PER_SECOND
            self._transport.pause_reading()
            self._later(self._link_free - now, self._transport.resume_reading)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Does something later, unless the connection is gone by then."""
        self._loop.call_later(seconds, lambda: None if self._transport.is_closing() else action())

    # -- the parser's callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._form: Form | None = None
        self._throttled = self._refused = False
        self._link_free = 0.0

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        boundary = re.fullmatch(
            rb'multipart/form-data;[ ]*boundary="?([^"]{1,70})"?', self._headers.get(b"content-type", b"")
        )
        prefix, slash, rest = self._path[1:].partition(b"/")
        self._prefix = prefix if prefix in (b"throttled", b"fault", b"second") else b""
        self._throttled = self._prefix == b"throttled"
        path = slash + rest if self._prefix else self._path
        if path != b"/v1/audio/transcriptions" or self._parser.get_method() != b"POST":
            self._refuse(404, "no such path")
        elif self._headers.get(b"authorization") != b"Bearer " + UPSTREAM_KEY.encode():
            self._refuse(401, "Incorrect API key provided.")
        elif boundary is None:
            self._refuse(400, "multipart/form-data with a boundary is expected")
        else:
            self._form = Form(boundary.group(1))

    def on_body(self, data: bytes) -> None:
        if self._form is None or self._refused:
            return
        try:
            self._form.feed(data)
        except ValueError as error:
            self._refuse(400, f"bad form: {error}")

    def on_message_complete(self) -> None:
        last, form = time.monotonic(), self._form
        if form is None or self._refused:
            return
        model = form.fields.get("model", "")
        fault = (
            (not form.complete and "the form has no closing boundary")
            or (not form.size and "the file is missing or empty")
            or (model not in MODELS and f"no such model: {model[:64]}")
            or (form.fields.get("response_format", "json") not in {"json", "verbose_json"} and "bad response_format")
            or (form.fields.get("stream", "false") != "false" and "this provider does not stream")
        )
        prompt = form.fields.get("prompt", "")
        if not fault and self._prefix == b"second":
            fault = prompt not in _FAILED and "/fault/ was not asked before"
            _FAILED.discard(prompt)
        if fault:
            self._refuse(400, fault)
            return
        if self._prefix == b"fault":
            _FAILED.add(prompt)
            self._answer(500, {"error": {"message": "out of order", "type": "server_error"}})
            return
        seconds = round(form.size / 32000, 3)
        proof = f"rid={form.fields.get('prompt', '')} sha={form.digest} bytes={form.size}"
        answer: dict[str, object] = {"text": f"{proof} first={form.first:.6f} last={last:.6f}"}
        if form.fields.get("response_format") == "verbose_json":
            answer |= {"task": "transcribe", "language": "english", "duration": seconds, "segments": []}
        answer["usage"] = {"type": "duration", "seconds": int(seconds) + 1}
        think = int(model.partition("think-")[2] or 0) / 1000
        if think:
            self._later(think, lambda: self._answer(200, answer))
        else:
            self._answer(200, answer)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _refuse(self, status: int, message: str) -> None:
        """Answers at once, lets the rest of the request pass by and ends the connection."""
        if self._refused:
            return
        self._refused = True
        self._answer(status, {"error": {"message": message, "type": "invalid_request_error"}})
        # Not at once: closing a socket with unread bytes would reset it, and the answer might be lost.
        self._later(0.5, self._transport.close)

    def _answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        connection = "close" if self._refused else "keep-alive"
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nConnection: {connection}\r\n\r\n"
        )
        self._transport.write(head.encode() + content)


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


async def _main() -> None:
    """Serves until SIGTERM or until standard input ends, which it does when the starter is gone."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin, stop.set)
    server = await loop.create_server(Provider, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(_main())
