"""Headerless audio as plain samples, and plain samples as a file: what live speech is made of.

Plain samples are signed 16 bit little-endian, mono. Everything here is arithmetic on bytes without any I/O.
"""

import struct
from array import array
from operator import add

from voxgate.transcription.v1.audio_pb2 import (
    AUDIO_ENCODING_ALAW,
    AUDIO_ENCODING_MULAW,
    AUDIO_ENCODING_PCM_S16LE,
    RawAudioFormat,
)

__all__ = ["SAMPLE_BYTES", "PcmReader", "wav"]

SAMPLE_BYTES = 2
"""Bytes of a plain sample."""


class PcmReader:
    """Turns the bytes of one stream into plain samples, at the rate they have; channels are mixed down.

    The bytes may be cut anywhere: what does not make a whole sample of all channels waits for the next ones.

    Args:
        raw: Format of the bytes.

    Raises:
        ValueError: The encoding is none that is read here.
    """

    def __init__(self, raw: RawAudioFormat) -> None:
        if raw.encoding not in _DECODERS:
            raise ValueError("neither PCM, µ-law nor A-law")
        self._tables = _DECODERS[raw.encoding]
        self._channels = raw.channel_count or 1
        self._group = self._channels * (1 if self._tables else SAMPLE_BYTES)
        self.rest = b""
        """Bytes that do not make a whole sample yet."""

    def feed(self, data: bytes) -> bytes:
        """The samples that are complete with these bytes."""
        if self.rest:
            data = self.rest + data
        whole = len(data) - len(data) % self._group
        data, self.rest = data[:whole], data[whole:]
        if self._tables is not None:
            low, high = self._tables
            samples = bytearray(SAMPLE_BYTES * len(data))
            samples[0::2], samples[1::2] = data.translate(low), data.translate(high)
            data = bytes(samples)
        return data if self._channels == 1 else _mixed(data, self._channels)


def wav(pcm: bytes, sample_rate: int) -> bytes:
    """A WAV file of plain samples.

    Args:
        pcm: The samples.
        sample_rate: In Hz.
    """
    byte_rate = SAMPLE_BYTES * sample_rate
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, byte_rate, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    return b"".join(
        (struct.pack("<4sI4s", b"RIFF", 36 + len(pcm), b"WAVE"), layout, struct.pack("<4sI", b"data", len(pcm)), pcm)
    )


def _mixed(pcm: bytes, channels: int) -> bytes:
    samples = memoryview(pcm).cast("h")
    sums = list(samples[0::channels])
    for channel in range(1, channels):
        sums = list(map(add, sums, samples[channel::channels]))
    return array("h", [total // channels for total in sums]).tobytes()


def _mulaw(code: int) -> int:
    """ITU-T G.711, table 2a."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 0x07)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    """ITU-T G.711, table 1a."""
    code ^= 0x55
    magnitude, exponent = (code & 0x0F) << 4, code >> 4 & 0x07
    magnitude = magnitude + 8 if exponent == 0 else magnitude + 0x108 << exponent - 1
    return magnitude if code & 0x80 else -magnitude


def _tables(values: list[int]) -> tuple[bytes, bytes]:
    """Low and high byte of every value, for `bytes.translate`, which decodes at the speed of a copy."""
    return bytes(value & 0xFF for value in values), bytes(value >> 8 & 0xFF for value in values)


_DECODERS: dict[int, tuple[bytes, bytes] | None] = {
    AUDIO_ENCODING_PCM_S16LE: None,
    AUDIO_ENCODING_MULAW: _tables([_mulaw(code) for code in range(256)]),
    AUDIO_ENCODING_ALAW: _tables([_alaw(code) for code in range(256)]),
}
