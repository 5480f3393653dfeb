"""MP4, M4A, QuickTime and 3GPP: the index of the first sound track, whole or in fragments."""

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["Mp4Walk"]

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf"})
_MAX_TRACKS = 32
_MAX_EDITS = 64
_MAX_ROWS = 4096
_MAX_PACKET_SECONDS = 1.0
"""No packet of a codec that MP4 carries is longer; ALAC and FLAC come nearest, with half a second at 8 kHz."""


@dataclass(slots=True)
class _Track:
    """What the index says about a track."""

    handler: bytes = b""
    number: int = 0
    timescale: int = 0
    edits: list[tuple[int, int]] = field(default_factory=list)
    """Length (in the movie's time scale) and beginning (in the track's; negative for a pause) of each."""
    ticks: int = 0
    timed: int = 0
    """Packets of which we know how long they are."""
    sized: int = 0
    """Packets of which we know how large they are."""
    packet_bytes: int = 0
    in_fragments: bool = False


class Mp4Walk(Walk):
    """Adds up the lengths of packets that the index has, before or behind the sound, and what the edit list shows.

    Believed when the bytes it speaks of have come, and no packet is longer than any codec's. Otherwise nothing is
    known: an index of a cut recording does not tell which part is missing.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._tracks: list[_Track] = []
        self._movie_timescale = 0
        self._default_ticks: dict[int, int] = {}
        self._fragment: _Track | None = None
        self._fragment_ticks = 0
        self._media_bytes = 0
        self._media_start = 0
        self._media_size: int | None = 0
        """Of the last stretch of sound; None when it reaches to the end."""

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        boxes = {
            b"mvhd": self._movie_header, b"tkhd": self._track_header, b"mdhd": self._media_header,
            b"hdlr": self._handler, b"elst": self._edit_list, b"stts": self._times, b"stsz": self._sizes,
            b"trex": self._defaults, b"tfhd": self._fragment_header, b"trun": self._run,
        }  # fmt: skip
        while True:
            head = yield from window.take(8)
            window.effort()
            size, name = int.from_bytes(head[:4], "big") - 8, head[4:]
            if size == -7:
                size = int.from_bytes((yield from window.take(8)), "big") - 16
            if name == b"mdat":
                self._media(None if size == -8 else size)
            if size == -8:
                return  # to the end
            if size < 0:
                raise GiveUp
            if name == b"trak":
                self._new_track()
            if name not in _CONTAINERS:
                start = window.position
                if name in boxes:
                    yield from boxes[name](size)
                if window.position > start + size:
                    raise GiveUp
                window.skip(start + size - window.position)

    def seconds(self) -> float | None:
        """See Walk."""
        track = self._track()
        if track is None or not track.timescale or track.packet_bytes > self._media_came():
            return None
        if not track.in_fragments and track.timed != track.sized:
            return None
        # Each packet has a byte at least.
        if track.timed > self._media_came() or track.ticks > track.timed * _MAX_PACKET_SECONDS * track.timescale:
            return None
        return self._shown(track) / track.timescale

    def is_soundless(self) -> bool:
        """See Walk."""
        return bool(self._tracks) and all(track.handler not in (b"", b"soun") for track in self._tracks)

    def _track(self) -> _Track | None:
        return next((track for track in self._tracks if track.handler == b"soun"), None)

    def _shown(self, track: _Track) -> float:
        """Ticks of a track that its edits let through."""
        shown = 0.0
        edits = [edit for edit in track.edits if edit[1] >= 0]
        for length, begin in edits:
            rest = max(track.ticks - begin, 0)
            # In fragments the length is that of the part before them.
            limited = length and self._movie_timescale and not track.in_fragments
            shown += min(length * track.timescale / self._movie_timescale, rest) if limited else rest
        return min(shown, track.ticks) if edits else track.ticks

    def _media(self, size: int | None) -> None:
        self._media_bytes = self._media_came()
        self._media_start, self._media_size = self.window.position, size

    def _media_came(self) -> int:
        came = max(self.window.received - self._media_start, 0)
        return self._media_bytes + (came if self._media_size is None else min(came, self._media_size))

    def _new_track(self) -> None:
        if len(self._tracks) == _MAX_TRACKS:
            raise GiveUp
        self._tracks.append(_Track())

    @property
    def _current(self) -> _Track:
        if not self._tracks:
            raise GiveUp
        return self._tracks[-1]

    def _fields(self, size: int, short: str, long: str) -> Generator[int, None, tuple[int, ...]]:
        """The first fields of a box, whose version says how wide they are."""
        version = (yield from self.window.take(4))[0]
        layout = struct.Struct(">" + (long if version == 1 else short))
        if size < 4 + layout.size:
            raise GiveUp
        return layout.unpack((yield from self.window.take(layout.size)))

    def _movie_header(self, size: int) -> Steps:
        timescale, length = yield from self._fields(size, "8xII", "16xIQ")
        self._movie_timescale = timescale
        if timescale and 0 < length < 0xFFFFFFFF:
            self.declared = length / timescale

    def _track_header(self, size: int) -> Steps:
        (self._current.number,) = yield from self._fields(size, "8xI", "16xI")

    def _media_header(self, size: int) -> Steps:
        (self._current.timescale,) = yield from self._fields(size, "8xI8x", "16xI8x")

    def _handler(self, size: int) -> Steps:
        handler = yield from self.window.take(min(size, 12))
        # QuickTime has a second one, of how the data is reached, behind that of the track.
        if self._tracks and not self._current.handler:
            self._current.handler = handler[8:12]

    def _edit_list(self, size: int) -> Steps:
        head = yield from self.window.take(8)
        layout = struct.Struct(">Qq4x" if head[0] == 1 else ">Ii4x")
        count = int.from_bytes(head[4:], "big")
        if count > _MAX_EDITS or size < 8 + count * layout.size:
            raise GiveUp
        for _ in range(count):
            length, begin = layout.unpack((yield from self.window.take(layout.size)))
            self._current.edits.append((length, begin))

    def _times(self, size: int) -> Steps:
        track = self._current
        head = yield from self.window.take(8)

        def add(values: tuple[int, ...]) -> None:
            track.timed += sum(values[::2])
            track.ticks += sum(map(int.__mul__, values[::2], values[1::2]))

        yield from self._table(int.from_bytes(head[4:], "big"), 2, size - 8, add)

    def _sizes(self, size: int) -> Steps:
        track = self._current
        _, each, count = struct.unpack(">III", (yield from self.window.take(12)))
        track.sized += count
        if each:
            track.packet_bytes += each * count
            return

        def add(values: tuple[int, ...]) -> None:
            track.packet_bytes += sum(values)

        yield from self._table(count, 1, size - 12, add)

    def _defaults(self, size: int) -> Steps:
        number, ticks = yield from self._fields(size, "I4xI", "I4xI")
        if len(self._default_ticks) < _MAX_TRACKS:
            self._default_ticks[number] = ticks

    def _fragment_header(self, size: int) -> Steps:
        head = yield from self.window.take(8)
        flags, number = struct.unpack(">II", head)
        before, flags = 8 * (flags & 1) + 2 * (flags & 2), flags & 8
        if size < 8 + before + flags // 2:
            raise GiveUp
        rest = yield from self.window.take(before + flags // 2)
        track = self._track()
        self._fragment = track if track is not None and track.number == number else None
        self._fragment_ticks = int.from_bytes(rest[before:], "big") if flags else self._default_ticks.get(number, 0)

    def _run(self, size: int) -> Steps:
        track = self._fragment
        if track is None:
            return
        flags, count = struct.unpack(">II", (yield from self.window.take(8)))
        track.in_fragments = True
        track.timed += count
        optional = 4 * (flags & 1) + (flags & 4)
        self.window.skip(optional)
        has_ticks, has_size = flags >> 8 & 1, flags >> 9 & 1
        width = has_ticks + has_size + (flags >> 10 & 1) + (flags >> 11 & 1)
        if not has_ticks:
            track.ticks += count * self._fragment_ticks

        def add(values: tuple[int, ...]) -> None:
            if has_ticks:
                track.ticks += sum(values[::width])
            if has_size:
                track.packet_bytes += sum(values[has_ticks::width])

        if width:
            yield from self._table(count, width, size - 8 - optional, add)

    def _table(self, rows: int, width: int, room: int, add: Callable[[tuple[int, ...]], None]) -> Steps:
        """Passes a table of 32-bit numbers to `add`, as many rows at a time as have come."""
        window = self.window
        if rows * width * 4 > room:
            raise GiveUp
        while rows:
            if window.left < width * 4:
                yield width * 4
            now = min(rows, window.left // (width * 4), _MAX_ROWS)
            count = now * width
            add(struct.unpack_from(f">{count}I", window.data, window.at))
            window.skip(count * 4)
            rows -= now
