"""Recordings as pieces of samples, for places that take short ones only, or other containers.

They are decoded and cut in processes of their own. Mixing the channels down is part of it.
"""

import asyncio
import contextlib
import importlib.util
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, RawAudioFormat

from voxgate_server.audio.isolation.frames import (
    MAX_PAYLOAD,
    SAMPLE_RATE,
    Done,
    Failed,
    Failure,
    Kind,
    RawAudio,
    Start,
)
from voxgate_server.audio.isolation.pool import Worker, WorkerPool, failure
from voxgate_server.audio.spool import Spool
from voxgate_server.errors import ProviderTimeout, ProviderUnavailable, UnsupportedAudio

__all__ = ["SAMPLE_RATE", "Piece", "Splitter"]

_MODULE = "voxgate_server.audio.splitting_worker"
_WHO = "the audio decoder"
_RAW_FORMATS = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "s16le",
    AudioEncoding.AUDIO_ENCODING_MULAW: "mulaw",
    AudioEncoding.AUDIO_ENCODING_ALAW: "alaw",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording."""

    start: float
    """In seconds from the start of the recording."""
    pcm: bytes
    """Samples: signed 16 bit little-endian, mono, `SAMPLE_RATE`."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / 2 / SAMPLE_RATE


class Splitter:
    """Cuts recordings at pauses.

    Args:
        piece_seconds: The longest piece, in seconds; all but the last have at least half of it. At most 60.
        max_audio_seconds: The longest recording that is taken, in seconds.
        workers: How many recordings are read at a time.
        max_waiting: How many callers may wait for a worker; more are refused as Overloaded.
        temporary_directory: Where recordings are kept while they are read; None means TMPDIR or, without it, /var/tmp.

    Raises:
        ValueError: PyAV is not installed, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        piece_seconds: float,
        max_audio_seconds: float,
        workers: int = 2,
        max_waiting: int = 64,
        temporary_directory: Path | None = None,
    ) -> None:
        if not self.is_available():
            raise ValueError("Reading recordings needs PyAV: pip install 'voxgate[local]'")
        if not 1 <= piece_seconds <= 60 or 2 * SAMPLE_RATE * piece_seconds > MAX_PAYLOAD:
            raise ValueError("piece_seconds must be between 1 and 60")
        self._piece_seconds = piece_seconds
        self._max_audio_seconds = max_audio_seconds
        self._pool = WorkerPool(
            _MODULE, _WHO, size=workers, max_waiting=max_waiting, temporary_directory=temporary_directory
        )

    @staticmethod
    def is_available() -> bool:
        """Whether PyAV, which does the decoding, is installed."""
        return importlib.util.find_spec("av") is not None

    @property
    def worker_pids(self) -> list[int]:
        """Ids of the processes there are at the moment; none before the first call."""
        return self._pool.pids

    async def pieces(self, spool: Spool, raw: RawAudioFormat | None, deadline: float) -> AsyncGenerator[Piece, None]:
        """The pieces of a recording, in order and without gaps; at most a few ahead of whoever takes them.

        Closing the iterator early kills the process. There is at least one piece.

        Args:
            spool: The recording, possibly still arriving.
            raw: Format of headerless audio; None when the recording has a container.
            deadline: When it has to be over, on the clock of `time.monotonic()`, in seconds.

        Raises:
            UnsupportedAudio: Not audio, audio nobody reads here, or damaged.
            EmptyAudio: No audio in it.
            AudioTooLarge: More seconds than the limit.
            Overloaded: Too many calls wait for a worker.
            ProviderTimeout: The deadline passed.
            ProviderUnavailable: A worker could not be started or died.
            VoxgateError: What the spool's cursor raised, unchanged.
        """
        start = Start(self._max_audio_seconds, _raw_audio(raw), self._piece_seconds)
        async with self._pool.lease(deadline) as lease:
            worker = lease.worker
            feeder = asyncio.create_task(worker.feed(start, spool), name="voxgate-splitting-feed")
            samples = 0
            try:
                while True:
                    kind, payload = await _receive(worker, feeder, deadline)
                    match kind:
                        case Kind.PIECE:
                            piece = Piece(samples / SAMPLE_RATE, payload)
                            samples += len(payload) // 2
                            yield piece
                            with contextlib.suppress(ConnectionError):
                                await worker.send(Kind.MORE)
                        case Kind.DONE:
                            lease.release()
                            assert samples == round(msgspec.json.decode(payload, type=Done).duration * SAMPLE_RATE)
                            return
                        case Kind.FAILED:
                            failed = msgspec.json.decode(payload, type=Failed)
                            if failed.failure is not Failure.INTERNAL:
                                lease.release()
                            raise failure(failed, _WHO)
                        case _:
                            raise ProviderUnavailable(f"{_WHO} answered with {kind.name}.")
            finally:
                feeder.cancel()
                await asyncio.wait([feeder])
                _error_of(feeder)  # or asyncio complains that nobody asked

    async def aclose(self) -> None:
        """Ends all workers and waits until they are gone."""
        await self._pool.aclose()


async def _receive(worker: Worker, feeder: asyncio.Task[None], deadline: float) -> tuple[Kind, bytes]:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await worker.receive()
    except TimeoutError:
        raise ProviderTimeout(f"{_WHO} had not read the recording in time.") from None
    except ProviderUnavailable:
        if (error := _error_of(feeder)) is not None:
            raise error from None
        raise


def _error_of(feeder: asyncio.Task[None]) -> BaseException | None:
    return feeder.exception() if feeder.done() and not feeder.cancelled() else None


def _raw_audio(raw: RawAudioFormat | None) -> RawAudio | None:
    if raw is None:
        return None
    if raw.encoding not in _RAW_FORMATS:
        raise UnsupportedAudio(
            "Bare Opus packets are not read here. Send Opus in an Ogg or WebM container.",
            param="raw_format",
            metadata={"detected": "opus"},
        )
    return RawAudio(_RAW_FORMATS[raw.encoding], raw.sample_rate_hertz, raw.channel_count or 1)
