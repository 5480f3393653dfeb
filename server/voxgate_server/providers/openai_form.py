"""Translates a TranscriptionConfig into the form fields of OpenAI's transcription API."""

import base64
from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.struct_pb2 import Struct, Value
from voxgate.transcription.v1.config_pb2 import (
    AudioReference,
    ChunkingStrategy,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
)

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.providers.openai_models import TRANSLATION_OPTIONS, ModelFamily
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
_UPSTREAM_FORMATS = {"json": "json", "text": "json", "diarized_json": "diarized_json"}
"""What is asked for instead of what the caller wants; everything with times is made from verbose_json."""
_GRANULARITIES = {
    TimestampGranularity.TIMESTAMP_GRANULARITY_WORD: "word",
    TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT: "segment",
}


def build_form(
    config: TranscriptionConfig,
    *,
    model: str,
    family: ModelFamily,
    allowed_extra_params: frozenset[str],
    dropped: list[str] | None,
    who: str,
) -> list[tuple[str, str]]:
    """The fields without the file, in the order they are sent.

    Args:
        config: What the caller wants.
        model: The model by the server's name of it.
        family: What that model can do.
        allowed_extra_params: Names the operator permits in `extra_params`.
        dropped: Takes the REST names of options the model cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for. The format and the task are always refused
            and never dropped: without them the answer would be another thing.
    """
    wanted = _FORMAT_NAMES.get(config.response_format, str(config.response_format))
    offered = [_FORMAT_NAMES[item] for item in family.formats]
    if wanted not in offered:
        raise UnsupportedParameter(
            f"{who} has no response_format '{wanted}'; it has {', '.join(offered)}. Choose one of these or another "
            "model.",
            param="response_format",
            metadata={"parameter": "response_format"},
        )
    translation = is_translation(config)
    if translation and not family.translation:
        raise UnsupportedParameter(
            f"{who} cannot take the task 'translate'. Choose a whisper model.",
            param="task",
            metadata={"parameter": "task"},
        )
    known = family.options & TRANSLATION_OPTIONS if translation else family.options
    fields = [("model", model)]
    accepted = accepted_options(config, known | allowed_extra_params, dropped=dropped, who=who)
    for option in accepted:
        fields += _option(option, config, takes_several="languages" in known)
    timed = "timestamp_granularities" in accepted
    # Times are only in verbose_json: who asks for them gets them, whatever the caller's own format shows of it.
    upstream_format = "verbose_json" if timed else _UPSTREAM_FORMATS.get(wanted, "verbose_json")
    fields.insert(1, ("response_format", upstream_format))
    return fields


def form_fields(params: Mapping[str, object]) -> list[tuple[str, str]]:
    """The operator's parameters as form fields: lists as `name[]`, maps in brackets, whole numbers as such.

    Raises:
        ValueError: A value is none that JSON has.
    """
    values = Struct()
    values.update(params)  # type: ignore[arg-type]  # a value of another kind raises
    return [pair for name, value in values.fields.items() for pair in _extra(name, value)]


def _option(option: str, config: TranscriptionConfig, *, takes_several: bool) -> Iterable[tuple[str, str]]:
    """The fields an option becomes."""
    match option:
        case "language" | "languages":
            language, languages = language_hints(config, takes_several=takes_several)
            return [("language", language)] if option == "language" else [("languages[]", item) for item in languages]
        case "prompt":
            return [("prompt", config.prompt)]
        case "keywords":
            return [("keywords[]", item) for item in config.keywords]
        case "temperature":
            return [("temperature", _number(config.temperature))]
        case "timestamp_granularities":
            # A number the API has no name for goes out as it is and is refused there.
            names = [_GRANULARITIES.get(item, str(item)) for item in config.timestamp_granularities]
            return [("timestamp_granularities[]", name) for name in names]
        case "include":
            return [("include[]", "logprobs")]
        case "chunking_strategy":
            return _chunking(config.chunking_strategy)
        case "known_speaker_names":
            speakers = config.known_speakers
            return [
                *(("known_speaker_names[]", speaker.name) for speaker in speakers),
                *(("known_speaker_references[]", _data_url(speaker.reference)) for speaker in speakers),
            ]
        case _:
            return _extra(option, config.extra_params.fields[option])


def _chunking(strategy: ChunkingStrategy) -> Iterator[tuple[str, str]]:
    if not strategy.HasField("server_vad"):
        yield "chunking_strategy", "auto"
        return
    # An object goes out in brackets, as the official SDKs send it.
    vad = strategy.server_vad
    yield "chunking_strategy[type]", "server_vad"
    for name in ("prefix_padding_ms", "silence_duration_ms", "threshold"):
        if vad.HasField(name):
            yield f"chunking_strategy[{name}]", _number(getattr(vad, name))


def _data_url(reference: AudioReference) -> str:
    return f"data:{reference.media_type};base64,{base64.b64encode(reference.data).decode('ascii')}"


def _extra(name: str, value: Value) -> Iterator[tuple[str, str]]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield name, value.string_value
        case "number_value":
            yield name, _number(value.number_value)
        case "bool_value":
            yield name, "true" if value.bool_value else "false"
        case "list_value":
            for item in value.list_value.values:
                yield from _extra(f"{name}[]", item)
        case "struct_value":
            for key, item in value.struct_value.fields.items():
                yield from _extra(f"{name}[{key}]", item)
        case _:
            pass


def _number(value: float) -> str:
    # Integral numbers go out as integers: servers that parse with `int` refuse `3.0`.
    return str(int(value)) if float(value).is_integer() else repr(float(value))
