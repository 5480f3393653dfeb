"""Reads what servers of OpenAI's dialect answer into the API's own message.

Compatible servers differ in nearly everything but `text`: times as strings, `code` as a number, `null` where an
object should be, NaN from a decoder that gave up. Only a missing text makes an answer unreadable; whatever else is
not what it should be counts as not given.
"""

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec
from voxgate.transcription.v1.transcription_pb2 import TokenLogprob, Transcription, Usage

from voxgate_server.errors import ProviderGarbled
from voxgate_server.providers.http_errors import Upstream, excerpt, read_error_body

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

__all__ = [
    "clean_text",
    "decode_json",
    "fill_from_json",
    "fill_from_object",
    "fill_logprobs",
    "plain_text",
    "span_of",
    "speaker_of",
]

_INT32 = 2**31 - 1
_COUNTS = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "total_tokens": ""}
"""Names of counts of tokens, and those that chat has for them."""


def fill_from_json(target: Transcription, body: bytes, upstream: Upstream, *, segments_are_words: bool = False) -> None:
    """Fills `target` from a JSON answer of any of the formats json, verbose_json and diarized_json.

    What servers call their own way is taken under each name: a speaker is `speaker` or `speaker_id`, of segments, of
    words or of stretches in a list `diarization`; how sure a word is, `confidence`, `probability` or `score`.

    Args:
        target: An empty message.
        body: The whole answer.
        upstream: Who sent it, for messages.
        segments_are_words: The words' times were asked for, and the server has one list for both.

    Raises:
        ProviderGarbled: It is not JSON, has no text, or is an error in disguise.
    """
    answer = decode_json(body)
    if not isinstance(answer, dict):
        raise ProviderGarbled(f"{upstream} sent an answer that is not a JSON object.")
    if answer.get("error"):
        said = excerpt(read_error_body(body).message, upstream.secrets)
        raise ProviderGarbled(f"{upstream} sent an error as if it were a success: {said or 'without a message'}")
    fill_from_object(target, answer, upstream, segments_are_words=segments_are_words)


def fill_from_object(
    target: Transcription, answer: dict[str, Any], upstream: Upstream, *, segments_are_words: bool = False
) -> None:
    """Fills `target` from an answer that is decoded already; see `fill_from_json`.

    Raises:
        ProviderGarbled: It has no text.
    """
    text = answer.get("text")
    if not isinstance(text, str):
        raise ProviderGarbled(f"{upstream} sent an answer without a text.")
    target.text = clean_text(text)
    if task := plain_text(answer.get("task")):
        target.task = task
    if language := plain_text(answer.get("language")):
        target.language = language
    if (duration := _number(answer.get("duration"))) is not None and duration >= 0:
        target.duration = duration
    for item in _objects(answer.get("languages")):
        if code := plain_text(item.get("code")):
            target.languages.add(code=code)
    segments, words = _objects(answer.get("segments")), _objects(answer.get("words"))
    if segments_are_words and not words:
        segments, words = [], segments
    _fill_segments(target, segments)
    if stretches := _objects(answer.get("diarization")):
        del target.diarized_segments[:]
        _fill_speakers(target, stretches)
    _fill_words(target, words)
    fill_logprobs(target.logprobs, answer.get("logprobs"))
    if isinstance(usage := answer.get("usage"), dict):
        _fill_usage(target, usage)


def fill_logprobs(target: "RepeatedCompositeFieldContainer[TokenLogprob]", items: Any) -> None:
    """Adds the tokens of a list to `target`; what is no token counts as not given."""
    for item in _objects(items):
        logprob = _number(item.get("logprob"))
        if logprob is not None:
            token = target.add(token=plain_text(item.get("token")), logprob=logprob)
            token.token_bytes = _bytes(item.get("bytes"))


def decode_json(body: bytes) -> Any:
    """A JSON value, also of servers that are careless with it; None for what is none."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    # What msgspec refuses and servers send nevertheless: NaN, 1e999, lone surrogates, broken UTF-8, a byte order mark.
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _fill_segments(target: Transcription, items: list[dict[str, Any]]) -> None:
    previous_end = 0.0
    for index, item in enumerate(items):
        start, end = span_of(item, previous_end)
        previous_end = end
        number = _integer(item.get("id"))
        segment = target.segments.add(
            id=index if number is None else number, start=start, end=end, text=plain_text(item.get("text"))
        )
        _add_speaker(target, item, start, end)
        if isinstance(tokens := item.get("tokens"), list):
            try:
                segment.tokens.extend(tokens)
            except (TypeError, ValueError):
                del segment.tokens[:]
                segment.tokens.extend([token for token in map(_integer, tokens) if token is not None])
        if (seek := _integer(item.get("seek"))) is not None:
            segment.seek = seek
        if (value := _number(item.get("temperature"))) is not None:
            segment.temperature = value
        if (value := _number(item.get("avg_logprob"))) is not None:
            segment.avg_logprob = value
        if (value := _number(item.get("compression_ratio"))) is not None:
            segment.compression_ratio = value
        if (value := _number(item.get("no_speech_prob"))) is not None:
            segment.no_speech_prob = value


def _fill_speakers(target: Transcription, items: list[dict[str, Any]]) -> None:
    previous_end = 0.0
    for item in items:
        start, end = span_of(item, previous_end)
        previous_end = end
        _add_speaker(target, item, start, end)


def _add_speaker(target: Transcription, item: dict[str, Any], start: float, end: float) -> None:
    if not (speaker := speaker_of(item)):
        return
    identifier = item.get("id")
    target.diarized_segments.add(
        id=plain_text(identifier) if isinstance(identifier, str) else f"seg_{len(target.diarized_segments) + 1:03d}",
        speaker=speaker,
        start=start,
        end=end,
        text=plain_text(item.get("text")),
    )


def _fill_words(target: Transcription, items: list[dict[str, Any]]) -> None:
    previous_end = 0.0
    for item in items:
        start, end = span_of(item, previous_end)
        previous_end = end
        word = target.words.add(word=plain_text(item.get("word")) or plain_text(item.get("text")), start=start, end=end)
        if speaker := speaker_of(item):
            word.speaker = speaker
        confidence = _number(item.get("confidence", item.get("probability", item.get("score"))))
        if confidence is not None and 0 <= confidence <= 1:
            word.confidence = confidence


def _fill_usage(target: Transcription, usage: dict[str, Any]) -> None:
    # OVHcloud has had both names for it, Mistral a third one, besides tokens it does not bill.
    seconds = next(
        (
            number
            for name in ("seconds", "duration", "prompt_audio_seconds")
            if (number := _number(usage.get(name))) is not None
        ),
        None,
    )
    counts = {name: _integer(usage.get(name, usage.get(other))) for name, other in _COUNTS.items()}
    # OpenAI's own stream example leaves `type` out: what is there decides.
    if seconds is not None and seconds >= 0 and usage.get("type", "duration") == "duration":
        target.usage.duration.seconds = seconds
    elif any(count is not None for count in counts.values()):
        result = Usage()
        tokens = result.tokens
        tokens.input_tokens = counts["input_tokens"] or 0
        tokens.output_tokens = counts["output_tokens"] or 0
        tokens.total_tokens = counts["total_tokens"] or tokens.input_tokens + tokens.output_tokens
        if isinstance(details := usage.get("input_token_details"), dict):
            tokens.input_token_details.audio_tokens = _integer(details.get("audio_tokens")) or 0
            tokens.input_token_details.text_tokens = _integer(details.get("text_tokens")) or 0
        target.usage.CopyFrom(result)


def speaker_of(item: dict[str, Any]) -> str:
    """Who speaks in a segment or word, under either name; empty where nobody says."""
    return plain_text(item.get("speaker")) or plain_text(item.get("speaker_id"))


def span_of(item: dict[str, Any], previous_end: float) -> tuple[float, float]:
    """Start and end of a segment or word in seconds; what is missing follows from the end of the one before."""
    start = _number(item.get("start"))
    start = previous_end if start is None else max(start, 0.0)
    end = _number(item.get("end"))
    return start, start if end is None else max(end, start)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def clean_text(text: str) -> str:
    """A text as a message can hold it."""
    # Protobuf strings cannot hold lone surrogates. `isascii` is free and true for most.
    if text.isascii():
        return text
    return "".join("�" if "\ud800" <= character <= "\udfff" else character for character in text)


def plain_text(value: Any) -> str:
    """A text, or a number as one; empty for everything else."""
    if isinstance(value, str):
        return clean_text(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT32 else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or abs(number) > _INT32 else int(number)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, list):
        return b""
    try:
        return bytes([int(item) for item in value])
    except (TypeError, ValueError, OverflowError):
        return b""
