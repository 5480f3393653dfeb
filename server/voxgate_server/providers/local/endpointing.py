"""Where to cut speech: utterances end at pauses, found by the energy of 10 ms frames.

The recogniser normalises and searches an utterance as a whole, so a cut costs accuracy where it is made too early and
memory and waiting where it is made too late. Hence the pause that is asked for shrinks as the utterance grows. A frame
counts as silence only when it is clearly quieter than the speech around it: in noise no pause is found and
nothing is lost, the utterance is then cut at its quietest place when it has reached the limit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul

from voxgate_server.audio.isolation.frames import SAMPLE_RATE

__all__ = ["FEW_PAUSES", "PAUSES", "Endpointer", "Stretch"]

_FRAMES_PER_SECOND = 100
_FRAME_BYTES = 2 * SAMPLE_RATE // _FRAMES_PER_SECOND
_PADDING = 20
"""Frames of silence kept before and after speech."""
PAUSES = ((0, 60), (300, 20), (1200, 15))
"""From which length of the utterance on (frames) which pause ends it (frames): for those that work by utterance."""
FEW_PAUSES = ((0, 200), (1500, 20), (2000, 15))
"""The same for models that read windows of up to 30 s, however little is in them."""
_LONGEST = 2500
"""Frames after which an utterance is cut wherever it is quietest."""
_LAST_RESORT = 500
"""How far back from there the quietest place may be, in frames."""
_SHORTEST = 5
"""Frames of speech without which an utterance is a click and left out."""

_BELOW_PEAK_DB = 32.0
"""Quieter than the loudest speech by this much is silence."""
_ABOVE_FLOOR_DB = 6.0
"""Louder than the background by this much is speech."""
_ALWAYS_SPEECH_DB = 15.0
"""Within this distance of the peak everything is speech, whatever the background seems to be."""
_PEAK_FALL_DB = 0.02
_FLOOR_RISE_DB = 0.05
_QUIETEST_PEAK_DB = 50.0
"""Level of an RMS of about 300: a recording that never gets louder is still told apart from digital silence."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of audio with speech in it."""

    start: float
    """In seconds from the start of the recording."""
    pcm: bytes
    """Samples, signed 16 bit little-endian, mono, `SAMPLE_RATE`."""


class Endpointer:
    """Cuts a stream of samples into stretches of speech, each at most 25 seconds and a little padding long.

    Args:
        pauses: Where to cut: from which length on (in frames of 10 ms) which pause (in frames) ends a stretch.
    """

    def __init__(self, pauses: Sequence[tuple[int, int]] = PAUSES) -> None:
        self._pauses = pauses
        self._pending = bytearray()
        self._frames: list[bytes] = []
        self._levels: list[float] = []
        self._first = 0  # number of the frame at self._frames[0]
        self._speech_frames = 0
        self._silence = 0  # frames since the last speech
        self._speaking = False
        self._peak = _QUIETEST_PEAK_DB
        self._floor = 0.0

    def feed(self, pcm: bytes) -> Iterator[Stretch]:
        """Takes the next samples and gives the stretches that are complete with them."""
        self._pending += pcm
        whole = len(self._pending) - len(self._pending) % _FRAME_BYTES
        data = bytes(memoryview(self._pending)[:whole])
        del self._pending[:whole]
        for offset in range(0, whole, _FRAME_BYTES):
            stretch = self._frame(data[offset : offset + _FRAME_BYTES])
            if stretch is not None:
                yield stretch

    def finish(self) -> Stretch | None:
        """Ends the stream; gives the last stretch, or None when there was no speech since the one before."""
        if not self._speaking:
            return None
        if len(self._pending) > 1:
            self._frames.append(bytes(self._pending[: len(self._pending) & ~1]))
        return self._cut(len(self._frames), len(self._frames))

    def _frame(self, frame: bytes) -> Stretch | None:
        level = _level(frame)
        self._frames.append(frame)
        self._levels.append(level)
        if self._is_speech(level):
            self._speaking = True
            self._speech_frames += 1
            self._silence = 0
            if len(self._frames) >= _LONGEST:
                return self._cut_at_quietest()
            return None
        self._silence += 1
        if not self._speaking:
            self._drop(max(0, len(self._frames) - _PADDING))
            return None
        spoken = len(self._frames) - self._silence
        pause = next(pause for length, pause in reversed(self._pauses) if spoken >= length)
        if self._silence < pause:
            return None
        end = spoken + min(_PADDING, pause // 2)
        return self._cut(end, max(end, len(self._frames) - _PADDING))

    def _is_speech(self, level: float) -> bool:
        self._peak = max(level, self._peak - _PEAK_FALL_DB, _QUIETEST_PEAK_DB)
        self._floor = min(level, self._floor + _FLOOR_RISE_DB)
        threshold = max(self._peak - _BELOW_PEAK_DB, self._floor + _ABOVE_FLOOR_DB)
        return level > min(threshold, self._peak - _ALWAYS_SPEECH_DB)

    def _cut_at_quietest(self) -> Stretch | None:
        last = range(len(self._levels) - _LAST_RESORT, len(self._levels) - 1)
        quietest = min(last, key=lambda index: sum(self._levels[index - 4 : index + 5]))
        stretch = self._cut(quietest, quietest)
        self._speaking = True
        self._speech_frames = len(self._frames)
        return stretch

    def _cut(self, end: int, keep_from: int) -> Stretch | None:
        stretch = Stretch(self._first / _FRAMES_PER_SECOND, b"".join(self._frames[:end]))
        is_click = self._speech_frames < _SHORTEST
        self._drop(keep_from)
        self._speaking = False
        self._speech_frames = self._silence = 0
        return None if is_click else stretch

    def _drop(self, count: int) -> None:
        del self._frames[:count], self._levels[:count]
        self._first += count


def _level(frame: bytes) -> float:
    """Energy of a frame in dB over one step of a 16-bit sample."""
    samples = memoryview(frame).cast("h")
    return 10 * math.log10(sum(map(mul, samples, samples)) / len(samples) + 1)
