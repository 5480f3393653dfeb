"""Translates a TranscriptionConfig into the form fields of OpenAI's transcription API, as each server wants them."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from google.protobuf.struct_pb2 import Struct, Value
from voxgate.transcription.v1.config_pb2 import (
    AudioReference,
    ChunkingStrategy,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
)

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.providers.openai_models import TRANSLATION_OPTIONS, Dialect, ModelFamily
from voxgate_server.providers.options import accepted_options, is_translation, language_hints

__all__ = ["FORM_NAMES", "build_form", "form_fields"]

FORM_NAMES = frozenset(
    {
        "chunking_strategy",
        "file",
        "include",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
        "language",
        "languages",
        "model",
        "prompt",
        "response_format",
        "stream",
        "temperature",
        "timestamp_granularities",
    }
)
"""Fields of the API itself, without the brackets of arrays."""

_FORMAT_NAMES = {
    ResponseFormat.RESPONSE_FORMAT_UNSPECIFIED: "json",
    ResponseFormat.RESPONSE_FORMAT_JSON: "json",
    ResponseFormat.RESPONSE_FORMAT_TEXT: "text",
    ResponseFormat.RESPONSE_FORMAT_SRT: "srt",
    ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON: "verbose_json",
    ResponseFormat.RESPONSE_FORMAT_VTT: "vtt",
    ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON: "diarized_json",
}
_PLAIN_FORMATS = frozenset({"json", "text"})
_GRANULARITIES = {
    TimestampGranularity.TIMESTAMP_GRANULARITY_WORD: "word",
    TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT: "segment",
}
_LANGUAGE_TAG = re.compile(r"([A-Za-z]{2,3})[-_][A-Za-z0-9_-]+")
_SWITCH = "diarize"

Fields = list[tuple[str, str]]


def build_form(
    config: TranscriptionConfig,
    *,
    model: str,
    dialect: Dialect,
    family: ModelFamily,
    allowed_extra_params: frozenset[str] = frozenset(),
    defaults: Fields | None = None,
    dropped: list[str] | None,
    who: str,
    streamed: bool = False,
) -> Fields:
    """The fields without the file, in the order they are sent.

    Args:
        config: What the caller wants.
        model: The model by the server's name of it.
        dialect: How the server speaks.
        family: What that model can do.
        allowed_extra_params: Names the operator permits in `extra_params` besides those the dialect has.
        defaults: The operator's fields, sent where the caller's do not say otherwise.
        dropped: Takes the REST names of options the model cannot take; None means that they are refused.
        who: The deployment, for messages.
        streamed: Ask for events, where the model has them for this config.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for. The format and the task are always refused
            and never dropped: without them the answer would be another thing.
    """
    wanted = _wanted_format(config, family, who)
    known = family.options | family.extra_options
    if is_translation(config):
        if not family.translation:
            raise _refusal("task", f"{who} cannot take the task 'translate'. Choose a whisper model.")
        if wanted == "diarized_json":
            raise _refusal("response_format", f"{who} cannot tell speakers apart in a translation.")
        known = family.options & TRANSLATION_OPTIONS
    options = accepted_options(config, known | allowed_extra_params, dropped=dropped, who=who)
    by_default = defaults or []
    speakers = wanted == "diarized_json" or (_SWITCH in family.extra_options and _is_on(_SWITCH, config, by_default))
    timed = speakers or wanted not in _PLAIN_FORMATS or "timestamp_granularities" in options
    levels = _levels(config if "timestamp_granularities" in options else None, family, timed=timed, speakers=speakers)
    for option, problem in _clashes(config, options, levels, dialect, speakers=speakers):
        if dropped is None:
            raise _refusal(option, f"{who} cannot take this {option}: it {problem}")
        dropped.append(option)
        options.remove(option)
        if option == "timestamp_granularities":
            levels = _levels(None, family, timed=timed, speakers=speakers)

    fields: Fields = [("model", model)]
    if upstream_format := family.timed_format if timed else family.plain_format:
        # Times are in the timed format only: who asks for them gets them, whatever the caller's own shows of them.
        fields.append(("response_format", upstream_format))
    for option in options:
        if option == "timestamp_granularities":
            fields += _granularities(levels, dialect)
        elif option != _SWITCH or not speakers:
            fields += _option(option, config, dialect, family)
    if "timestamp_granularities" not in options:
        fields += _granularities(levels, dialect)
    if speakers and _SWITCH in family.extra_options:
        fields.append((_SWITCH, "true"))
    if family.default_chunking and "chunking_strategy" not in options:
        fields.append(("chunking_strategy", "auto"))
    if streamed and not is_translation(config) and (family.streams_times or not timed):
        fields += family.stream_fields
    taken = {name for name, _ in fields}
    if dialect.language_or_times and levels:
        taken.add("language")  # the operator's usual language gives way to the times the caller wants
    return fields + [field for field in by_default if field[0] not in taken]


def form_fields(params: Mapping[str, object], dialect: Dialect) -> Fields:
    """The operator's parameters as form fields: lists as the dialect has them, maps in brackets, whole numbers as such.

    Raises:
        ValueError: A value is none that JSON has.
    """
    values = Struct()
    values.update(params)  # type: ignore[arg-type]  # a value of another kind raises
    return [pair for name, value in values.fields.items() for pair in _extra(name, value, dialect.list_suffix)]


def _wanted_format(config: TranscriptionConfig, family: ModelFamily, who: str) -> str:
    wanted = _FORMAT_NAMES.get(config.response_format, str(config.response_format))
    offered = [_FORMAT_NAMES[item] for item in family.formats]
    if wanted not in offered:
        has = f"it has {', '.join(offered)}"
        what = f"{who} has no response_format '{wanted}'; {has}. Choose one of these or another model."
        raise _refusal("response_format", what)
    return wanted


def _levels(config: TranscriptionConfig | None, family: ModelFamily, *, timed: bool, speakers: bool) -> list[str]:
    """The granularities to ask for; `config` only where the caller's own are to be taken."""
    # A number the API has no name for goes out as it is and is refused there.
    levels = [_GRANULARITIES.get(item, str(item)) for item in config.timestamp_granularities] if config else []
    if timed and not levels:
        levels = list(family.timed_granularities)
    return list(dict.fromkeys([*levels, *(family.speaker_granularities if speakers else ())]))


def _clashes(
    config: TranscriptionConfig, options: list[str], levels: list[str], dialect: Dialect, *, speakers: bool
) -> Iterator[tuple[str, str]]:
    """Options the dialect knows and cannot take as they are, with what to say of them."""
    if "language" in options:
        language = _language(config.language or config.languages[0], dialect)
        if dialect.languages and language not in dialect.languages:
            yield "language", f"has no '{language[:32]}', only {', '.join(sorted(dialect.languages))}."
        elif dialect.language_or_times and levels:
            yield "language", "takes none when times are asked for. Leave it out, or ask for json or text."
    if "keywords" in options and dialect.max_keywords is not None and len(config.keywords) > dialect.max_keywords:
        yield "keywords", f"takes at most {dialect.max_keywords}, not {len(config.keywords)}."
    if dialect.granularities == "one" and speakers and "word" in levels:
        yield "timestamp_granularities", "tells speakers apart by segment only. Leave the times of words out."
    if "chunking_strategy" in options and not dialect.vad_settings and config.chunking_strategy.HasField("server_vad"):
        vad = config.chunking_strategy.server_vad
        if vad.ListFields():
            yield "chunking_strategy", "takes 'server_vad' without settings only."


def _is_on(name: str, config: TranscriptionConfig, defaults: Fields) -> bool:
    """Whether a switch of the provider's is on: as the caller says, else as the operator does."""
    fields = config.extra_params.fields
    return (name, "true") in (list(_extra(name, fields[name], "")) if name in fields else defaults)


def _granularities(levels: list[str], dialect: Dialect) -> Fields:
    name = f"timestamp_granularities{dialect.list_suffix}"
    match dialect.granularities:
        case "comma" if levels:
            return [(name, ",".join(levels))]
        case "one" if "word" in levels:
            # Segments can be made of words, and not the other way round.
            return [(name, "word")]
    return [(name, level) for level in levels]


def _option(
    option: str, config: TranscriptionConfig, dialect: Dialect, family: ModelFamily
) -> Iterable[tuple[str, str]]:
    """The fields an option becomes."""
    suffix = dialect.list_suffix
    match option:
        case "language" | "languages":
            takes_several = "languages" in family.options
            language, languages = language_hints(config, takes_several=takes_several)
            if not takes_several:
                return [("language", _language(language, dialect))]
            # Models that take several take no single one: it becomes the first of the list.
            if option == "languages" and language:
                return []  # sent with it
            hints = dict.fromkeys(_language(item, dialect) for item in (language, *languages) if item)
            return [(f"languages{suffix}", hint) for hint in hints]
        case "prompt":
            return [("prompt", config.prompt)]
        case "keywords":
            return [(f"{dialect.keywords_field}{suffix}", item) for item in config.keywords]
        case "temperature":
            return [("temperature", _number(config.temperature))]
        case "include":
            return [(f"include{suffix}", "logprobs")]
        case "chunking_strategy":
            return _chunking(config.chunking_strategy, dialect)
        case "known_speaker_names":
            speakers = config.known_speakers
            return [
                *((f"known_speaker_names{suffix}", speaker.name) for speaker in speakers),
                *((f"known_speaker_references{suffix}", _data_url(speaker.reference)) for speaker in speakers),
            ]
        case _:
            return _extra(option, config.extra_params.fields[option], suffix)


def _language(tag: str, dialect: Dialect) -> str:
    match = None if dialect.language_tags else _LANGUAGE_TAG.fullmatch(tag)
    return match[1].lower() if match else tag


def _chunking(strategy: ChunkingStrategy, dialect: Dialect) -> Iterator[tuple[str, str]]:
    if not strategy.HasField("server_vad"):
        yield "chunking_strategy", "auto"
        return
    if not dialect.vad_settings:
        yield "chunking_strategy", "server_vad"
        return
    # An object goes out in brackets, as the official SDKs send it.
    vad = strategy.server_vad
    yield "chunking_strategy[type]", "server_vad"
    for name in ("prefix_padding_ms", "silence_duration_ms", "threshold"):
        if vad.HasField(name):
            yield f"chunking_strategy[{name}]", _number(getattr(vad, name))


def _data_url(reference: AudioReference) -> str:
    return f"data:{reference.media_type};base64,{base64.b64encode(reference.data).decode('ascii')}"


def _extra(name: str, value: Value, list_suffix: Literal["[]", ""]) -> Iterator[tuple[str, str]]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield name, value.string_value
        case "number_value":
            yield name, _number(value.number_value)
        case "bool_value":
            yield name, "true" if value.bool_value else "false"
        case "list_value":
            for item in value.list_value.values:
                yield from _extra(f"{name}{list_suffix}", item, list_suffix)
        case "struct_value":
            for key, item in value.struct_value.fields.items():
                yield from _extra(f"{name}[{key}]", item, list_suffix)
        case _:
            pass


def _number(value: float) -> str:
    # Integral numbers go out as integers: servers that parse with `int` refuse `3.0`.
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _refusal(param: str, message: str) -> UnsupportedParameter:
    return UnsupportedParameter(message, param=param, metadata={"parameter": param})
