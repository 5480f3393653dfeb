"""What the adapters of all engines on this machine have in common: processes, recordings, answers."""

import asyncio
import contextlib
import importlib.util
import os
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader
from voxgate.transcription.v1.config_pb2 import (
    ResponseFormat,
    TimestampGranularity,
)
from voxgate.transcription.v1.events_pb2 import TextDelta, TextDone, TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate.transcription.v1.transcription_pb2 import (
    DurationUsage,
    Transcription,
    TranscriptionSegment,
    TranscriptionWord,
    Usage,
)

from voxgate_server.audio.convert import RAW_MEDIA_TYPES
from voxgate_server.audio.isolation.frames import Done, Failed, Failure, Kind, RawAudio, Start
from voxgate_server.audio.isolation.pool import Lease, WorkerPool, failure
from voxgate_server.errors import (
    InvalidRequest,
    ProviderGarbled,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedAudio,
)
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.local.engine import Partial, Utterance
from voxgate_server.providers.options import is_translation

__all__ = ["LocalProvider", "missing_packages", "processors"]

_MODULE = "voxgate_server.providers.local.worker"
_MEDIA_TYPES = (
    "audio/wav",
    "audio/flac",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/ogg",
    "audio/webm",
    "audio/x-matroska",
    "audio/aiff",
    "audio/basic",
    "audio/x-caf",
    "audio/amr",
    "audio/x-ms-wma",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
    *RAW_MEDIA_TYPES.values(),
)
_RAW_FORMATS = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "s16le",
    AudioEncoding.AUDIO_ENCODING_MULAW: "mulaw",
    AudioEncoding.AUDIO_ENCODING_ALAW: "alaw",
}


def missing_packages(*names: str) -> list[str]:
    """Those of these packages that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def processors() -> int:
    """How many processors this process may use."""
    return max(len(os.sched_getaffinity(0)), 1)


class LocalProvider:
    """Recognises speech in processes of its own on this machine, without network and without a bill.

    What the processes run is an engine; a subclass says which, and what becomes of a caller's options.

    Args:
        name: The provider, as it stands before the slash of `provider/model`.
        model: Its model.
        engine: Module of the engine, beside this one.
        settings: For the engine's `load`; everybody on the machine can read them.
        capabilities: What it can do. Formats, times, limits and media types are filled in.
        workers: How many recordings are recognised at a time.
        max_waiting: How many calls may wait for a worker; more are refused as Overloaded.
        max_audio_seconds: The longest recording that is taken, in seconds.
        temporary_directory: Where recordings are kept while they are read; None means TMPDIR or, without it, /var/tmp.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        engine: str,
        settings: Mapping[str, object],
        capabilities: ModelCapabilities,
        workers: int,
        max_waiting: int,
        max_audio_seconds: float,
        temporary_directory: Path | None = None,
    ) -> None:
        if workers < 1 or max_waiting < 0 or max_audio_seconds <= 0:
            raise ValueError("workers must be at least 1, max_waiting at least 0, max_audio_seconds above 0")
        self._name = name
        self._model = model
        self._who = f"{name}: the recogniser"
        self._max_audio_seconds = max_audio_seconds
        self._pool = WorkerPool(
            _MODULE,
            self._who,
            size=workers,
            max_waiting=max_waiting,
            temporary_directory=temporary_directory,
            arguments=(engine, msgspec.json.encode(settings).decode()),
        )
        self._capabilities = ModelCapabilities(
            response_formats=[
                ResponseFormat.RESPONSE_FORMAT_JSON,
                ResponseFormat.RESPONSE_FORMAT_TEXT,
                ResponseFormat.RESPONSE_FORMAT_SRT,
                ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
                ResponseFormat.RESPONSE_FORMAT_VTT,
            ],
            timestamp_granularities=[
                TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
                TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
            ],
            streaming=True,
            max_audio_duration=Duration(seconds=int(max_audio_seconds)),
            media_types=_MEDIA_TYPES,
        )
        self._capabilities.MergeFrom(capabilities)

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._name

    @property
    def model(self) -> str:
        """Its model."""
        return self._model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What it can do."""
        return self._capabilities

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes there are at the moment; none before the first call."""
        return self._pool.pids

    def options(self, attempt: Attempt) -> dict[str, Any]:
        """What the engine is told of the caller's options; names of those that change nothing are reported.

        Raises:
            UnsupportedParameter: An option asks for what it cannot do.
        """
        raise NotImplementedError

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Recognises one recording while it arrives: a delta per utterance, then `done`.

        Closing the iterator early kills the worker process.

        Raises:
            UnsupportedParameter: An option asks for what it cannot do.
            UnsupportedAudio: Not audio, audio it cannot read, or damaged.
            EmptyAudio: No audio in it.
            AudioTooLarge: More seconds than the limit.
            Overloaded: Too many calls wait for a worker.
            ProviderTimeout: The deadline passed.
            ProviderUnavailable: A worker could not be started or died.
            VoxgateError: What the spool's cursor raised, unchanged.
        """
        options = self.options(attempt)
        raw = self._raw_audio(attempt.audio)
        partials = self._capabilities.live and attempt.on_partial is not None and _is_plain(raw)
        start = Start(self._max_audio_seconds, raw, options=options, partials=partials)
        if self._pool.spare < 2:
            # The last free worker is for recordings that are there: slow uploads would otherwise hold up everybody.
            start.partials &= not await self._whole(attempt)
        async with self._pool.lease(attempt.deadline) as lease:
            feeder = asyncio.create_task(lease.worker.feed(start, attempt.spool), name="voxgate-local-feed")
            try:
                async with contextlib.aclosing(self._answer(lease, feeder, attempt)) as events:
                    async for event in events:
                        yield event
            finally:
                feeder.cancel()
                await asyncio.wait([feeder])
                _error_of(feeder)  # or asyncio complains that nobody asked

    async def aclose(self) -> None:
        """Ends all workers and waits until they are gone."""
        await self._pool.aclose()

    async def _whole(self, attempt: Attempt) -> bool:
        """Waits until the recording is complete (True) or two workers are free."""
        whole = asyncio.create_task(attempt.spool.wait_finished())
        spare = asyncio.create_task(self._pool.wait_spare(2))
        try:
            left = max(attempt.deadline - time.monotonic(), 0)
            done, _ = await asyncio.wait((whole, spare), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise ProviderTimeout(f"{self._name}: the recording was not complete in time.")
            if whole in done:
                whole.result()
            return whole in done
        finally:
            for task in (whole, spare):
                task.cancel()
            await asyncio.gather(whole, spare, return_exceptions=True)

    async def _answer(
        self, lease: Lease, feeder: asyncio.Task[None], attempt: Attempt
    ) -> AsyncGenerator[TranscriptionEvent, None]:
        translation = is_translation(attempt.config)
        result = Transcription(task="translate" if translation else "transcribe")
        while True:
            try:
                async with asyncio.timeout(attempt.deadline - time.monotonic()):
                    kind, payload = await lease.worker.receive()
            except TimeoutError:
                raise ProviderTimeout(f"{self._name}: the recording was not recognised in time.") from None
            except ProviderUnavailable:
                if (error := _error_of(feeder)) is not None:
                    raise error from None
                raise
            match kind:
                case Kind.PARTIAL:
                    partial = msgspec.json.decode(payload, type=Partial)
                    if attempt.on_partial is not None:
                        attempt.on_partial(partial.text, partial.seconds)
                case Kind.UTTERANCE:
                    text = _add(result, msgspec.json.decode(payload, type=Utterance))
                    yield TranscriptionEvent(delta=TextDelta(delta=text if len(result.segments) == 1 else f" {text}"))
                case Kind.DONE:
                    lease.release()
                    result.text = " ".join(segment.text for segment in result.segments)
                    result.duration = msgspec.json.decode(payload, type=Done).duration
                    result.usage.CopyFrom(Usage(duration=DurationUsage(seconds=result.duration)))
                    yield TranscriptionEvent(done=TextDone(transcription=result))
                    return
                case Kind.FAILED:
                    failed = msgspec.json.decode(payload, type=Failed)
                    if failed.failure is not Failure.INTERNAL:
                        lease.release()
                    raise failure(failed, self._who)
                case _:
                    raise ProviderGarbled(f"{self._name}: the recogniser's process answered with {kind.name}.")

    def _raw_audio(self, audio: AudioHeader) -> RawAudio | None:
        if not audio.HasField("raw_format"):
            return None
        raw = audio.raw_format
        if raw.encoding == AudioEncoding.AUDIO_ENCODING_OPUS:
            raise UnsupportedAudio(
                f"{self._name}/{self._model} does not read bare Opus packets. Send Opus in an Ogg or WebM container.",
                param="raw_format",
                metadata={"detected": "opus"},
            )
        if raw.encoding not in _RAW_FORMATS:
            raise InvalidRequest("raw_format.encoding must be set.", param="raw_format")
        return RawAudio(_RAW_FORMATS[raw.encoding], raw.sample_rate_hertz, raw.channel_count or 1)


def _is_plain(raw: RawAudio | None) -> bool:
    """Whether it can be read without a decoder, which reads ahead."""
    return raw is not None and (raw.format, raw.channels) == ("s16le", 1)


def _error_of(feeder: asyncio.Task[None]) -> BaseException | None:
    return feeder.exception() if feeder.done() and not feeder.cancelled() else None


def _add(result: Transcription, utterance: Utterance) -> str:
    result.segments.append(
        TranscriptionSegment(
            id=len(result.segments),
            start=utterance.start,
            end=utterance.end,
            text=utterance.text,
            tokens=utterance.tokens,
            avg_logprob=utterance.avg_logprob,
            no_speech_prob=utterance.no_speech_prob,
            compression_ratio=utterance.compression_ratio,
            temperature=utterance.temperature,
        )
    )
    result.words.extend(
        TranscriptionWord(word=word.word, start=word.start, end=word.end, confidence=word.confidence)
        for word in utterance.words
    )
    if utterance.language and not result.language:
        result.language = utterance.language
    return utterance.text
