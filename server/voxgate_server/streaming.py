"""What the gateway adds to the events of providers: segments for those that give none, and what voids a lost stream."""

from collections.abc import Iterator

from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.events_pb2 import StreamReset, TranscriptionEvent
from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment

from voxgate_server.call import Call
from voxgate_server.errors import VoxgateError

__all__ = ["resets", "segments_of"]

_WITH_SEGMENTS = frozenset({ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON, ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON})


def segments_of(call: Call, event: TranscriptionEvent) -> Iterator[TranscriptionEvent]:
    """The segments of an answer that came in one piece, as events before its `done`; marked as made up.

    Only for callers who want events, and segments.
    """
    if not (call.streamed and event.HasField("done")):
        return
    transcription = event.done.transcription
    event.extra_fields.synthesized_fields.append("events")
    transcription.extra_fields.synthesized_fields.append("events")
    if call.config.response_format not in _WITH_SEGMENTS:
        return
    segments = transcription.diarized_segments or [
        DiarizedSegment(id=f"seg_{plain.id + 1:03d}", start=plain.start, end=plain.end, text=plain.text)
        for plain in transcription.segments
    ]
    for index, segment in enumerate(segments):
        yield TranscriptionEvent(segment=segment, extra_fields=event.extra_fields if index == 0 else None)


def resets(void: VoxgateError | None, generation: int) -> Iterator[TranscriptionEvent]:
    """The event that voids what a lost attempt has said; none when there is nothing to void.

    Args:
        void: How that attempt ended.
        generation: Number of the run that begins.
    """
    if void is not None:
        yield TranscriptionEvent(reset=StreamReset(generation=generation, reason=void.reason))
