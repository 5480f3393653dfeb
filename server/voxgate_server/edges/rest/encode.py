"""Transcription → the bytes of a REST answer, with OpenAI's keys in OpenAI's order.

Every format lists its keys itself. A plain `json` answer gets nothing on top: the OpenAI SDK tells the kinds of
answers apart by their keys. Objects are built by hand because proto JSON omits zeros that OpenAI requires, spells
half of the types differently and takes ten times as long.

Doubles are written so that they read back the same. Numbers that are not finite do not get here (adapters refuse
them); if one did, it would be written as null, never as NaN.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.extra_fields_pb2 import ExtraFields
from voxgate.transcription.v1.transcription_pb2 import (
    DiarizedSegment,
    RenderedTranscript,
    TokenLogprob,
    Transcription,
    TranscriptionSegment,
    TranscriptionWord,
    Usage,
)

from voxgate_server.call import Call
from voxgate_server.edges.rest.extra_fields import extra_fields_object
from voxgate_server.errors import ProviderError, VoxgateError
from voxgate_server.transcript.render import render

__all__ = [
    "JSON_MEDIA_TYPE",
    "EncodedTranscription",
    "bifrost_error_body",
    "encode_transcription",
    "error_body",
    "logprobs_list",
    "usage_object",
]

JSON_MEDIA_TYPE = "application/json"

_WORD = TimestampGranularity.TIMESTAMP_GRANULARITY_WORD
_SEGMENT = TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT
_DOCUMENTS = frozenset({
    ResponseFormat.RESPONSE_FORMAT_TEXT,
    ResponseFormat.RESPONSE_FORMAT_SRT,
    ResponseFormat.RESPONSE_FORMAT_VTT,
})  # fmt: skip
_MAX_EXACT = 2.0**53


class EncodedTranscription(NamedTuple):
    """An answer ready to send."""

    body: bytes
    media_type: str
    synthesized_fields: tuple[str, ...]
    """REST names of fields that were made up for this format; `extra_fields.synthesized_fields` in the body has them
    already."""


def encode_transcription(
    transcription: Transcription,
    response_format: "ResponseFormat.ValueType",
    *,
    granularities: Collection["TimestampGranularity.ValueType"] = (),
    with_extra_fields: bool = False,
) -> EncodedTranscription:
    """Writes a transcript in the format the caller asked for.

    Args:
        transcription: The transcript; it is not changed.
        response_format: The format; UNSPECIFIED means JSON.
        granularities: Levels of time stamps asked for; none means segments.
        with_extra_fields: Write Bifrost's object instead, with everything that is known whatever the format and
            with `extra_fields`. For text, srt and vtt its `text` is the document.

    Raises:
        UnsupportedParameter: Subtitles were asked for and the provider gave no times.
    """
    synthesized: list[str] = []
    document = _document(transcription, response_format)
    body: dict[str, object]
    if with_extra_fields:
        text = document.body if document is not None else transcription.text
        body = _everything(transcription, text, response_format, synthesized)
    elif document is not None:
        return EncodedTranscription(document.body.encode(), document.media_type, ())
    elif response_format == ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON:
        body = _verbose(transcription, granularities, synthesized)
    elif response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
        body = _diarized(transcription, synthesized)
    else:
        body = _plain(transcription)
    return EncodedTranscription(msgspec.json.encode(body), JSON_MEDIA_TYPE, tuple(synthesized))


def _document(transcription: Transcription, response_format: "ResponseFormat.ValueType") -> RenderedTranscript | None:
    if response_format in _DOCUMENTS and transcription.HasField("rendered"):
        return transcription.rendered
    return render(transcription, response_format)


def _plain(transcription: Transcription) -> dict[str, object]:
    body: dict[str, object] = {"text": transcription.text}
    if transcription.logprobs:
        body["logprobs"] = logprobs_list(transcription.logprobs)
    if transcription.languages and not transcription.HasField("language"):
        # gpt-transcribe's json has them, and no language; nobody else's has either.
        body["languages"] = [{"code": language.code} for language in transcription.languages]
    if (usage := usage_object(transcription)) is not None:
        body["usage"] = usage
    return body


def _verbose(
    transcription: Transcription, granularities: Collection["TimestampGranularity.ValueType"], synthesized: list[str]
) -> dict[str, object]:
    body: dict[str, object] = {
        "task": _task(transcription, synthesized),
        "language": _language(transcription, synthesized),
        "duration": _duration(transcription, synthesized),
        "text": transcription.text,
    }
    if not granularities or _SEGMENT in granularities:
        body["segments"] = _segments(transcription.segments, synthesized)
    if _WORD in granularities:
        body["words"] = _words(transcription.words)
    if (usage := _duration_usage(transcription, synthesized)) is not None:
        body["usage"] = usage
    return body


def _diarized(transcription: Transcription, synthesized: list[str]) -> dict[str, object]:
    body: dict[str, object] = {
        "task": "transcribe",  # OpenAI's schema knows no other here
        "duration": _duration(transcription, synthesized),
        "text": transcription.text,
        "segments": [_diarized_segment(segment) for segment in transcription.diarized_segments],
    }
    if (usage := usage_object(transcription)) is not None:
        body["usage"] = usage
    return body


def _everything(
    transcription: Transcription, text: str, response_format: "ResponseFormat.ValueType", synthesized: list[str]
) -> dict[str, object]:
    """Bifrost's object: every field that the provider gave, none that it did not, in the order of its reference."""
    body: dict[str, object] = {}
    if transcription.HasField("duration"):
        body["duration"] = transcription.duration
    if transcription.HasField("language"):
        body["language"] = transcription.language
    if transcription.logprobs:
        body["logprobs"] = logprobs_list(transcription.logprobs)
    if response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON or (
        transcription.diarized_segments and not transcription.segments
    ):
        body["segments"] = [_diarized_segment(segment) for segment in transcription.diarized_segments]
    elif transcription.segments:
        body["segments"] = _segments(transcription.segments, synthesized)
    if transcription.HasField("task"):
        body["task"] = transcription.task
    body["text"] = text
    if (usage := usage_object(transcription)) is not None:
        body["usage"] = usage
    if transcription.words:
        body["words"] = _whole_words(transcription.words)
    if transcription.languages:
        body["languages"] = [{"code": language.code} for language in transcription.languages]
    extra_fields = transcription.extra_fields
    names = list(dict.fromkeys([*extra_fields.synthesized_fields, *synthesized]))
    body["extra_fields"] = extra_fields_object(extra_fields, names)
    return body


def _task(transcription: Transcription, synthesized: list[str]) -> str:
    if transcription.HasField("task"):
        return transcription.task
    synthesized.append("task")
    return "transcribe"


def _language(transcription: Transcription, synthesized: list[str]) -> str:
    if transcription.HasField("language"):
        return transcription.language
    synthesized.append("language")
    return ""


def _duration(transcription: Transcription, synthesized: list[str]) -> float:
    if transcription.HasField("duration"):
        return transcription.duration
    synthesized.append("duration")
    ends = (stretch[-1].end for stretch in (transcription.segments, transcription.diarized_segments) if stretch)
    return max(ends, default=transcription.words[-1].end if transcription.words else 0.0)


def _words(words: Iterable[TranscriptionWord]) -> list[dict[str, object]]:
    # The one loop that runs ten thousand times an answer: no call and no HasField in it.
    return [
        {"word": word.word, "start": word.start, "end": word.end, "speaker": word.speaker}
        if word.speaker
        else {"word": word.word, "start": word.start, "end": word.end}
        for word in words
    ]


def _whole_words(words: Sequence[TranscriptionWord]) -> list[dict[str, object]]:
    result = _words(words)
    for word, written in zip(words, result, strict=True):
        if word.HasField("confidence"):
            written["confidence"] = word.confidence
        if word.HasField("channel"):
            written["channel"] = word.channel
    return result


def _segments(segments: Iterable[TranscriptionSegment], synthesized: list[str]) -> list[dict[str, object]]:
    """The segments with every number OpenAI requires; those the provider did not give are neutral and named."""
    missing: set[str] = set()
    result: list[dict[str, object]] = []
    for segment in segments:
        given = segment.HasField
        tokens = list(segment.tokens)
        if not tokens:
            missing.add("tokens")
        result.append({
            "id": segment.id,
            "seek": segment.seek if given("seek") else _neutral("seek", 0, missing),
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "tokens": tokens,
            "temperature": segment.temperature if given("temperature") else _neutral("temperature", 0.0, missing),
            "avg_logprob": segment.avg_logprob if given("avg_logprob") else _neutral("avg_logprob", 0.0, missing),
            "compression_ratio": segment.compression_ratio
            if given("compression_ratio")
            else _neutral("compression_ratio", 1.0, missing),
            "no_speech_prob": segment.no_speech_prob
            if given("no_speech_prob")
            else _neutral("no_speech_prob", 0.0, missing),
        })  # fmt: skip
    synthesized.extend(f"segments[].{name}" for name in sorted(missing))
    return result


def _neutral(name: str, value: float, missing: set[str]) -> float:
    missing.add(name)
    return value


def _diarized_segment(segment: DiarizedSegment) -> dict[str, object]:
    return {
        "type": "transcript.text.segment",
        "id": segment.id,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "speaker": segment.speaker,
    }


def logprobs_list(logprobs: Iterable[TokenLogprob]) -> list[dict[str, object]]:
    """Tokens with their log-probabilities, for JSON."""
    return [{"token": token.token, "logprob": token.logprob, "bytes": list(token.token_bytes)} for token in logprobs]


def usage_object(transcription: Transcription) -> dict[str, object] | None:
    """What the provider bills, for JSON; None when it did not say."""
    usage: Usage = transcription.usage
    kind = usage.WhichOneof("kind")
    if kind == "duration":
        return {"type": "duration", "seconds": _seconds(usage.duration.seconds)}
    if kind != "tokens":
        return None
    tokens = usage.tokens
    result: dict[str, object] = {"type": "tokens", "input_tokens": tokens.input_tokens}
    if tokens.HasField("input_token_details"):
        details = tokens.input_token_details
        result["input_token_details"] = {"text_tokens": details.text_tokens, "audio_tokens": details.audio_tokens}
    result["output_tokens"] = tokens.output_tokens
    result["total_tokens"] = tokens.total_tokens
    return result


def _duration_usage(transcription: Transcription, synthesized: list[str]) -> dict[str, object] | None:
    """Usage of a verbose answer, which by OpenAI's schema is always a duration."""
    if transcription.usage.WhichOneof("kind") != "tokens":
        return usage_object(transcription)
    if not transcription.HasField("duration"):
        return None  # a length nobody gave is not billed
    synthesized.append("usage")
    return {"type": "duration", "seconds": math.ceil(transcription.duration)}


def _seconds(seconds: float) -> float:
    """Billed seconds, whole ones without a fraction, as OpenAI writes them."""
    return int(seconds) if seconds.is_integer() and abs(seconds) < _MAX_EXACT else seconds


def error_body(error: VoxgateError) -> bytes:
    """OpenAI's error object: exactly `message`, `type`, `param` and `code`, the last two null where there is none."""
    return msgspec.json.encode({"error": _error(error)})


def _error(error: VoxgateError) -> dict[str, object]:
    # Part of a message can be a provider's text; half a character in it must not cost the caller the whole error.
    message = error.message.encode("utf-8", "replace").decode()
    return {"message": message, "type": error.type, "param": error.param, "code": error.code}


def bifrost_error_body(error: VoxgateError, call: Call | None) -> bytes:
    """OpenAI's error object, and beside it what Bifrost's clients look for.

    Args:
        error: What went wrong.
        call: The call that failed; None when it failed before there was one.
    """
    extra = ExtraFields(request_type="transcription")
    if call is not None:
        extra.request_id, extra.original_model_requested = call.request_id, call.config.model
        if call.attempts:
            extra.provider, extra.resolved_model_used = call.attempts[-1].provider, call.attempts[-1].model
        extra.attempts.extend(call.attempts)
    return msgspec.json.encode({
        "is_bifrost_error": not isinstance(error, ProviderError),
        "status_code": error.http_status,
        "error": _error(error),
        "extra_fields": extra_fields_object(extra, []),
    })  # fmt: skip
