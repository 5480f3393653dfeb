"""Ogg with Opus, Vorbis or FLAC: pages, whose positions are checked against the packets they hold."""

import struct
from collections.abc import Generator
from dataclasses import dataclass

from voxgate_server.audio.duration.flac import stream_info
from voxgate_server.audio.duration.opus import MAX_PACKET_SAMPLES, OPUS_RATE, frame_samples, packet_samples
from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["OggWalk"]

_HEADER = 27
_CODEC_BYTES = 64
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_GOES_ON = 255
_FLAC_BLOCK = 65_535


@dataclass(slots=True)
class _Stream:
    """The sound of one link of a chain."""

    serial: int
    rate: int
    """Samples per second that positions count, in Hz."""
    packet_samples: int
    """The longest packet there can be, in samples."""
    is_opus: bool = False
    skipped: int = 0
    """Samples at the beginning that are not played."""
    position: int = -1
    """Of the last page; -1 before the first that holds sound."""
    samples: int = 0

    @property
    def seconds(self) -> float:
        """What is played, in seconds."""
        return max(self.samples - self.skipped, 0) / self.rate


class OggWalk(Walk):
    """Adds up how far each page takes the position of the first sound stream, and all links of a chain.

    A page cannot take it further than its packets can last. Where it claims to (lost pages, a recording cut out of a
    longer one, a lie), the packets of an Opus page are counted one by one; of other codecs nothing is known then.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._stream: _Stream | None = None
        self._earlier = 0.0
        """Seconds of the links before."""
        self._found = False
        self._in_headers = True

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        while True:
            if window.left < _HEADER:
                yield _HEADER
            if window.data[window.at : window.at + 4] != b"OggS":
                yield from self._synchronise()
                continue
            header = yield from window.take(_HEADER)
            table = yield from window.take(header[26])
            flags, position, serial = struct.unpack("<xxxxxBqI", header[:18])
            window.effort()
            body, start = sum(table), window.position
            if flags & _BEGINS:
                yield from self._begin(serial, body)
            else:
                self._in_headers = False
                if self._stream is not None and self._stream.serial == serial and position > 0:
                    yield from self._page(self._stream, table, position, flags)
            window.skip(start + body - window.position)

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._found:
            return None
        return self._earlier + (self._stream.seconds if self._stream is not None else 0.0)

    def _synchronise(self) -> Steps:
        """Stands before the next thing that looks like a page."""
        window = self.window
        while True:
            at = window.data.find(b"OggS", window.at + 1)
            window.at = at if at >= 0 else max(len(window.data) - 3, window.at + 1)
            if at >= 0:
                return
            yield 5

    def _begin(self, serial: int, body: int) -> Steps:
        """A stream begins: with others of its link, or, after the data of one, as the next link of the chain."""
        if not self._in_headers:
            self._in_headers = True
            if self._stream is not None:
                self._earlier += self._stream.seconds
                self._stream = None
        if self._stream is not None:
            return
        head = yield from self.window.take(min(body, _CODEC_BYTES))
        if head.startswith(b"OpusHead") and len(head) >= 19:
            skipped = int.from_bytes(head[10:12], "little")
            stream = _Stream(serial, OPUS_RATE, MAX_PACKET_SAMPLES, is_opus=True, skipped=skipped)
        elif head.startswith(b"\x01vorbis") and len(head) >= 30:
            stream = _Stream(serial, int.from_bytes(head[12:16], "little"), (1 << (head[28] >> 4)) // 2)
        elif head.startswith(b"\x7fFLAC") and len(head) >= 35:
            stream = _Stream(serial, stream_info(head[17:])[0], _FLAC_BLOCK)
        else:
            return
        if stream.rate:
            self._stream, self._found = stream, True

    def _page(self, stream: _Stream, table: bytes, position: int, flags: int) -> Steps:
        """Counts a page of sound."""
        most = (len(table) - table.count(_GOES_ON)) * stream.packet_samples
        begins = stream.position < 0
        step = position if begins else position - stream.position
        stream.position = position
        if stream.is_opus and (begins or not 0 <= step <= most):
            counted = yield from self._count(table, continued=bool(flags & _CONTINUED))
            # A stream may end before its last packet does; and it may begin with any position.
            step = step if 0 <= step < counted and (begins or flags & _ENDS) else counted
        if not 0 <= step <= most:
            raise GiveUp
        stream.samples += step

    def _count(self, table: bytes, *, continued: bool) -> Generator[int, None, int]:
        """Samples of the Opus packets that begin and end in a page, before which the window stands."""
        window = self.window
        samples = size = 0
        for lace in table:
            size += lace
            if lace == _GOES_ON:
                continue
            if size and not continued:
                window.effort()
                if window.left < min(size, 2):
                    yield min(size, 2)
                toc = window.data[window.at]
                samples += packet_samples[toc] or (
                    frame_samples[toc] * (window.data[window.at + 1] & 63) if size > 1 else 0
                )
            window.skip(size)
            size, continued = 0, False
        return samples
