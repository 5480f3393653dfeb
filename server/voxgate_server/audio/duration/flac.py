"""FLAC: metadata blocks, then frames."""

import functools
import re

from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["FlacWalk", "stream_info"]

_FRAME_BYTES = 10
"""No frame is shorter."""
_SYNC = re.compile(
    b"\xff[\xf8\xf9][%b][%b]"
    % (
        b"".join(re.escape(bytes([byte])) for byte in range(0x10, 0xFF) if byte & 15 != 15),
        b"".join(re.escape(bytes([byte])) for byte in range(0xB0) if byte & 1 == 0 and byte & 14 != 6),
    )
)
"""What every frame begins with: its block size is not 0, and neither rate, channels nor sample size are reserved."""
_TAIL_BYTES = 64 * 1024
"""The last frame's checksum is checked if the frame is smaller."""
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_ID3V1_BYTES = 128


def stream_info(body: bytes) -> tuple[int, int]:
    """Sample rate in Hz and number of samples (0: not known) of a STREAMINFO block of at least 18 bytes."""
    bits = int.from_bytes(body[10:18], "big")
    return bits >> 44, bits & 0xFFFFFFFFF


class FlacWalk(Walk):
    """Finds the frames, whose headers carry numbers and checksums but no length, by searching.

    Length is where the last frame ends. When STREAMINFO does not say the same, the last frame's checksum decides
    whether it is whole and counts.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._rate = 0
        self._claimed = 0
        self._first = -1
        """The sample at which the stream begins; not 0 when its first part was cut off."""
        self._block = 0
        """Samples of the first frame: in a stream that counts frames, all but the last have as many."""
        self._last = 0
        """The sample at which the last frame found begins."""
        self._last_samples = 0
        self._last_number = 0
        self._last_position = 0
        self._tail = bytearray()
        """The last frame found, as far as the walk is past it."""
        self._checked = (-1, False)
        """After how many bytes of the stream the last frame was checked, and whether it was whole."""

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        window.skip(4)
        last = False
        while not last:
            head = yield from window.take(4)
            window.effort()
            last, kind, size = bool(head[0] & 0x80), head[0] & 0x7F, int.from_bytes(head[1:], "big")
            if kind == 0 and size >= 18:
                body = yield from window.take(18)
                window.skip(-18)
                self._rate, self._claimed = stream_info(body)
                if self._rate and self._claimed:
                    self.declared = self._claimed / self._rate
            window.skip(size)
        if not self._rate:
            raise GiveUp
        while True:
            yield _FRAME_BYTES
            found = _SYNC.search(window.data, window.at)
            self._pass(found.start() - window.at if found else max(window.left - 3, 0))
            if found:
                yield from self._frame()

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._rate:
            return None
        if self._first < 0:
            return 0.0
        end = self._last + self._last_samples - self._first
        if end != self._claimed and not self._last_is_whole():
            end -= self._last_samples
        return end / self._rate

    def _frame(self) -> Steps:
        """Counts the frame the window stands before, if it is one, and steps past its header."""
        window = self.window
        if window.left < 5:
            yield 5
        size = _header_size(window.data[window.at : window.at + 5])
        if window.left < size:
            yield size
        header = window.data[window.at : window.at + size]
        window.effort()
        if not size or _crc8(header) or not self._count(header):
            self._pass(1)
            return
        self._last_position = window.position
        self._tail.clear()
        self._pass(size)

    def _count(self, header: bytes) -> bool:
        """Counts a frame, unless it cannot stand here."""
        number, at = _coded_number(header)
        code, by_samples = header[2] >> 4, header[1] & 1
        samples = int.from_bytes(header[at : at + code - 5], "big") + 1 if code in (6, 7) else _BLOCK_SIZES[code]
        if self._first < 0:
            self._block = samples
            self._first = number if by_samples else number * samples
        else:
            # Frames may be missing, but not more than could have stood in between.
            between = (self.window.position - self._last_position) // _FRAME_BYTES
            if not 0 < number - self._last_number <= (between << 16 if by_samples else between):
                return False
        self._last = number if by_samples else number * self._block
        self._last_samples, self._last_number = samples, number
        return True

    def _pass(self, count: int) -> None:
        """Steps on inside the last frame."""
        window = self.window
        room = _TAIL_BYTES - len(self._tail)
        if room > 0:
            self._tail += window.data[window.at : window.at + min(count, room)]
        window.skip(count)

    def _last_is_whole(self) -> bool:
        if len(self._tail) >= _TAIL_BYTES:
            return True
        received = self.window.received
        if self._checked[0] != received:
            frame = bytes(self._tail) + self.window.data[self.window.at :]
            if frame[-_ID3V1_BYTES:].startswith(b"TAG"):
                frame = frame[:-_ID3V1_BYTES]
            self._checked = (received, _crc16(frame) == 0)
        return self._checked[1]


def _header_size(start: bytes) -> int:
    """Bytes of a frame header by its first five; 0 when it is none."""
    lead = start[4]
    number = 8 - (lead ^ 0xFF).bit_length() if lead >= 0xC0 else 1
    if lead == 0xFF or 0x80 <= lead < 0xC0:
        return 0
    block, rate = start[2] >> 4, start[2] & 15
    return 5 + number + (block - 5 if block in (6, 7) else 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)


def _coded_number(header: bytes) -> tuple[int, int]:
    """The number of a frame, coded like a character of UTF-8, and where it ends."""
    lead = header[4]
    if lead < 0x80:
        return lead, 5
    count = 8 - (lead ^ 0xFF).bit_length()
    number = lead & (0x7F >> count)
    for byte in header[5 : 4 + count]:
        number = number << 6 | byte & 0x3F
    return number, 4 + count


@functools.cache
def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    """Remainders of all bytes for a cyclic redundancy check."""
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return tuple(table)


def _crc8(data: bytes) -> int:
    table, value = _table(0x07, 8), 0
    for byte in data:
        value = table[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    table, value = _table(0x8005, 16), 0
    for byte in data:
        value = (value << 8 & 0xFF00) ^ table[value >> 8 ^ byte]
    return value
