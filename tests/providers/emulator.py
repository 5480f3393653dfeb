"""The part of a provider's emulator that is the same for all of them: sockets, records, and every known way to fail.

class Somebody(Emulator):
    def judge(self, record): ...        # what the request deserves: (media type, body), or raise Refused

async with Somebody() as emulator:
    emulator.script(raw("{}", status=503), ok())   # the next two calls, in order; after that: ok
    ... talk to emulator.origin ...
    emulator.records[0].file_sha256
"""

import asyncio
import contextlib
import dataclasses
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from tests.providers import http_wire
from tests.providers.record import BodyReader, RawBody, Record, Refused

__all__ = [
    "EVENT_STREAM",
    "Behaviour",
    "Emulator",
    "cut_answer",
    "hang",
    "ok",
    "raw",
    "reset_mid_answer",
    "reset_mid_body",
    "sse",
    "stall",
    "stream",
]

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Behaviour:
    """How one call goes."""

    status: int = 200
    body: bytes | None = None
    """None: what the request deserves, be it a transcript or a refusal."""
    media_type: str = "application/json"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Besides, or instead of, the usual ones; None leaves one out."""
    at: Literal["end", "first_file_byte", "head"] = "end"
    """When it answers: after the whole body, at the first byte of the file, or before any of the body is read."""
    cut: int | None = None
    """Only so many bytes of the answer's body are sent; -1 means not even its head."""
    then: Literal["keep", "close", "reset", "hang", "stall"] = "keep"
    """What becomes of the connection. `reset` leaves the rest of the request unread, `hang` reads on until the peer
    gives up, an early `close` ends its own side and reads on, `stall` reads nothing more. An early answer that would
    `keep` it hangs."""
    until: asyncio.Event | None = None
    """It thinks until this is set."""
    frames: Iterable[bytes] | None = None
    """Instead of `body`: an answer in pieces, each a chunk of its own and a turn of the loop after the one before."""
    paces: Sequence[asyncio.Event] = ()
    """The first frame waits for the first of these, and so on; frames beyond them for nothing."""
    tidy: bool = False
    """An answer in pieces that is cut ends its framing all the same, as a proxy's does whose server died."""


def ok(**kwargs: Any) -> Behaviour:
    """The answer the request deserves."""
    return Behaviour(**kwargs)


def raw(body: bytes | str, *, status: int = 200, media_type: str = "application/json", **kwargs: Any) -> Behaviour:
    """Exactly this body."""
    return Behaviour(status, body.encode() if isinstance(body, str) else body, media_type, **kwargs)


def hang(**kwargs: Any) -> Behaviour:
    """Reads everything and never answers."""
    return Behaviour(cut=-1, then="hang", **kwargs)


def stall() -> Behaviour:
    """Reads nothing of the body and never answers."""
    return Behaviour(at="head", cut=-1, then="stall")


def stream(*frames: bytes | str, **kwargs: Any) -> Behaviour:
    """Exactly these pieces of a stream of events."""
    pieces = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return Behaviour(frames=pieces, media_type=EVENT_STREAM, **kwargs)


def sse(*objects: object, events: bool = False) -> list[bytes]:
    """Server-sent events with these objects as JSON, and texts as they are; with their types in lines `event:`."""
    frames = []
    for item in objects:
        name = f"event: {item['type']}\n" if events and isinstance(item, dict) else ""
        frames.append(f"{name}data: {item if isinstance(item, str) else json.dumps(item)}\n\n".encode())
    return frames


def reset_mid_body() -> Behaviour:
    """RST at the first byte of the file."""
    return Behaviour(at="first_file_byte", cut=-1, then="reset")


def reset_mid_answer(count: int = 5) -> Behaviour:
    """RST after so many bytes of the answer's body."""
    return Behaviour(cut=count, then="reset")


def cut_answer(count: int = 5) -> Behaviour:
    """An orderly end after so many bytes of the answer's body."""
    return Behaviour(cut=count, then="close")


class Emulator:
    """A server on loopback that is as strict as the real one. Its subclasses say what that is."""

    faults: Mapping[str, Behaviour] = {}
    """Behaviours that `script` knows by name."""
    max_body: int | None = None
    """Bytes of the largest body; None: no limit."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.connections = 0
        self._script: deque[Behaviour] = deque()
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def script(self, *behaviours: Behaviour | str) -> None:
        """Appends behaviours (or keys of `faults`) for the next calls."""
        self._script.extend(self.faults[item] if isinstance(item, str) else item for item in behaviours)

    def reader(self, record: Record) -> BodyReader:
        """Reads the body of a call. Raises Refused."""
        return RawBody(record)

    def by_name(self, record: Record) -> Behaviour:
        """How a call goes that has no script."""
        return ok()

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        """Media type and body of what a whole request deserves, a list for one in pieces. Raises Refused."""
        raise NotImplementedError

    def too_large(self, size: int) -> Refused:
        """What is answered to a body above `max_body`."""
        return Refused(413, b"")

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        """Headers of every answer."""
        return {}

    def unscript(self) -> None:
        """Takes back what was scripted and did not happen."""
        self._script.clear()

    async def record(self, number: int = 0) -> Record:
        """Waits until the call with this number (from 0) has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.records) > number)
        return self.records[number]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        if error is None:
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        record: Record | None = None
        try:
            while (head := await http_wire.read_head(reader)) is not None:
                record = Record(number, head)
                async with self._arrived:
                    self.records.append(record)
                    self._arrived.notify_all()
                if not await self._call(record, reader, writer):
                    return
            if record is not None:
                record.peer_closed.set()
        finally:
            writer.transport.abort() if reader.at_eof() else writer.close()

    async def _call(self, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serves one call and says whether the connection stays."""
        behaviour = self._script.popleft() if self._script else None
        try:
            if behaviour is not None and behaviour.at == "head":
                return await self._finish(record, behaviour, reader, writer)
            behaviour, early = await self._receive(record, behaviour, reader)
            if not early and behaviour.body is None and behaviour.frames is None and behaviour.cut != -1:
                behaviour = self._deserved(record, behaviour)
        except http_wire.BrokenBody:
            record.body_ended.set()
            record.peer_closed.set()
            return False
        except Refused as refused:
            return await self._finish(
                record,
                raw(refused.body, status=refused.status, media_type=refused.media_type, then="close"),
                reader,
                writer,
            )
        return await self._finish(record, behaviour, reader, writer)

    async def _receive(
        self, record: Record, behaviour: Behaviour | None, reader: asyncio.StreamReader
    ) -> tuple[Behaviour, bool]:
        """Reads the form; the second value says that the answer is due before its end."""
        form: BodyReader | None = None
        self.check_size(int(record.headers.get("content-length", 0)))
        async with contextlib.aclosing(http_wire.read_body(reader, record.head)) as chunks:
            async for chunk in chunks:
                form = form or self.reader(record)
                record.body_size += len(chunk)
                form.feed(chunk)
                self.check_size(record.body_size)
                if record.first_file_byte.is_set():
                    behaviour = behaviour or self.by_name(record)
                    if behaviour.at == "first_file_byte":
                        return behaviour, True
        form = form or self.reader(record)
        record.complete = form.finish()
        record.body_ended.set()
        return behaviour or self.by_name(record), False

    def check_size(self, size: int) -> None:
        """Raises Refused for a body that is too large."""
        if self.max_body is not None and size > self.max_body:
            raise self.too_large(size)

    def _deserved(self, record: Record, behaviour: Behaviour) -> Behaviour:
        status = 200
        body: bytes | list[bytes]
        try:
            media_type, body = self.judge(record)
        except Refused as refused:
            status, media_type, body = refused.status, refused.media_type, refused.body
        if isinstance(body, list):
            return dataclasses.replace(behaviour, status=status, frames=body, media_type=media_type)
        return dataclasses.replace(behaviour, status=status, body=body, media_type=media_type)

    async def _finish(
        self, record: Record, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if behaviour.until is not None:
            await behaviour.until.wait()
        if behaviour.cut != -1:
            body = behaviour.body or b""
            framing = {"content-length": str(len(body))}
            headers = {
                "content-type": behaviour.media_type,
                **(framing if behaviour.frames is None else {"transfer-encoding": "chunked"}),
                **self.answer_headers(record),
                **({"connection": "close"} if behaviour.then == "close" else {}), **behaviour.headers,
            }  # fmt: skip
            lines = [
                f"HTTP/1.1 {behaviour.status} Whatever",
                *(f"{name}: {value}" for name, value in headers.items() if value is not None),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body[: behaviour.cut])
            record.status = behaviour.status
            try:
                await writer.drain()
                if behaviour.frames is not None:
                    await self._stream(record, behaviour, reader, writer)
            except ConnectionError:
                record.peer_closed.set()
                return False
        if behaviour.then == "reset":
            http_wire.reset(writer)
        elif behaviour.then == "close" and record.body_ended.is_set():
            writer.close()
        elif behaviour.then == "stall":
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()
        elif behaviour.then == "hang" or not record.body_ended.is_set():
            # An early answer that closes lingers as servers do: closing a socket with unread data resets it, and the
            # reset can overtake the answer.
            try:
                if behaviour.then == "close":
                    writer.write_eof()
                while await reader.read(http_wire.READ):
                    pass
            except ConnectionError:
                pass
            record.peer_closed.set()
            return False
        return behaviour.then == "keep"

    async def _stream(
        self, record: Record, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Sends the frames of an answer; a peer that goes away ends it with ConnectionError."""
        assert behaviour.frames is not None
        gone = asyncio.ensure_future(reader.read(1))
        writing = asyncio.ensure_future(self._write_frames(record, behaviour, writer))
        try:
            await asyncio.wait((gone, writing), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                assert not gone.result(), "nobody sends anything while an answer comes"
                raise ConnectionResetError
            await writing
        finally:
            for task in (gone, writing):
                task.cancel()
            await asyncio.gather(gone, writing, return_exceptions=True)

    async def _write_frames(self, record: Record, behaviour: Behaviour, writer: asyncio.StreamWriter) -> None:
        assert behaviour.frames is not None
        left = behaviour.cut
        for number, frame in enumerate(behaviour.frames):
            if number < len(behaviour.paces):
                await behaviour.paces[number].wait()
            piece = frame if left is None else frame[:left]
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                record.answer_bytes += len(piece)
                await asyncio.sleep(0)
            if left is not None:
                left -= len(piece)
                if not left:
                    break
        if behaviour.cut is None or behaviour.tidy:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
