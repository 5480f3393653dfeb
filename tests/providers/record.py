"""What an emulator writes down of a call, and how it reads bodies."""

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import multipart

from tests.providers import http_wire

__all__ = ["BodyReader", "Form", "RawBody", "Record", "Refused"]

_KEPT = 64 << 20
_KEPT_OF_FORMS = 2 << 20


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, body: bytes, *, media_type: str = "application/json") -> None:
        super().__init__(status, body)
        self.status, self.body, self.media_type = status, body, media_type


@dataclass
class Record:
    """What the emulator saw of one call."""

    connection: int
    """Number of the connection, from 1."""
    head: http_wire.Head
    order: list[str] = field(default_factory=list)
    """Names of the parts as they came."""
    fields: list[tuple[str, str]] = field(default_factory=list)
    filename: str | None = None
    file_type: str | None = None
    file_size: int = 0
    body_size: int = 0
    complete: bool = False
    """The body ended as its framing demands and with the closing boundary."""
    first_file_byte_at: float | None = None
    last_file_byte_at: float | None = None
    """On the clock of `time.monotonic()`."""
    status: int | None = None
    """What was answered, if anything."""
    answer_bytes: int = 0
    """How much of an answer in pieces was written so far."""
    first_file_byte: asyncio.Event = field(default_factory=asyncio.Event)
    body_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The body ended, cleanly or not."""
    peer_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """The peer ended the connection."""
    digest: Any = field(default_factory=hashlib.sha256)
    body: bytearray = field(default_factory=bytearray)
    """The file; of a form its beginning."""

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.target

    @property
    def headers(self) -> dict[str, str]:
        return self.head.headers

    @property
    def file_sha256(self) -> str:
        return str(self.digest.hexdigest())

    def field(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


class BodyReader(Protocol):
    """Reads a body as it arrives."""

    def feed(self, chunk: bytes) -> None: ...

    def finish(self) -> bool:
        """Whether the body is whole."""
        ...


class RawBody:
    """Keeps a body as it is; the file is all of it."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def feed(self, chunk: bytes) -> None:
        record = self._record
        record.digest.update(chunk)
        record.file_size += len(chunk)
        record.last_file_byte_at = time.monotonic()
        if chunk and not record.first_file_byte.is_set():
            record.first_file_byte_at = record.last_file_byte_at
            record.first_file_byte.set()
        record.body += chunk
        assert len(record.body) <= _KEPT

    def finish(self) -> bool:
        return True


class Form:
    """Reads a multipart body as it arrives and writes down what it contains.

    Args:
        record: Where to.
        broken: What is answered to one that is none.
    """

    def __init__(self, record: Record, broken: Refused) -> None:
        self._broken = broken
        media_type, options = multipart.parse_options_header(record.headers.get("content-type", ""))
        if media_type != "multipart/form-data" or "boundary" not in options:
            raise broken
        self._record = record
        self._parser = multipart.PushMultipartParser(options["boundary"], strict=True)
        self._segment: Any = None
        self._text = bytearray()

    def finish(self) -> bool:
        """Whether the closing boundary has come."""
        try:
            self._parser.close()
        except multipart.MultipartError:
            return False
        return True

    def feed(self, chunk: bytes) -> None:
        record = self._record
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, multipart.MultipartSegment):
                    self._segment, self._text = event, bytearray()
                    record.order.append(event.name)
                    if event.filename is not None:
                        record.filename, record.file_type = event.filename, event.content_type
                elif event is None:
                    if self._segment.filename is None:
                        record.fields.append((self._segment.name, self._text.decode()))
                elif self._segment.filename is None:
                    self._text += event
                else:
                    record.digest.update(event)
                    record.file_size += len(event)
                    if len(record.body) < _KEPT_OF_FORMS:
                        record.body += event
                    record.last_file_byte_at = time.monotonic()
                    if not record.first_file_byte.is_set():
                        record.first_file_byte_at = record.last_file_byte_at
                        record.first_file_byte.set()
        except multipart.MultipartError as error:
            raise self._broken from error
