"""What a recording is, told by its first bytes. Names and media types of callers are hints and often wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from voxgate_server.audio.frame_headers import adts_length, id3_length, mpeg_length

__all__ = ["HEAD_BYTES", "AudioKind", "describe", "sniff"]

HEAD_BYTES = 4096
"""How many first bytes are enough for everything `sniff` knows."""


@dataclass(frozen=True, slots=True)
class AudioKind:
    """A container or elementary stream that carries audio."""

    name: str
    extension: str
    """Without the dot; one that OpenAI's list of formats has, where there is one."""
    media_type: str
    """Never `video/…`: providers drop the sound of what they take for a film."""


WAV = AudioKind("wav", "wav", "audio/wav")
FLAC = AudioKind("flac", "flac", "audio/flac")
MP3 = AudioKind("mp3", "mp3", "audio/mpeg")
MP4 = AudioKind("mp4", "m4a", "audio/mp4")
OGG = AudioKind("ogg", "ogg", "audio/ogg")
WEBM = AudioKind("webm", "webm", "audio/webm")
MATROSKA = AudioKind("matroska", "webm", "audio/x-matroska")
AAC = AudioKind("aac", "aac", "audio/aac")
AIFF = AudioKind("aiff", "aiff", "audio/aiff")
AU = AudioKind("au", "au", "audio/basic")
CAF = AudioKind("caf", "caf", "audio/x-caf")
AMR = AudioKind("amr", "amr", "audio/amr")
ASF = AudioKind("asf", "wma", "audio/x-ms-wma")

_EBML_HEADER_BYTES = 64
"""Where the kind of an EBML document stands."""
_AUDIO: tuple[tuple[Callable[[bytes], bool], AudioKind], ...] = (
    (lambda b: b[:4] in {b"RIFF", b"RIFX", b"RF64"} and b[8:12] == b"WAVE", WAV),
    (lambda b: b[:4] == b"fLaC", FLAC),
    (lambda b: b[:4] == b"OggS", OGG),
    (lambda b: b[:4] == b"\x1aE\xdf\xa3" and b"matroska" in b[:_EBML_HEADER_BYTES], MATROSKA),
    (lambda b: b[:4] == b"\x1aE\xdf\xa3", WEBM),
    (lambda b: b[4:8] in {b"ftyp", b"moov", b"mdat", b"styp", b"free", b"skip", b"wide"}, MP4),
    (lambda b: b[:4] == b"FORM" and b[8:12] in {b"AIFF", b"AIFC"}, AIFF),
    (lambda b: b[:4] == b".snd", AU),
    (lambda b: b[:4] == b"caff", CAF),
    (lambda b: b[:5] == b"#!AMR", AMR),
    (lambda b: b[:4] == b"\x30\x26\xb2\x75", ASF),
)

_OTHER: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program"),
    (b"MThd", "a MIDI file, which has notes and no sound"),
    (b"#EXTM3U", "a playlist"),
)


def sniff(head: bytes) -> AudioKind | None:
    """What the audio is, or None when these are not the first bytes of any audio known here.

    Args:
        head: The first bytes; `HEAD_BYTES` of them are always enough, a dozen mostly.
    """
    for matches, kind in _AUDIO:
        if matches(head):
            return kind
    if head[:3] != b"ID3":
        return _elementary_stream(head, 0)
    # Nothing else has such a tag, and it may be longer than what we see.
    return _elementary_stream(head, id3_length(head)) or MP3


def describe(head: bytes) -> str:
    """What bytes that are not audio seem to be, for an error message."""
    for magic, name in _OTHER:
        if head.startswith(magic):
            return name
    text = head[:512].lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML or XML document"
    if text.startswith((b"{", b"[")):
        return "JSON"
    try:
        head[:512].decode("ascii")
    except UnicodeDecodeError:
        return "data of an unknown kind"
    return "plain text"


def _elementary_stream(head: bytes, start: int) -> AudioKind | None:
    """MP3 or AAC without a container, which may begin behind stray bytes.

    A frame header is only 11 or 12 bits, so it counts when a second one stands where the first says, or when the
    first is at the very start and its frame reaches beyond what we see.
    """
    at = head.find(b"\xff", start)
    while at != -1:
        for kind, length_of in ((AAC, adts_length), (MP3, mpeg_length)):
            length = length_of(head[at : at + 7])
            if length:
                following = head[at + length : at + length + 7]
                if length_of(following) or (len(following) < 7 and at == start):
                    return kind
        at = head.find(b"\xff", at + 1)
    return None
