"""Cuts samples into pieces of bounded length, each at the quietest place there is.

No sample is lost and none comes twice: the pieces put together are the recording.
"""

from collections.abc import Iterator
from operator import mul

from voxgate_server.audio.isolation.frames import SAMPLE_RATE

__all__ = ["Cutter"]

_FRAME = SAMPLE_RATE // 100
"""Samples of a frame of 10 ms."""
_PAUSE_FRAMES = 30
"""The quietest stretch of this many frames is where it is cut: about a pause between sentences."""


class Cutter:
    """Is fed samples (signed 16 bit little-endian, mono) and gives pieces of them.

    Args:
        longest: Length of a piece at most, in seconds.
        shortest: Length of every piece but the last at least, in seconds.
    """

    def __init__(self, *, longest: float, shortest: float) -> None:
        self._longest = 2 * _FRAME * round(longest * 100)
        self._shortest = 2 * _FRAME * round(shortest * 100)
        self._samples = bytearray()

    def feed(self, pcm: bytes) -> Iterator[bytes]:
        """Takes the next samples and gives the pieces that are complete with them."""
        self._samples += pcm
        while len(self._samples) > self._longest:
            end = self._shortest + 2 * _FRAME * self._quietest()
            yield bytes(memoryview(self._samples)[:end])
            del self._samples[:end]

    def finish(self) -> bytes:
        """Ends the stream; gives what is left, which may be nothing."""
        rest = bytes(self._samples)
        self._samples.clear()
        return rest

    def _quietest(self) -> int:
        """The middle of the quietest stretch, in frames after the shortest length; the later one of equals."""
        with memoryview(self._samples)[self._shortest : self._longest].cast("h") as samples:
            levels = [_energy(samples[at : at + _FRAME]) for at in range(0, len(samples), _FRAME)]
        stretch = sum(levels[:_PAUSE_FRAMES])
        quietest, where = stretch, 0
        for first in range(1, len(levels) - _PAUSE_FRAMES + 1):
            stretch += levels[first + _PAUSE_FRAMES - 1] - levels[first - 1]
            if stretch <= quietest:
                quietest, where = stretch, first
        return where + _PAUSE_FRAMES // 2


def _energy(samples: memoryview) -> int:
    return sum(map(mul, samples, samples))
