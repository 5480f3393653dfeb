"""Matroska and WebM: clusters of blocks."""

import math
import struct
from collections.abc import Generator
from dataclasses import dataclass

from voxgate_server.audio.duration.opus import OPUS_RATE, opus_samples, packet_samples
from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["MatroskaWalk"]

_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _GROUP = (
    0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE1, 0x1F43B675, 0xA0,
)  # fmt: skip
_CONTAINERS = frozenset({_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _GROUP})
_SCALE, _DURATION = 0x2AD7B1, 0x4489
_NUMBER, _TYPE, _CODEC, _DELAY, _DEFAULT_DURATION, _ENCODINGS = 0xD7, 0x83, 0x86, 0x56AA, 0x23E383, 0x6D80
_RATE, _CHANNELS, _BITS = 0xB5, 0x9F, 0x6264
_TIME, _SIMPLE_BLOCK, _BLOCK, _BLOCK_DURATION, _PADDING = 0xE7, 0xA3, 0xA1, 0x9B, 0x75A2
_VALUES = frozenset({
    _SCALE, _DURATION, _NUMBER, _TYPE, _CODEC, _DELAY, _DEFAULT_DURATION, _RATE, _CHANNELS, _BITS, _TIME,
    _BLOCK_DURATION, _PADDING,
})  # fmt: skip
_KNOWN = frozenset({0x1A45DFA3, 0x114D9B74, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC})
"""Elements that may be skipped although they are large: header, seek head, cues, tags, chapters, attachments, void."""
_UNKNOWN = -1
_MAYBE_UNKNOWN = frozenset({0xFF, 0x7F, 0x3F, 0x1F})
"""What an unknown size begins with."""
_MAX_VALUE_BYTES = 64
_MAX_PACKET_SECONDS = 1.0
_IS_SOUND = 2
_FAST, _FAST_HEAD, _FAST_SIZE = 12, 5, 6
"""Bytes that the fast way looks at, at most; of a block's own head, at most; and of its body, at least."""
_LACED = 0x06
_AAC, _MP3, _MP2 = b"A_AAC", b"A_MPEG/L3", b"A_MPEG/L2"


@dataclass(slots=True)
class _Track:
    """What the header says about a track."""

    number: int = 0
    kind: int = 0
    codec: bytes = b""
    delay: int = 0
    """Nanoseconds at the beginning that are not played."""
    packet: int = 0
    """Nanoseconds of every packet; 0 when not said."""
    rate: float = 8000.0
    channels: int = 1
    bits: int = 0
    is_encoded: bool = False
    """Compressed or encrypted: packets do not begin as the codec says."""


class MatroskaWalk(Walk):
    """Opus packets say how long they are, and are added up. Of other codecs the last block's time counts.

    To that the last packet's own length is added, where its block, its track or its codec tells, or else the header's
    Duration when it ends soon behind. Times further apart than the packets that came can last are not believed.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._scale = 1_000_000
        """Nanoseconds that times count."""
        self._duration = 0.0
        self._track: _Track | None = None
        """The one being read."""
        self._chosen: _Track | None = None
        """The first of sound."""
        self._has_tracks = False
        """There were tracks, of whatever kind, all of which are read."""
        self._is_opus = False
        """And its packets can be counted."""
        self._cluster_time = 0
        self._samples = 0
        self._frames = 0
        self._first_time: int | None = None
        self._last_time = 0
        self._last_frames = 1
        self._last_bytes = 0
        self._last_samples = 0
        self._last_end = 0
        """Where the last block ends, in bytes from the beginning."""
        self._last_duration = 0
        self._padding = 0
        """Nanoseconds at the end that are not played."""
        self._may_skip = True

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        while True:
            if self._first_time is not None and self._chosen is not None:
                self._simple_blocks(self._chosen)
            begin = window.position
            element = yield from self._number(keep_marker=True)
            size = yield from self._number()
            # What the fast way takes costs nothing here either, so that chunks of any size are treated alike.
            if element != _SIMPLE_BLOCK or size < _FAST_SIZE or window.position - begin > _FAST_HEAD:
                window.effort()
            if element in _CONTAINERS:
                if element in (_TRACK, _CLUSTER):
                    self._end_track()
                if element == _TRACK:
                    self._track = _Track()
                continue
            if size == _UNKNOWN:
                raise GiveUp
            start = window.position
            self._may_skip = element in _KNOWN
            if element in (_SIMPLE_BLOCK, _BLOCK):
                self._may_skip = True
                yield from self._block(size)
            elif element == _ENCODINGS and self._track is not None:
                self._track.is_encoded = True
            elif element in _VALUES and size <= _MAX_VALUE_BYTES:
                self._value(element, (yield from window.take(size)))
            if window.position > start + size:
                raise GiveUp
            window.skip(start + size - window.position)

    def seconds(self) -> float | None:
        """See Walk."""
        track = self._chosen
        if track is None or (self.window.left < 0 and not self._may_skip):
            return None
        is_cut = self.window.received < self._last_end
        if self._is_opus:
            samples = self._samples - (self._last_samples if is_cut else 0)
            return max(samples / OPUS_RATE - (track.delay + self._padding) / 1e9, 0.0)
        if self._first_time is None:
            return 0.0
        length = (self._last_time - self._first_time) * self._scale / 1e9
        if not is_cut and self._last_duration:
            length += self._last_duration * self._scale / 1e9  # This is without the padding.
        elif not is_cut:
            last = self._last_packet(track)
            if last is None:
                return None
            length += last - self._padding / 1e9
        if not 0 <= length <= self._frames * _MAX_PACKET_SECONDS:
            return None
        return max(length - track.delay / 1e9, 0.0)

    def is_soundless(self) -> bool:
        """See Walk."""
        return self._has_tracks and self._chosen is None and self._track is None

    def _last_packet(self, track: _Track) -> float | None:
        """Length of the last packet in seconds; None when nothing tells."""
        if track.codec.startswith(b"A_PCM") and track.bits >= 8 and track.rate > 0:
            return self._last_bytes // (track.bits // 8 * max(track.channels, 1)) / track.rate
        if track.packet:
            return self._last_frames * track.packet / 1e9
        if track.codec in (_AAC, _MP3, _MP2) and track.rate > 0:
            # Half as long in MP3 below 32 kHz, which is MPEG-2.
            samples = 1024 if track.codec == _AAC else 576 if track.codec == _MP3 and track.rate < 32_000 else 1152
            return self._last_frames * samples / track.rate
        rest = (self._duration - self._last_time) * self._scale / 1e9
        return rest if 0 < rest <= _MAX_PACKET_SECONDS else None

    def _number(self, *, keep_marker: bool = False) -> Generator[int, None, int]:
        """A number of 1 to 8 bytes, the first of which says how many they are; -1 for an unknown size."""
        window = self.window
        if window.left < 1:
            yield 1
        width = 9 - window.data[window.at].bit_length()
        if width > (4 if keep_marker else 8):
            raise GiveUp
        if window.left < width:
            yield width
        number = int.from_bytes(window.data[window.at : window.at + width], "big")
        window.at += width
        if keep_marker:
            return number
        largest = (1 << 7 * width) - 1
        return _UNKNOWN if number & largest == largest else number & largest

    def _simple_blocks(self, track: _Track) -> None:
        """Counts unlaced simple blocks as long as one follows the other. This is where the time goes."""
        window = self.window
        data, at, end = window.data, window.at, len(window.data) - _FAST
        is_opus, marked = self._is_opus, 0x80 | track.number
        frames, samples, last, last_size = 0, self._samples, -1, 0
        while at <= end and data[at] == _SIMPLE_BLOCK:
            first = data[at + 1]
            if first >= 0x80:
                body, size = at + 2, first & 0x7F
            elif first >= 0x40:
                body, size = at + 3, (first & 0x3F) << 8 | data[at + 2]
            elif first >= 0x10:
                width = 3 if first >= 0x20 else 4
                body = at + 1 + width
                size = int.from_bytes(data[at + 1 : body], "big") & (1 << 7 * width) - 1
            else:
                break
            if size < _FAST_SIZE or first in _MAYBE_UNKNOWN or data[body] < 0x80 or data[body + 3] & _LACED:
                break
            at = body + size
            if data[body] == marked:
                frames += 1
                last, last_size = body, size
                if is_opus:
                    toc = data[body + 4]
                    self._last_samples = packet_samples[toc] or opus_samples(toc, data[body + 5])
                    samples += self._last_samples
        if last >= 0:
            self._samples = samples
            self._frames += frames
            self._last_frames, self._last_bytes, self._last_duration = 1, last_size - 4, 0
            self._last_time = self._cluster_time + int.from_bytes(data[last + 1 : last + 3], "big", signed=True)
            self._last_end = window.position - window.at + last + last_size
        if at != window.at:
            window.at, self._may_skip = at, True

    def _block(self, size: int) -> Steps:
        """Reads the head of a block, and of an Opus packet its first bytes."""
        window = self.window
        start = window.position
        number = yield from self._number()
        if self._first_time is None or window.position - start > 1:
            window.effort()
        time = int.from_bytes((yield from window.take(2)), "big", signed=True)
        flags = (yield from window.take(1))[0]
        track = self._chosen
        if track is None or number != track.number:
            return
        frames, rest = 1, start + size - window.position
        if flags & _LACED and rest > 0:
            window.effort()
            frames = (yield from window.take(1))[0] + 1
        self._frames += frames
        self._last_frames, self._last_bytes, self._last_duration = frames, rest, 0
        self._last_time = self._cluster_time + time
        if self._first_time is None:
            self._first_time = self._last_time
        self._last_end = start + size
        self._last_samples = 0
        if self._is_opus and rest > 0:
            if flags & _LACED:
                raise GiveUp  # Nobody laces Opus, and the sizes would have to be read to tell where a packet begins.
            packet = yield from window.take(min(rest, 2))
            self._last_samples = opus_samples(packet[0], packet[1] if rest > 1 else 0)
            self._samples += self._last_samples

    def _end_track(self) -> None:
        track, self._track = self._track, None
        self._has_tracks |= track is not None
        if track is not None and track.kind == _IS_SOUND and self._chosen is None:
            if not 0 < track.number < 127:
                raise GiveUp
            self._chosen = track
            self._is_opus = track.codec == b"A_OPUS" and not track.is_encoded

    def _value(self, element: int, body: bytes) -> None:
        """Notes one of the elements that hold a number or a text."""
        number = int.from_bytes(body[:8], "big")
        track = self._track
        if element == _SCALE:
            self._scale = number
        elif element == _DURATION:
            self._duration = _real(body)
        elif element == _TIME:
            self._cluster_time = number
        elif element == _BLOCK_DURATION:
            self._last_duration = number
        elif element == _PADDING:
            self._padding += max(int.from_bytes(body[:8], "big", signed=True), 0)
        elif track is not None:
            self._track_value(track, element, body, number)
        if element in (_SCALE, _DURATION) and self._duration > 0:
            self.declared = self._duration * self._scale / 1e9

    @staticmethod
    def _track_value(track: _Track, element: int, body: bytes, number: int) -> None:
        if element == _NUMBER:
            track.number = number
        elif element == _TYPE:
            track.kind = number
        elif element == _CODEC:
            track.codec = body.rstrip(b"\0")
        elif element == _DELAY:
            track.delay = number
        elif element == _DEFAULT_DURATION:
            track.packet = number
        elif element == _RATE:
            track.rate = _real(body)
        elif element == _CHANNELS:
            track.channels = number
        elif element == _BITS:
            track.bits = number


def _real(body: bytes) -> float:
    """An element's floating-point number; 0 for what is none."""
    if len(body) not in (4, 8):
        return 0.0
    number: float = struct.unpack(">f" if len(body) == 4 else ">d", body)[0]
    return number if math.isfinite(number) else 0.0
