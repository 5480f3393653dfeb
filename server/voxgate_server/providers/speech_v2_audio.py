"""What Google's Speech-to-Text v2 hears of a recording as it is.

It reads few codecs, and of several channels it hears the first and says nothing of the others.
"""

from voxgate.transcription.v1.audio_pb2 import RawAudioFormat

from voxgate_server.audio.frame_headers import id3_length
from voxgate_server.audio.sniff import AMR, FLAC, MP3, MP4, OGG, WAV, WEBM, AudioKind

__all__ = ["MEDIA_TYPES", "heard_whole"]

MEDIA_TYPES = tuple(sorted(kind.media_type for kind in (AMR, FLAC, MP3, MP4, OGG, WAV, WEBM)))
"""What it reads, most of it with some codecs only."""

_WAV_CODECS = frozenset({1, 6, 7})
"""PCM, A-law and µ-law."""


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
