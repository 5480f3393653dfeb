"""Translates a TranscriptionConfig into the form of ElevenLabs' speech-to-text API, and says what that API takes."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig

from voxgate_server.errors import UnsupportedAudio
from voxgate_server.providers.extra_params import caller_params
from voxgate_server.providers.options import accepted_options, is_translation, language_hints, refused_option

__all__ = ["FORBIDDEN_PARAMS", "OPERATOR_FIRST_PARAMS", "OPTIONS", "QUERY_PARAMS", "build_form"]

_CALLER_PARAMS = frozenset(
    {
        "diarization_threshold",
        "diarize",
        "keyterms",
        "multichannel_output_style",
        "no_verbatim",
        "num_speakers",
        "numbers_format",
        "secondary_language_codes",
        "seed",
        "tag_audio_events",
        "use_multi_channel",
    }
)
"""ElevenLabs' own parameters that callers may use: whatever they change in the answer finds a place in a transcript."""

OPTIONS = _CALLER_PARAMS | {
    # How long audio is cut is ElevenLabs' decision in any case, and times come with every answer.
    "chunking_strategy",
    "include",
    "keywords",
    "language",
    "languages",
    "temperature",
    "timestamp_granularities",
}
"""Options it takes from callers: those of the API by their REST names, then ElevenLabs' own."""

FORBIDDEN_PARAMS = frozenset(
    {
        "cloud_storage_url",
        "file",
        "file_format",
        "model_id",
        "source_url",
        "timestamps_granularity",
        "token",
        "webhook",
        "webhook_id",
        "webhook_metadata",
    }
)
"""What nobody can set: the adapter does it itself, or the transcript would go elsewhere."""

OPERATOR_FIRST_PARAMS = frozenset(
    {"enable_logging", "entity_redaction", "entity_redaction_mode", "use_speaker_library"}
)
"""Where the operator has set one of these, callers cannot: privacy is not theirs to change."""

QUERY_PARAMS = frozenset({"enable_logging"})
"""What stands in the address and not in the form."""

_JSON_PARAMS = frozenset({"additional_formats", "entity_detection", "entity_redaction"})
"""Parts whose lists are one JSON text; every other list is a repeated part."""


def build_form(
    config: TranscriptionConfig,
    audio: AudioHeader,
    *,
    model: str,
    known: frozenset[str],
    defaults: Mapping[str, Any],
    dropped: list[str] | None,
    who: str,
) -> list[tuple[str, str]]:
    """The fields of one request without the file, those of the query among them.

    The caller's come first, then the operator's where the caller has none, then ours.

    Args:
        config: What the caller wants.
        audio: What the caller said about the audio; headerless audio needs to be described.
        model: The model by ElevenLabs' name.
        known: Options callers may use.
        defaults: The operator's.
        dropped: Takes the REST names of options ElevenLabs cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: ElevenLabs cannot do what an option asks for. The task is never dropped: without it the
            answer would be another thing.
        UnsupportedAudio: Headerless audio that ElevenLabs cannot read.
        InvalidRequest: One of `extra_params` has the name of an option.
    """
    if is_translation(config):
        raise refused_option(who, "task", known)
    asked = _asked(config, known, dropped, who)
    taken = asked.keys() | ({"secondary_language_codes"} if "language_code" in asked else set())
    form = {"model_id": model, **{name: value for name, value in defaults.items() if name not in taken}, **asked}
    form["timestamps_granularity"] = "word"
    if audio.HasField("raw_format"):
        form["file_format"] = _raw_format(audio, who)
    # Channels are told apart by themselves, and nobody else is on them.
    if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON and not _is_on(form, "use_multi_channel"):
        form["diarize"] = True
    return [pair for name, value in form.items() for pair in _fields(name, value)]


def _asked(config: TranscriptionConfig, known: frozenset[str], dropped: list[str] | None, who: str) -> dict[str, Any]:
    """What the caller asks for, by ElevenLabs' names."""
    if config.chunking_strategy.HasField("server_vad"):
        known -= {"chunking_strategy"}
    accepted = accepted_options(config, known, dropped=dropped, who=who)
    asked = caller_params(config, accepted)
    language, languages = language_hints(config, takes_several="languages" in known)
    codes = [language] if "language" in accepted else []
    codes += languages if "languages" in accepted else []
    # The first is the one most is spoken in.
    codes = list(dict.fromkeys(_language(code) for code in codes))
    if codes:
        asked["language_code"] = codes[0]
    if codes[1:]:
        asked["secondary_language_codes"] = codes[1:]
    if "keywords" in accepted:
        asked["keyterms"] = [*config.keywords, *_listed(asked.get("keyterms"))]
    if "temperature" in accepted:
        asked["temperature"] = config.temperature
    return asked


def _language(tag: str) -> str:
    """ISO 639-1 or 639-3: regions and scripts are unknown to it."""
    return tag.replace("_", "-").partition("-")[0].lower()


def _raw_format(audio: AudioHeader, who: str) -> str:
    raw = audio.raw_format
    if (raw.encoding, raw.sample_rate_hertz) != (AudioEncoding.AUDIO_ENCODING_PCM_S16LE, 16_000) or (
        raw.channel_count > 1
    ):
        raise UnsupportedAudio(
            f"{who} takes headerless audio as 16-bit PCM with one channel of 16000 Hz only. Send it as WAV or FLAC.",
            param="file",
        )
    return "pcm_s16le_16"


def _is_on(form: Mapping[str, Any], name: str) -> bool:
    return str(form.get(name)).lower() in {"true", "1"}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) or name in _JSON_PARAMS:
        yield name, value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return
    for item in _listed(value):
        yield name, item if isinstance(item, str) else msgspec.json.encode(item).decode()
