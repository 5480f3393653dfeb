"""Fields of a REST request → the API's TranscriptionConfig.

A pure function of the fields so far: the edge decodes when the file starts, so that the call can be routed at once,
and again when the form ends, because clients are free to send fields after the file.

An empty value is the same as none. Nothing is ignored: what is not known here comes back as `unknown`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from voxgate.transcription.v1.config_pb2 import (
    Include,
    KnownSpeaker,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
)

from voxgate_server.edges.rest.data_url import parse_data_url
from voxgate_server.edges.rest.decode_routing import decode_labels, decode_routing, refuse_credentials
from voxgate_server.edges.rest.values import (
    FILE_HELP,
    Entries,
    Path,
    boolean,
    choice,
    integer,
    json_value,
    named_items,
    nested,
    number,
    refuse,
    scalar,
    shown,
    string,
    strings,
    unquoted,
)

__all__ = ["RESPONSE_FORMATS", "DecodedForm", "decode_form", "decode_object"]

RESPONSE_FORMATS: Mapping[str, "ResponseFormat.ValueType"] = {
    "json": ResponseFormat.RESPONSE_FORMAT_JSON,
    "text": ResponseFormat.RESPONSE_FORMAT_TEXT,
    "srt": ResponseFormat.RESPONSE_FORMAT_SRT,
    "verbose_json": ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
    "vtt": ResponseFormat.RESPONSE_FORMAT_VTT,
    "diarized_json": ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
}
"""OpenAI's names of the formats."""

_GRANULARITIES: Mapping[str, "TimestampGranularity.ValueType"] = {
    "word": TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
    "segment": TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
}
_INCLUDES: Mapping[str, "Include.ValueType"] = {"logprobs": Include.INCLUDE_LOGPROBS}
_MAX_NAME_BYTES = 255
_MAX_LANGUAGE_BYTES = 64
_MAX_LANGUAGES = 64
_MAX_PROMPT_BYTES = 16 * 1024
_MAX_KEYWORDS = 1000
_MAX_SPEAKERS = 4
_MAX_REFERENCE_BYTES = 1024 * 1024
_MAX_PAUSE_MS = 60_000
_BRACKETS = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\]){1,4})")


@dataclass(frozen=True, slots=True)
class DecodedForm:
    """What a request says besides its recording."""

    config: TranscriptionConfig
    stream: bool
    """The answer is wanted as server-sent events."""
    unknown: dict[str, object]
    """Fields nobody here knows: text as it came, a list where a field was repeated or sent as `x[]`, an object where
    it was sent as `x[key]`; from a JSON body the JSON value."""


def decode_form(fields: Iterable[tuple[str, str]], *, model: str | None = None, complete: bool = True) -> DecodedForm:
    """Reads the text fields of a form.

    Args:
        fields: Names and values in the order of the form, without the file.
        model: The model that the request's path names; it takes the place of the form's.
        complete: False while fields may still come: what only the whole form can be blamed for is then not checked.

    Raises:
        InvalidRequest: A value is wrong, two values of a field differ, or the model is missing; `param` names it.
    """
    grouped: dict[str, Entries] = {}
    for name, value in fields:
        root, path = _split(name)
        grouped.setdefault(root, []).append((path, unquoted(value)))
    return _decode(grouped, model, complete)


def decode_object(fields: Mapping[str, object], *, model: str | None = None) -> DecodedForm:
    """Reads the members of a JSON body, without the file. Null is the same as none.

    Args:
        fields: Names and JSON values.
        model: As for decode_form.

    Raises:
        InvalidRequest: As for decode_form.
    """
    grouped: dict[str, Entries] = {}
    for name, value in fields.items():
        if value is not None:
            root, path = _split(name)
            whole = path == ("",) and isinstance(value, list)  # "x[]": [...], as a form would call it
            grouped.setdefault(root, []).append(((), value) if whole else (path, value))
    return _decode(grouped, model, complete=True)


@lru_cache(maxsize=512)
def _split(name: str) -> tuple[str, Path]:
    match = _BRACKETS.fullmatch(name) if name.endswith("]") else None
    if match is None:
        return name, ()
    return match[1], tuple(match[2][1:-1].split("]["))


def _decode(fields: dict[str, Entries], model: str | None, complete: bool) -> DecodedForm:
    config = TranscriptionConfig()
    if "file" in fields:
        refuse("file", f"was sent as text and not as a file. {FILE_HELP}")
    _model(config, fields, model, complete)
    _options(config, fields)
    _lists(config, fields)
    _chunking(config, fields, complete)
    _speakers(config, fields, complete)
    decode_routing(config, fields)
    decode_labels(config, fields)
    stream = scalar("stream", fields.pop("stream", None))
    unknown: dict[str, object] = {}
    for name, entries in fields.items():
        refuse_credentials(name, entries)
        unknown[name] = nested(name[:64], entries)
    return DecodedForm(config, stream is not None and boolean("stream", stream), unknown)


def _model(config: TranscriptionConfig, fields: dict[str, Entries], model: str | None, complete: bool) -> None:
    named = scalar("model", fields.pop("model", None))
    if named is not None:
        named = string("model", named, max_bytes=_MAX_NAME_BYTES).strip()
        if not named.isprintable():
            refuse("model", "has control characters.")
    config.model = model or named or ""
    if complete and not config.model:
        refuse("model", "is missing: name the model that shall transcribe, e.g. model=whisper-1.")


def _options(config: TranscriptionConfig, fields: dict[str, Entries]) -> None:
    if (value := scalar("language", fields.pop("language", None))) is not None:
        config.language = _language("language", string("language", value, max_bytes=_MAX_LANGUAGE_BYTES))
    if (value := scalar("prompt", fields.pop("prompt", None))) is not None:
        config.prompt = string("prompt", value, max_bytes=_MAX_PROMPT_BYTES)
    if (value := scalar("temperature", fields.pop("temperature", None))) is not None:
        config.temperature = number("temperature", value, low=0, high=1)
    if (value := scalar("response_format", fields.pop("response_format", None))) is not None:
        config.response_format = choice("response_format", value, RESPONSE_FORMATS)


def _language(name: str, value: str) -> str:
    value = value.strip()
    if not value or not value.isprintable():
        refuse(name, "must be a language code such as en or de-AT.")
    return value


def _lists(config: TranscriptionConfig, fields: dict[str, Entries]) -> None:
    if entries := fields.pop("timestamp_granularities", None):
        # Taken with every format, as the clients of LiteLLM and Bifrost send it with `json` too; a format that has
        # no place for times does not show them.
        levels = [
            choice("timestamp_granularities", item, _GRANULARITIES)
            for item in named_items("timestamp_granularities", entries)
        ]
        config.timestamp_granularities.extend(dict.fromkeys(levels))
    if entries := fields.pop("include", None):
        parts = [choice("include", item, _INCLUDES) for item in named_items("include", entries)]
        config.include.extend(dict.fromkeys(parts))
    if entries := fields.pop("languages", None):
        languages = strings("languages", entries, max_items=_MAX_LANGUAGES, max_bytes=_MAX_LANGUAGE_BYTES)
        config.languages.extend(_language("languages", language) for language in languages)
    if entries := fields.pop("keywords", None):
        config.keywords.extend(strings("keywords", entries, max_items=_MAX_KEYWORDS, max_bytes=_MAX_NAME_BYTES))


def _chunking(config: TranscriptionConfig, fields: dict[str, Entries], complete: bool) -> None:
    name = "chunking_strategy"
    entries = fields.pop(name, None)
    if not entries:
        return
    bracketed = any(path for path, _ in entries)
    value = nested(name, entries) if bracketed else scalar(name, entries)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json_value(name, value)
    if value is None:
        return
    if isinstance(value, str) and value.strip() == "auto":
        value = {"type": "auto"}
    if not isinstance(value, dict):
        refuse(name, f"must be auto or an object with type server_vad, not {shown(value)}.")
    options = {key: item for key, item in value.items() if item is not None}
    if bracketed and not complete and "type" not in options:
        return  # chunking_strategy[type] may come after the file
    kind = options.pop("type", None)
    allowed = ("prefix_padding_ms", "silence_duration_ms", "threshold") if kind == "server_vad" else ()
    if kind not in ("auto", "server_vad"):
        refuse(name, "needs a type, auto or server_vad.")
    for key in options:
        if key not in allowed:
            refuse(name, f"of type {kind} has no option {shown(key)}.")
    if kind == "auto":
        config.chunking_strategy.auto.SetInParent()
        return
    vad = config.chunking_strategy.server_vad
    vad.SetInParent()
    if (item := options.get("prefix_padding_ms")) is not None:
        vad.prefix_padding_ms = integer(f"{name}[prefix_padding_ms]", item, low=0, high=_MAX_PAUSE_MS)
    if (item := options.get("silence_duration_ms")) is not None:
        vad.silence_duration_ms = integer(f"{name}[silence_duration_ms]", item, low=0, high=_MAX_PAUSE_MS)
    if (item := options.get("threshold")) is not None:
        vad.threshold = number(f"{name}[threshold]", item, low=0, high=1)


def _speakers(config: TranscriptionConfig, fields: dict[str, Entries], complete: bool) -> None:
    named = fields.pop("known_speaker_names", None)
    given = fields.pop("known_speaker_references", None)
    if not named and not given:
        return
    names = strings("known_speaker_names", named or [], max_items=_MAX_SPEAKERS, max_bytes=_MAX_NAME_BYTES)
    # A data URL has a comma of its own.
    references = named_items("known_speaker_references", given or [], commas=False)
    if len(references) > _MAX_SPEAKERS:
        refuse("known_speaker_references", f"has more than {_MAX_SPEAKERS} items.")
    if complete and len(names) != len(references):
        refuse(
            "known_speaker_references",
            f"has {len(references)} items and known_speaker_names {len(names)}: send one recording per name.",
        )
    for name, reference in zip(names, references, strict=False):
        url = string("known_speaker_references", reference, max_bytes=2 * _MAX_REFERENCE_BYTES)
        media_type, data = parse_data_url("known_speaker_references", url, max_bytes=_MAX_REFERENCE_BYTES)
        speaker = KnownSpeaker(name=name)
        speaker.reference.media_type = media_type
        speaker.reference.data = data
        config.known_speakers.append(speaker)
