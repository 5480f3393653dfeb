"""The bytes a walk stands before, and the walk itself: what all containers share.

A walk is a generator. It yields how many bytes it needs before it and is resumed once they are there; between two
steps no more is kept than it has asked for. What it skips is counted and never looked at, so a body of gigabytes
costs nothing but its chunks' arrival.
"""

from collections.abc import Generator

__all__ = ["GiveUp", "Steps", "Walk", "Window"]

Steps = Generator[int, None, None]
"""A walk in progress: yields how many bytes have to be before it."""

_FREE_STEPS = 8192
_STEP_BYTES = 64


class GiveUp(Exception):
    """The bytes make no sense, or more work than they are worth: the length cannot be known."""


class Window:
    """The part of a stream that a walk can see."""

    __slots__ = ("_base", "_effort", "at", "data")

    def __init__(self) -> None:
        self.data = b""
        self.at = 0
        """Where the walk stands, as an index of `data`; beyond its end while something is being skipped."""
        self._base = 0
        self._effort = 0

    @property
    def position(self) -> int:
        """Where the walk stands, in bytes from the beginning of the stream."""
        return self._base + self.at

    @property
    def received(self) -> int:
        """Bytes of the stream that have come."""
        return self._base + len(self.data)

    @property
    def left(self) -> int:
        """Bytes that stand before the walk; negative while it skips what has not come."""
        return len(self.data) - self.at

    def push(self, chunk: bytes) -> None:
        """Takes the next bytes, and lets go of those the walk is past."""
        kept = len(self.data) - self.at
        if kept > 0:
            self._base += self.at
            self.data = self.data[self.at :] + chunk
            self.at = 0
        else:
            self._base += len(self.data)
            self.data = chunk
            self.at = -kept
            if self.at >= len(chunk):
                self._base += len(chunk)
                self.at -= len(chunk)
                self.data = b""

    def trim(self) -> None:
        """Lets go of the bytes the walk is past."""
        self.push(b"")

    def effort(self) -> None:
        """Counts one step that takes a few microseconds, however few bytes it covers.

        Raises:
            GiveUp: There were more of them, one for every few bytes, than a recording needs.
        """
        self._effort += 1
        if self._effort > _FREE_STEPS + self.position // _STEP_BYTES:
            raise GiveUp

    def take(self, count: int) -> Generator[int, None, bytes]:
        """The next `count` bytes; the walk stands behind them."""
        if len(self.data) - self.at < count:
            yield count
        start = self.at
        self.at = start + count
        return self.data[start : self.at]

    def skip(self, count: int) -> None:
        """Stands `count` bytes further on, whether they have come or not."""
        self.at += count


class Walk:
    """One container's way of telling its length. Subclasses count in `steps` and answer in `seconds`.

    Args:
        window: Where the bytes are seen. A walk may begin behind the start of the stream (after a tag).
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.declared: float | None = None
        """Length in seconds that the header claims; None when it claims none. Nobody has checked it."""

    def steps(self) -> Steps:
        """Walks through the bytes to the end of what matters.

        Raises:
            GiveUp: They make no sense.
        """
        raise NotImplementedError

    def seconds(self) -> float | None:
        """Length in seconds of what has come so far; None when it cannot be known."""
        raise NotImplementedError

    def is_soundless(self) -> bool:
        """Whether the container certainly has no track of sound, by what has come so far."""
        return False
