"""The recording as Riva takes it: bare samples, FLAC or Opus in Ogg, in slices.

Riva takes no containers but these, so the samples of a WAV file are taken out of it. That works while the file is
still arriving: its header comes first.
"""

import struct
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass

from voxgate.transcription.v1.audio_pb2 import AudioEncoding as Raw

from voxgate_server.audio.convert import RAW_MEDIA_TYPES
from voxgate_server.errors import UnsupportedAudio
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.riva.riva_asr_pb2 import AudioEncoding

__all__ = ["MEDIA_TYPES", "SampleFormat", "WavData", "sample_format", "slices"]

MEDIA_TYPES = ("audio/wav", "audio/flac", "audio/ogg", *RAW_MEDIA_TYPES.values())
"""What it takes."""

_HEAD_BYTES = 4096
_SLICE_BYTES = 32 * 1024
"""One second of samples at 16 kHz: far below what any server refuses, and early enough for text on the way."""
_RAW = {
    Raw.AUDIO_ENCODING_PCM_S16LE: AudioEncoding.LINEAR_PCM,
    Raw.AUDIO_ENCODING_MULAW: AudioEncoding.MULAW,
    Raw.AUDIO_ENCODING_ALAW: AudioEncoding.ALAW,
}
_PCM, _ALAW, _MULAW, _EXTENSIBLE = 1, 6, 7, 0xFFFE
_WAV = {
    # (format tag, bits of a sample)
    (_PCM, 16): AudioEncoding.LINEAR_PCM,
    (_ALAW, 8): AudioEncoding.ALAW,
    (_MULAW, 8): AudioEncoding.MULAW,
}


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """What the bytes are that Riva is sent."""

    encoding: AudioEncoding.ValueType
    sample_rate: int
    """In Hz."""
    channels: int
    in_wav: bool = False
    """The bytes of the recording are a WAV file."""

    @property
    def frame_bytes(self) -> int:
        """Bytes that belong together: one sample of each channel."""
        if self.encoding == AudioEncoding.LINEAR_PCM:
            return 2 * self.channels
        return self.channels if self.encoding in (AudioEncoding.MULAW, AudioEncoding.ALAW) else 1

    @property
    def sent_channels(self) -> int:
        """Channels of what is sent: those of plain samples are mixed, because Riva's models hear one."""
        return 1 if self.encoding == AudioEncoding.LINEAR_PCM else self.channels


async def sample_format(attempt: Attempt, who: str) -> SampleFormat:
    """What the recording is, by its first bytes.

    Args:
        attempt: Waits for them, if need be.
        who: The deployment, for messages.

    Raises:
        UnsupportedAudio: Nothing that Riva takes.
        VoxgateError: The upload failed.
    """
    if attempt.audio.HasField("raw_format"):
        raw = attempt.audio.raw_format
        if raw.encoding not in _RAW:
            raise _unsupported(who, "bare Opus packets")
        return SampleFormat(_RAW[raw.encoding], raw.sample_rate_hertz, raw.channel_count or 1)
    head = await attempt.spool.head(_HEAD_BYTES)
    found: SampleFormat | None = None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        found = _wav(head)
    elif head[:4] == b"fLaC" and len(head) >= 26:
        # 20 bits of rate, 3 bits of channels less one, in the STREAMINFO block that always comes first.
        bits = int.from_bytes(head[18:22], "big")
        found = SampleFormat(AudioEncoding.FLAC, bits >> 12, (bits >> 9 & 7) + 1)
    elif head[:4] == b"OggS" and len(head) > 27:
        packet = head[27 + head[26] :]
        if packet[:8] == b"OpusHead" and len(packet) >= 16:
            found = SampleFormat(AudioEncoding.OGGOPUS, struct.unpack_from("<I", packet, 12)[0] or 48_000, packet[9])
    if found is None or not found.sample_rate or not found.channels:
        what = "this audio" if attempt.kind is None else f"this {attempt.kind.name} file"
        raise _unsupported(who, what)
    return found


async def slices(body: AudioBody, form: SampleFormat) -> AsyncIterator[bytes]:
    """The recording in slices of at most 32 KiB, whole frames each; ends only where the body does.

    Args:
        body: The recording, without anything before or after it.
        form: What it is.

    Raises:
        VoxgateError: The upload failed, or is larger than the limit of the body.
    """
    wav = WavData() if form.in_wav else None
    mixed = form.encoding == AudioEncoding.LINEAR_PCM and form.channels > 1
    size = _SLICE_BYTES - _SLICE_BYTES % form.frame_bytes
    pending = bytearray()
    async for chunk in body:
        pending += chunk if wav is None else wav.feed(chunk)
        whole = len(pending) - len(pending) % form.frame_bytes
        for start in range(0, whole, size):
            piece = bytes(pending[start : min(start + size, whole)])
            yield _mixed(piece, form.channels) if mixed else piece
        del pending[:whole]


class WavData:
    """Takes the samples out of a WAV file that arrives in pieces."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._next = 12
        """Where the next chunk begins, in `_head`."""
        self._left: int | None = None
        """Bytes of the data chunk that are still to come; negative: until the end of the file."""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes of the file and gives those of them that are samples."""
        if self._left is None:
            self._head += data
            data = self._find()
        if self._left is None or self._left < 0:
            return data
        data = data[: self._left]
        self._left -= len(data)
        return data

    def _find(self) -> bytes:
        head = self._head
        while True:
            passed = min(self._next, len(head))
            del head[:passed]
            self._next -= passed
            if self._next or len(head) < 8:
                return b""
            name, size = struct.unpack_from("<4sI", head)
            if name == b"data":
                # Who writes a file while it is being recorded does not know the size yet.
                self._left = -1 if size in (0, 0xFFFFFFFF) else size
                return bytes(head[8:])
            self._next = 8 + size + size % 2


def _wav(head: bytes) -> SampleFormat | None:
    at = 12
    while len(head) >= at + 24:
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"fmt ":
            tag, channels, rate = struct.unpack_from("<HHI", head, at + 8)
            (bits,) = struct.unpack_from("<H", head, at + 22)
            if tag == _EXTENSIBLE and len(head) >= at + 34:
                (tag,) = struct.unpack_from("<H", head, at + 32)
            encoding = _WAV.get((tag, bits))
            return None if encoding is None else SampleFormat(encoding, rate, channels, in_wav=True)
        at += 8 + size + size % 2
    return None


def _mixed(frames: bytes, channels: int) -> bytes:
    samples = array("h", frames)
    parts = [samples[channel::channels] for channel in range(channels)]
    return array("h", [sum(frame) // channels for frame in zip(*parts, strict=True)]).tobytes()


def _unsupported(who: str, what: str) -> UnsupportedAudio:
    return UnsupportedAudio(
        f"{who} cannot take {what}; it takes WAV with 16-bit, µ-law or A-law samples, FLAC, Opus in Ogg, and "
        "headerless samples. Convert it, or choose another model.",
        param="file",
    )
