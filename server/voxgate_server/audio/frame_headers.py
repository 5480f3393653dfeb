"""Headers of audio that comes without a container: what each says about its own length."""

__all__ = ["MPEG_RATES", "adts_length", "id3_length", "mpeg_length"]

_MPEG_KBITS = {
    # (MPEG-1, layer): kbit/s by index; ISO/IEC 11172-3 table, MPEG-2 (13818-3) has its own.
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Samples per second by version (the two bits of the header) and index."""


def id3_length(head: bytes) -> int:
    """Bytes of an ID3v2 tag: its header, and four bytes of 7 bits that say how much follows."""
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))


def mpeg_length(header: bytes) -> int:
    """Length of an MPEG audio frame in bytes; 0 when this is no frame header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, kbit_index, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or kbit_index in {0, 15}:
        return 0
    rate, kbits = MPEG_RATES[version][rate_index], _MPEG_KBITS[version == 3, layer][kbit_index]
    if layer == 1:
        return (12_000 * kbits // rate + padding) * 4
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbits // rate + padding


def adts_length(header: bytes) -> int:
    """Length of an ADTS (AAC) frame in bytes; 0 when this is no frame header."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 0xF > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0
