"""Reads what Google's Speech-to-Text v2 answers into the API's own message.

An answer without results is silence and no fault. Whatever else is not what it should be counts as not given.
"""

import math
import re
from typing import Any

import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription, TranscriptionSegment, TranscriptionWord

from voxgate_server.errors import ProviderGarbled
from voxgate_server.providers.http_errors import Upstream, excerpt, read_error_body
from voxgate_server.transcript.words import joined

__all__ = ["fill_from_results", "name_speakers"]

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s", re.ASCII)
_INT32 = 2**31 - 1


def fill_from_results(
    target: Transcription, body: bytes, upstream: Upstream, *, offset: float = 0.0, seconds: float = math.inf
) -> None:
    """Adds a RecognizeResponse to `target`: segments, words, text, languages, and the billed seconds.

    Speakers keep Google's labels; `name_speakers` gives them ours.

    Args:
        target: An empty message, or one that has what was said before `offset`.
        body: The whole answer.
        upstream: Who sent it, for messages.
        offset: Where in the recording the audio of this answer begins, in seconds.
        seconds: Length of that audio: no time is beyond it.

    Raises:
        ProviderGarbled: It is not a JSON object, or an error in disguise.
    """
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ProviderGarbled(f"{upstream} sent an answer that is not a JSON object.")
    if answer.get("error"):
        said = excerpt(read_error_body(body).message, upstream.secrets)
        raise ProviderGarbled(f"{upstream} sent an error as if it were a success: {said or 'without a message'}")
    results = answer.get("results", [])
    if not isinstance(results, list) or any(not isinstance(item, dict) for item in results):
        raise ProviderGarbled(f"{upstream} sent an answer whose results are no list of objects.")
    if not results and not isinstance(answer.get("metadata"), dict):
        raise ProviderGarbled(f"{upstream} sent an answer without results and without metadata.")
    previous_end = max([offset, *(segment.end for segment in target.segments[-1:])])
    texts = [target.text]
    for result in results:
        alternatives = _objects(result.get("alternatives"))
        text = _text(alternatives[0].get("transcript")).strip() if alternatives else ""
        words = _words(alternatives[0], result, offset, offset + seconds) if alternatives else []
        _keep_language(target, _text(result.get("languageCode")))
        end = _seconds(result.get("resultEndOffset"))
        ends = previous_end if end is None else min(offset + end, offset + seconds)
        # Channels that were told apart come one after the other, each from the start.
        start = words[0].start if words else min(previous_end, ends)
        end = max(start, words[-1].end if words else ends)
        previous_end = max(previous_end, end)
        target.words.extend(words)
        if text:
            texts.append(text)
            target.segments.append(TranscriptionSegment(id=len(target.segments), start=start, end=end, text=text))
    target.text = joined(texts)
    metadata = answer.get("metadata")
    billed = _seconds(metadata.get("totalBilledDuration")) if isinstance(metadata, dict) else None
    if billed is not None:
        target.usage.duration.seconds += billed


def name_speakers(target: Transcription) -> None:
    """Names the speakers A, B … in the order they are first heard; Google numbers them as it likes."""
    names: dict[str, str] = {}
    for word in target.words:
        if word.speaker:
            word.speaker = names.setdefault(word.speaker, _letter(len(names)))


def _words(alternative: dict[str, Any], result: dict[str, Any], offset: float, last: float) -> list[TranscriptionWord]:
    words = []
    previous_end = offset
    channel = result.get("channelTag")
    for item in _objects(alternative.get("words")):
        text = _text(item.get("word")).strip()
        start, end = _seconds(item.get("startOffset")), _seconds(item.get("endOffset"))
        speaker = _text(item.get("speakerLabel"))
        if not text or (start is None and end is None and not speaker):
            # Without times or a speaker a word has nothing that the text has not.
            continue
        begin = min(max(offset + (start or 0.0), previous_end if start is None else 0.0), last)
        ends = begin if end is None else min(max(begin, offset + end), last)
        word = TranscriptionWord(word=text, start=begin, end=ends)
        previous_end = word.end
        confidence = item.get("confidence")
        if isinstance(confidence, (int, float)) and not isinstance(confidence, bool) and 0 < confidence <= 1:
            word.confidence = confidence
        if speaker:
            word.speaker = speaker
        if isinstance(channel, int) and 0 < channel <= _INT32:
            word.channel = channel - 1
        words.append(word)
    return words


def _keep_language(target: Transcription, code: str) -> None:
    if code and all(known.code != code for known in target.languages):
        if not target.language:
            target.language = code
        target.languages.add(code=code)


def _letter(number: int) -> str:
    """A … Z, AA, AB …"""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: Any) -> float | None:
    """Seconds of a protobuf duration in JSON, `"1.200s"`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) if match else math.nan
    return seconds if seconds < _INT32 else None
