"""Builds requests out of what callers say, the same for both clients. Nothing here does I/O but reading the audio."""

import hashlib
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import (
    Include,
    RequestLabels,
    ResponseFormat,
    RouteTarget,
    RoutingConfig,
    TimestampGranularity,
    TranscriptionConfig,
)
from voxgate.transcription.v1.model_service_pb2 import ListModelsRequest
from voxgate.transcription.v1.transcription_service_pb2 import (
    TranscribeEventsRequest,
    TranscribeUploadRequest,
    UploadStart,
)

from voxgate_client._audio import AsyncAudio, Audio, open_async_audio, open_audio

__all__ = [
    "DEFAULT_TIMEOUT",
    "Options",
    "Progress",
    "TranscriptionOptions",
    "Upload",
    "checked_timeout",
    "enum_value",
    "events_request",
    "events_request_async",
    "models_request",
    "read_options",
]

DEFAULT_TIMEOUT = 600.0
"""Limit of a call in seconds, unless the client or the call has another: how long a recording is, is not known
before it was decoded. Give hours of audio a longer one."""

Progress = Callable[[int, int | None], object]
"""Called with the bytes sent so far and the size of the recording in bytes, None when that is unknown."""

_PAGE = 1000
"""Models a page, the most a server gives."""

_EVENTS_BYTES = 31 << 20
"""The server takes messages of 32 MiB; the rest is room for the options."""


class TranscriptionOptions(TypedDict, total=False):
    """Everything a transcription can be asked for besides its audio. Each may be left out."""

    model: str
    """Model or model group, e.g. `openai/whisper-1`. Default `whisper-1`."""
    language: str | None
    """Language of the speech, ISO 639-1 (`de`) or BCP 47 (`de-AT`). Default: detected."""
    prompt: str | None
    """Text that guides style or vocabulary."""
    temperature: float | None
    """Sampling temperature, 0 to 1. Default: the provider's."""
    response_format: "str | ResponseFormat.ValueType"
    """`json` (default), `text`, `srt`, `verbose_json`, `vtt` or `diarized_json`. `text`, `srt` and `vtt` fill
    `Transcription.rendered`."""
    timestamp_granularities: "Iterable[str | TimestampGranularity.ValueType]"
    """`word`, `segment` or both."""
    include: "Iterable[str | Include.ValueType]"
    """Optional parts of the answer: `logprobs`."""
    fallbacks: Iterable[str | RouteTarget]
    """What to try in order after `model` failed: `model`, `provider/model`, or RouteTarget. At most 5."""
    user: str | None
    """The end user, for the records."""
    tags: Iterable[str]
    """Tags, for the records."""
    metadata: Mapping[str, str] | None
    """Keys and values, for the records."""
    extra_params: Mapping[str, Any] | None
    """Parameters of one provider under its own names; sent on where the operator permits it."""
    filename: str | None
    """Name of the recording; its extension is a hint at the format. Default: the file's own."""
    media_type: str | None
    """Media type of the recording, e.g. `audio/flac`; a hint too."""
    timeout: float | None
    """Limit of the whole call in seconds. Default: the client's, which is 600 unless it was given another."""


@dataclass(frozen=True, slots=True)
class Options:
    """TranscriptionOptions, checked and in the API's own words."""

    config: TranscriptionConfig
    filename: str | None
    media_type: str | None
    timeout: float | None


def read_options(
    *,
    model: str = "whisper-1",
    language: str | None = None,
    prompt: str | None = None,
    temperature: float | None = None,
    response_format: "str | ResponseFormat.ValueType" = "json",
    timestamp_granularities: "Iterable[str | TimestampGranularity.ValueType]" = (),
    include: "Iterable[str | Include.ValueType]" = (),
    fallbacks: Iterable[str | RouteTarget] = (),
    user: str | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    extra_params: Mapping[str, Any] | None = None,
    filename: str | None = None,
    media_type: str | None = None,
    timeout: float | None = None,
) -> Options:
    """Checks what only this side can tell apart (names of formats, empty targets); limits are the server's business.

    Raises:
        ValueError: A name or number that cannot be.
        TypeError: A value of the wrong type, or an option that does not exist.
    """
    config = TranscriptionConfig(
        model=model,
        language=language,
        prompt=prompt,
        temperature=temperature,
        response_format=enum_value(ResponseFormat, "response_format", response_format),
        timestamp_granularities=[
            enum_value(TimestampGranularity, "timestamp_granularities", name)
            for name in _several(timestamp_granularities)
        ],
        include=[enum_value(Include, "include", name) for name in _several(include)],
    )
    if targets := [_target(entry) for entry in _several(fallbacks)]:
        config.routing.CopyFrom(RoutingConfig(fallbacks=targets))
    labels = RequestLabels(user=user or "", tags=list(_several(tags)), metadata=metadata)
    if labels.ByteSize():
        config.labels.CopyFrom(labels)
    if extra_params is not None:
        config.extra_params.update(extra_params)
    return Options(config, filename, media_type, None if timeout is None else checked_timeout(timeout))


def checked_timeout(timeout: float) -> float:
    """A limit in seconds that gRPC understands.

    Raises:
        ValueError: It is not above 0, or has no end.
    """
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout}.")
    return float(timeout)


class Upload:
    """One recording on its way: start, chunk*, finish, with its running size and digest.

    Args:
        audio: What is sent.
        options: How.
    """

    def __init__(self, audio: AsyncAudio, options: Options) -> None:
        self._audio = audio
        self._options = options
        self._sha256 = hashlib.sha256()
        self.size = 0
        """Bytes in the messages so far."""
        self.total: int | None = None
        """Bytes of the whole recording; None when unknown. Valid from the first message on."""

    def messages(self) -> Generator[TranscribeUploadRequest]:
        """The messages. The first one opens the recording.

        Raises:
            OSError: The file cannot be opened or read.
            TypeError: The audio is nothing that can be read.
        """
        with open_audio(self._audio) as source:  # type: ignore[arg-type]  # what it is not, it refuses itself
            yield self._start(source.name, source.size)
            for piece in source.pieces:
                yield self._chunk(piece)
        yield self._finish()

    async def messages_async(self, audio: AsyncIterable[bytes]) -> AsyncGenerator[TranscribeUploadRequest]:
        """The messages of an asynchronous iterable."""
        yield self._start("", None)
        async for piece in open_async_audio(audio):
            yield self._chunk(piece)
        yield self._finish()

    def _start(self, name: str, size: int | None) -> TranscribeUploadRequest:
        self.total = size
        header = AudioHeader(
            filename=self._options.filename or name, media_type=self._options.media_type or "", size_bytes=size
        )
        return TranscribeUploadRequest(start=UploadStart(config=self._options.config, audio=header))

    def _chunk(self, piece: bytes) -> TranscribeUploadRequest:
        self.size += len(piece)
        self._sha256.update(piece)
        return TranscribeUploadRequest(chunk=AudioChunk(data=piece))

    def _finish(self) -> TranscribeUploadRequest:
        return TranscribeUploadRequest(finish=AudioTrailer(size_bytes=self.size, sha256=self._sha256.digest()))


def events_request(audio: Audio, options: Options) -> TranscribeEventsRequest:
    """The request for events, with the whole recording in it.

    Raises:
        ValueError: The recording is too large for one message.
        OSError: The file cannot be opened or read.
    """
    whole = bytearray()
    with open_audio(audio) as source:
        for piece in source.pieces:
            _append(whole, piece)
    return _events_request(source.name, whole, options)


async def events_request_async(audio: AsyncIterable[bytes], options: Options) -> TranscribeEventsRequest:
    """As `events_request`, for an asynchronous iterable."""
    whole = bytearray()
    async for piece in open_async_audio(audio):
        _append(whole, piece)
    return _events_request("", whole, options)


def _append(whole: bytearray, piece: bytes) -> None:
    whole += piece
    if len(whole) > _EVENTS_BYTES:
        raise ValueError(
            f"events() takes recordings up to {_EVENTS_BYTES >> 20} MiB, and this one is larger. Use transcribe(), "
            "which has no limit of its own, or compress the recording (FLAC or Opus)."
        )


def _events_request(name: str, whole: bytearray, options: Options) -> TranscribeEventsRequest:
    source = AudioSource(data=bytes(whole), filename=options.filename or name, media_type=options.media_type or "")
    return TranscribeEventsRequest(config=options.config, audio=source)


def models_request(provider: str | None) -> ListModelsRequest:
    """The request for the first page of models."""
    return ListModelsRequest(page_size=_PAGE, provider=provider or "")


class _Enum(Protocol):
    @property
    def DESCRIPTOR(self) -> Any: ...  # noqa: N802  # protobuf's own name


def enum_value(enum: _Enum, field: str, given: object) -> Any:
    """The number of an enum value, by OpenAI's name for it (`verbose_json`) or as it is.

    Raises:
        ValueError: There is no such name.
    """
    if not isinstance(given, str):
        return given
    values = enum.DESCRIPTOR.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    names = {value.name.removeprefix(prefix).lower(): value.number for value in values[1:]}
    if given not in names:
        raise ValueError(f"{field} has no {given!r:.100}; there are {', '.join(names)}.")
    return names[given]


def _several(given: "Iterable[Any]") -> Sequence[Any]:
    # A string is an iterable of its letters, which nobody means.
    return (given,) if isinstance(given, str | RouteTarget) else tuple(given)


def _target(entry: str | RouteTarget) -> RouteTarget:
    target = RouteTarget(model=entry) if isinstance(entry, str) else entry
    if not target.model:
        raise ValueError("A fallback needs a model: 'model', 'provider/model' or RouteTarget(provider=…, model=…).")
    return target
