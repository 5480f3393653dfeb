"""MPEG audio frames: MP3, and layers I and II."""

import functools
import re
import struct

from voxgate_server.audio.duration.window import Steps, Walk, Window
from voxgate_server.audio.frame_headers import MPEG_RATES, mpeg_length

__all__ = ["Mp3Walk"]

_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]")
_SAME_STREAM = 0x00FE0C00
"""Bits of a header that no frame of a stream changes: version, layer and sample rate."""
_DECODER_DELAY = 529
"""Samples by which every decoder is late: to be cut off at the beginning, too, and kept at the end."""
_TAG_BYTES = 192
"""As many bytes of the first frame as hold a Xing, Info or VBRI tag with what LAME adds."""


class Mp3Walk(Walk):
    """Counts frames, each by the length its header has.

    A Xing, Info or VBRI header says how many there are; that is the declared length, and only that: the count of the
    frames that came decides. Its own frame is silent and does not count, and what LAME notes as delay and padding is
    cut off, the padding only where the frame it is in has come.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._identity = 0
        self._rate = 0
        self._frame_samples = 0
        self._frames = 0
        self._claimed_frames = 0
        self._delay = 0
        """Samples at the beginning that are not played."""
        self._padding = 0
        """And at the end."""

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        yield from self._synchronise()
        self._first_frame()
        lengths = _lengths(self._identity)
        while True:
            data, at, end = window.data, window.at, len(window.data) - 4
            frames = self._frames
            while at <= end:
                length = lengths.get(data[at : at + 3])
                if length is None:
                    break
                frames += 1
                at += length
            window.at, self._frames = at, frames
            if at > end:
                yield 4
            else:
                yield from self._synchronise()

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._rate:
            return None
        frames = self._frames - (self.window.left < 0)  # The last frame is cut off.
        return self._played(frames, is_whole=frames >= self._claimed_frames)

    def _played(self, frames: int, *, is_whole: bool) -> float:
        return max(frames * self._frame_samples - self._delay - (self._padding if is_whole else 0), 0) / self._rate

    def _synchronise(self) -> Steps:
        """Stands before a frame that is followed by another of the same stream."""
        window = self.window
        while True:
            if window.left < 4:
                yield 4
            if _SYNC.match(window.data, window.at):
                window.effort()
                header = window.data[window.at : window.at + 4]
                identity = int.from_bytes(header, "big") & _SAME_STREAM
                length = mpeg_length(header)
                if length and self._identity in (0, identity):
                    if window.left < length + 4:
                        yield length + 4
                    following = window.data[window.at + length : window.at + length + 4]
                    if mpeg_length(following) and int.from_bytes(following, "big") & _SAME_STREAM == identity:
                        self._identity = identity
                        return
            found = _SYNC.search(window.data, window.at + 1)
            window.at = found.start() if found else max(len(window.data) - 2, window.at + 1)

    def _first_frame(self) -> None:
        """Learns the stream's kind from its first frame, which the window has, and skips it if it is a tag."""
        window = self.window
        header = window.data[window.at : window.at + 4]
        version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
        self._rate = MPEG_RATES[version][header[2] >> 2 & 3]
        self._frame_samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
        mono = header[3] >> 6 == 3
        length = mpeg_length(header)
        frame = window.data[window.at : window.at + min(length, _TAG_BYTES)]
        side = 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
        if layer == 3 and (self._xing(frame[side:]) or self._vbri(frame[36:])):
            window.skip(length)
            if self._claimed_frames:
                self.declared = self._played(self._claimed_frames, is_whole=True)

    def _xing(self, tag: bytes) -> bool:
        """Reads such a tag; whether it is one."""
        if tag[:4] not in (b"Xing", b"Info") or len(tag) < 8:
            return False
        flags = int.from_bytes(tag[4:8], "big")
        frames = int.from_bytes(tag[8:12], "big") if flags & 1 else 0
        at = 8 + 4 * (flags & 1)
        size = int.from_bytes(tag[at : at + 4], "big") if flags & 2 else 0
        self._claimed_frames = frames
        lame = 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
        if (
            (gap := tag[lame + 21 : lame + 24])
            and len(gap) == 3
            and tag[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc")
        ):
            self._delay = (gap[0] << 4 | gap[1] >> 4) + _DECODER_DELAY
            self._padding = max(((gap[1] & 15) << 8 | gap[2]) - _DECODER_DELAY, 0)
        return bool(frames or size)

    def _vbri(self, tag: bytes) -> bool:
        if tag[:4] != b"VBRI" or len(tag) < 18:
            return False
        size, self._claimed_frames = struct.unpack(">II", tag[10:18])
        return bool(size or self._claimed_frames)


@functools.lru_cache(maxsize=32)
def _lengths(identity: int) -> dict[bytes, int]:
    """Length of every frame that such a stream can have, by the first three bytes of its header."""
    lengths = {}
    for bits in range(1 << 7):  # bitrate, padding, the private bit and protection
        header = 0xFF000000 | identity | (bits >> 3) << 12 | (bits >> 1 & 3) << 8 | (bits & 1) << 16
        packed = header.to_bytes(4, "big")
        if length := mpeg_length(packed):
            lengths[packed[:3]] = length
    return lengths
