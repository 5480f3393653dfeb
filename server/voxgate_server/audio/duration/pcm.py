"""Apple's and Sun's simple containers: AIFF and AIFF-C, CAF, AU."""

import math
import struct

from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["AiffWalk", "AuWalk", "CafWalk"]

_AU_SAMPLE_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_AU_UNSET = 0xFFFFFFFF
_AIFC_SAMPLE_BYTES = {
    b"alaw": 1, b"ALAW": 1, b"ulaw": 1, b"ULAW": 1, b"raw ": 1, b"sowt": 2, b"twos": 2, b"in24": 3, b"in32": 4,
    b"42ni": 3, b"23ni": 4, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8,
}  # fmt: skip
_IMA4_BLOCK, _IMA4_SAMPLES = 34, 64


class _DataWalk(Walk):
    """Counts the bytes of one stretch of sound, all blocks of which are as large and as long."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._start = -1
        self._size: int | None = None
        self._block_bytes = 0
        self._block_seconds = 0.0

    def _data(self, size: int | None) -> None:
        """Here the sound begins; None means that it reaches to the end."""
        self._start, self._size = self.window.position, size
        self._declare()

    def _blocks(self, size: int, seconds: float) -> None:
        self._block_bytes, self._block_seconds = size, seconds
        self._declare()

    def _declare(self) -> None:
        if self._start >= 0 and self._size is not None and self._block_bytes:
            self.declared = self._size // self._block_bytes * self._block_seconds

    @property
    def _data_bytes(self) -> int:
        came = max(self.window.received - self._start, 0)
        return came if self._size is None else min(came, self._size)

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._block_bytes:
            return None
        return 0.0 if self._start < 0 else self._data_bytes // self._block_bytes * self._block_seconds


class AuWalk(_DataWalk):
    """AU: one header, then the sound."""

    def steps(self) -> Steps:
        """See Walk."""
        head = yield from self.window.take(24)
        offset, size, encoding, rate, channels = struct.unpack(">5I", head[4:])
        sample = _AU_SAMPLE_BYTES.get(encoding)
        if sample is None or not rate or not channels or offset < len(head):
            raise GiveUp
        self.window.skip(offset - len(head))
        self._blocks(sample * channels, 1 / rate)
        self._data(None if size in (0, _AU_UNSET) else size)


class AiffWalk(_DataWalk):
    """AIFF and AIFF-C: chunks in any order, big-endian."""

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        head = yield from window.take(12)
        compressed = head[8:] == b"AIFC"
        while True:
            head = yield from window.take(8)
            name, size = head[:4], int.from_bytes(head[4:], "big")
            window.effort()
            if name == b"COMM":
                body = yield from window.take(min(size, 22))
                window.skip(-len(body))
                self._common(body, compressed=compressed)
            elif name == b"SSND":
                offset = int.from_bytes((yield from window.take(8))[:4], "big")
                window.skip(offset)
                self._data(size - 8 - offset if size > 8 + offset else None)
                if self._size is None:
                    return
                window.skip(-offset - 8)
            window.skip(size + (size & 1))

    def _common(self, body: bytes, *, compressed: bool) -> None:
        if len(body) < 18:
            raise GiveUp
        channels, _, bits = struct.unpack(">HIH", body[:8])
        rate = _extended(body[8:18])
        compression = body[18:22] if compressed else b"NONE"
        if not channels or rate < 1:
            return
        if compression in (b"NONE", b"sowt", b"twos"):
            self._blocks((bits + 7) // 8 * channels, 1 / rate)
        elif compression == b"ima4":
            self._blocks(_IMA4_BLOCK * channels, _IMA4_SAMPLES / rate)
        elif compression in _AIFC_SAMPLE_BYTES:
            self._blocks(_AIFC_SAMPLE_BYTES[compression] * channels, 1 / rate)


class CafWalk(_DataWalk):
    """CAF. Packets of one size are counted; of others the packet table says how many frames are sound.

    The table is believed as far as the packets it names can hold that many frames, and the bytes that many packets.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._rate = 0.0
        self._packet_frames = 0
        self._valid: int | None = None
        self._packets = 0

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        window.skip(8)
        while True:
            head = yield from window.take(12)
            name, size = head[:4], int.from_bytes(head[4:], "big", signed=True)
            window.effort()
            if name == b"desc":
                body = yield from window.take(32)
                window.skip(-32)
                rate, _, _, packet_bytes, packet_frames, _, _ = struct.unpack(">d4sIIIII", body)
                if not (math.isfinite(rate) and rate >= 1):
                    raise GiveUp
                self._rate, self._packet_frames = rate, packet_frames
                if packet_bytes and packet_frames:
                    self._blocks(packet_bytes, packet_frames / rate)
            elif name == b"data":
                window.skip(4)  # a count of edits
                self._data(size - 4 if size >= 4 else None)
                if self._size is None:
                    return
                window.skip(-4)
            elif name == b"pakt":
                body = yield from window.take(24)
                window.skip(-24)
                self._packets, self._valid = struct.unpack(">qq", body[:16])
                if self._rate and not self._block_bytes:
                    self.declared = self._valid / self._rate
            if size < 0:
                raise GiveUp
            window.skip(size)

    def seconds(self) -> float | None:
        """See Walk."""
        if self._block_bytes:
            return super().seconds()
        if self._valid is None or not self._rate or not self._packet_frames or self._start < 0:
            return None
        if self._size is not None and self._data_bytes < self._size:
            return None
        if self._packets > self._data_bytes or self._valid > self._packets * self._packet_frames:
            return None
        return self._valid / self._rate


def _extended(number: bytes) -> float:
    """An IEEE 754 number of 80 bits; 0 for what no sample rate is."""
    exponent, mantissa = struct.unpack(">HQ", number)
    return math.ldexp(mantissa, exponent - 16446) if 16383 <= exponent < 16383 + 32 else 0.0
