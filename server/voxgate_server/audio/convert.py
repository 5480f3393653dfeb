"""Audio as a provider wants it: into another container, without decoding where that can be, while it arrives.

Headerless samples get a header here. Everything else is done by processes of their own, since it is strangers' files
that are read. The result is a spool like any other: providers read it while it is still being written.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path

import msgspec
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader

from voxgate_server.audio.isolation.frames import Failed, Failure, Kind, Start
from voxgate_server.audio.isolation.pool import Worker, WorkerPool, failure
from voxgate_server.audio.sniff import AudioKind, sniff
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.audio.wav import MOST_BYTES, wav_header
from voxgate_server.errors import (
    AudioTooLarge,
    CallerError,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.telemetry import get_logger

__all__ = ["RAW_MEDIA_TYPES", "Conversion", "Converter", "media_type_of"]

_log = get_logger("convert")

_MODULE = "voxgate_server.audio.conversion_worker"
_WHO = "the audio converter"
_HEAD_BYTES = 64
_PROCESSOR_SECONDS = 120
"""Processor time one recording may take. Four hours of sound take a quarter of it."""

RAW_MEDIA_TYPES = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "audio/pcm",
    AudioEncoding.AUDIO_ENCODING_MULAW: "audio/pcmu",
    AudioEncoding.AUDIO_ENCODING_ALAW: "audio/pcma",
}
"""By which types a model says that it takes headerless samples as they are."""


def media_type_of(audio: AudioHeader, kind: AudioKind | None) -> str | None:
    """The type by which a recording is looked for among those a model takes.

    Args:
        audio: What the caller said.
        kind: What the first bytes said; None for headerless audio.

    Returns:
        None for bare Opus packets, which nothing can be made of here.
    """
    if audio.HasField("raw_format"):
        return RAW_MEDIA_TYPES.get(audio.raw_format.encoding)
    return None if kind is None else kind.media_type


class Conversion:
    """A recording on its way into another container.

    Args:
        spool: Takes the result.
        source: What is converted, by its name.
        media_types: What the result may be.
    """

    def __init__(self, spool: Spool, source: str, media_types: frozenset[str]) -> None:
        self._source = source
        self.spool = spool
        self.media_types = media_types
        self.kind: AudioKind | None = None
        """What the result is, once `identify` has been awaited."""
        self.task: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """It did not fail, or would fail again."""
        return self.spool.error is None or isinstance(self.spool.error, CallerError)

    @property
    def name(self) -> str:
        """What became what, e.g. `webm to ogg`."""
        return f"{self._source} to {'nothing' if self.kind is None else self.kind.name}"

    async def identify(self) -> AudioKind:
        """What the result is, as soon as it has begun.

        Raises:
            VoxgateError: It failed.
        """
        if self.kind is None:
            self.kind = sniff(await self.spool.head(_HEAD_BYTES))
            if self.kind is None:
                raise InternalError("A conversion ended in something that is not audio.")
        return self.kind

    def close(self) -> None:
        """Ends it, and forgets the result."""
        if self.task is not None:
            self.task.cancel()
        self.spool.close()


class Converter:
    """Makes recordings into others. One per process; its own processes are started when they are first needed.

    Args:
        spools: Where results are kept; they count like uploads.
        max_bytes: The largest result.
        max_audio_seconds: The longest recording that is read, in seconds.
        workers: How many recordings are converted at a time; None means one per processor, at most 4.
        max_waiting: How many may wait for that; more are refused as Overloaded.
        temporary_directory: Where recordings are kept while they are read; None means TMPDIR or, without it, /var/tmp.
    """

    def __init__(
        self,
        spools: SpoolStore,
        *,
        max_bytes: int,
        max_audio_seconds: float = 4 * 3600,
        workers: int | None = None,
        max_waiting: int = 64,
        temporary_directory: Path | None = None,
    ) -> None:
        self._spools = spools
        self._max_bytes = max_bytes
        self._max_audio_seconds = max_audio_seconds
        size = min(max(len(os.sched_getaffinity(0)), 1), 4) if workers is None else workers
        self._pool = WorkerPool(
            _MODULE, _WHO, size=size, max_waiting=max_waiting, temporary_directory=temporary_directory
        )
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def is_available() -> bool:
        """Whether PyAV is installed, without which only headerless samples can be converted."""
        return importlib.util.find_spec("av") is not None

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes there are at the moment; none before the first conversion."""
        return self._pool.pids

    def begin(
        self,
        source: Spool,
        audio: AudioHeader,
        kind: AudioKind | None,
        *,
        media_types: Collection[str],
        deadline: float,
        who: str,
        seconds: Callable[[], float | None] = lambda: None,
        needs_length: bool = False,
    ) -> Conversion:
        """Begins a conversion. It has to be closed.

        Args:
            source: The recording, possibly still arriving.
            audio: What the caller said about it.
            kind: What it is; None for headerless audio.
            media_types: What the result may be. Headerless audio becomes WAV in any case.
            deadline: When it has to be over, on the clock of `time.monotonic()`, in seconds.
            who: Who takes only these types, for messages.
            seconds: Tells the recording's length, counted and not claimed; None while it is not known.
            needs_length: The result is not wanted before it is complete, so that its header can have its sizes.

        Raises:
            UnsupportedAudio: It cannot be converted here.
            AudioTooLarge: It is longer than what is converted here.
        """
        taken = frozenset(media_types)
        if kind is not None and not self.is_available():
            raise UnsupportedAudio(
                f"The recording is {kind.name} and {who} takes {', '.join(sorted(taken))} only. To convert it, this "
                "server needs PyAV (pip install 'voxgate[local]').",
                param="file",
                metadata={"detected": kind.name},
            )
        if kind is not None:
            self._check_length(seconds())
        name = "headerless audio" if kind is None else kind.name
        conversion = Conversion(self._spools.open(max_bytes=self._max_bytes), name, taken)
        if kind is None:
            work = _add_header(source, conversion.spool, audio, needs_length=needs_length)
        else:
            start = Start(
                self._max_audio_seconds,
                processor_seconds=_PROCESSOR_SECONDS,
                options={
                    "media_types": sorted(taken),
                    "max_bytes": self._max_bytes,
                    "whole": needs_length or source.finished,
                },
            )
            work = self._convert(source, conversion.spool, start, deadline, seconds)
        conversion.task = asyncio.create_task(_run(work, conversion.spool), name="voxgate-convert")
        self._tasks.add(conversion.task)
        conversion.task.add_done_callback(self._tasks.discard)
        return conversion

    async def aclose(self) -> None:
        """Ends all conversions and processes, and waits until they are gone."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._pool.aclose()

    def _check_length(self, seconds: float | None) -> None:
        if seconds is not None and seconds > self._max_audio_seconds:
            raise AudioTooLarge(
                f"The recording is {seconds:.0f} s long and would have to be converted, for which at most "
                f"{self._max_audio_seconds:g} s are taken. Send it in parts, or in another container.",
                param="file",
                metadata={"limit_seconds": f"{self._max_audio_seconds:g}"},
            )

    async def _feed(self, worker: Worker, start: Start, source: Spool, seconds: Callable[[], float | None]) -> None:
        await worker.feed(start, source)
        try:
            # To read all of it only to refuse it then would be a waste.
            self._check_length(seconds())
        except AudioTooLarge:
            worker.kill()
            raise

    async def _convert(
        self, source: Spool, result: Spool, start: Start, deadline: float, seconds: Callable[[], float | None]
    ) -> None:
        try:
            if self._pool.spare < 2:
                # The last free process is for recordings that are there: slow uploads would hold up everybody.
                async with asyncio.timeout(deadline - time.monotonic()):
                    await source.wait_finished()
            async with self._pool.lease(deadline) as lease, asyncio.timeout(deadline - time.monotonic()):
                worker = lease.worker
                feeder = asyncio.create_task(self._feed(worker, start, source, seconds), name="voxgate-convert-feed")
                try:
                    while (frame := await worker.receive())[0] is Kind.PIECE:
                        await result.write(frame[1])
                        with contextlib.suppress(ConnectionError):
                            await worker.send(Kind.MORE)
                except ProviderUnavailable:
                    if feeder.done() and (cause := feeder.exception()) is not None:
                        raise cause from None
                    if worker.ended_by is signal.SIGXCPU:
                        raise _too_costly(start.processor_seconds) from None
                    raise
                finally:
                    feeder.cancel()
                    await asyncio.gather(feeder, return_exceptions=True)
                if frame[0] is not Kind.DONE:
                    failed = msgspec.json.decode(frame[1], type=Failed)
                    if failed.failure is not Failure.INTERNAL:
                        lease.release()
                    raise failure(failed, _WHO)
                lease.release()
        except (TimeoutError, ProviderTimeout):
            raise DeadlineExceeded("The time for the call was over while the recording was being converted.") from None
        except ProviderUnavailable as error:
            # A fault of ours: nothing to blame a provider for.
            raise Overloaded(error.message, retry_after=5) from error
        result.finish()


async def _add_header(source: Spool, result: Spool, audio: AudioHeader, *, needs_length: bool) -> None:
    if needs_length:
        await source.wait_finished()
    size = source.size if source.finished else audio.size_bytes if audio.HasField("size_bytes") else None
    await result.write(wav_header(audio.raw_format, size))
    async for chunk in source.cursor():
        await result.write(chunk)
    if size is not None and size <= MOST_BYTES and size % 2:
        await result.write(b"\0")
    result.finish()


async def _run(work: Coroutine[None, None, None], result: Spool) -> None:
    try:
        await work
    except VoxgateError as error:
        result.fail(error)
    except Exception as error:
        _log.exception("a conversion failed")
        result.fail(InternalError(f"A conversion failed ({type(error).__name__})."))


def _too_costly(seconds: int) -> UnsupportedAudio:
    return UnsupportedAudio(
        f"The recording cannot be converted: reading it takes more than {seconds} s of processor time.",
        param="file",
        metadata={"limit_seconds": str(seconds)},
    )
