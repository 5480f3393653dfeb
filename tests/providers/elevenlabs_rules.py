"""What ElevenLabs' speech-to-text API accepts and what it answers, as far as it is known."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.providers.record import Record, Refused

MAX_BODY = 3_000_000_000 + (1 << 20)
MODELS = {"scribe_v1", "scribe_v1_experimental", "scribe_v2", "scribe_v2_medical", "scribe_v3"}
BOOLEANS = {
    "diarize", "tag_audio_events", "no_verbatim", "use_multi_channel", "detect_speaker_roles", "use_speaker_library",
    "webhook", "transcript_edit",
}  # fmt: skip
CHOICES = {
    "timestamps_granularity": {"none", "word", "character"},
    "numbers_format": {"digits", "words"},
    "file_format": {"pcm_s16le_16", "other"},
    "multichannel_output_style": {"separate", "combined"},
}
NUMBERS = {
    "num_speakers": (1, 32), "diarization_threshold": (0, 1), "temperature": (0, 2), "seed": (0, 2**31 - 1),
}  # fmt: skip
WHOLE = {"num_speakers", "seed"}
REPEATED = {"keyterms", "secondary_language_codes"}
JSON_PARTS = {"additional_formats", "entity_detection", "entity_redaction", "webhook_metadata"}
FREE = {"model_id", "language_code", "source_url", "cloud_storage_url", "entity_redaction_mode", "webhook_id"}
QUERY = {"enable_logging", "token"}
_CONTAINERS = re.compile(
    rb"RIFF....WAVE|fLaC|OggS|\x1aE\xdf\xa3|....ftyp|ID3|\xff[\xe0-\xff]|FORM", re.DOTALL
)  # fmt: skip


class ElevenLabsRefused(Refused):
    """An answer that is not 200: `detail` with `status` and `message`, or what is wrong with a field."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, json.dumps({"detail": {"status": code, "message": message}}).encode())


def invalid(name: str, message: str, kind: str = "value_error") -> Refused:
    return Refused(422, json.dumps({"detail": [{"loc": ["body", name], "msg": message, "type": kind}]}).encode())


def check_form(record: Record, head: bytes) -> None:
    """Raises Refused for whatever the real server refuses, and for names nobody has documented."""
    known = BOOLEANS | CHOICES.keys() | NUMBERS.keys() | REPEATED | JSON_PARTS | FREE
    for name, value in record.fields:
        if name not in known:
            raise invalid(name, "Extra inputs are not permitted", "extra_forbidden")
        if len(record.values(name)) > 1 and name not in REPEATED:
            raise invalid(name, "given twice")
        if name in JSON_PARTS:
            _check_json(name, value)
        elif (
            not value
            or (name in BOOLEANS and value not in {"true", "false"})
            or (name in CHOICES and value not in CHOICES[name])
            or (name in NUMBERS and not _in_range(name, value))
            or (name in {"language_code", "secondary_language_codes"} and not re.fullmatch("[a-z]{2,3}", value))
        ):
            raise invalid(name, f"Input is wrong: {value[:40]}")
    for name, value in parse_qsl(urlsplit(record.path).query, strict_parsing=True, keep_blank_values=True):
        if name not in QUERY or value not in {"true", "false"}:
            raise invalid(name, "unknown query parameter")
    if record.field("model_id") is None:
        raise invalid("model_id", "Field required", "missing")
    if record.field("model_id") not in MODELS:
        raise ElevenLabsRefused(400, "invalid_model_id", f"{record.field('model_id')} is not a valid model_id.")
    sources = [record.filename is not None, *(record.field(name) for name in ("source_url", "cloud_storage_url"))]
    if sum(map(bool, sources)) != 1:
        raise ElevenLabsRefused(400, "invalid_parameters", "Must provide exactly one of file, source_url.")
    if record.field("diarize") == record.field("use_multi_channel") == "true":
        raise ElevenLabsRefused(400, "invalid_parameters", "diarize must be false when use_multi_channel is true.")
    if len(record.values("keyterms")) > 1000:
        raise ElevenLabsRefused(400, "invalid_parameters", "At most 1000 keyterms.")
    if record.field("file_format") != "pcm_s16le_16" and not _CONTAINERS.match(head):
        raise ElevenLabsRefused(400, "invalid_content", "File upload is corrupted. Please ensure it is playable audio.")


def _in_range(name: str, value: str) -> bool:
    low, high = NUMBERS[name]
    whole = name not in WHOLE or re.fullmatch(r"\d+", value)
    return bool(whole and re.fullmatch(r"\d+(\.\d+)?", value) and low <= float(value) <= high)


def _check_json(name: str, value: str) -> None:
    try:
        # The official SDK writes `null` for what is not set.
        assert name in JSON_PARTS
        json.loads(value)
    except ValueError:
        raise invalid(name, "Invalid JSON", "json_invalid") from None


def answer(record: Record, texts: list[str]) -> dict[str, Any]:
    """A success: every sentence by another speaker, half a second a word, a second between two sentences."""
    # The first language said, or English, by its code of three letters.
    language = {"de": "deu", "en": "eng"}.get(record.field("language_code") or "en", record.field("language_code"))
    several = record.field("use_multi_channel") == "true"
    diarized = record.field("diarize") == "true"
    transcripts = [
        {
            "language_code": language,
            "language_probability": 0.98,
            "text": text,
            "words": _words(text, diarized, channel if several else None),
            "transcription_id": "tr_1",
            "audio_duration_secs": 7.25,
            **({"channel_index": channel} if several else {}),
        }
        for channel, text in enumerate(texts if several else texts[:1])
    ]
    if not several:
        return transcripts[0]
    if record.field("multichannel_output_style") == "combined":
        words = [word for transcript in transcripts for word in transcript["words"]]
        words.sort(key=lambda word: word["start"])
        return {**transcripts[0], "text": " ".join(texts), "words": words}
    return {"transcripts": transcripts, "transcription_id": "tr_1"}


def _words(text: str, diarized: bool, channel: int | None) -> list[dict[str, Any]]:
    words: list[dict[str, Any]] = []
    at = 0.0
    speaker = 7
    for number, token in enumerate(text.split(" ")):
        more: dict[str, Any] = {"speaker_id": f"speaker_{speaker}" if diarized else None}
        if channel is not None:
            more = {"speaker_id": f"speaker_{channel}", "channel_index": channel}
        if number:
            gap = 1.0 if words[-1]["text"].endswith((".", "?")) else 0.0
            words.append(
                {"text": " ", "start": at, "end": at + gap, "type": "spacing", "logprob": 0.0, **more}
            )  # fmt: skip
            at += gap
        kind = "audio_event" if token.startswith("(") else "word"
        words.append({"text": token, "start": at, "end": at + 0.5, "type": kind, "logprob": -0.5, **more})
        at += 0.5
        if token.endswith((".", "?")):
            speaker -= 1
    return words
