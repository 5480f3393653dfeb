"""Loads: how many calls of which kind, and what their replies proved.

Both transports run the same loads (`clients.py` holds them). A reply counts only when it carries the id of its call and
the SHA-256 and the size of its recording, as the provider saw them; everything else is an error with a reason.
"""

import asyncio
import functools
import hashlib
import random
import re
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import grpc

__all__ = ["BadReplyError", "Client", "Load", "Outcome", "Recording", "Timing", "recordings", "run"]

_PROOF: Final = re.compile(r"rid=(\S+) sha=([0-9a-f]{16}) bytes=(\d+) first=([\d.]+) last=([\d.]+)")
_BLOCK_BYTES: Final = 1 << 20


class BadReplyError(Exception):
    """A reply that is not the transcript of what was sent."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Audio to send.

    Attributes:
        data: The bytes of a wav file, 16 kHz, mono, 16 bits.
        sha256: Their digest.
    """

    data: bytes
    sha256: bytes

    @functools.lru_cache(maxsize=16)  # noqa: B019 - recordings live as long as the run
    def pieces(self, size: int) -> list[bytes]:
        """The bytes in pieces of `size` bytes, the last one maybe shorter."""
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]


@functools.cache
def recordings(size: int) -> tuple[Recording, ...]:
    """Different recordings of `size` bytes: small ones eight, so that one sent for another is seen."""
    found = []
    for seed in range(8 if size <= _BLOCK_BYTES else 1):
        noise = random.Random(seed).randbytes(min(size, _BLOCK_BYTES))
        head = struct.pack(
            "<4sI8sIHHIIHH4sI", b"RIFF", size - 8, b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", size - 44
        )
        data = (head + noise * (size // len(noise) + 1))[:size]
        found.append(Recording(data, hashlib.sha256(data).digest()))
    return tuple(found)


@dataclass(frozen=True)
class Load:
    """A bounded number of calls.

    Attributes:
        calls: How many.
        at_once: How many callers share them; each waits for its reply before it calls again.
        size: Bytes of the recording.
        model: What the provider does (upstream.py).
        piece_bytes: The recording is sent in pieces of this size.
        piece_seconds: A piece is sent every so many seconds, and over REST the body is chunked. 0 means at once.
        stagger_seconds: Each caller starts so much later than the one before.
        unary: Over gRPC, whether the recording goes in one message (`Transcribe`) or in pieces (`TranscribeUpload`).
        call_seconds: How long one call may take.
        seconds: No call starts later than this.
    """

    calls: int
    at_once: int = 1
    size: int = 32 * 1024
    model: str = "instant"
    piece_bytes: int = 256 * 1024
    piece_seconds: float = 0.0
    stagger_seconds: float = 0.0
    unary: bool = False
    call_seconds: float = 60.0
    seconds: float = 60.0

    async def due(self, started: float, piece: int) -> None:
        """Waits until a piece has been spoken; pieces count from 0, `started` is CLOCK_MONOTONIC in seconds."""
        wait = started + (piece + 1) * self.piece_seconds - time.monotonic()
        if self.piece_seconds and wait > 0:
            await asyncio.sleep(wait)


class Client(Protocol):
    """Somebody who can call, again and again."""

    async def transcribe(self, rid: str, recording: Recording, load: Load) -> tuple[float, str]:
        """Sends a recording under the id `rid`.

        Returns:
            When the last piece began to be sent (CLOCK_MONOTONIC, seconds), and the transcript.

        Raises:
            BadReplyError, OSError, EOFError, grpc.RpcError: There was no transcript.
        """

    async def close(self) -> None:
        """Ends what was opened for this caller."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One good call; all moments are CLOCK_MONOTONIC in seconds.

    Attributes:
        started: The caller began.
        last_sent: The caller began to send the last piece.
        ended: The caller had the transcript.
        first_held: The provider had the first byte of the file.
        last_held: The provider had the last byte of the body.
    """

    started: float
    last_sent: float
    ended: float
    first_held: float
    last_held: float


@dataclass
class Outcome:
    """What came of a load.

    Attributes:
        started: When it began (CLOCK_MONOTONIC, seconds).
        timings: The good calls.
        errors: How many calls failed, by reason.
    """

    started: float
    timings: list[Timing] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


async def run(connect: Callable[[int], Awaitable[Client]], load: Load) -> Outcome:
    """Runs a load.

    Args:
        connect: Opens a client for the caller with this number.
        load: The load.
    """
    outcome = Outcome(time.monotonic())
    variants = recordings(load.size)
    run_id = random.randbytes(6).hex()
    numbers = iter(range(load.calls))

    async def caller(number: int) -> None:
        client: Client | None = None
        await asyncio.sleep(number * load.stagger_seconds)
        for call in numbers:
            started = time.monotonic()
            if started > outcome.started + load.seconds:
                break
            recording, rid = variants[call % len(variants)], f"{run_id}{call:06x}"
            try:
                async with asyncio.timeout(load.call_seconds):
                    client = client or await connect(number)
                    last_sent, text = await client.transcribe(rid, recording, load)
                ended = time.monotonic()
                first_held, last_held = _held(text, rid, recording)
                outcome.timings.append(Timing(started, last_sent, ended, first_held, last_held))
            except (BadReplyError, OSError, EOFError, grpc.RpcError) as error:
                outcome.errors[_reason(error)] += 1
                if client:
                    await client.close()
                client = None
        if client:
            await client.close()

    outcome.started = time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(load.at_once)))
    return outcome


def _held(text: str, rid: str, recording: Recording) -> tuple[float, float]:
    """When the provider had the first and the last byte, if the transcript proves that it had these bytes."""
    found = _PROOF.fullmatch(text)
    if found is None:
        raise BadReplyError(f"not a transcript: {text[:100]!r}")
    if found.group(1, 2, 3) != (rid, recording.sha256.hex()[:16], str(len(recording.data))):
        raise BadReplyError("the transcript of something else")
    return float(found.group(4)), float(found.group(5))


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {(error.details() or '')[:200]}"
    return f"{type(error).__name__}: {str(error)[:200]}"
