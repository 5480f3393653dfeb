"""What Google's Speech-to-Text v2 accepts and what it answers, as far as it is known."""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from tests.providers.record import Record, Refused

REGIONS = {
    "chirp_3": {
        "us", "eu", "asia-northeast1", "asia-southeast1", "asia-south1", "europe-west2", "europe-west3",
        "northamerica-northeast1",
    },
    "chirp_2": {"us-central1", "europe-west4", "asia-southeast1"},
    "chirp": {"us-central1", "europe-west4", "asia-southeast1"},
    "long": {"global", "us", "eu", "us-central1"},
    "telephony": {"global", "us", "eu", "us-central1"},
}  # fmt: skip
CONFIG = {
    "autoDecodingConfig", "explicitDecodingConfig", "model", "languageCodes", "features", "adaptation",
    "transcriptNormalization", "translationConfig", "denoiserConfig",
}  # fmt: skip
FEATURES = {
    "profanityFilter": bool, "enableWordTimeOffsets": bool, "enableWordConfidence": bool,
    "enableAutomaticPunctuation": bool, "enableSpokenPunctuation": bool, "enableSpokenEmojis": bool,
    "multiChannelMode": str, "diarizationConfig": dict, "maxAlternatives": int, "customPromptConfig": dict,
}  # fmt: skip
ENCODINGS = {"LINEAR16", "MULAW", "ALAW", "AMR", "AMR_WB", "FLAC", "MP3", "OGG_OPUS", "WEBM_OPUS", "MP4_AAC",
             "M4A_AAC", "MOV_AAC"}  # fmt: skip
_TAG = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))")
_PATH = re.compile(r"/v2/projects/([^/]+)/locations/([^/]+)/recognizers/_:recognize")


def google_error(status: int, code: str, message: str, details: Iterable[object]) -> bytes:
    body = {"error": {"code": status, "message": message, "status": code, "details": list(details)}}
    return json.dumps(body).encode()


class GoogleRefused(Refused):
    """An answer that is not 200, in Google's envelope."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, google_error(status, code, message, ()))


def _invalid(message: str) -> GoogleRefused:
    return GoogleRefused(400, "INVALID_ARGUMENT", message)


def location_of(record: Record, project: str) -> str:
    """The location in the path. Raises Refused for another path or project."""
    match = _PATH.fullmatch(record.path)
    if match is None or record.method != "POST":
        raise GoogleRefused(404, "NOT_FOUND", "Requested entity was not found.")
    if match[1] != project:
        raise GoogleRefused(403, "PERMISSION_DENIED", f"Permission denied on resource project {match[1]}.")
    return match[2]


def read_request(record: Record) -> dict[str, Any]:
    if record.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _invalid("Invalid JSON payload received: content type")
    try:
        request = json.loads(record.body)
    except ValueError:
        raise _invalid("Invalid JSON payload received. Unexpected end of string.") from None
    if unknown := set(request) - {"config", "configMask", "content", "uri"}:
        raise _invalid(f"Invalid JSON payload received. Unknown name {sorted(unknown)}: Cannot find field.")
    if ("content" in request) == ("uri" in request):
        raise _invalid("Either content or uri has to be set")
    if "uri" in request or "config" not in request:
        raise _invalid("Invalid audio source")
    return dict(request)


def content_of(request: dict[str, Any]) -> bytes:
    try:
        content = base64.b64decode(request["content"], validate=True)
    except (binascii.Error, TypeError):
        raise _invalid("Invalid value at 'content' (TYPE_BYTES), Base64 decoding failed") from None
    if not content:
        raise _invalid("Audio is empty")
    return content


def check_config(config: dict[str, Any], location: str) -> None:
    """Raises Refused for whatever the real server refuses."""
    if unknown := set(config) - CONFIG:
        raise _invalid(f"Unknown name {sorted(unknown)} at 'config': Cannot find field.")
    model = config.get("model")
    if model not in REGIONS:
        raise _invalid(f'The model "{model}" does not exist in the location named "{location}".')
    if location not in REGIONS[model]:
        raise _invalid(f'The model "{model}" does not exist in the location named "{location}".')
    languages = config.get("languageCodes")
    if not languages or not isinstance(languages, list):
        raise _invalid("language_codes must not be empty")
    for language in languages:
        if language == "auto":
            if len(languages) > 1 or not model.startswith("chirp"):
                raise _invalid('The language "auto" is not supported here')
        elif not _TAG.fullmatch(language):
            raise _invalid(f'The language "{language}" is not supported by the model "{model}"')
    if ("autoDecodingConfig" in config) == ("explicitDecodingConfig" in config):
        raise _invalid("exactly one of auto_decoding_config and explicit_decoding_config")
    explicit = config.get("explicitDecodingConfig")
    if explicit is not None and (
        set(explicit) != {"encoding", "sampleRateHertz", "audioChannelCount"}
        or explicit["encoding"] not in ENCODINGS
        or not 8000 <= explicit["sampleRateHertz"] <= 48_000
        or not 1 <= explicit["audioChannelCount"] <= 8
    ):
        raise _invalid("Invalid explicit decoding config")
    if config.get("translationConfig") is not None and (model != "chirp_2" or location != "us-central1"):
        raise _invalid("Translation is not supported by this model")
    _check_features(config.get("features", {}), model)
    _check_adaptation(config.get("adaptation"), model)


def _check_features(features: dict[str, Any], model: str) -> None:
    for name, value in features.items():
        if name not in FEATURES:
            raise _invalid(f"Unknown name {name!r} at 'config.features': Cannot find field.")
        if type(value) is not FEATURES[name]:
            raise _invalid(f"Invalid value at 'config.features.{name}'")
    if not 0 <= features.get("maxAlternatives", 1) <= 30:
        raise _invalid("max_alternatives must be between 0 and 30")
    diarization = features.get("diarizationConfig")
    if diarization is not None:
        if not set(diarization) <= {"minSpeakerCount", "maxSpeakerCount"}:
            raise _invalid("Unknown name at 'config.features.diarizationConfig'")
        if model in {"chirp", "chirp_2"}:
            raise _invalid(f"Recognizer does not support feature: speaker_diarization for {model}")
        if model != "chirp_3" and len(diarization) != 2:
            raise _invalid("min_speaker_count and max_speaker_count are required")
    if features.get("profanityFilter") and model == "chirp_3":
        raise _invalid("Recognizer does not support feature: profanity_filter")
    if features.get("multiChannelMode", "SEPARATE_RECOGNITION_PER_CHANNEL") != "SEPARATE_RECOGNITION_PER_CHANNEL":
        raise _invalid("Invalid value at 'config.features.multiChannelMode'")


def _check_adaptation(adaptation: dict[str, Any] | None, model: str) -> None:
    if adaptation is None:
        return
    if model == "chirp":
        raise _invalid("Recognizer does not support feature: adaptation")
    phrases = [
        phrase
        for phrase_set in adaptation["phraseSets"]
        for phrase in phrase_set.get("inlinePhraseSet", {}).get("phrases", [])
    ]
    if len(phrases) > 1000 or any(not 0 < len(phrase["value"]) <= 100 for phrase in phrases):
        raise _invalid("Invalid phrase set")


def answer(
    config: dict[str, Any], heard: list[tuple[str, float, float]], seconds: float, channels: int
) -> dict[str, Any]:
    """A RecognizeResponse."""
    features = config.get("features", {})
    separate = features.get("multiChannelMode") == "SEPARATE_RECOGNITION_PER_CHANNEL"
    language = config["languageCodes"][0]
    language = "en-US" if language == "auto" or "translationConfig" in config else language
    results = []
    for channel in range(1, channels + 1 if separate else 2):
        half = (len(heard) + 1) // 2
        for number, part in enumerate((heard[:half], heard[half:])):
            if not part:
                continue
            alternative: dict[str, Any] = {"transcript": " ".join(word for word, _, _ in part), "confidence": 0.875}
            if features.get("enableWordTimeOffsets") or "diarizationConfig" in features:
                alternative["words"] = [_word(features, *word, speaker=number) for word in part]
            results.append(
                {
                    "alternatives": [alternative],
                    **({"channelTag": channel} if separate else {}),
                    "resultEndOffset": f"{part[-1][2]:.3f}s",
                    "languageCode": language.lower(),
                }
            )
    billed = math.ceil(seconds) * (channels if separate else 1)
    body: dict[str, Any] = {"metadata": {"totalBilledDuration": f"{billed}s", "requestId": "req-1"}}
    return {"results": results, **body} if results else body


def _word(features: dict[str, Any], word: str, start: float, end: float, *, speaker: int) -> dict[str, Any]:
    result: dict[str, Any] = {"word": word}
    if features.get("enableWordTimeOffsets"):
        # A start of zero is left out, as proto-JSON does with what is unset.
        result |= {"endOffset": f"{end:.3f}s", **({"startOffset": f"{start:.3f}s"} if start else {})}
    if features.get("enableWordConfidence"):
        result["confidence"] = 0.75
    if "diarizationConfig" in features:
        result["speakerLabel"] = str(7 - speaker)
    return result
