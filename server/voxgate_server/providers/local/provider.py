"""The adapter of the embedded recogniser, `local/pocketsphinx`."""

import asyncio
import contextlib
import importlib.util
import math
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader
from voxgate.transcription.v1.config_pb2 import (
    Include,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
    TranscriptionTask,
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

from voxgate_server.audio.isolation.frames import Done, Failed, Failure, Kind, RawAudio, Start
from voxgate_server.audio.isolation.pool import Lease, WorkerPool, failure
from voxgate_server.errors import (
    InvalidRequest,
    ProviderGarbled,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedAudio,
    UnsupportedParameter,
)
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.local.utterance import Partial, Utterance

__all__ = ["PocketsphinxProvider", "missing_packages"]

_MODULE = "voxgate_server.providers.local.worker"
_WHO = "local: the recogniser"
_PACKAGES = ("pocketsphinx", "av")
_MEDIA_TYPES = (
    "audio/wav",
    "audio/flac",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/ogg",
    "audio/webm",
    "audio/aiff",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
)
_RAW_FORMATS = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "s16le",
    AudioEncoding.AUDIO_ENCODING_MULAW: "mulaw",
    AudioEncoding.AUDIO_ENCODING_ALAW: "alaw",
}
_LEAST_CONFIDENCE = 1e-4
"""Confidences have four decimals; a logarithm needs something above zero."""


def missing_packages() -> list[str]:
    """Names of the packages of the extra `local` that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


class PocketsphinxProvider:
    """Recognises English speech in processes of its own on this machine, without network and without a bill.

    Args:
        model: Only `pocketsphinx`.
        workers: How many recordings are recognised at a time; None means one per processor, at most 4.
        max_waiting: How many calls may wait for a worker; more are refused as Overloaded.
        max_audio_seconds: The longest recording that is taken, in seconds.
        temporary_directory: Where recordings are kept while they are read; None means TMPDIR or, without it, /var/tmp.

    Raises:
        ValueError: The packages of the extra `local` are not installed, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        model: str = "pocketsphinx",
        workers: int | None = None,
        max_waiting: int = 64,
        max_audio_seconds: float = 4 * 3600,
        temporary_directory: Path | None = None,
    ) -> None:
        if missing := missing_packages():
            raise ValueError(f"The embedded recogniser needs {' and '.join(missing)}: pip install 'voxgate[local]'")
        if model != "pocketsphinx":
            raise ValueError(f"local knows the model pocketsphinx, not {model[:255]!r}")
        if workers is None:
            workers = min(max(len(os.sched_getaffinity(0)), 1), 4)
        if workers < 1 or max_waiting < 0 or max_audio_seconds <= 0:
            raise ValueError("workers must be at least 1, max_waiting at least 0, max_audio_seconds above 0")
        self._model = model
        self._max_audio_seconds = max_audio_seconds
        self._pool = WorkerPool(
            _MODULE, _WHO, size=workers, max_waiting=max_waiting, temporary_directory=temporary_directory
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
            languages=["en"],
            options=["language", "languages", "timestamp_granularities"],
            streaming=True,
            live=True,
            max_audio_duration=Duration(seconds=int(max_audio_seconds)),
            media_types=_MEDIA_TYPES,
        )

    @property
    def name(self) -> str:
        """`local`."""
        return "local"

    @property
    def model(self) -> str:
        """`pocketsphinx`."""
        return self._model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What it can do."""
        return self._capabilities

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes there are at the moment; none before the first call."""
        return self._pool.pids

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
        _check_options(attempt.config)
        raw = _raw_audio(attempt.audio)
        start = Start(self._max_audio_seconds, raw, partials=attempt.on_partial is not None and _is_plain(raw))
        attempt.dropped_params += _unusable(attempt.config)
        if self._pool.spare < 2:
            # The last free worker is for recordings that are there: slow uploads would otherwise hold up everybody.
            start.partials &= not await self._whole(attempt)
        async with self._pool.lease(attempt.deadline) as lease:
            feeder = asyncio.create_task(lease.worker.feed(start, attempt.spool), name="voxgate-local-feed")
            try:
                async with contextlib.aclosing(_answer(lease, feeder, attempt)) as events:
                    async for event in events:
                        yield event
            finally:
                feeder.cancel()
                await asyncio.wait([feeder])
                _error_of(feeder)  # or asyncio complains that nobody asked

    async def _whole(self, attempt: Attempt) -> bool:
        """Waits until the recording is complete (True) or two workers are free."""
        whole = asyncio.create_task(attempt.spool.wait_finished())
        spare = asyncio.create_task(self._pool.wait_spare(2))
        try:
            left = max(attempt.deadline - time.monotonic(), 0)
            done, _ = await asyncio.wait((whole, spare), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise ProviderTimeout("local: the recording was not complete in time.")
            if whole in done:
                whole.result()
            return whole in done
        finally:
            for task in (whole, spare):
                task.cancel()
            await asyncio.gather(whole, spare, return_exceptions=True)

    async def aclose(self) -> None:
        """Ends all workers and waits until they are gone."""
        await self._pool.aclose()


async def _answer(
    lease: Lease, feeder: asyncio.Task[None], attempt: Attempt
) -> AsyncGenerator[TranscriptionEvent, None]:
    result = Transcription(task="transcribe", language="en")
    while True:
        try:
            async with asyncio.timeout(attempt.deadline - time.monotonic()):
                kind, payload = await lease.worker.receive()
        except TimeoutError:
            raise ProviderTimeout("local: the recording was not recognised in time.") from None
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
                raise failure(failed, _WHO)
            case _:
                raise ProviderGarbled(f"local: the recogniser's process answered with {kind.name}.")


def _error_of(feeder: asyncio.Task[None]) -> BaseException | None:
    return feeder.exception() if feeder.done() and not feeder.cancelled() else None


def _add(result: Transcription, utterance: Utterance) -> str:
    words = utterance.words
    text = " ".join(word.word for word in words)
    logprob = sum(math.log(max(word.confidence, _LEAST_CONFIDENCE)) for word in words) / len(words)
    result.segments.append(
        TranscriptionSegment(
            id=len(result.segments), start=words[0].start, end=words[-1].end, text=text, avg_logprob=round(logprob, 4)
        )
    )
    result.words.extend(
        TranscriptionWord(word=word.word, start=word.start, end=word.end, confidence=word.confidence) for word in words
    )
    return text


def _check_options(config: TranscriptionConfig) -> None:
    if config.HasField("language") and not _is_english(config.language):
        raise _unsupported("language", f"language {config.language[:64]!r}: it knows English only")
    if config.languages and not any(_is_english(language) for language in config.languages):
        raise _unsupported("languages", "any of the languages asked for: it knows English only")
    if config.task == TranscriptionTask.TRANSCRIPTION_TASK_TRANSLATE:
        raise _unsupported("task", "translation")
    if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
        raise _unsupported("response_format", "diarized_json: it does not tell speakers apart")
    if config.known_speakers:
        raise _unsupported("known_speaker_names", "known speakers: it does not tell speakers apart")
    if Include.INCLUDE_LOGPROBS in config.include:
        raise _unsupported("include", "logprobs: it has no tokens")


def _is_english(language: str) -> bool:
    return language.replace("_", "-").split("-")[0].lower() in {"en", "eng", "english"}


def _unsupported(param: str, what: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"local/pocketsphinx cannot do {what}.", param=param, metadata={"parameter": param, "provider": "local"}
    )


def _unusable(config: TranscriptionConfig) -> list[str]:
    """REST names of options that every client sends and that change nothing here."""
    unusable = [name for name in ("prompt", "temperature", "chunking_strategy") if config.HasField(name)]
    unusable += [name for name in ("keywords", "languages") if getattr(config, name)]
    return unusable + sorted(config.extra_params.fields)


def _raw_audio(audio: AudioHeader) -> RawAudio | None:
    if not audio.HasField("raw_format"):
        return None
    raw = audio.raw_format
    if raw.encoding == AudioEncoding.AUDIO_ENCODING_OPUS:
        raise UnsupportedAudio(
            "local/pocketsphinx does not read bare Opus packets. Send Opus in an Ogg or WebM container.",
            param="raw_format",
            metadata={"detected": "opus"},
        )
    if raw.encoding not in _RAW_FORMATS:
        raise InvalidRequest("raw_format.encoding must be set.", param="raw_format")
    return RawAudio(_RAW_FORMATS[raw.encoding], raw.sample_rate_hertz, raw.channel_count or 1)


def _is_plain(raw: RawAudio | None) -> bool:
    """Whether it can be read without a decoder, which reads ahead."""
    return raw is not None and (raw.format, raw.channels) == ("s16le", 1)
