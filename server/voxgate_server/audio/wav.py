"""The header that makes headerless samples a WAV file."""

import struct

from voxgate.transcription.v1.audio_pb2 import AudioEncoding, RawAudioFormat

__all__ = ["MOST_BYTES", "wav_header"]

_TAGS = {
    # Of WAVEFORMATEX, with the bytes of a sample.
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: (1, 2),
    AudioEncoding.AUDIO_ENCODING_ALAW: (6, 1),
    AudioEncoding.AUDIO_ENCODING_MULAW: (7, 1),
}
_UNKNOWN = 0xFFFFFFFF
MOST_BYTES = _UNKNOWN - 64
"""More bytes of sound than these cannot be written into the header."""


def wav_header(raw: RawAudioFormat, size: int | None) -> bytes:
    """What has to stand before the samples.

    Args:
        raw: What they are: 16-bit PCM, A-law or µ-law.
        size: Bytes of them. None when it is not known: then the sizes are those FFmpeg writes into a pipe, the largest
            that fit, by which readers know to go on to the end.
    """
    tag, width = _TAGS[raw.encoding]
    channels = raw.channel_count or 1
    rate = raw.sample_rate_hertz
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width)
    if tag != 1:
        form += b"\0\0"  # Nothing follows, which only PCM need not say.
    data = _UNKNOWN if size is None or size > MOST_BYTES else size
    whole = _UNKNOWN if data == _UNKNOWN else 4 + 8 + len(form) + 8 + data + data % 2
    return b"".join(
        [b"RIFF", struct.pack("<I", whole), b"WAVEfmt ", struct.pack("<I", len(form)), form,
         b"data", struct.pack("<I", data)]
    )  # fmt: skip
