"""Headerless audio: its length is arithmetic."""

from voxgate.transcription.v1.audio_pb2 import (
    AUDIO_ENCODING_ALAW,
    AUDIO_ENCODING_MULAW,
    AUDIO_ENCODING_PCM_S16LE,
    RawAudioFormat,
)

__all__ = ["raw_seconds"]

_SAMPLE_BYTES = {AUDIO_ENCODING_PCM_S16LE: 2, AUDIO_ENCODING_MULAW: 1, AUDIO_ENCODING_ALAW: 1}


def raw_seconds(raw: RawAudioFormat, size_bytes: int) -> float | None:
    """Length in seconds of so many bytes of headerless audio.

    Args:
        raw: Its format.
        size_bytes: How many bytes there are.

    Returns:
        None for bare Opus packets, whose borders the bytes do not tell, and for a format without a rate.
    """
    sample = _SAMPLE_BYTES.get(raw.encoding)
    if sample is None or raw.sample_rate_hertz <= 0:
        return None
    return size_bytes // (sample * max(raw.channel_count, 1)) / raw.sample_rate_hertz
