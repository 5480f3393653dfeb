"""Where speech begins and ends in samples that are still arriving: the turns of live speech.

Voice activity is told by the energy of 20 ms frames, compared with the loudest speech and with the background heard
lately. It costs about a thousandth of a processor core for each stream, whatever its rate.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import mul
from typing import Protocol

__all__ = ["Detector", "ManualTurns", "TurnBegan", "TurnEnded", "TurnEvent", "TurnSamples", "VoiceActivity"]

_FRAMES_PER_SECOND = 50
_ENERGY_RATE = 8000
"""Samples per second that the energy of a frame is computed from, about; speech has most of it below 4 kHz."""
_ONSET = 3
"""Frames of speech in a row that begin a turn: anything shorter is a click."""
_SHORTEST_PAUSE = 5
"""Frames of silence that end a turn just before it reaches the limit."""
_QUIETEST_PEAK_DB = 50.0
"""Level of an RMS of about 300: speech is told from a quiet room though nothing louder was heard yet."""
_PEAK_FALL_DB = 0.04
_FLOOR_RISE_DB = 0.2
_QUIET_FLOOR_DB = 20.0
"""The background of a line on which nothing was heard yet, or that is switched off (exact zeros)."""


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A turn begins."""

    start: float
    """Where, in seconds since the first sample; what is kept before the speech included."""
    spoken: bool
    """Speech was heard, as far as that is listened for."""


@dataclass(frozen=True, slots=True)
class TurnSamples:
    """The next samples of the turn that has begun."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over."""

    end: float
    """Where speech ended, in seconds since the first sample; the end of its samples where that is not listened for."""


TurnEvent = TurnBegan | TurnSamples | TurnEnded


class Detector(Protocol):
    """Cuts a stream of plain samples into turns. No sample is in two of them."""

    @property
    def in_turn(self) -> bool:
        """A turn has begun and is not over."""

    @property
    def position(self) -> float:
        """Seconds of samples it was given."""

    @property
    def settled(self) -> float:
        """Seconds from the start before which no later turn can begin."""

    @property
    def silence(self) -> float:
        """Seconds since speech was heard last; 0 where it is not listened for."""

    def feed(self, pcm: bytes) -> Iterator[TurnEvent]:
        """Takes the next samples."""

    def commit(self) -> Iterator[TurnEvent]:
        """Ends the turn now, if there is one."""

    def clear(self) -> None:
        """Forgets the turn that is not over, and what was kept for the next one."""


class VoiceActivity:
    """Turns end at pauses.

    Args:
        sample_rate: In Hz.
        threshold: 0 to 1; higher needs louder speech.
        prefix_seconds: What is kept before detected speech.
        silence_seconds: The pause that ends a turn. It shrinks once a turn has half of its longest length.
        longest_seconds: After which a turn ends without any pause.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        threshold: float = 0.5,
        prefix_seconds: float = 0.3,
        silence_seconds: float = 0.5,
        longest_seconds: float = 60.0,
    ) -> None:
        self._rate = sample_rate
        self._frame = sample_rate // _FRAMES_PER_SECOND
        self._stride = max(sample_rate // _ENERGY_RATE, 1)
        self._below_peak = 52 - 40 * threshold
        self._above_floor = 4 + 8 * threshold
        self._prefix = self._frames(prefix_seconds)
        self._pause = max(self._frames(silence_seconds), 1)
        self._longest = max(self._frames(longest_seconds), 2 * self._pause)
        self._peak = _QUIETEST_PEAK_DB
        self._floor = _QUIET_FLOOR_DB
        self._partial = bytearray()
        self._kept: deque[bytes] = deque(maxlen=self._prefix + _ONSET)
        self._seen = 0  # frames
        self._extra = 0  # samples of frames that a commit cut short
        self._onset = 0  # frames of speech in a row, outside a turn
        self._began: int | None = None  # frame
        self._last_speech = 0  # frame after it

    @property
    def in_turn(self) -> bool:
        """See Detector."""
        return self._began is not None

    @property
    def position(self) -> float:
        """See Detector."""
        return self._at(self._seen) + len(self._partial) // 2 / self._rate

    @property
    def settled(self) -> float:
        """See Detector."""
        return self._at(self._seen - len(self._kept))

    @property
    def silence(self) -> float:
        """See Detector."""
        return self._at(self._seen - self._last_speech) - self._extra / self._rate

    def feed(self, pcm: bytes) -> Iterator[TurnEvent]:
        """See Detector."""
        self._partial += pcm
        size = 2 * self._frame
        whole = len(self._partial) - len(self._partial) % size
        data = bytes(memoryview(self._partial)[:whole])
        del self._partial[:whole]
        heard: list[bytes] = []
        for offset in range(0, whole, size):
            frame = data[offset : offset + size]
            was_in_turn = self.in_turn
            began, ended = self._take(frame)
            if began is not None:
                yield began
                heard.extend(self._kept)
                self._kept.clear()
            elif was_in_turn:
                heard.append(frame)
            if ended is not None:
                yield TurnSamples(b"".join(heard))
                heard.clear()
                yield ended
        if heard:
            yield TurnSamples(b"".join(heard))

    def commit(self) -> Iterator[TurnEvent]:
        """See Detector."""
        if not self.in_turn:
            return
        # The beginning of a frame belongs to the turn as well; the next frame begins after it.
        if rest := bytes(self._partial[: len(self._partial) & ~1]):
            del self._partial[: len(rest)]
            self._extra += len(rest) // 2
            yield TurnSamples(rest)
        yield self._end(self._seen)

    def clear(self) -> None:
        """See Detector."""
        self._began = None
        self._onset = 0
        self._kept.clear()

    def _take(self, frame: bytes) -> tuple[TurnBegan | None, TurnEnded | None]:
        speech = self._is_speech(frame)
        self._seen += 1
        if self._began is None:
            self._kept.append(frame)
            self._onset = self._onset + 1 if speech else 0
            if self._onset < _ONSET:
                return None, None
            self._began = self._seen - len(self._kept)
            self._last_speech = self._seen
            return TurnBegan(self._at(self._began), spoken=True), None
        if speech:
            self._last_speech = self._seen
        length = self._seen - self._began
        if self._seen - self._last_speech >= self._pause_at(length) or length >= self._longest:
            return None, self._end(self._last_speech)
        return None, None

    def _end(self, frame: int) -> TurnEnded:
        self._began = None
        self._onset = 0
        return TurnEnded(self._at(frame))

    def _pause_at(self, length: int) -> float:
        """Frames of silence that end a turn of this length: less and less in the second half of the longest one."""
        left = 2 * (1 - length / self._longest)
        return self._pause if left >= 1 else max(self._pause * left, min(self._pause, _SHORTEST_PAUSE))

    def _is_speech(self, frame: bytes) -> bool:
        samples = memoryview(frame).cast("h")[:: self._stride]
        energy = sum(map(mul, samples, samples)) / len(samples)
        level = 10 * math.log10(energy + 1)
        self._peak = max(level, self._peak - _PEAK_FALL_DB, _QUIETEST_PEAK_DB)
        # Not below a quiet line: the noise after a stretch of zeros would be taken for speech.
        self._floor = max(min(level, self._floor + _FLOOR_RISE_DB), _QUIET_FLOOR_DB)
        return level > max(self._peak - self._below_peak, self._floor + self._above_floor)

    def _at(self, frame: int) -> float:
        return (frame * self._frame + self._extra) / self._rate

    @staticmethod
    def _frames(seconds: float) -> int:
        return round(seconds * _FRAMES_PER_SECOND)


class ManualTurns:
    """A turn begins with the first sample after the one before, and ends by `commit` alone.

    Args:
        sample_rate: In Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._seen = 0  # samples
        self.in_turn = False
        self.silence = 0.0

    @property
    def position(self) -> float:
        """See Detector."""
        return self._seen / self._rate

    @property
    def settled(self) -> float:
        """See Detector."""
        return self.position

    def feed(self, pcm: bytes) -> Iterator[TurnEvent]:
        """See Detector."""
        if not pcm:
            return
        if not self.in_turn:
            self.in_turn = True
            yield TurnBegan(self.position, spoken=False)
        self._seen += len(pcm) // 2
        yield TurnSamples(pcm)

    def commit(self) -> Iterator[TurnEvent]:
        """See Detector."""
        if self.in_turn:
            self.in_turn = False
            yield TurnEnded(self.position)

    def clear(self) -> None:
        """See Detector."""
        self.in_turn = False
