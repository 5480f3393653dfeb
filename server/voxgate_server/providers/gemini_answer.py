"""Reads what generateContent answers into the API's own message.

A status of 200 says little here: an answer can be without candidates, cut off, or withheld. Only one that ended by
itself is a transcript. Times that a language model wrote are taken for times only where they can be some.
"""

import math
import re
from typing import Any, NoReturn

import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.errors import ProviderGarbled, ProviderRejected
from voxgate_server.providers.gemini_request import NO_SPEECH, GeminiRequest
from voxgate_server.providers.http_errors import Upstream, excerpt
from voxgate_server.transcript.words import joined

__all__ = [
    "GeminiAnswer",
    "Part",
    "decode_answer",
    "fill_from_answer",
    "fill_plain",
    "is_silence",
    "parts_of",
    "seconds_of",
]

_CONTENT_REASONS = frozenset(
    {"BLOCKLIST", "IMAGE_SAFETY", "MODEL_ARMOR", "PROHIBITED_CONTENT", "RECITATION", "SAFETY", "SPII"}
)
"""Why Google withholds an answer for what is in it."""
_INT32 = 2**31 - 1
_MAX_SECONDS = 1_000_000.0
_TOKENS_PER_SECOND = 25
"""Of audio; Google's pages say 32 or 25, and fewer tokens make longer recordings."""
_TOLERANCE_SECONDS = 2.0
"""By how much a time that a model wrote may be off before nothing of it is believed."""
_MAX_SPEAKER = 64

_PLAIN = re.compile(r"(\d{1,7}(?:\.\d{1,9})?)s?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):([0-5]\d(?:[.,]\d{1,9})?)", re.ASCII)
_MILLISECONDS = re.compile(r"(\d{1,3}):([0-5]\d):(\d{3})", re.ASCII)


class _Word(msgspec.Struct, rename="camel"):
    word: str = ""
    start_offset: str | None = None
    end_offset: str | None = None


class _AudioTranscription(msgspec.Struct, rename="camel"):
    text: str = ""
    language_code: str = ""
    speaker_label: str = ""
    words: list[_Word] = []
    start_offset: str | None = None
    end_offset: str | None = None


class Part(msgspec.Struct, rename="camel"):
    """A part of what a model said."""

    text: str = ""
    thought: bool = False
    audio_transcription: _AudioTranscription | None = None


class _Content(msgspec.Struct):
    parts: list[Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str = ""


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str = ""


class GeminiAnswer(msgspec.Struct, rename="camel"):
    """A GenerateContentResponse, or one chunk of it."""

    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: Any = None
    error: Any = None


class _Segment(msgspec.Struct):
    start: str | float
    end: str | float
    text: str
    speaker: str = ""


class _Segments(msgspec.Struct):
    segments: list[_Segment]
    language: str = ""


_answer_decoder = msgspec.json.Decoder(GeminiAnswer)
_segments_decoder = msgspec.json.Decoder(_Segments)


def fill_from_answer(target: Transcription, body: bytes, upstream: Upstream, request: GeminiRequest) -> None:
    """Fills `target` from a whole answer.

    Args:
        target: An empty message.
        body: The answer's body.
        upstream: Who sent it, for messages.
        request: What was asked.

    Raises:
        ProviderRejected: Google withholds the answer for what is in it.
        ProviderGarbled: It is no answer, it was cut off, or its times cannot be times of this recording.
    """
    answer = decode_answer(body, upstream)
    if answer.error is not None:
        _garbled(upstream, "sent an error as if it were a success")
    parts = parts_of(answer, upstream, request)
    _fill_about(target, answer.usage_metadata, request)
    longest = target.usage.tokens.input_token_details.audio_tokens / _TOKENS_PER_SECOND or None
    if request.dedicated:
        _fill_dedicated(target, parts, upstream, request, longest)
        return
    text = "".join(part.text for part in parts).strip()
    if request.timed and text:
        _fill_segments(target, text, upstream, request, longest)
    else:
        _fill_text(target, text, upstream)


def fill_plain(
    target: Transcription, text: str, usage: Any, upstream: Upstream, request: GeminiRequest, *, languages: list[str]
) -> None:
    """Fills `target` from an answer that came in chunks, without times and speakers.

    Args:
        target: An empty message.
        text: Its text.
        usage: Its `usageMetadata`.
        upstream: Who sent it, for messages.
        request: What was asked.
        languages: Codes of the languages that were heard, in order.

    Raises:
        ProviderGarbled: It says nothing, not even that there was nothing to hear.
    """
    _fill_about(target, usage, request)
    if request.dedicated:
        target.text = text
        _fill_languages(target, languages)
    else:
        _fill_text(target, text, upstream)


def decode_answer(body: bytes, upstream: Upstream) -> GeminiAnswer:
    """Reads an answer, or a chunk of one.

    Raises:
        ProviderGarbled: It is none.
    """
    try:
        return _answer_decoder.decode(body)
    except (ValueError, RecursionError):
        _garbled(upstream, "sent an answer that is not a GenerateContentResponse")


def _fill_about(target: Transcription, usage: Any, request: GeminiRequest) -> None:
    _fill_usage(target, usage)
    if request.translation:
        target.task = "translate"


def _fill_text(target: Transcription, text: str, upstream: Upstream) -> None:
    if not text:
        _garbled(upstream, "ended its answer without a text")
    if not is_silence(text):
        target.text = text


def is_silence(text: str) -> bool:
    """Whether a model says that it heard nothing."""
    return text.rstrip(".").lower() == NO_SPEECH


def _fill_languages(target: Transcription, languages: list[str]) -> None:
    if languages:
        target.language = languages[0]
    if len(languages) > 1:
        for code in languages:
            target.languages.add(code=code)


def seconds_of(value: str | float) -> float | None:
    """A time as Google writes it (`1.2s`) or a model does (`1.2`, `01:02.5`, `1:02:03.5`, `01:02:500`), in seconds.

    None for whatever is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if match := _PLAIN.fullmatch(text):
            seconds = float(match[1])
        elif match := _MILLISECONDS.fullmatch(text):
            # Three digits at the end can be milliseconds only.
            seconds = int(match[1]) * 60 + int(match[2]) + int(match[3]) / 1000
        elif (match := _CLOCK.fullmatch(text)) and not (match[1] and int(match[2]) > 59):
            seconds = int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
        else:
            return None
    else:
        seconds = value
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _MAX_SECONDS else None


def parts_of(answer: GeminiAnswer, upstream: Upstream, request: GeminiRequest, *, partial: bool = False) -> list[Part]:
    """What the model said, if it ended by itself.

    Args:
        answer: An answer, or a chunk of one.
        upstream: Who sent it, for messages.
        request: What was asked.
        partial: It is a chunk and need not have ended.

    Raises:
        ProviderRejected: Google withholds the answer for what is in it.
        ProviderGarbled: It has not ended, or not by itself.
    """
    if not answer.candidates:
        if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            _withheld(upstream, "refused the recording or the prompt", answer.prompt_feedback.block_reason)
        _garbled(upstream, "sent an answer without a candidate")
    candidate = answer.candidates[0]
    reason = candidate.finish_reason
    if reason in _CONTENT_REASONS:
        _withheld(upstream, "withholds its answer", reason)
    if reason == "LANGUAGE":
        raise ProviderRejected(
            f"{upstream} does not know the language of the recording.",
            metadata={"provider": upstream.provider, "provider_code": "unsupported_language"},
        )
    if reason == "MAX_TOKENS":
        _garbled(
            upstream,
            "cut its answer off at its limit of output tokens. The recording is too long for one answer, or the model "
            "went round in circles; the operator can raise maxOutputTokens",
        )
    # Answers of models made for transcription are not documented to say that they ended.
    if reason != "STOP" and not ((request.dedicated or partial) and not reason):
        _garbled(upstream, f"did not end its answer by itself ({excerpt(reason)[:40] or 'without a reason'})")
    return [part for part in (candidate.content.parts if candidate.content else ()) if not part.thought]


def _fill_dedicated(
    target: Transcription, parts: list[Part], upstream: Upstream, request: GeminiRequest, longest: float | None
) -> None:
    speakers: dict[str, str] = {}
    texts: list[str] = []
    languages: dict[str, None] = {}
    for part in parts:
        said = part.audio_transcription or _AudioTranscription()
        text = (said.text or part.text).strip() or joined(word.word for word in said.words)
        if not text:
            continue
        texts.append(text)
        if said.language_code:
            languages.setdefault(said.language_code)
        words = []
        previous_end = _time(said.start_offset, 0.0, upstream, longest)
        for word in said.words:
            start = _time(word.start_offset, previous_end, upstream, longest)
            end = max(start, _time(word.end_offset, start, upstream, longest))
            previous_end = end
            if word.word.strip():
                words.append(target.words.add(word=word.word, start=start, end=end))
        if request.timed and not words:
            _garbled(upstream, "sent a transcript without the times that were asked for")
        if not said.speaker_label:
            if request.diarized:
                _garbled(upstream, "sent a transcript without the speakers that were asked for")
            continue
        speaker = speakers.setdefault(said.speaker_label, _letter(len(speakers)))
        for added in words:
            added.speaker = speaker
        if request.diarized:
            _add_diarized(target, speaker, words[0].start, max(added.end for added in words), text)
    # Who speaks at the same time as another comes in a part of its own.
    target.words.sort(key=lambda word: word.start)
    target.diarized_segments.sort(key=lambda segment: segment.start)
    target.text = joined(texts)
    _fill_languages(target, [*languages])


def _fill_segments(
    target: Transcription, text: str, upstream: Upstream, request: GeminiRequest, longest: float | None
) -> None:
    try:
        said = _segments_decoder.decode(text)
    except (ValueError, RecursionError):
        _garbled(upstream, "did not keep to the schema of the answer")
    if said.language.strip():
        target.language = said.language.strip()[:64]
    latest = 0.0
    for segment in said.segments:
        piece = segment.text.strip()
        start = _time(segment.start, latest, upstream, longest)
        end = _time(segment.end, start, upstream, longest)
        if start < latest - _TOLERANCE_SECONDS or end < start:
            _garbled(upstream, "sent times that run backwards")
        # Models round: a start a little before the one before it is the same moment.
        start = latest = max(start, latest)
        end = max(start, end)
        if not piece:
            continue
        if request.diarized:
            speaker = segment.speaker.strip()[:_MAX_SPEAKER]
            if not speaker:
                _garbled(upstream, "sent a transcript without the speakers that were asked for")
            _add_diarized(target, speaker, start, end, piece)
        else:
            target.segments.add(id=len(target.segments), start=start, end=end, text=piece)
    target.text = joined(segment.text for segment in said.segments)


def _add_diarized(target: Transcription, speaker: str, start: float, end: float, text: str) -> None:
    number = len(target.diarized_segments) + 1
    target.diarized_segments.add(id=f"seg_{number:03d}", speaker=speaker, start=start, end=end, text=text)


def _time(value: str | float | None, absent: float, upstream: Upstream, longest: float | None) -> float:
    """A time in seconds. Proto JSON leaves out a time of 0, hence `absent`."""
    if value is None:
        return absent
    seconds = seconds_of(value)
    if seconds is None:
        _garbled(upstream, f"sent a time that is none: {excerpt(str(value))[:40]}")
    if longest is not None and seconds > longest * 1.1 + _TOLERANCE_SECONDS:
        _garbled(upstream, f"sent a time of {seconds:.1f} s in a recording of about {longest:.0f} s")
    return seconds


def _fill_usage(target: Transcription, usage: Any) -> None:
    if not isinstance(usage, dict) or "promptTokenCount" not in usage:
        return
    tokens = target.usage.tokens
    tokens.input_tokens = _count(usage, "promptTokenCount")
    # Thoughts are billed as output.
    tokens.output_tokens = min(_INT32, _count(usage, "candidatesTokenCount") + _count(usage, "thoughtsTokenCount"))
    total = _count(usage, "totalTokenCount")
    tokens.total_tokens = total or min(_INT32, tokens.input_tokens + tokens.output_tokens)
    details = usage.get("promptTokensDetails")
    for item in details if isinstance(details, list) else ():
        if not isinstance(item, dict):
            continue
        count = _count(item, "tokenCount")
        if item.get("modality") == "AUDIO":
            tokens.input_token_details.audio_tokens = count
        elif item.get("modality") == "TEXT":
            tokens.input_token_details.text_tokens = count


def _count(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _INT32 else 0


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"S{number + 1}"


def _withheld(upstream: Upstream, what: str, reason: str) -> NoReturn:
    raise ProviderRejected(
        f"{upstream} {what}: its policy on content ({excerpt(reason)[:40]}).",
        metadata={"provider": upstream.provider, "provider_code": "content_policy_violation", "reason": reason[:40]},
    )


def _garbled(upstream: Upstream, what: str) -> NoReturn:
    raise ProviderGarbled(f"{upstream} {what}.", metadata={"provider": upstream.provider})
