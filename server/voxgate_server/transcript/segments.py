"""Segments made of words, and text made of segments, for providers that give only one of them."""

from collections.abc import Iterable

from voxgate.transcription.v1.transcription_pb2 import TranscriptionSegment, TranscriptionWord

from voxgate_server.transcript.words import group, joined, timed_text

__all__ = ["segments_from_words", "text_from_segments"]

_MAX_SECONDS = 30.0
"""The window of Whisper, hence the longest segment its users know."""
_MAX_CHARACTERS = 400


def segments_from_words(words: Iterable[TranscriptionWord], text: str = "") -> list[TranscriptionSegment]:
    """Segments that end at pauses of 0.7 s, between speakers and after sentences, at most 30 s long.

    Args:
        words: The words with their times, in order.
        text: The transcript; the segments take punctuation and spacing from it where it has the same words.
    """
    segments = []
    groups = group(
        timed_text(words, text), max_characters=_MAX_CHARACTERS, max_seconds=_MAX_SECONDS, sentence_characters=1
    )
    for number, pieces in enumerate(groups):
        start = pieces[0].start
        segments.append(
            TranscriptionSegment(
                id=number,
                start=start,
                end=max(start, pieces[-1].end),
                text="".join(piece.text for piece in pieces).strip(),
            )
        )
    return segments


def text_from_segments(segments: Iterable[TranscriptionSegment]) -> str:
    """The text of all segments, with a space between them where the script has spaces."""
    return joined(segment.text for segment in segments)
