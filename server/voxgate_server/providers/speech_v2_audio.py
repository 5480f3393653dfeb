"""What Google's Speech-to-Text v2 hears of a recording as it is.

It reads few codecs, and of several channels it hears the first and says nothing of the others.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from voxgate.transcription.v1.audio_pb2 import RawAudioFormat

from voxgate_server.audio.convert import RAW_MEDIA_TYPES
from voxgate_server.audio.duration import DurationProbe
from voxgate_server.audio.frame_headers import id3_length
from voxgate_server.audio.sniff import AAC, AIFF, AMR, FLAC, HEAD_BYTES, MP3, MP4, OGG, WAV, WEBM, AudioKind
from voxgate_server.errors import DeadlineExceeded
from voxgate_server.providers.base import Attempt

__all__ = ["CONVERTED_MEDIA_TYPES", "MEDIA_TYPES", "Measured", "heard_whole", "measure"]

MEDIA_TYPES = (
    *sorted(kind.media_type for kind in (AMR, FLAC, MP3, MP4, OGG, WAV, WEBM)),
    *RAW_MEDIA_TYPES.values(),
)
"""What it reads, most of it with some codecs only."""
CONVERTED_MEDIA_TYPES = (AAC.media_type, AIFF.media_type)
"""What it can be sent converted, besides."""

_WAV_CODECS = frozenset({1, 6, 7})
"""PCM, A-law and µ-law."""


class Measured(NamedTuple):
    """What is known of a recording that is there."""

    seconds: float | None
    """Its length; None when it cannot be known without decoding."""
    size: int
    """In bytes."""
    heard_whole: bool | None
    """See there."""


async def measure(attempt: Attempt, raw: RawAudioFormat | None, *, check: Callable[[int], None]) -> Measured:
    """Waits for all of a recording.

    Args:
        attempt: Whose.
        raw: Format of headerless audio; None when the audio has a container.
        check: Called with the bytes there are; may raise.

    Raises:
        DeadlineExceeded: It was not there in time.
        VoxgateError: Whatever `check` and the spool's cursor raise, unchanged.
    """
    probe = DurationProbe(raw)
    head = bytearray()
    size = 0
    try:
        async with asyncio.timeout(attempt.deadline - time.monotonic()) as limit:
            async for chunk in attempt.spool.cursor():
                probe.feed(chunk)
                head += chunk[: max(HEAD_BYTES - len(head), 0)]
                size += len(chunk)
                check(size)
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            "The time for the call was over while the recording was still coming in. Send it faster, or allow the call "
            "more time."
        ) from None
    return Measured(probe.seconds(), size, heard_whole(attempt.kind, bytes(head), raw))


def heard_whole(kind: AudioKind | None, head: bytes, raw: RawAudioFormat | None) -> bool | None:
    """Whether all of a recording is heard; None when its first bytes do not tell.

    Args:
        kind: What it is, told by its first bytes.
        head: Its first bytes.
        raw: Format of headerless audio; None when the audio has a container.
    """
    if raw is not None:
        return raw.channel_count <= 1
    if kind is None:
        return None
    if kind.media_type not in MEDIA_TYPES:
        return False
    if kind is WAV:
        return _wav(head)
    if kind is FLAC:
        # STREAMINFO is always the first block; 20 bits of rate stand before 3 bits of channels less one.
        return head[20] >> 1 & 7 == 0 if len(head) > 20 else None
    if kind is OGG:
        return head[28:36] == b"OpusHead" and head[37:38] == b"\x01"
    if kind is MP3:
        frame = head[id3_length(head) :] if head[:3] == b"ID3" else head
        return frame[3] >> 6 == 3 if frame[:1] == b"\xff" and len(frame) > 3 else None
    return True if kind is AMR else None


def _wav(head: bytes) -> bool | None:
    at = 12
    while head[:4] == b"RIFF" and at + 24 <= len(head):
        size = int.from_bytes(head[at + 4 : at + 8], "little")
        if head[at : at + 4] == b"fmt ":
            codec, channels = (int.from_bytes(head[at + where : at + where + 2], "little") for where in (8, 10))
            bits = int.from_bytes(head[at + 22 : at + 24], "little")
            return codec in _WAV_CODECS and channels == 1 and bits == (16 if codec == 1 else 8)
        at += 8 + size + size % 2
    return None
