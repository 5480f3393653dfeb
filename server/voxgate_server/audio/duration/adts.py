"""AAC in ADTS frames."""

import re

from voxgate_server.audio.duration.window import Steps, Walk, Window
from voxgate_server.audio.frame_headers import adts_length

__all__ = ["AdtsWalk"]

_HEADER = 7
_SYNC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_BLOCK_SAMPLES = 1024


class AdtsWalk(Walk):
    """Counts frames, each by the length of the one before. ADTS has no word for priming, so none is cut off."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._identity = -1
        """Profile and sample rate, as the third byte of a header has them."""
        self._blocks = 0
        self._last_blocks = 0

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        yield from self._synchronise()
        while True:
            data, at, end = window.data, window.at, len(window.data) - _HEADER
            blocks, last = self._blocks, self._last_blocks
            while at <= end and data[at] == 0xFF and data[at + 1] & 0xF6 == 0xF0:
                length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
                if length <= _HEADER:
                    break
                last = (data[at + 6] & 3) + 1
                blocks += last
                at += length
            window.at, self._blocks, self._last_blocks = at, blocks, last
            if at > end:
                yield _HEADER
            else:
                yield from self._synchronise()

    def _synchronise(self) -> Steps:
        """Stands before a frame that is followed by another of the same stream."""
        window = self.window
        while True:
            if window.left < _HEADER:
                yield _HEADER
            if _SYNC.match(window.data, window.at):
                window.effort()
                header = window.data[window.at : window.at + _HEADER]
                length, identity = adts_length(header), header[2] & 0xFC
                if length and self._identity in (-1, identity):
                    if window.left < length + _HEADER:
                        yield length + _HEADER
                    following = window.data[window.at + length : window.at + length + _HEADER]
                    if adts_length(following) and following[2] & 0xFC == identity:
                        self._identity = identity
                        return
            found = _SYNC.search(window.data, window.at + 1)
            window.at = found.start() if found else max(len(window.data) - 1, window.at + 1)

    def seconds(self) -> float | None:
        """See Walk."""
        if self._identity < 0:
            return None
        blocks = self._blocks
        if self.window.left < 0:
            blocks -= self._last_blocks  # The last frame is cut off.
        return blocks * _BLOCK_SAMPLES / _RATES[self._identity >> 2 & 0xF]
