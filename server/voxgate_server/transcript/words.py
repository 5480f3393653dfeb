"""Words with times as pieces of running text, and pieces in groups.

A transcript often has its punctuation and spacing in `text` only. Where the words can be found in it, in order and
with nothing but punctuation between them, the pieces are cut out of the text; otherwise the words stand for
themselves. Either way no word is lost and none changes places.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from voxgate.transcription.v1.transcription_pb2 import TranscriptionWord

__all__ = ["PAUSE_SECONDS", "TimedText", "align", "group", "joined", "spread", "timed_text"]

PAUSE_SECONDS = 0.7
"""Silence between two words that always parts them."""

_WIDE_STOPS = "\u3002\uff01\uff1f"
_WIDE_MARKS = _WIDE_STOPS + "\u3001\uff0c\uff1a\uff1b"
_CLOSING = "[\"'\u201d\u2019\u00bb)\\]]*\\s*$"
_SENTENCE_END = re.compile(f"[.!?\u2026{_WIDE_STOPS}]{_CLOSING}")
_CLAUSE_END = re.compile(f"[,;:\u2014\u2013.!?\u2026{_WIDE_MARKS}]{_CLOSING}")
# Chinese and Japanese have no spaces: there the marks between clauses are the only places to part a text.
_UNSPACED = re.compile(f"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff{_WIDE_MARKS}]")
_WORD = re.compile(rf"[^\s{_WIDE_MARKS}]+[{_WIDE_MARKS}]*\s*|[{_WIDE_MARKS}]+\s*")


class TimedText(NamedTuple):
    """A piece of running text."""

    text: str
    """With the space that follows it."""
    start: float
    """Seconds from the start of the recording."""
    end: float
    """Seconds from the start of the recording."""
    speaker: str | None = None


def timed_text(words: Iterable[TranscriptionWord], text: str) -> list[TimedText]:
    """The words as pieces of `text` where they can be found in it, otherwise joined as joined() does."""
    words = [word for word in words if word.word.strip()]
    pieces = align(words, text)
    if pieces is not None:
        return pieces
    parts = _spaced([word.word.strip() for word in words])
    return [_piece(part, word) for word, part in zip(words, parts, strict=True)]


def align(words: Sequence[TranscriptionWord], text: str) -> list[TimedText] | None:
    """The words as pieces of `text`, in any case of letters; None when they are not exactly what is in it."""
    words = [word for word in words if word.word.strip()]
    if not words:
        return None
    lower = text.lower()
    bounds = _bounds([word.word.strip() for word in words], text)
    if bounds is None and len(lower) == len(text):
        bounds = _bounds([word.word.strip().lower() for word in words], lower)
    if bounds is None:
        return None
    return [_piece(text[first:last], word) for word, first, last in zip(words, bounds, bounds[1:], strict=False)]


def _bounds(words: list[str], text: str) -> list[int] | None:
    """Where the pieces of the text begin, and its length."""
    bounds = [0]
    position = 0
    for word in words:
        found = text.find(word, position)
        if found < 0:
            return None
        gap = text[position:found]
        if any(character.isalnum() for character in gap):
            return None
        if position:
            # What stands before the space belongs to the word before (a comma), what follows to the next (a quote).
            spaces = [index for index, character in enumerate(gap) if character.isspace()]
            bounds.append(position + spaces[-1] + 1 if spaces else found)
        position = found + len(word)
    if any(character.isalnum() for character in text[position:]):
        return None
    return [*bounds, len(text)]


def _piece(text: str, word: TranscriptionWord) -> TimedText:
    return TimedText(text, word.start, word.end, word.speaker if word.HasField("speaker") else None)


def spread(text: str, start: float, end: float) -> list[TimedText]:
    """The words of a text whose times are not known, spread over its time by their lengths.

    Args:
        text: The text.
        start: Where it begins, in seconds.
        end: Where it ends, in seconds.
    """
    text = text.strip()
    rate = (end - start) / len(text) if text else 0.0
    return [
        TimedText(match[0], start + rate * match.start(), start + rate * match.end()) for match in _WORD.finditer(text)
    ]


def group(
    pieces: Iterable[TimedText], *, max_characters: int, max_seconds: float, sentence_characters: int
) -> list[list[TimedText]]:
    """Parts running text at pauses, between speakers, after sentences and, where it gets too long, after clauses.

    Args:
        pieces: The text, in order.
        max_characters: Length of a group; only a single piece can be longer.
        max_seconds: Duration of a group; only a single piece can be longer.
        sentence_characters: From this length on a group ends with its sentence; shorter ones take the next one in.
    """
    groups: list[list[TimedText]] = []
    current: list[TimedText] = []
    length = 0
    for piece in pieces:
        if current and (
            piece.start - current[-1].end >= PAUSE_SECONDS
            or piece.speaker != current[-1].speaker
            or (length >= sentence_characters and _SENTENCE_END.search(current[-1].text))
        ):
            groups.append(current)
            current, length = [], 0
        while current and (
            length + len(piece.text.rstrip()) > max_characters or piece.end - current[0].start > max_seconds
        ):
            cut = _cut(current, max_characters // 2)
            groups.append(current[:cut])
            current = current[cut:]
            length = sum(len(kept.text) for kept in current)
        current.append(piece)
        length += len(piece.text)
    if current:
        groups.append(current)
    return groups


def _cut(pieces: list[TimedText], enough: int) -> int:
    """How many pieces to part off: up to the last end of a clause, unless that leaves less than `enough` characters."""
    length = sum(len(piece.text) for piece in pieces)
    for count in range(len(pieces), 0, -1):
        if length < enough:
            break
        if _CLAUSE_END.search(pieces[count - 1].text):
            return count
        length -= len(pieces[count - 1].text)
    return len(pieces)


def joined(texts: Iterable[str]) -> str:
    """Texts one after the other, with a space between them where the script has spaces."""
    return "".join(_spaced([text for text in (text.strip() for text in texts) if text]))


def _spaced(parts: list[str]) -> list[str]:
    return [part + _space(part, following) for part, following in zip_longest(parts, parts[1:], fillvalue="")]


def _space(left: str, right: str) -> str:
    if not right or (_UNSPACED.match(left[-1]) and _UNSPACED.match(right[0])):
        return ""
    return " "
