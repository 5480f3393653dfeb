"""Opus packets (RFC 6716, section 3.1): how long each is."""

__all__ = ["MAX_PACKET_SAMPLES", "OPUS_RATE", "frame_samples", "packet_samples"]

OPUS_RATE = 48_000
"""Samples per second that all lengths of Opus count, whatever was recorded."""
MAX_PACKET_SAMPLES = 5760
"""No packet is longer: 120 ms."""

_FRAME_SAMPLES = ((480, 960, 1920, 2880),) * 3 + ((480, 960),) * 2 + ((120, 240, 480, 960),) * 4
_CONFIGURATIONS = tuple(samples for mode in _FRAME_SAMPLES for samples in mode)
frame_samples = tuple(_CONFIGURATIONS[toc >> 3] for toc in range(256))
"""Samples of one frame by a packet's first byte."""
packet_samples = tuple(frame_samples[toc] * (1, 2, 2, 0)[toc & 3] for toc in range(256))
"""Samples of a packet by its first byte; 0 when its second byte says how many frames it has (its low 6 bits)."""
