"""Reads the streams of servers of OpenAI's dialect: OpenAI's and Azure's own events, Mistral's, and vLLM's chunks.

Each says in its own way that it is complete: OpenAI and Mistral by an event with the whole text, vLLM by `[DONE]`
alone. What ends without that was cut.
"""

import re
from collections.abc import Iterator
from typing import Any

from voxgate.transcription.v1.events_pb2 import TextDelta, TranscriptionEvent
from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment

from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.openai_answer import (
    clean_text,
    decode_json,
    fill_from_object,
    fill_logprobs,
    plain_text,
    span_of,
    speaker_of,
)
from voxgate_server.providers.sse_reader import Event, SseReader
from voxgate_server.providers.stream_answer import stream_error, stream_garbled

__all__ = ["OpenAIStream", "unwrapped"]

_DELTAS = {"transcript.text.delta": "delta", "transcription.text.delta": "text"}
"""Types of events with more text, and the field it is in."""
_SEGMENTS = frozenset({"transcript.text.segment", "transcription.segment"})
_ENDS = frozenset({"transcript.text.done", "transcription.done"})
_CHUNK = "transcription.chunk"
_MARKER = b"[DONE]"
_WRAPPED = re.compile(r'(?:event:[^\n]*\n)?data: ?\{[^\n]{0,300}"(?:type|object)": ?"trans')


def unwrapped(event: TranscriptionEvent, upstream: Upstream) -> TranscriptionEvent:
    """What a whole answer says, where its text is a stream: proxies that cannot stream put the one they got there.

    Args:
        event: The last event of an answer that came whole although a stream was asked for.
        upstream: Who sent it, for messages.

    Raises:
        ProviderError: It is a stream, and one that was cut or tells of an error.
    """
    text = event.done.transcription.text
    if not _WRAPPED.match(text):
        return event
    stream = OpenAIStream(upstream)
    for part in SseReader(str(upstream)).feed(f"{text}\n\n".encode()):
        for _ in stream.read(part):
            pass
    return stream.done()


class OpenAIStream:
    """One answer.

    Args:
        upstream: Who sends it, for messages.
        segments_are_words: The words' times were asked for, and the server has one list for both.
    """

    def __init__(self, upstream: Upstream, *, segments_are_words: bool = False) -> None:
        self._upstream = upstream
        self._segments_are_words = segments_are_words
        self._done: TranscriptionEvent | None = None
        self._segments: list[dict[str, Any]] = []
        self._language: Any = None
        self._chunks: list[str] | None = None
        self._chunk_usage: Any = None
        self._end = 0.0

    @property
    def ended(self) -> bool:
        """The server has said that the answer is complete."""
        return self._done is not None

    def read(self, event: Event) -> Iterator[TranscriptionEvent]:
        """What an event of the server's says, but for the end.

        Raises:
            ProviderUnavailable: It is an error.
            ProviderGarbled: It makes no sense.
        """
        if event.data.strip() == _MARKER:
            self._marker()
            return
        item = decode_json(event.data)
        if not isinstance(item, dict):
            stream_garbled(self._upstream, "sent an event that is not a JSON object")
        kind = item.get("type") or item.get("object") or event.event
        if item.get("error") or kind == "error" or event.event == "error":
            raise stream_error(self._upstream, event.data)
        if self.ended:
            return  # What follows the end says nothing; only its failure would.
        if kind in _ENDS:
            self._ends(item)
        elif kind in _SEGMENTS:
            yield from self._segment(item)
        elif kind in _DELTAS:
            yield from self._delta(item, item.get(_DELTAS[kind]))
        elif kind == _CHUNK:
            yield from self._chunk(item)
        elif kind == "transcription.language":
            self._language = item.get("audio_language")

    def done(self) -> TranscriptionEvent:
        """The last event.

        Raises:
            ProviderGarbled: The server has not said that the answer is complete.
        """
        if self._done is None:
            stream_garbled(self._upstream, "ended its answer before it was complete")
        return self._done

    def _marker(self) -> None:
        if not self.ended and self._chunks is not None:
            self._complete({"text": "".join(self._chunks), "usage": self._chunk_usage})

    def _ends(self, item: dict[str, Any]) -> None:
        segments, language = item.get("segments") or self._segments, item.get("language") or self._language
        self._complete({**item, "segments": segments, "language": language})

    def _complete(self, answer: dict[str, Any]) -> None:
        done = TranscriptionEvent()
        fill_from_object(done.done.transcription, answer, self._upstream, segments_are_words=self._segments_are_words)
        self._done = done

    def _delta(self, item: dict[str, Any], text: Any) -> Iterator[TranscriptionEvent]:
        if not isinstance(text, str):
            stream_garbled(self._upstream, "sent more of the text without a text")
        delta = TextDelta(delta=clean_text(text))
        fill_logprobs(delta.logprobs, item.get("logprobs"))
        if segment := plain_text(item.get("segment_id")):
            delta.segment_id = segment
        if text or delta.logprobs:
            yield TranscriptionEvent(delta=delta)

    def _segment(self, item: dict[str, Any]) -> Iterator[TranscriptionEvent]:
        if not isinstance(item.get("text"), str):
            stream_garbled(self._upstream, "sent a segment without a text")
        self._segments.append(item)
        if self._segments_are_words:
            return
        start, end = span_of(item, self._end)
        self._end = end
        yield TranscriptionEvent(
            segment=DiarizedSegment(
                id=plain_text(item.get("id")) or f"seg_{len(self._segments):03d}",
                speaker=speaker_of(item),
                start=start,
                end=end,
                text=clean_text(item["text"]),
            )
        )

    def _chunk(self, item: dict[str, Any]) -> Iterator[TranscriptionEvent]:
        if self._chunks is None:
            self._chunks = []
        if isinstance(usage := item.get("usage"), dict):
            self._chunk_usage = usage
        choices = item.get("choices")
        if not isinstance(choices, list):
            stream_garbled(self._upstream, "sent a chunk without choices")
        for choice in choices[:1]:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if not isinstance(delta, dict):
                stream_garbled(self._upstream, "sent a chunk without a text")
            if choice.get("finish_reason") == "length":
                stream_garbled(self._upstream, "cut its answer off at its limit of output tokens")
            text = delta.get("content")
            if text is None:
                continue
            yield from self._delta({}, text)
            self._chunks.append(text)
