"""Subtitles: SubRip and WebVTT out of whatever times a transcript has.

A cue has at most 84 characters (two lines of 42, the usual measure) and stays for at most 7 seconds. Segments that
fit are cues as they are; longer ones are parted at the words' times or, without words, at times in proportion to
the length of the text. Cues never overlap and never run backwards, whatever the provider's times do.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from voxgate.transcription.v1.transcription_pb2 import (
    DiarizedSegment,
    Transcription,
    TranscriptionSegment,
    TranscriptionWord,
)

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.transcript.words import TimedText, align, group, spread, timed_text

__all__ = ["MAX_CUE_CHARACTERS", "MAX_CUE_SECONDS", "Cue", "cues", "srt", "vtt"]

MAX_CUE_CHARACTERS = 84
"""Characters of a cue; only a single word can be longer."""
MAX_CUE_SECONDS = 7.0
"""Seconds a cue is shown."""

_ARROW = re.compile(r"-{2,}>")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_MAX_MILLISECONDS = 10**9
"""A time beyond 11 days is no time of a recording."""


class Cue(NamedTuple):
    """One subtitle."""

    start: int
    """Milliseconds from the start of the recording."""
    end: int
    """Milliseconds from the start of the recording, after `start`."""
    text: str
    """One line, without control characters and without an arrow that could be taken for a time line."""


def srt(transcription: Transcription) -> str:
    """The transcript as SubRip; empty where nothing was said.

    Raises:
        UnsupportedParameter: The provider gave no times.
    """
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(transcription), 1)
    )


def vtt(transcription: Transcription) -> str:
    """The transcript as WebVTT.

    Raises:
        UnsupportedParameter: The provider gave no times.
    """
    return "WEBVTT\n\n" + "\n".join(
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in cues(transcription)
    )


def cues(transcription: Transcription) -> list[Cue]:
    """The transcript in pieces that fit on a screen.

    Raises:
        UnsupportedParameter: There is text, but neither segments nor words with times.
    """
    segments = [segment for segment in transcription.segments if segment.text.strip()]
    speakers = [segment for segment in transcription.diarized_segments if segment.text.strip()]
    groups: list[list[TimedText]]
    if segments:
        groups = _of_segments(segments, transcription.words)
    elif transcription.words:
        groups = _parted(timed_text(transcription.words, transcription.text))
    elif speakers:
        groups = _of_segments(speakers, ())
    elif transcription.text.strip():
        raise UnsupportedParameter(
            "The provider gave no times with this transcript, so subtitles cannot be made of it. Ask for json or "
            "text, or for a model that gives segments or words.",
            param="response_format",
        )
    else:
        groups = []
    return _in_order(groups)


def _parted(pieces: Iterable[TimedText]) -> list[list[TimedText]]:
    return group(
        pieces,
        max_characters=MAX_CUE_CHARACTERS,
        max_seconds=MAX_CUE_SECONDS,
        sentence_characters=MAX_CUE_CHARACTERS // 2,
    )


def _of_segments(
    segments: Iterable[TranscriptionSegment | DiarizedSegment], words: Sequence[TranscriptionWord]
) -> list[list[TimedText]]:
    groups: list[list[TimedText]] = []
    first = 0
    for segment in segments:
        last = first
        while last < len(words) and (words[last].start + words[last].end) / 2 < segment.end:
            last += 1
        text = segment.text.strip()
        if len(text) <= MAX_CUE_CHARACTERS and segment.end - segment.start <= MAX_CUE_SECONDS:
            groups.append([TimedText(text, segment.start, segment.end)])
        else:
            pieces = align(words[first:last], text)
            groups.extend(_parted(pieces if pieces is not None else spread(text, segment.start, segment.end)))
        first = last
    return groups


def _in_order(groups: Iterable[list[TimedText]]) -> list[Cue]:
    """Cues with whole milliseconds; a cue ends where the next one starts at the latest."""
    result: list[Cue] = []
    for pieces in groups:
        text = _line("".join(piece.text for piece in pieces))
        if not text:
            continue
        start = _milliseconds(pieces[0].start)
        if result:
            previous = result[-1]
            start = max(start, previous.start + 1)
            if previous.end > start:
                result[-1] = previous._replace(end=start)
        end = min(max(_milliseconds(pieces[-1].end), start + 1), start + round(MAX_CUE_SECONDS * 1000))
        result.append(Cue(start, end, text))
    return result


def _milliseconds(seconds: float) -> int:
    return min(max(round(seconds * 1000), 0), _MAX_MILLISECONDS) if math.isfinite(seconds) else 0


def _line(text: str) -> str:
    """The text on one line: an empty one would end the cue, an arrow could begin another."""
    return _ARROW.sub("->", " ".join(_CONTROL.sub(" ", text).split()))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _time(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"
