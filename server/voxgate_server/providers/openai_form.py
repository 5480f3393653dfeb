"""Translates a TranscriptionConfig into the form fields of OpenAI's transcription API."""

import base64
from collections.abc import Iterator, Mapping

from google.protobuf.struct_pb2 import Struct, Value
from voxgate.transcription.v1.config_pb2 import (
    AudioReference,
    ChunkingStrategy,
    Include,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
    TranscriptionTask,
)

from voxgate_server.errors import UnsupportedParameter
from voxgate_server.providers.openai_models import TRANSLATION_OPTIONS, ModelFamily

__all__ = ["FORM_NAMES", "build_form", "form_fields", "is_translation"]

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


def is_translation(config: TranscriptionConfig) -> bool:
    """Whether the caller wants a translation into English."""
    return config.task == TranscriptionTask.TRANSCRIPTION_TASK_TRANSLATE


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
    timed = False
    for option, pairs in _options(config, known, allowed_extra_params):
        # REST has no word for extra parameters: a caller there sends them among the others, under their own names.
        rest_name = option.removeprefix("extra_params.")
        if option in known or rest_name in allowed_extra_params:
            fields += pairs
            timed = timed or option == "timestamp_granularities"
        elif dropped is None:
            raise UnsupportedParameter(_refusal(who, option, known), param=rest_name, metadata={"parameter": rest_name})
        else:
            dropped.append(rest_name)
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


def _refusal(who: str, option: str, known: frozenset[str]) -> str:
    if option.startswith("extra_params."):
        return (
            f"{who} is not configured to take '{option.removeprefix('extra_params.')[:64]}' from callers. Leave it "
            "out, or ask the operator to allow it for this deployment."
        )
    return (
        f"{who} cannot take '{option}'; it takes {', '.join(sorted(known))}. Leave it out, choose another model, or "
        "ask the operator for drop_params."
    )


def _options(
    config: TranscriptionConfig, known: frozenset[str], allowed_extra_params: frozenset[str]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Every option the caller has set, by its REST name, with the fields it becomes."""
    languages = list(config.languages)
    language = config.language
    if "languages" not in known and len(languages) == 1 and language in ("", languages[0]):
        # One hint is one hint, whichever field it came in.
        language, languages = languages[0], []
    if language:
        yield "language", [("language", language)]
    if languages:
        yield "languages", [("languages[]", item) for item in languages]
    if config.prompt:
        yield "prompt", [("prompt", config.prompt)]
    if config.keywords:
        yield "keywords", [("keywords[]", item) for item in config.keywords]
    if config.HasField("temperature"):
        yield "temperature", [("temperature", _number(config.temperature))]
    if config.timestamp_granularities:
        yield (
            "timestamp_granularities",
            # A number the API has no name for goes out as it is and is refused there.
            [
                ("timestamp_granularities[]", _GRANULARITIES.get(item, str(item)))
                for item in config.timestamp_granularities
            ],
        )
    if Include.INCLUDE_LOGPROBS in config.include:
        yield "include", [("include[]", "logprobs")]
    if config.HasField("chunking_strategy"):
        yield "chunking_strategy", list(_chunking(config.chunking_strategy))
    if config.known_speakers:
        yield (
            "known_speaker_names",
            [("known_speaker_names[]", speaker.name) for speaker in config.known_speakers]
            + [
                (
                    "known_speaker_references[]",
                    _data_url(speaker.reference),
                )
                for speaker in config.known_speakers
            ],
        )
    for name, value in config.extra_params.fields.items():
        yield f"extra_params.{name}", list(_extra(name, value)) if name in allowed_extra_params else []


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
