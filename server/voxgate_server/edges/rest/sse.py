"""A streamed answer: the events of a call as OpenAI's server-sent events, flushed one by one.

`transcript.text.delta`*, `transcript.text.segment`*, one `transcript.text.done`, then `[DONE]`. A failure before the
first event is a response like any other, with its status; after it, an object with `error` ends the stream, and
neither `done` nor `[DONE]` follows: what is cut never ends like what is complete. Where the operator wants it, a
stream that was lost begins anew instead: nothing more is told of it but its `done`, which has `restarted`.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from starlette.types import Message, Send
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import ExtraFields
from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment, Transcription

from voxgate_server.edges.rest.encode import error_body, logprobs_list, usage_object
from voxgate_server.edges.rest.extra_fields import extra_fields_object
from voxgate_server.errors import Cancelled, VoxgateError

__all__ = ["KEEP_ALIVE_SECONDS", "SseStream"]

KEEP_ALIVE_SECONDS = 10.0
"""Seconds without an event after which a comment keeps proxies from giving the connection up."""
_COMMENT = b": waiting\n\n"
_RESTARTED = b": the provider was lost, another one begins anew\n\n"
_DONE = b"data: [DONE]\n\n"


class SseStream:
    """Writes the events of one call.

    Args:
        send: Where to.
        headers: Makes the headers of the response when it begins, given the options that were left out.
        unread_seconds: How long a client may leave what was sent to it unread. The server holds less than 256 KiB for
            it meanwhile.
        with_extra_fields: Events carry `extra_fields`, and no other keys than Bifrost's chunks have.
    """

    def __init__(
        self,
        send: Send,
        headers: Callable[[Sequence[str]], Iterable[tuple[bytes, bytes]]],
        *,
        unread_seconds: float,
        with_extra_fields: bool = False,
    ) -> None:
        self._send = send
        self._headers = headers
        self._unread_seconds = unread_seconds
        self._with_extra_fields = with_extra_fields
        self._chunks = 0
        self._about = ExtraFields()
        """What the attempt's first event tells, for those that tell nothing."""
        self._dropped: Sequence[str] = ()
        self._restarted = False
        self._written = self._last_chunk = time.monotonic()
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
        kind = event.WhichOneof("event")
        self._dropped = event.extra_fields.dropped_params
        if kind == "reset":
            self._restarted = True
            await self._write(_RESTARTED)
            return
        if self._restarted and kind != "done":
            # What was said cannot be taken back, and another model's words must not follow it.
            if time.monotonic() - self._written >= KEEP_ALIVE_SECONDS:
                await self.keep_alive()
            return
        body = _object(event)
        about: dict[str, object] = {"restarted": True} if self._restarted else {}
        if self._with_extra_fields:
            body["extra_fields"] = {**self._extra_fields(event), **about}
        else:
            body |= about
        frame = b"data: " + msgspec.json.encode(body) + b"\n\n"
        await self._write(frame + _DONE if kind == "done" else frame)

    def _extra_fields(self, event: TranscriptionEvent) -> dict[str, object]:
        extra = event.extra_fields
        if event.HasField("extra_fields"):
            self._about = ExtraFields(
                request_id=extra.request_id,
                request_type=extra.request_type,
                provider=extra.provider,
                original_model_requested=extra.original_model_requested,
                resolved_model_used=extra.resolved_model_used,
            )
        else:
            extra.CopyFrom(self._about)
            extra.latency.FromNanoseconds(round((time.monotonic() - self._last_chunk) * 1e9))
        self._last_chunk = time.monotonic()
        extra.chunk_index = self._chunks
        self._chunks += 1
        return extra_fields_object(extra, list(extra.synthesized_fields))

    async def end(self) -> None:
        """Ends the response.

        Raises:
            Cancelled: The client does not read.
        """
        await self._pass_on({"type": "http.response.body", "body": b""})

    async def fail(self, error: VoxgateError) -> None:
        """Tells the failure of a stream that has begun; `end` ends it.

        Raises:
            Cancelled: The client does not read.
        """
        await self._write(b"data: " + error_body(error) + b"\n\n")

    async def _write(self, frame: bytes) -> None:
        if not self.started:
            self.started = True
            head = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                # nginx and its like would otherwise collect the events of a whole call.
                (b"x-accel-buffering", b"no"),
                (b"x-content-type-options", b"nosniff"),
                *self._headers(self._dropped),
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": head})
        self._written = time.monotonic()
        await self._pass_on({"type": "http.response.body", "body": frame, "more_body": True})

    async def _pass_on(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._unread_seconds):
                await self._send(message)
        except TimeoutError:
            raise Cancelled(f"The client has read nothing for {self._unread_seconds:g} s.") from None


def _object(event: TranscriptionEvent) -> dict[str, object]:
    """The JSON object of an event."""
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
    return _done(event.done.transcription)


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
