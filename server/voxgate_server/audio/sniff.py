"""What the first bytes of a recording say it is."""

from dataclasses import dataclass

__all__ = ["AudioKind", "sniff"]


@dataclass(frozen=True, slots=True)
class AudioKind:
    """A container format."""

    extension: str
    """File name extension without the dot, e.g. `wav`."""
    media_type: str
    """E.g. `audio/wav`."""


_WAV = AudioKind("wav", "audio/wav")
_FLAC = AudioKind("flac", "audio/flac")
_MP3 = AudioKind("mp3", "audio/mpeg")
_M4A = AudioKind("m4a", "audio/mp4")
_OGG = AudioKind("ogg", "audio/ogg")
_WEBM = AudioKind("webm", "audio/webm")


def sniff(head: bytes) -> AudioKind | None:
    """Tells the container from the first bytes (12 are enough); None when it is none of the known ones."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _WAV
    if head[:4] == b"fLaC":
        return _FLAC
    if head[:4] == b"OggS":
        return _OGG
    if head[:4] == b"\x1aE\xdf\xa3":
        return _WEBM
    if head[4:8] == b"ftyp":
        return _M4A
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return _MP3
    return None
