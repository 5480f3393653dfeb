"""What OpenAI's transcription API accepts and what it answers, as far as it is known."""

import json
from collections.abc import Collection
from typing import Any

from tests.providers.record import Record, Refused

MAX_BODY = 26_214_400
DURATION = 3.25
"""Seconds of whatever is sent."""
_THIRTY_SECONDS = 30 * 32_000
"""Bytes of the samples the tests send: 16 kHz, 16 bits, one channel."""
EXTENSIONS = ["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"]
WHISPER = {"json", "text", "srt", "verbose_json", "vtt"}
FORMATS = {
    "whisper-1": WHISPER,
    "gpt-4o-transcribe": {"json", "text"},
    "gpt-4o-mini-transcribe": {"json", "text"},
    "gpt-4o-mini-transcribe-2025-12-15": {"json", "text"},
    "gpt-4o-transcribe-diarize": {"json", "text", "diarized_json"},
    "gpt-transcribe": {"json", "text"},
}
TRANSCRIPTION_FIELDS = {
    "model", "language", "languages[]", "keywords[]", "prompt", "response_format", "temperature",
    "timestamp_granularities[]", "include[]", "stream", "chunking_strategy", "chunking_strategy[type]",
    "chunking_strategy[prefix_padding_ms]", "chunking_strategy[silence_duration_ms]", "chunking_strategy[threshold]",
    "known_speaker_names[]", "known_speaker_references[]",
}  # fmt: skip
TRANSLATION_FIELDS = {"model", "prompt", "response_format", "temperature"}


class OpenAIRefused(Refused):
    """An answer that is not 200, in OpenAI's envelope."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
        code: str | None = None,
    ) -> None:  # fmt: skip
        body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        super().__init__(status, json.dumps(body).encode())


def is_translation(record: Record) -> bool:
    return record.path.partition("?")[0].endswith("/translations")


def pieces_of(text: str) -> list[tuple[float, float, str]]:
    """Start, end and text of what is said in two breaths, or in one."""
    half = text.find(" ") + 1
    return [(0.0, 1.5, text[:half].strip()), (1.5, DURATION, text[half:])] if half else [(0.0, DURATION, text)]


def segments_of(text: str) -> list[dict[str, Any]]:
    return [
        {
            "id": number, "seek": 0, "start": start, "end": end, "text": piece, "tokens": [50364, 220 + number],
            "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.125, "no_speech_prob": 0.0625,
        }
        for number, (start, end, piece) in enumerate(pieces_of(text))
    ]  # fmt: skip


def words_of(text: str) -> list[dict[str, Any]]:
    words = text.split()
    step = DURATION / max(1, len(words))
    return [{"word": word, "start": number * step, "end": (number + 1) * step} for number, word in enumerate(words)]


def check_key(record: Record, key: str) -> None:
    given = record.headers.get("authorization", "")
    if not given:
        raise OpenAIRefused(401, "You didn't provide an API key.")
    if given != f"Bearer {key}":
        shown = given.removeprefix("Bearer ")
        raise OpenAIRefused(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def check_form(record: Record, extra_models: Collection[str], extra_fields: Collection[str]) -> None:
    """Raises Refused for whatever the real server refuses."""
    translation = is_translation(record)
    known = (TRANSLATION_FIELDS if translation else TRANSCRIPTION_FIELDS) | set(extra_fields)
    for name, value in record.fields:
        if name not in known:
            raise OpenAIRefused(400, f"Unknown field '{name}'", param=name)
        if not name.endswith("[]") and len(record.values(name)) > 1:
            raise OpenAIRefused(400, f"Field '{name}' was given twice", param=name)
        if not value:
            raise OpenAIRefused(400, f"Field '{name}' is empty", param=name)
    model = record.field("model")
    if model is None:
        raise OpenAIRefused(400, "you must provide a model parameter")
    if record.filename is None:
        raise OpenAIRefused(
            400, "1 validation error for Request\nbody -> file\n  field required (type=value_error.missing)"
        )
    if record.filename.rpartition(".")[2] not in EXTENSIONS:
        raise OpenAIRefused(400, f"Invalid file format. Supported formats: {EXTENSIONS}")
    formats = FORMATS.get(model) or (WHISPER if model in extra_models else None)
    if formats is None or (translation and formats is not FORMATS["whisper-1"]):
        raise OpenAIRefused(404, f"The model '{model}' does not exist", code="model_not_found")
    wanted = record.field("response_format") or "json"
    if wanted not in formats:
        raise OpenAIRefused(
            400, f"response_format '{wanted}' is not compatible with model '{model}'.",
            param="response_format", code="unsupported_value",
        )  # fmt: skip
    _check_options(record, model, wanted)
    if not record.file_size:
        raise OpenAIRefused(400, "Audio file is too short.", param="file", code="audio_too_short")


def _check_options(record: Record, model: str, wanted: str) -> None:
    temperature = record.field("temperature")
    if temperature is not None and not 0 <= float(temperature) <= 1:
        raise OpenAIRefused(400, "temperature must be between 0 and 1", param="temperature")
    granularities = record.values("timestamp_granularities[]")
    if granularities and (wanted != "verbose_json" or not set(granularities) <= {"word", "segment"}):
        raise OpenAIRefused(400, "timestamp_granularities need verbose_json", param="timestamp_granularities")
    if record.values("include[]") and (
        record.values("include[]") != ["logprobs"]
        or wanted != "json"
        or not model.startswith(("gpt-4o-transcribe", "gpt-4o-mini-transcribe"))
        or model.endswith("-diarize")
    ):
        raise OpenAIRefused(400, "include is not supported here", param="include", code="unsupported_value")
    if model.endswith("-diarize"):
        if record.field("prompt") is not None:
            raise OpenAIRefused(400, "prompt is not supported by this model", param="prompt")
        names, references = record.values("known_speaker_names[]"), record.values("known_speaker_references[]")
        if len(names) != len(references) or not all(item.startswith("data:audio/") for item in references):
            raise OpenAIRefused(400, "speakers and references do not match", param="known_speaker_names")
    elif record.values("known_speaker_names[]") or record.values("known_speaker_references[]"):
        raise OpenAIRefused(400, "known speakers are not supported by this model", param="known_speaker_names")
    if model != "gpt-transcribe" and (record.values("languages[]") or record.values("keywords[]")):
        raise OpenAIRefused(400, "languages and keywords are not supported by this model", param="languages")
    kind = record.field("chunking_strategy[type]")
    given = any(name.startswith("chunking_strategy[") for name, _ in record.fields)
    if (given and kind != "server_vad") or record.field("chunking_strategy") not in (None, "auto"):
        raise OpenAIRefused(400, "chunking_strategy is neither auto nor server_vad", param="chunking_strategy")
    chunked = given or record.field("chunking_strategy") is not None
    if model.endswith("-diarize") and not chunked and record.file_size > _THIRTY_SECONDS:
        raise OpenAIRefused(400, "chunking_strategy is required for diarization models", param="chunking_strategy")
    if record.field("stream") not in (None, "true", "false"):
        raise OpenAIRefused(400, "stream is neither true nor false", param="stream")


def answer(record: Record, text: str) -> tuple[str, bytes]:
    """Media type and body of a success."""
    model = record.field("model") or ""
    wanted = record.field("response_format") or "json"
    pieces = pieces_of(text)
    if wanted in {"text", "srt", "vtt"}:
        return "text/plain; charset=utf-8", _plain(wanted, text, pieces).encode()
    body: dict[str, Any] = {"text": text}
    if wanted == "verbose_json":
        body = {"task": "transcribe", "language": "english", "duration": DURATION, **body}
        granularities = record.values("timestamp_granularities[]") or ["segment"]
        if "segment" in granularities:
            body["segments"] = segments_of(text)
        if "word" in granularities:
            body["words"] = words_of(text)
    elif wanted == "diarized_json":
        names = [*record.values("known_speaker_names[]"), "A", "B"]
        body = {"task": "transcribe", "duration": DURATION, **body}
        body["segments"] = [
            {
                "type": "transcript.text.segment", "id": f"seg_{number + 1:03d}",
                "start": start, "end": end, "text": piece, "speaker": names[number % 2],
            }
            for number, (start, end, piece) in enumerate(pieces)
        ]  # fmt: skip
    if model.startswith("gpt-4o"):
        body["usage"] = {
            "type": "tokens", "input_tokens": 33, "input_token_details": {"text_tokens": 0, "audio_tokens": 33},
            "output_tokens": 12, "total_tokens": 45,
        }  # fmt: skip
    else:
        body["usage"] = {"type": "duration", "seconds": 4}
    if record.values("include[]"):
        body["logprobs"] = [
            {"token": word, "logprob": -0.125, "bytes": list(word.encode())} for word in text.split(" ")
        ]
    if model == "gpt-transcribe":
        body["languages"] = [{"code": code} for code in record.values("languages[]") or ["en"]]
    if is_translation(record):
        body = {"text": text} if wanted == "json" else {**body, "task": "translate"}
    return "application/json", json.dumps(body).encode()


def _plain(wanted: str, text: str, pieces: list[tuple[float, float, str]]) -> str:
    if wanted == "text":
        return text + "\n"
    mark = "," if wanted == "srt" else "."
    cues = [
        f"{number}\n" * (wanted == "srt")
        + f"00:00:{start:06.3f} --> 00:00:{end:06.3f}".replace(".", mark)
        + f"\n{piece}\n"
        for number, (start, end, piece) in enumerate(pieces, 1)
    ]
    return ("WEBVTT\n\n" if wanted == "vtt" else "") + "\n".join(cues)
