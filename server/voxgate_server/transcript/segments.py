"""Segments made of words, and what each speaker said, for providers that give words only."""

from collections.abc import Iterable, Iterator

from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment, TranscriptionSegment, TranscriptionWord

from voxgate_server.transcript.words import group, timed_text

__all__ = ["segments_from_words", "speakers_from_words"]

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
        TranscriptionSegment(id=number, start=start, end=end, text=said)
        for number, (_, start, end, said) in enumerate(_stretches(words, text))
    ]


def speakers_from_words(words: Iterable[TranscriptionWord], text: str = "") -> list[DiarizedSegment]:
    """What each speaker said, in the same pieces as `segments_from_words`.

    Args:
        words: The words with their times and speakers, in order. One without a speaker is the speaker's before it.
        text: The transcript, for punctuation and spacing.
    """
    known = []
    speaker = ""
    for word in words:
        speaker = word.speaker or speaker
        known.append(TranscriptionWord(word=word.word, start=word.start, end=word.end, speaker=speaker))
    return [
        DiarizedSegment(id=f"seg_{number:03d}", speaker=who or "A", start=start, end=end, text=said)
        for number, (who, start, end, said) in enumerate(_stretches(known, text), 1)
    ]


def _stretches(words: Iterable[TranscriptionWord], text: str) -> Iterator[tuple[str | None, float, float, str]]:
    """Speaker, start, end and text of each piece."""
    groups = group(
        timed_text(words, text), max_characters=_MAX_CHARACTERS, max_seconds=_MAX_SECONDS, sentence_characters=1
    )
    for pieces in groups:
        start = pieces[0].start
        said = "".join(piece.text for piece in pieces).strip()
        yield pieces[0].speaker, start, max(start, pieces[-1].end), said
