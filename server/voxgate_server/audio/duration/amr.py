"""AMR and AMR-WB: frames of 20 ms."""

from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["AmrWalk"]

_FRAME_SECONDS = 0.02
_RUN = 64
_NARROW = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
"""Bytes of a frame with its header, by type; 0 for types that do not exist."""


class AmrWalk(Walk):
    """Counts frames. Speech keeps one type for long stretches, so whole runs of frames are compared at once."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._frames = 0

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        magic = yield from window.take(6)
        sizes = _NARROW
        if magic != b"#!AMR\n":
            if magic + (yield from window.take(3)) != b"#!AMR-WB\n":
                raise GiveUp  # several channels
            sizes = _WIDE
        runs = [bytes([header]) * _RUN for header in range(256)]
        while True:
            data, at, end, frames = window.data, window.at, len(window.data), self._frames
            while at < end:
                header = data[at]
                size = sizes[header >> 3 & 15]
                if not size or header & 0x83:
                    raise GiveUp
                if data[at : at + size * _RUN : size] == runs[header]:
                    frames += _RUN
                    at += size * _RUN
                else:
                    frames += 1
                    at += size
            window.at, self._frames = at, frames
            yield 1

    def seconds(self) -> float | None:
        """See Walk."""
        return (self._frames - (self.window.left < 0)) * _FRAME_SECONDS
