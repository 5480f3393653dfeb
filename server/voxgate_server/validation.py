"""The bounds of a request's options and of its audio, whichever surface it came in by.

They are those the API's config.proto states. Every error names the field by its REST name.
"""

import math
from collections.abc import Collection, Sequence

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioHeader
from voxgate.transcription.v1.config_pb2 import (
    INCLUDE_UNSPECIFIED,
    TIMESTAMP_GRANULARITY_UNSPECIFIED,
    Include,
    RequestLabels,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
    TranscriptionTask,
)

from voxgate_server.audio.duration import DurationProbe
from voxgate_server.errors import EmptyAudio, InvalidRequest, UnsupportedAudio, UnsupportedParameter

__all__ = ["check_sound", "validate"]

_SHORTEST_SECONDS = 0.1
_MUCH_BYTES = 64 * 1024
"""What is larger may be damaged, but has more than a header."""
_NAME_BYTES = 255
_PROMPT_BYTES = 16 * 1024
_KEYWORDS = 1000
_LABELS = 64
_FALLBACKS = 5
_SPEAKERS = 4
_REFERENCE_BYTES = 1 << 20
_RETRIES = 10
_FORMATS = frozenset(ResponseFormat.values())
_TASKS = frozenset(TranscriptionTask.values())
_GRANULARITIES = frozenset(TimestampGranularity.values()) - {TIMESTAMP_GRANULARITY_UNSPECIFIED}
_INCLUDES = frozenset(Include.values()) - {INCLUDE_UNSPECIFIED}


def check_sound(probe: DurationProbe, size: int) -> None:
    """Refuses a recording that has come to its end and has nothing in it that could be transcribed.

    Args:
        probe: Has seen all of it.
        size: Its bytes.

    Raises:
        UnsupportedAudio: It is a film without sound.
        EmptyAudio: It has a header and not a tenth of a second of sound.
    """
    if probe.is_soundless:
        raise UnsupportedAudio(
            "The file has no audio track, only pictures or text.", param="file", metadata={"detected": "video"}
        )
    seconds = probe.seconds() if size <= _MUCH_BYTES else None
    if seconds is not None and seconds < _SHORTEST_SECONDS:
        raise EmptyAudio(
            f"The recording has {seconds:.3f} s of sound in it; the shortest that can be transcribed has "
            f"{_SHORTEST_SECONDS} s.",
            param="file",
        )


def validate(config: TranscriptionConfig, audio: AudioHeader) -> None:
    """Checks the options of a call.

    Raises:
        InvalidRequest: A field is missing or out of its bounds; `param` names it.
        UnsupportedParameter: A field this release does not know how to honour yet.
    """
    if not config.model:
        raise InvalidRequest("You must provide a model parameter.", param="model")
    _short(config.model, "model")
    _short(config.language, "language")
    _list_of_names(config.languages, "languages", _LABELS)
    _list_of_names(config.keywords, "keywords", _KEYWORDS)
    if len(config.prompt.encode()) > _PROMPT_BYTES:
        raise InvalidRequest(f"The prompt is longer than {_PROMPT_BYTES} bytes.", param="prompt")
    if config.HasField("temperature") and not 0 <= config.temperature <= 1:
        raise InvalidRequest("The temperature must be between 0 and 1.", param="temperature")
    _known(config.response_format, _FORMATS, "response_format")
    _known(config.task, _TASKS, "task")
    for granularity in config.timestamp_granularities:
        _known(granularity, _GRANULARITIES, "timestamp_granularities")
    for include in config.include:
        _known(include, _INCLUDES, "include")
    _validate_chunking(config)
    if len(config.known_speakers) > _SPEAKERS:
        raise InvalidRequest(f"At most {_SPEAKERS} known speakers are possible.", param="known_speaker_names")
    for speaker in config.known_speakers:
        _short(speaker.name, "known_speaker_names")
        if not speaker.name or not 0 < len(speaker.reference.data) <= _REFERENCE_BYTES:
            raise InvalidRequest(
                f"A known speaker needs a name and a recording of at most {_REFERENCE_BYTES} bytes.",
                param="known_speaker_references",
            )
    if config.HasField("routing"):
        _validate_routing(config)
    if config.HasField("labels"):
        _validate_labels(config.labels)
    _validate_audio(audio)
    _refuse_what_comes_later(config)


def _validate_labels(labels: RequestLabels) -> None:
    _list_of_names(labels.tags, "tags", _LABELS)
    _short(labels.user, "user")
    if len(labels.metadata) > _LABELS:
        raise InvalidRequest(f"At most {_LABELS} metadata entries are possible.", param="metadata")
    for key, value in labels.metadata.items():
        _short(key, "metadata")
        _short(value, "metadata")


def _validate_chunking(config: TranscriptionConfig) -> None:
    if not config.HasField("chunking_strategy"):
        return
    kind = config.chunking_strategy.WhichOneof("kind")
    if kind is None:
        raise InvalidRequest("The chunking strategy must be auto or server_vad.", param="chunking_strategy")
    vad = config.chunking_strategy.server_vad
    if not 0 <= vad.threshold <= 1 or vad.prefix_padding_ms < 0 or vad.silence_duration_ms < 0:
        raise InvalidRequest(
            "server_vad takes a threshold between 0 and 1 and durations of at least 0 ms.", param="chunking_strategy"
        )


def _validate_routing(config: TranscriptionConfig) -> None:
    routing = config.routing
    if len(routing.fallbacks) > _FALLBACKS:
        raise InvalidRequest(f"At most {_FALLBACKS} fallbacks are possible.", param="fallbacks")
    if routing.HasField("attempt_timeout"):
        _positive(routing.attempt_timeout, "timeout")
    for index, target in enumerate(routing.fallbacks):
        _short(target.provider + target.model, f"fallbacks[{index}]")
        if not target.model:
            raise InvalidRequest("A fallback needs a model.", param=f"fallbacks[{index}]")
        if target.HasField("attempt_timeout"):
            _positive(target.attempt_timeout, f"fallbacks[{index}].timeout")
    if not 0 <= routing.max_retries <= _RETRIES:
        raise InvalidRequest(f"The number of retries must be between 0 and {_RETRIES}.", param="num_retries")


def _validate_audio(audio: AudioHeader) -> None:
    _short(audio.filename, "file")
    _short(audio.media_type, "file")
    if audio.size_bytes < 0:
        raise InvalidRequest("The size of the audio cannot be negative.", param="audio.size_bytes")
    if not audio.HasField("raw_format"):
        return
    raw = audio.raw_format
    if raw.encoding == AUDIO_ENCODING_UNSPECIFIED:
        raise InvalidRequest("Headerless audio needs its encoding.", param="audio.raw_format.encoding")
    if not 8000 <= raw.sample_rate_hertz <= 48_000:
        raise InvalidRequest(
            "The sample rate must be between 8000 and 48000 Hz.", param="audio.raw_format.sample_rate_hertz"
        )
    if not 0 <= raw.channel_count <= 8:
        raise InvalidRequest("At most 8 channels are possible.", param="audio.raw_format.channel_count")


def _refuse_what_comes_later(config: TranscriptionConfig) -> None:
    """An option that would be ignored is refused, so that nobody relies on it."""
    for is_set, parameter in (
        (bool(config.idempotency_key), "idempotency_key"),
        (bool(config.cache.key) or config.cache.HasField("ttl"), "cache"),
    ):
        if is_set:
            raise UnsupportedParameter(
                f"This release cannot honour {parameter} yet. Leave it out.",
                param=parameter,
                metadata={"parameter": parameter},
            )


def _short(text: str, param: str) -> None:
    if len(text.encode()) > _NAME_BYTES:
        raise InvalidRequest(f"{param} is longer than {_NAME_BYTES} bytes.", param=param)


def _list_of_names(names: Sequence[str], param: str, limit: int) -> None:
    if len(names) > limit:
        raise InvalidRequest(f"{param} has more than {limit} entries.", param=param)
    for name in names:
        _short(name, param)


def _known(number: int, known: Collection[int], param: str) -> None:
    if number not in known:
        raise InvalidRequest(f"{param} has no value number {number}.", param=param)


def _positive(duration: Duration, param: str) -> None:
    seconds = duration.seconds + duration.nanos / 1e9
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest("A time limit must be above 0.", param=param)
