"""A streamed answer: the events of a call as OpenAI's server-sent events, flushed one by one.

`transcript.text.delta`*, `transcript.text.segment`*, one `transcript.text.done`, then `[DONE]`. A failure before the
first event is a response like any other, with its status; after it, an object with `error` ends the stream, and
neither `done` nor `[DONE]` follows: what is cut never ends like what is complete.
"""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
from starlette.types import Send
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment, Transcription

from voxgate_server.edges.rest.encode import error_body, logprobs_list, usage_object
from voxgate_server.edges.rest.extra_fields import extra_fields_object
from voxgate_server.errors import Cancelled, VoxgateError

__all__ = ["KEEP_ALIVE_SECONDS", "SseStream"]

KEEP_ALIVE_SECONDS = 10.0
"""Seconds without an event after which a comment keeps proxies from giving the connection up."""
_SEND_SECONDS = 30.0
"""Seconds a client may leave what was sent to it unread. The server holds less than 256 KiB for it meanwhile."""
_COMMENT = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


class SseStream:
    """Writes the events of one call.

    Args:
        send: Where to.
        headers: Makes the headers of the response, when it begins.
        with_extra_fields: Events carry `extra_fields`, and no other keys than Bifrost's chunks have.
    """

    def __init__(
        self, send: Send, headers: Callable[[], Iterable[tuple[bytes, bytes]]], *, with_extra_fields: bool = False
    ) -> None:
        self._send = send
        self._headers = headers
        self._with_extra_fields = with_extra_fields
        self._chunks = 0
        self.started = False
        """The response has begun: its status cannot tell of a failure any more."""

    async def keep_alive(self) -> None:
        """Says that nothing has happened yet."""
        await self._write(_COMMENT)

    async def event(self, event: TranscriptionEvent) -> None:
        """Writes an event; `done` is the last one.

        Raises:
            Cancelled: The client does not read.
        """
        body = _object(event)
        if body is None:
            return
        if self._with_extra_fields:
            extra = event.extra_fields
            extra.chunk_index = self._chunks
            body = {**body, "extra_fields": extra_fields_object(extra, list(extra.synthesized_fields))}
            self._chunks += 1
        frame = b"data: " + msgspec.json.encode(body) + b"\n\n"
        await self._write(frame + _DONE if event.HasField("done") else frame)

    async def end(self) -> None:
        """Ends the response."""
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, error: VoxgateError) -> None:
        """Ends a stream that has begun with an error.

        Raises:
            Cancelled: The client does not read.
        """
        await self._write(b"data: " + error_body(error) + b"\n\n")
        await self.end()

    async def _write(self, frame: bytes) -> None:
        if not self.started:
            self.started = True
            head = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                # nginx and its like would otherwise collect the events of a whole call.
                (b"x-accel-buffering", b"no"),
                (b"x-content-type-options", b"nosniff"),
                *self._headers(),
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": head})
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            raise Cancelled(f"The client has read nothing for {_SEND_SECONDS:g} s.") from None


def _object(event: TranscriptionEvent) -> dict[str, object] | None:
    """The JSON object of an event; None for one that has none here."""
    match event.WhichOneof("event"):
        case "delta":
            delta = event.delta
            body: dict[str, object] = {"type": "transcript.text.delta", "delta": delta.delta}
            if delta.logprobs:
                body["logprobs"] = logprobs_list(delta.logprobs)
            if delta.HasField("segment_id"):
                body["segment_id"] = delta.segment_id
            return body
        case "segment":
            return _segment(event.segment)
        case "done":
            return _done(event.done.transcription)
    return None


def _segment(segment: DiarizedSegment) -> dict[str, object]:
    return {
        "type": "transcript.text.segment",
        "id": segment.id,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "speaker": segment.speaker,
    }


def _done(transcription: Transcription) -> dict[str, object]:
    body: dict[str, object] = {"type": "transcript.text.done", "text": transcription.text}
    if transcription.logprobs:
        body["logprobs"] = logprobs_list(transcription.logprobs)
    if transcription.languages and not transcription.HasField("language"):
        body["languages"] = [{"code": language.code} for language in transcription.languages]
    if (usage := usage_object(transcription)) is not None:
        body["usage"] = usage
    return body
