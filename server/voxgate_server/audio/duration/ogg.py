"""Ogg with Opus, Vorbis or FLAC: pages, whose positions are checked against the packets they hold."""

import struct
from collections.abc import Generator
from dataclasses import dataclass

from voxgate_server.audio.duration.flac import stream_info
from voxgate_server.audio.duration.opus import MAX_PACKET_SAMPLES, OPUS_RATE, opus_samples
from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["OggWalk"]

_HEADER = 27
"""Bytes of a page's header, the last of which is the length of its segment table."""
_CODEC_BYTES = 64
_CONTINUED, _BEGINS, _ENDS = 1, 2, 4
_GOES_ON = 255
_FLAC_BLOCK = 65_535
_PAGE = struct.Struct("<xxxxxBqI")


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
    last_step: int = 0
    """Samples of the page the walk stands in."""

    def seconds(self, *, is_cut: bool = False) -> float:
        """What is played, in seconds; without the last page where that is cut off."""
        return max(self.samples - (self.last_step if is_cut else 0) - self.skipped, 0) / self.rate

    def can_reach(self, position: int, table: bytes) -> bool:
        """Whether a page with that segment table can take a stream that has begun to that position."""
        return self.position >= 0 and 0 <= position - self.position <= self._most(table)

    def move(self, position: int, table: bytes) -> None:
        """Takes the next page, whose packets nobody has counted.

        Raises:
            GiveUp: It cannot reach its position.
        """
        step = position - max(self.position, 0)
        if not 0 <= step <= self._most(table):
            raise GiveUp
        self._step(position, step)

    def count(self, position: int, counted: int, *, is_last: bool) -> None:
        """Takes the next page, whose packets have so many samples."""
        step = position - max(self.position, 0)
        # A stream may end, or be a single page, before its last packet does; and it may begin with any position.
        can_be_short = is_last or self.position < 0
        self._step(position, step if can_be_short and 0 <= step < counted else counted)

    def _step(self, position: int, samples: int) -> None:
        self.position, self.last_step = position, samples
        self.samples += samples

    def _most(self, table: bytes) -> int:
        return (len(table) - table.count(_GOES_ON)) * self.packet_samples


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
            window.effort()
            size = _HEADER + window.data[window.at + 26]
            if window.left < size:
                yield size
            flags, position, serial = _PAGE.unpack_from(window.data, window.at)
            table = window.data[window.at + _HEADER : window.at + size]
            window.skip(size)
            body, start = sum(table), window.position
            if flags & _BEGINS:
                yield from self._begin(serial, body)
            else:
                self._in_headers = False
                stream = self._stream
                if stream is not None:
                    stream.last_step = 0
                if stream is not None and stream.serial == serial and position > 0:
                    if stream.is_opus and not stream.can_reach(position, table):
                        counted = yield from self._count(table, continued=bool(flags & _CONTINUED))
                        stream.count(position, counted, is_last=bool(flags & _ENDS))
                    else:
                        stream.move(position, table)
            window.skip(start + body - window.position)

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._found:
            return None
        if self._stream is None:
            return self._earlier
        return self._earlier + self._stream.seconds(is_cut=self.window.left < 0)

    def _synchronise(self) -> Steps:
        """Stands before the next thing that looks like a page."""
        window = self.window
        window.skip(1)
        while (found := window.data.find(b"OggS", window.at)) < 0:
            window.at = max(len(window.data) - 3, window.at)
            yield 4
        window.at = found

    def _begin(self, serial: int, body: int) -> Steps:
        """A stream begins: with others of its link, or, after the data of one, as the next link of the chain."""
        if not self._in_headers:
            self._in_headers = True
            if self._stream is not None:
                self._earlier += self._stream.seconds()
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
                samples += opus_samples(toc, window.data[window.at + 1] if size > 1 else 0)
            window.skip(size)
            size, continued = 0, False
        return samples
