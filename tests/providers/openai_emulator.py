"""OpenAI's transcription API on a loopback socket: as strict as the real one, and able to fail in every known way.

    async with OpenAIEmulator() as emulator:
        emulator.script(failure(503), ok())          # the next two calls, in order; after that: ok
        ... talk to emulator.url with emulator.key ...
        emulator.records[0].file_sha256

A behaviour can also be chosen by the model's name: `fault-` and a key of FAULTS, e.g. `fault-hang`.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from tests.providers import http_wire, openai_rules
from tests.providers.openai_record import Form, Record, Refused

__all__ = [
    "FAULTS",
    "Behaviour",
    "OpenAIEmulator",
    "Record",
    "cut_answer",
    "failure",
    "hang",
    "ok",
    "raw",
    "reset_mid_answer",
    "reset_mid_body",
    "stall",
]


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


def ok(**kwargs: Any) -> Behaviour:
    """The answer the request deserves."""
    return Behaviour(**kwargs)


def raw(body: bytes | str, *, status: int = 200, media_type: str = "application/json", **kwargs: Any) -> Behaviour:
    """Exactly this body."""
    return Behaviour(status, body.encode() if isinstance(body, str) else body, media_type, **kwargs)


def failure(
    status: int, message: str = "it did not work", *, kind: str = "server_error", code: str | None = None,
    headers: Mapping[str, str | None] | None = None, **kwargs: Any,
) -> Behaviour:  # fmt: skip
    """An error in OpenAI's envelope."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
    return raw(body, status=status, headers=headers or {}, **kwargs)


def hang(**kwargs: Any) -> Behaviour:
    """Reads everything and never answers."""
    return Behaviour(cut=-1, then="hang", **kwargs)


def stall() -> Behaviour:
    """Reads nothing of the body and never answers."""
    return Behaviour(at="head", cut=-1, then="stall")


def reset_mid_body() -> Behaviour:
    """RST at the first byte of the file."""
    return Behaviour(at="first_file_byte", cut=-1, then="reset")


def reset_mid_answer(count: int = 5) -> Behaviour:
    """RST after so many bytes of the answer's body."""
    return Behaviour(cut=count, then="reset")


def cut_answer(count: int = 5) -> Behaviour:
    """An orderly end after so many bytes of the answer's body."""
    return Behaviour(cut=count, then="close")


FAULTS = {
    "401": failure(401, "Incorrect API key provided: sk-wrong.", kind="invalid_request_error", code="invalid_api_key"),
    "429": failure(
        429, "Rate limit reached", kind="requests", code="rate_limit_exceeded", headers={"retry-after": "7"}
    ),
    "429-ms": failure(429, "Rate limit reached", kind="requests", headers={"retry-after-ms": "1500"}),
    "quota": failure(429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota"),
    "500": failure(500, "The server had an error"),
    "503": failure(503, "Overloaded"),
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(
        401, "Incorrect API key provided.", code="invalid_api_key", at="first_file_byte", then="close"
    ),
    "early-413": failure(413, "Maximum content size limit exceeded", at="first_file_byte", then="close"),
    "early-200": raw('{"text": "too early"}', at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
    "bad-json": raw('{"text": "hello'),
    "error-200": raw('{"error": {"message": "backend died", "type": "server_error", "code": 500}}'),
}


class OpenAIEmulator:
    """The server. `url` ends in `/v1`.

    Args:
        key: The only key it takes; None takes every request.
        text: What every recording says.
        models: Names it knows besides OpenAI's, all like whisper-1.
        extra_fields: Form fields it knows besides OpenAI's.
    """

    def __init__(
        self,
        *,
        key: str | None = "sk-emulator-0123456789",
        text: str = "Hello from the emulator.",
        models: Collection[str] = frozenset(),
        extra_fields: Collection[str] = frozenset(),
        max_body: int = openai_rules.MAX_BODY,
    ) -> None:
        self.key = key
        self.text = text
        self.models = models
        self.extra_fields = extra_fields
        self.max_body = max_body
        self.records: list[Record] = []
        self.connections = 0
        self._script: deque[Behaviour] = deque()
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def script(self, *behaviours: Behaviour | str) -> None:
        """Appends behaviours (or keys of FAULTS) for the next calls."""
        self._script.extend(FAULTS[item] if isinstance(item, str) else item for item in behaviours)

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
            if not early and behaviour.body is None and behaviour.cut != -1:
                behaviour = self._deserved(record, behaviour)
        except http_wire.BrokenBody:
            record.body_ended.set()
            record.peer_closed.set()
            return False
        except Refused as refused:
            return await self._finish(record, raw(refused.body, status=refused.status, then="close"), reader, writer)
        return await self._finish(record, behaviour, reader, writer)

    async def _receive(
        self, record: Record, behaviour: Behaviour | None, reader: asyncio.StreamReader
    ) -> tuple[Behaviour, bool]:
        """Reads the form; the second value says that the answer is due before its end."""
        form: Form | None = None
        self._check_size(int(record.headers.get("content-length", 0)))
        async with contextlib.aclosing(http_wire.read_body(reader, record.head)) as chunks:
            async for chunk in chunks:
                form = form or Form(record)
                record.body_size += len(chunk)
                form.feed(chunk)
                self._check_size(record.body_size)
                if record.first_file_byte.is_set():
                    behaviour = behaviour or self._by_name(record)
                    if behaviour.at == "first_file_byte":
                        return behaviour, True
        record.complete = form is not None and form.finish()
        record.body_ended.set()
        return behaviour or self._by_name(record), False

    def _check_size(self, size: int) -> None:
        if size > self.max_body:
            raise Refused(
                413, f"Maximum content size limit ({self.max_body}) exceeded ({size} bytes read)", kind="server_error"
            )

    def _by_name(self, record: Record) -> Behaviour:
        return FAULTS.get((record.field("model") or "").removeprefix("fault-"), ok())

    def _deserved(self, record: Record, behaviour: Behaviour) -> Behaviour:
        status = 200
        try:
            media_type, body = self._judge(record)
        except Refused as refused:
            status, media_type, body = refused.status, "application/json", refused.body
        return dataclasses.replace(behaviour, status=status, body=body, media_type=media_type)

    def _judge(self, record: Record) -> tuple[str, bytes]:
        if self.key is not None:
            openai_rules.check_key(record, self.key)
        place = (record.method, record.path.partition("?")[0])
        if place not in {("POST", "/v1/audio/transcriptions"), ("POST", "/v1/audio/translations")}:
            raise Refused(404, f"Invalid URL ({record.method} {record.path})")
        if not record.complete:
            raise Refused(400, "Could not parse multipart form")
        openai_rules.check_form(record, self.models, self.extra_fields)
        return openai_rules.answer(record, self.text)

    async def _finish(
        self, record: Record, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if behaviour.until is not None:
            await behaviour.until.wait()
        if behaviour.cut != -1:
            body = behaviour.body or b""
            headers = {
                "content-type": behaviour.media_type, "content-length": str(len(body)),
                "x-request-id": f"req-{len(self.records)}", "openai-processing-ms": "17",
                "openai-organization": "org-of-the-operator", "set-cookie": "session=1; Path=/",
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
