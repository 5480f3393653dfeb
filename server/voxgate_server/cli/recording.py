"""A recording that a command was given: a file, something that can be read like one, or standard input."""

import asyncio
import contextlib
import io
import stat
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["STANDARD_INPUT", "Recording"]

STANDARD_INPUT = "-"
_PIECE = 256 * 1024
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to be transcribed."""

    name: str
    """As it stands on the command line; `-` is standard input."""
    size: int | None
    """In bytes; None for whatever has no size beforehand: standard input, a pipe."""

    @classmethod
    def at(cls, name: str) -> "Recording":
        """Looks at a file without opening it.

        Raises:
            OSError: There is none.
        """
        if name == STANDARD_INPUT:
            return cls(name, None)
        status = Path(name).stat()
        return cls(name, status.st_size if stat.S_ISREG(status.st_mode) else None)

    @property
    def filename(self) -> str:
        """The file's own name as a gateway may see it: without folders, UTF-8, at most 255 bytes. Empty without one."""
        if self.name == STANDARD_INPUT:
            return ""
        return Path(self.name).name.encode("utf-8", "replace")[:255].decode("utf-8", "ignore")

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Its bytes, at most 256 KiB at a time, read in a thread as they are wanted.

        Raises:
            OSError: It cannot be opened or read.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes | BaseException] = asyncio.Queue()
        wanted = threading.Semaphore(0)
        stopped = threading.Event()

        def hand_over(piece: bytes | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def read() -> None:
            try:
                with self._open() as file:
                    while wanted.acquire() and not stopped.is_set():
                        hand_over(file.read(_PIECE))
            except BaseException as error:
                hand_over(error)

        # A daemon, because a pipe on which nothing comes would otherwise keep an interrupted process from ending.
        threading.Thread(target=read, name="recording", daemon=True).start()
        try:
            while True:
                wanted.release()
                piece = await pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                if not piece:
                    return
                yield piece
        finally:
            stopped.set()
            wanted.release()

    def _open(self) -> io.FileIO:
        # Unbuffered: a piece is given on as soon as it is there, and no lock is left behind in standard input.
        return io.FileIO(0, closefd=False) if self.name == STANDARD_INPUT else io.FileIO(self.name)
