"""What Deepgram's pre-recorded API accepts and what it answers, as far as it is known."""

import json
import re
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.providers.record import Record, Refused

MAX_BODY = 2_000_000_000
Shape = Literal["legacy", "modern", "text"]
REQUEST_ID = "9b1e4d2c-0000-4000-8000-000000000001"

_VARIANTS = {
    "nova-3": "general medical",
    "nova-2": "general meeting finance conversationalai voicemail video medical drivethru automotive phonecall atc",
    "nova": "general phonecall medical",
    "enhanced": "general meeting phonecall finance",
    "base": "general meeting phonecall finance conversationalai voicemail video",
    "whisper": "tiny base small medium large",
}
MODELS = {
    *_VARIANTS,
    *(f"{family}-{variant}" for family, variants in _VARIANTS.items() for variant in variants.split()),
}
_DETECTABLE = (
    "bg ca cs da de de-CH el en es et fi fr hi hu id it ja ko lt lv ms nl nl-BE no pl pt ro ru sk sv th tr uk vi zh"
)
_REGIONAL = "multi en-US en-GB en-AU en-IN en-NZ es-419 fr-CA pt-BR pt-PT zh-CN zh-TW hi-Latn"
_BOOLEANS = (
    "punctuate smart_format paragraphs numerals measurements dictation filler_words profanity_filter diarize "
    "multichannel utterances topics intents sentiment detect_entities mip_opt_out"
)
_REPEATED = "detect_language language_hint keyterm keywords search replace redact custom_topic custom_intent tag extra"
DETECTABLE = set(_DETECTABLE.split())
LANGUAGES = DETECTABLE | set(_REGIONAL.split())
BOOLEANS = set(_BOOLEANS.split())
REPEATED = set(_REPEATED.split())
CHOICES = {
    "diarize_model": {"latest", "v1", "v2"},
    "custom_topic_mode": {"extended", "strict"},
    "custom_intent_mode": {"extended", "strict"},
    "callback_method": {"POST", "PUT"},
    "summarize": {"v2", "true", "false"},
    # A-law stands in the documentation of the option, not in the OpenAPI file.
    "encoding": {"linear16", "flac", "mulaw", "alaw", "amr-nb", "amr-wb", "opus", "speex", "g729"},
}
FREE = {"model", "language", "version", "callback"}
NUMBERS = {"utt_split": r"\d+(\.\d+)?", "sample_rate": r"[1-9]\d{3,5}", "channels": r"[1-9]\d?"}
_CONTAINERS = re.compile(
    rb"RIFF....WAVE|fLaC|OggS|\x1aE\xdf\xa3|....ftyp|ID3|\xff[\xe0-\xff]|FORM|\.snd|caff|#!AMR|0&\xb2u", re.DOTALL
)


class DeepgramRefused(Refused):
    """An answer that is not 200, in one of the three shapes."""

    def __init__(self, shape: Shape, status: int, code: str, message: str) -> None:
        body, media_type = error(shape, code, message)
        super().__init__(status, body, media_type=media_type)


def error(shape: Shape, code: str, message: str) -> tuple[bytes, str]:
    """Body and media type of an error."""
    if shape == "text":
        return message.encode(), "text/plain; charset=utf-8"
    shaped = (
        {"err_code": code, "err_msg": message, "request_id": REQUEST_ID}
        if shape == "legacy"
        else {"category": code, "message": message, "details": "See the reference.", "request_id": REQUEST_ID}
    )
    return json.dumps(shaped).encode(), "application/json"


def read_query(record: Record) -> None:
    """Writes the parameters into `record.fields`, once."""
    if not record.fields:
        record.fields = parse_qsl(urlsplit(record.path).query, keep_blank_values=True, strict_parsing=True)


def check_query(record: Record, shape: Shape) -> None:
    """Raises Refused for whatever the real server refuses, and for names nobody has documented."""

    def refuse(message: str) -> DeepgramRefused:
        return DeepgramRefused(shape, 400, "INVALID_QUERY_PARAMETER", message)

    for name, value in record.fields:
        values = record.values(name)
        if name not in FREE | BOOLEANS | REPEATED | CHOICES.keys() | NUMBERS.keys():
            raise refuse(f"unknown query parameter {name}")
        if len(values) > 1 and name not in REPEATED:
            raise refuse(f"{name} was given twice")
        if (
            not value
            or (name in BOOLEANS and value not in {"true", "false"})
            or (name in CHOICES and value not in CHOICES[name])
            or (name in NUMBERS and not re.fullmatch(NUMBERS[name], value))
        ):
            raise refuse(f"Failed to deserialize query parameters: {name}: invalid value {value!r}")
    model = record.field("model") or "base-general"
    language = record.field("language")
    detect = [value for value in record.values("detect_language") if value != "false"]
    if model not in MODELS or (language is not None and language not in LANGUAGES):
        raise DeepgramRefused(shape, 400, "Bad Request", "Bad Request: No such model/language/tier combination found.")
    if detect not in ([], ["true"]) and not set(detect) <= DETECTABLE:
        raise refuse(f"detect_language: {detect} cannot be detected")
    for one, other in (("language", detect), ("diarize_model", record.values("diarize"))):
        if record.field(one) is not None and other:
            raise refuse(f"{one} cannot stand beside its alternative")
    if record.values("language_hint") and (not model.startswith("nova-3") or language != "multi"):
        raise refuse("language_hint needs nova-3 and language=multi")
    if language == "multi" and not model.startswith(("nova-2", "nova-3")):
        raise refuse("this model has no language multi")
    if record.values("keyterm") and not model.startswith("nova-3"):
        raise refuse("Keyterm Prompting is only available for nova-3")
    if record.values("keywords") and model.startswith(("nova-3", "whisper")):
        raise refuse("Keywords are not supported by this model")
    if (record.field("encoding") is None) != (record.field("sample_rate") is None):
        raise refuse("encoding and sample_rate go together")


def check_audio(record: Record, shape: Shape) -> None:
    """Raises Refused for a body that is no audio."""
    media_type = record.headers.get("content-type", "")
    if not media_type.startswith("audio/") and media_type != "application/octet-stream":
        message = "Content-type was application/json, but we could not process the JSON payload."
        raise DeepgramRefused(shape, 400, "Bad Request", message)
    if not record.body or (record.field("encoding") is None and not _CONTAINERS.match(record.body)):
        message = "Bad Request: failed to process audio: corrupt or unsupported data"
        raise DeepgramRefused(shape, 400, "Bad Request", message)


def answer(record: Record, texts: list[str]) -> dict[str, Any]:
    """A success. Every word takes half a second; every sentence is an utterance, and the speakers take turns."""
    on = {name for name in BOOLEANS if record.field(name) == "true"}
    if record.field("callback") is not None:
        return {"request_id": REQUEST_ID}
    if "multichannel" not in on:
        texts = texts[:1]
    channels = [_channel(record, on, number, text) for number, text in enumerate(texts)]
    utterances = [utterance for _, own in channels for utterance in own]
    return {
        "metadata": {
            "transaction_key": "deprecated", "request_id": REQUEST_ID, "sha256": record.file_sha256,
            "created": "2026-11-20T12:00:00.000Z", "duration": 7.25, "channels": len(texts), "models": ["m-1"],
            "model_info": {"m-1": {"name": "general-nova-3", "version": "2026-01-01.0", "arch": "nova-3"}},
        },
        "results": {
            "channels": [channel for channel, _ in channels],
            **({"utterances": utterances} if "utterances" in on else {}),
        },
    }  # fmt: skip


def _channel(record: Record, on: set[str], number: int, text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    formatted = bool({"punctuate", "smart_format"} & on)
    diarized = "diarize" in on or record.field("diarize_model") is not None
    language = record.field("language") or "en"
    detected = [value for value in record.values("detect_language") if value != "false"]
    at = number * 0.25
    utterances: list[dict[str, Any]] = []
    for turn, sentence in enumerate(re.findall(r"\S[^.?!]*[.?!]?", text)):
        words = []
        for token in sentence.split():
            word: dict[str, Any] = {
                "word": token.lower().strip(".,?!"), "start": at, "end": at + 0.5, "confidence": 0.875,
                **({"punctuated_word": token} if formatted else {}),
                **({"language": "en"} if language == "multi" else {}),
                **({"speaker": 1 - turn % 2, "speaker_confidence": 0.5} if diarized else {}),
            }  # fmt: skip
            words.append(word)
            at += 0.5
        utterances.append(
            {
                "id": f"00000000-0000-4000-8000-{len(utterances):012d}", "start": words[0]["start"], "end": at,
                "confidence": 0.875, "channel": number, "words": words,
                "transcript": " ".join(word.get("punctuated_word", word["word"]) for word in words),
                **({"speaker": 1 - turn % 2} if diarized else {}),
            }
        )  # fmt: skip
    words = [word for utterance in utterances for word in utterance["words"]]
    alternative: dict[str, Any] = {
        "transcript": " ".join(utterance["transcript"] for utterance in utterances),
        "confidence": 0.875 if words else 0.0,
        "words": words,
    }
    if language == "multi":
        alternative |= {"languages": ["en", "es"], "languages_hinted": record.values("language_hint")}
    if {"paragraphs", "smart_format"} & on:
        alternative["paragraphs"] = {
            "transcript": "\n\n".join(item["transcript"] for item in utterances),
            "paragraphs": [
                {
                    "sentences": [{"text": item["transcript"], "start": item["start"], "end": item["end"]}],
                    "num_words": len(item["words"]), "start": item["start"], "end": item["end"],
                }
                for item in utterances
            ],
        }  # fmt: skip
    channel: dict[str, Any] = {"alternatives": [alternative]}
    if detected:
        channel |= {"detected_language": "en" if detected == ["true"] else detected[0], "language_confidence": 0.75}
    return channel, utterances
