"""Segments made of words, and text made of segments, for providers that give only one of them."""

from collections.abc import Iterable

from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment, TranscriptionSegment, TranscriptionWord

from voxgate_server.transcript.words import TimedText, group, joined, timed_text

__all__ = ["diarized_segments_from_words", "segments_from_words", "text_from_segments"]

_MAX_SECONDS = 30.0
"""The window of Whisper, hence the longest segment its users know."""
_MAX_CHARACTERS = 400


def segments_from_words(words: Iterable[TranscriptionWord], text: str = "") -> list[TranscriptionSegment]:
    """Segments that end at pauses of 0.7 s, between speakers and after sentences, at most 30 s long.

    Args:
        words: The words with their times, in order.
        text: The transcript; the segments take punctuation and spacing from it where it has the same words.
    """
    return [
        TranscriptionSegment(id=number, start=start, end=end, text=stretch)
        for number, (start, end, stretch) in enumerate(_stretch(pieces) for pieces in _groups(words, text))
    ]


def diarized_segments_from_words(words: Iterable[TranscriptionWord], text: str = "") -> list[DiarizedSegment]:
    """The same segments, each with its speaker; words without one are taken for the speaker's before them.

    Args:
        words: The words with their times and speakers, in order.
        text: The transcript, as for `segments_from_words`.
    """
    segments: list[DiarizedSegment] = []
    for number, pieces in enumerate(_groups(words, text), 1):
        start, end, stretch = _stretch(pieces)
        speaker = pieces[0].speaker or (segments[-1].speaker if segments else "A")
        segments.append(DiarizedSegment(id=f"seg_{number:03d}", speaker=speaker, start=start, end=end, text=stretch))
    return segments


def _groups(words: Iterable[TranscriptionWord], text: str) -> list[list[TimedText]]:
    return group(
        timed_text(words, text), max_characters=_MAX_CHARACTERS, max_seconds=_MAX_SECONDS, sentence_characters=1
    )


def _stretch(pieces: list[TimedText]) -> tuple[float, float, str]:
    start = pieces[0].start
    return start, max(start, pieces[-1].end), "".join(piece.text for piece in pieces).strip()


def text_from_segments(segments: Iterable[TranscriptionSegment]) -> str:
    """The text of all segments, with a space between them where the script has spaces."""
    return joined(segment.text for segment in segments)
