"""Opus packets (RFC 6716, section 3.1): how long each is."""

__all__ = ["MAX_PACKET_SAMPLES", "OPUS_RATE", "opus_samples", "packet_samples"]

OPUS_RATE = 48_000
"""Samples per second that all lengths of Opus count, whatever was recorded."""
MAX_PACKET_SAMPLES = 5760
"""No packet is longer: 120 ms."""

_FRAME_SAMPLES = ((480, 960, 1920, 2880),) * 3 + ((480, 960),) * 2 + ((120, 240, 480, 960),) * 4
_CONFIGURATIONS = tuple(samples for mode in _FRAME_SAMPLES for samples in mode)
packet_samples = tuple(_CONFIGURATIONS[toc >> 3] * (1, 2, 2, 0)[toc & 3] for toc in range(256))
"""Samples of a packet by its first byte; 0 when its second byte has to be asked (`opus_samples`)."""


def opus_samples(first: int, second: int) -> int:
    """Samples of a packet by its first two bytes; 0 for one that no decoder takes."""
    samples = packet_samples[first] or _CONFIGURATIONS[first >> 3] * (second & 63)
    return samples if samples <= MAX_PACKET_SAMPLES else 0
