"""What AssemblyAI's API for recordings accepts and what it answers, as far as it is known."""

import json
import re
from typing import Any

from tests.providers.record import Refused

MAX_BODY = 2_200_000_000
MODELS = {"universal-3-5-pro", "universal-3-pro", "universal-2"}
LANGUAGES = {"en", "en_us", "en_uk", "en_au", "es", "fr", "de", "it", "pt", "nl", "hi", "ja", "zh", "fi", "ko", "pl"}
BOOLEANS = {
    "language_detection", "punctuate", "format_text", "speaker_labels", "multichannel", "disfluencies",
    "filter_profanity", "redact_pii", "sentiment_analysis", "auto_highlights",
}  # fmt: skip
TEXTS = {"audio_url", "language_code", "prompt", "boost_param", "redact_pii_sub", "webhook_url"}
LISTS = {"speech_models", "keyterms_prompt", "word_boost", "redact_pii_policies", "language_codes"}
NUMBERS = {"language_confidence_threshold": 1.0, "temperature": 1.0, "speech_threshold": 1.0}
INTEGERS = {"speakers_expected", "audio_start_from", "audio_end_at"}
OBJECTS = {"language_detection_options", "speaker_options"}
_CONTAINERS = re.compile(
    rb"RIFF....WAVE|fLaC|OggS|\x1aE\xdf\xa3|....ftyp|ID3|\xff[\xe0-\xff]|FORM|\.snd|#!AMR|0&\xb2u", re.DOTALL
)


class AssemblyAIRefused(Refused):
    """An answer that is not 200: `error` with a text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, json.dumps({"error": message}).encode())


def check_order(body: bytes, uploads: dict[str, bytes]) -> dict[str, Any]:
    """The order; raises Refused for whatever the real server refuses, and for names nobody has documented."""
    try:
        order = json.loads(body)
    except ValueError:
        raise AssemblyAIRefused(400, "Invalid JSON") from None
    known = BOOLEANS | TEXTS | LISTS | NUMBERS.keys() | INTEGERS | OBJECTS | {"custom_spelling"}
    for name, value in order.items():
        kind: Any = bool if name in BOOLEANS else str if name in TEXTS else list if name in LISTS else dict
        if name not in known:
            raise AssemblyAIRefused(400, f"Invalid endpoint schema: unknown field {name}")
        if name in NUMBERS:
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= NUMBERS[name]
        elif name in INTEGERS:
            right = type(value) is int and value >= 0
        elif name == "custom_spelling":
            right = isinstance(value, list) and all(item.keys() == {"from", "to"} for item in value)
        else:
            right = isinstance(value, kind)
        if not right:
            raise AssemblyAIRefused(400, f"{name} has a wrong value")
    if "audio_url" not in order:
        raise AssemblyAIRefused(400, "Missing audio_url")
    if order["audio_url"].startswith("https://cdn.") and order["audio_url"] not in uploads:
        raise AssemblyAIRefused(403, "The upload is another project's")
    models = order.get("speech_models")
    if not models or not set(models) <= MODELS:
        raise AssemblyAIRefused(400, '"speech_models" must be a non-empty list containing one or more of: universal-2')
    _check_language(order)
    limit = 200 if models == ["universal-2"] else 1000
    if len(order.get("keyterms_prompt", [])) > limit:
        raise AssemblyAIRefused(400, f"At most {limit} keyterms")
    if models == ["universal-2"] and {"prompt", "temperature"} & order.keys():
        raise AssemblyAIRefused(400, "prompt is only available for universal-3-5-pro")
    return dict(order)


def _check_language(order: dict[str, Any]) -> None:
    if "language_code" in order and order.get("language_detection"):
        raise AssemblyAIRefused(400, "language_code and language_detection cannot be used together")
    expected = order.get("language_detection_options", {}).get("expected_languages", [])
    if expected and not order.get("language_detection"):
        raise AssemblyAIRefused(400, "language_detection_options needs language_detection")
    for code in [order.get("language_code", "en"), *expected]:
        if code not in LANGUAGES:
            raise AssemblyAIRefused(400, f"The language_code {code} is not supported")


def failure_of(order: dict[str, Any], audio: bytes) -> str | None:
    """Why a job ends with the status `error`: the audio is looked at only then."""
    if len(audio) < 16:
        return "Audio duration is too short."
    if not _CONTAINERS.match(audio):
        return "Transcoding failed. File type application/octet-stream (data) not supported."
    return None


def transcript(identifier: str, order: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """A completed job: half a second a word, a second between two sentences, every sentence by another speaker."""
    labels, several = order.get("speaker_labels", False), order.get("multichannel", False)
    words: list[dict[str, Any]] = []
    utterances: list[dict[str, Any]] = []
    for channel, text in enumerate(texts if several else texts[:1], 1):
        at = 0
        for number, sentence in enumerate(re.findall(r"\S.*?[.?](?=\s|$)", text)):
            speaker = "CBA"[number] if labels and not several else None
            where: dict[str, Any] = {"speaker": speaker}
            if several:
                where = {"speaker": f"{channel}A" if labels else str(channel), "channel": str(channel)}
            spoken = [
                {"text": word, "start": at + 500 * i, "end": at + 500 * (i + 1), "confidence": 0.875, **where}
                for i, word in enumerate(sentence.split(" "))
            ]
            words += spoken
            end = spoken[-1]["end"]
            utterances.append(
                {"text": sentence, "start": at, "end": end, "confidence": 0.875, "words": spoken, **where}
            )
            at = end + 1000
    return {
        "id": identifier,
        "status": "completed",
        "audio_url": order["audio_url"],
        "text": " ".join(texts if several else texts[:1]),
        "words": words,
        "utterances": utterances if labels or several else None,
        "confidence": 0.875,
        "audio_duration": 8,
        "language_code": order.get("language_code", "en"),
        "language_confidence": 0.99,
        "speech_model_used": order["speech_models"][0],
        "error": None,
        **({"audio_channels": len(texts)} if several else {}),
    }
