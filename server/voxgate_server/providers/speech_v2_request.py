"""Translates a TranscriptionConfig into the RecognitionConfig of Google's Speech-to-Text v2, in JSON."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Value
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import (
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
)

from voxgate_server.errors import UnsupportedAudio, UnsupportedParameter
from voxgate_server.providers.options import accepted_options, is_translation, language_hints
from voxgate_server.providers.speech_v2_languages import LANGUAGES, google_tag

__all__ = [
    "CALLERS_PARAMS",
    "OPERATORS_PARAMS",
    "RESERVED_NAMES",
    "SpeechFamily",
    "build_config",
    "decoding_config",
    "family_of",
]

_FEATURES = frozenset(
    {
        "customPromptConfig", "diarizationConfig", "enableAutomaticPunctuation", "enableSpokenEmojis",
        "enableSpokenPunctuation", "enableWordConfidence", "enableWordTimeOffsets", "maxAlternatives",
        "multiChannelMode", "profanityFilter",
    }
)  # fmt: skip
_CONFIG = frozenset({"adaptation", "denoiserConfig", "languageCodes", "transcriptNormalization", "translationConfig"})
OPERATORS_PARAMS = _FEATURES | _CONFIG
"""Parameters of Google's own that a deployment can have, by Google's names of them."""
CALLERS_PARAMS = _FEATURES - {"customPromptConfig", "enableWordTimeOffsets"} | {"denoiserConfig"}
"""Those that callers may use as well. The others follow instructions, or name things of the operator's at Google."""

_OPTIONS = frozenset({"language", "languages", "timestamp_granularities"})
_BIASING = frozenset({"prompt", "keywords"})
RESERVED_NAMES = frozenset({"autoDecodingConfig", "content", "explicitDecodingConfig", "features", "model", "uri"})
"""What the adapter writes itself."""
_PHRASE_CHARACTERS = 100
_PHRASES = 1000
_TIMED_FORMATS = frozenset(
    {
        ResponseFormat.RESPONSE_FORMAT_SRT,
        ResponseFormat.RESPONSE_FORMAT_VTT,
        ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
        ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
    }
)
_ENCODINGS = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "LINEAR16",
    AudioEncoding.AUDIO_ENCODING_MULAW: "MULAW",
    AudioEncoding.AUDIO_ENCODING_ALAW: "ALAW",
}
_PHRASE_ENDS = re.compile(r"[.!?;,:\n\r\u3001\u3002\uff0c\uff01\uff1f\uff1b]+(?=\s|$)|[\n\r\u3001\u3002\uff0c\uff1b]+")


@dataclass(frozen=True, slots=True)
class SpeechFamily:
    """Models whose names begin alike and which can do the same."""

    prefix: str
    location: str
    """Where it is served unless the operator says otherwise."""
    detects_language: bool = True
    biasing: bool = True
    """Takes phrases to favour."""
    diarization: Mapping[str, int] | None = None
    """What tells speakers apart, or None where it cannot."""
    confidence: bool = False
    """The confidence of its words means something."""
    translation: bool = False
    languages_listed: bool = False
    """Its languages are those of our table; of other models only Google knows."""

    @property
    def options(self) -> frozenset[str]:
        """Options it takes, by their REST names; `chunking_strategy` besides, where it is `auto`."""
        return _OPTIONS | (_BIASING if self.biasing else frozenset())

    @property
    def formats(self) -> list[ResponseFormat.ValueType]:
        """Formats a caller can have."""
        formats = [
            ResponseFormat.RESPONSE_FORMAT_JSON,
            ResponseFormat.RESPONSE_FORMAT_TEXT,
            ResponseFormat.RESPONSE_FORMAT_SRT,
            ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
            ResponseFormat.RESPONSE_FORMAT_VTT,
        ]
        return formats if self.diarization is None else [*formats, ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON]


_FAMILIES = (
    # The first prefix that fits decides: longer ones stand before shorter ones.
    SpeechFamily("chirp_3", "us", diarization={}, languages_listed=True),
    SpeechFamily("chirp_2", "us-central1", translation=True),
    SpeechFamily("chirp", "us-central1", biasing=False),
    SpeechFamily(
        "",
        "global",
        detects_language=False,
        diarization={"minSpeakerCount": 1, "maxSpeakerCount": 6},
        confidence=True,
    ),
)


def family_of(model: str) -> SpeechFamily:
    """The family of a model, by Google's name of it."""
    return next(family for family in _FAMILIES if model.startswith(family.prefix))


def build_config(
    config: TranscriptionConfig,
    *,
    model: str,
    family: SpeechFamily,
    defaults: Mapping[str, Any],
    allowed_extra_params: frozenset[str],
    dropped: list[str] | None,
    who: str,
) -> dict[str, Any]:
    """The RecognitionConfig without its decoding.

    Args:
        config: What the caller wants.
        model: The model by Google's name of it.
        family: What that model can do.
        defaults: The operator's parameters, by Google's names; the caller's win.
        allowed_extra_params: Further names the operator permits in `extra_params`.
        dropped: Takes the REST names of options the model cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for.
    """
    features: dict[str, Any] = {"enableAutomaticPunctuation": True}
    result: dict[str, Any] = {"model": model}
    for name, value in defaults.items():
        _place(result, features, name, value)
    known = set(family.options | CALLERS_PARAMS | allowed_extra_params)
    if config.chunking_strategy.WhichOneof("kind") == "auto":
        # Google cuts as it likes in any case, and that is what `auto` says.
        known.add("chunking_strategy")
    accepted = accepted_options(config, known, dropped=dropped, who=who)
    for name in accepted:
        if name in config.extra_params.fields:
            _place(result, features, name, _plain(config.extra_params.fields[name]))
    if "language" in accepted or "languages" in accepted:
        language, languages = language_hints(config, takes_several=True)
        result["languageCodes"] = _tags([language, *languages] if language else languages, family, who)
    elif "languageCodes" not in result:
        if not family.detects_language:
            raise UnsupportedParameter(
                f"{who} cannot find out the language by itself. Say it in `language`, for example 'en-US', or choose "
                "a chirp model.",
                param="language",
                metadata={"parameter": "language"},
            )
        result["languageCodes"] = ["auto"]
    if phrases := _phrases(config, accepted, who):
        adaptation = {"phraseSets": [{"inlinePhraseSet": {"phrases": [{"value": item} for item in phrases]}}]}
        result["adaptation"] = _joined(result.get("adaptation"), adaptation)
    diarized = config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
    if diarized and family.diarization is not None:
        features.setdefault("diarizationConfig", dict(family.diarization))
    if config.response_format in _TIMED_FORMATS or "timestamp_granularities" in accepted:
        features["enableWordTimeOffsets"] = True
        if family.confidence and TimestampGranularity.TIMESTAMP_GRANULARITY_WORD in config.timestamp_granularities:
            features["enableWordConfidence"] = True
    if is_translation(config):
        if not family.translation:
            raise UnsupportedParameter(
                f"{who} cannot translate. Choose chirp_2.", param="task", metadata={"parameter": "task"}
            )
        result["translationConfig"] = {"targetLanguage": "en-US"}
    result["features"] = features
    return result


def decoding_config(raw: RawAudioFormat | None, who: str) -> dict[str, Any]:
    """The part of a RecognitionConfig that says what the audio is.

    Args:
        raw: Format of headerless audio; None when the audio has a container.
        who: The deployment, for messages.

    Raises:
        UnsupportedAudio: Bare Opus packets.
    """
    if raw is None:
        return {"autoDecodingConfig": {}}
    if raw.encoding not in _ENCODINGS:
        raise UnsupportedAudio(
            f"{who} does not read bare Opus packets. Send Opus in an Ogg or WebM container.",
            param="raw_format",
            metadata={"detected": "opus"},
        )
    return {
        "explicitDecodingConfig": {
            "encoding": _ENCODINGS[raw.encoding],
            "sampleRateHertz": raw.sample_rate_hertz,
            "audioChannelCount": raw.channel_count or 1,
        }
    }


def _place(result: dict[str, Any], features: dict[str, Any], name: str, value: Any) -> None:
    (features if name in _FEATURES else result)[name] = value


def _tags(languages: Iterable[str], family: SpeechFamily, who: str) -> list[str]:
    tags: list[str] = []
    for language in languages:
        tag = "auto" if family.detects_language and language.lower() == "auto" else google_tag(language)
        if tag is None:
            raise UnsupportedParameter(
                f"{who} does not know the language '{language[:64]}'. It takes tags with a region, such as 'de-DE', "
                f"or one of {', '.join(sorted(LANGUAGES))}.",
                param="language",
                metadata={"parameter": "language"},
            )
        if tag not in tags:
            tags.append(tag)
    return tags


def _phrases(config: TranscriptionConfig, accepted: list[str], who: str) -> list[str]:
    """Words to favour: the keywords, then the clauses of the prompt, each as long as a phrase may be."""
    phrases = [keyword.strip() for keyword in config.keywords] if "keywords" in accepted else []
    if "prompt" in accepted:
        for clause in _PHRASE_ENDS.split(config.prompt):
            phrases += _short(clause)
    phrases = [phrase for phrase in dict.fromkeys(phrases) if phrase]
    if len(phrases) > _PHRASES or any(len(phrase) > _PHRASE_CHARACTERS for phrase in phrases):
        parameter = "keywords" if "keywords" in accepted else "prompt"
        raise UnsupportedParameter(
            f"{who} takes at most {_PHRASES} phrases of at most {_PHRASE_CHARACTERS} characters, keywords and the "
            "clauses of the prompt together. Shorten them.",
            param=parameter,
            metadata={"parameter": parameter},
        )
    return phrases


def _short(clause: str) -> list[str]:
    words = clause.split()
    parts: list[str] = []
    for word in words:
        if parts and len(parts[-1]) + 1 + len(word) <= _PHRASE_CHARACTERS:
            parts[-1] += f" {word}"
        else:
            # Scripts without spaces have words of any length.
            parts += [word[at : at + _PHRASE_CHARACTERS] for at in range(0, len(word), _PHRASE_CHARACTERS)]
    return parts


def _joined(operators: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """The operator's phrases, with ours behind them."""
    if not isinstance(operators, dict):
        return ours
    sets = operators.get("phraseSets")
    return {**operators, "phraseSets": [*(sets if isinstance(sets, list) else []), *ours["phraseSets"]]}


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "struct_value":
            return {name: _plain(item) for name, item in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None
