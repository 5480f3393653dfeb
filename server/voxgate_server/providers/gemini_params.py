"""Google's own parameters: what they are called, where they belong, and which of them nobody else may set."""

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Value

__all__ = ["OURS", "google_name", "number", "placed"]

_OF_REQUEST = frozenset({"cachedContent", "labels", "safetySettings", "systemInstruction"})
"""Parameters of the request itself; all others belong to `generationConfig` …"""
_OF_TRANSCRIPTION = frozenset(
    {
        "adaptationPhrases", "customVocabulary", "diarization", "languageAuto", "languageCodes", "languageHints",
        "mode", "sourceText", "wordTimestamp",
    }
)  # fmt: skip
"""… but these, which belong to its `audioTranscriptionConfig`."""
_SWITCHES = frozenset({"diarization", "languageAuto", "wordTimestamp"})
_ALIASES = {"maxTokens": "maxOutputTokens", "maxCompletionTokens": "maxOutputTokens", "stop": "stopSequences"}
OURS = frozenset(
    {
        "audioTimestamp", "audioTranscriptionConfig", "candidateCount", "contents", "generationConfig", "model",
        "responseJsonSchema", "responseMimeType", "responseModalities", "responseSchema", "tools",
        "chunkingStrategy", "file", "include", "keywords", "knownSpeakerNames", "language", "languages", "prompt",
        "responseFormat", "stream", "timestampGranularities",
    }
)  # fmt: skip
"""Names the gateway sets itself, and those of its own options, which Google does not know."""


def placed(params: Mapping[str, Value]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Parameters where Google wants them: in the request, in `generationConfig`, in `audioTranscriptionConfig`.

    Args:
        params: By Google's names, in either spelling.
    """
    request: dict[str, Any] = {}
    generation: dict[str, Any] = {}
    transcription: dict[str, Any] = {}
    for given, value in params.items():
        name = google_name(given)
        place = request if name in _OF_REQUEST else transcription if name in _OF_TRANSCRIPTION else generation
        plain = _plain(value)
        # Forms carry text only.
        place[name] = plain == "true" if name in _SWITCHES and plain in ("true", "false") else plain
    return request, generation, transcription


def google_name(name: str) -> str:
    """A parameter's name in camel case; names LiteLLM has for some of them become Google's."""
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
    return _ALIASES.get(camel, camel)


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "struct_value":
            return {key: _plain(item) for key, item in value.struct_value.fields.items()}
        case _:
            return None


def number(value: float) -> int | float:
    """A number as JSON should have it."""
    # Integral numbers go out as integers: a count is no `3.0`.
    return int(value) if value.is_integer() else value
