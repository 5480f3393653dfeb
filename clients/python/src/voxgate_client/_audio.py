"""What callers give as audio, as pieces of bytes of a bounded size."""

import asyncio
import contextlib
import itertools
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

__all__ = ["PIECE_BYTES", "AsyncAudio", "Audio", "Source", "off_loop", "open_async_audio", "open_audio"]

_T = TypeVar("_T")

PIECE_BYTES = 256 * 1024
"""The largest piece: what a chunk of an upload carries at best."""


class SupportsRead(Protocol):
    """A binary file, or anything that reads like one."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


Audio = str | os.PathLike[str] | bytes | bytearray | memoryview | SupportsRead | Iterable[bytes]
"""A recording: a path, its bytes, a binary file (read from where it stands, and left open), or an iterable of bytes."""

AsyncAudio = Audio | AsyncIterable[bytes]
"""A recording, or an asynchronous iterable of its bytes."""


@dataclass(frozen=True, slots=True)
class Source:
    """A recording that is open for reading."""

    name: str
    """Name of the file, without its folders. Empty when unknown."""
    size: int | None
    """In bytes; None when unknown."""
    pieces: Iterator[bytes]
    """Its bytes, at most PIECE_BYTES at a time. An empty piece is one that the caller's iterable gave."""


@contextlib.contextmanager
def open_audio(audio: Audio) -> Iterator[Source]:
    """Opens a recording. Closes what it opened itself, never what the caller did.

    Raises:
        OSError: The file cannot be opened, as `open` says it.
        TypeError: It is nothing that can be read.
    """
    if isinstance(audio, str | os.PathLike):
        path = Path(audio)
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            # A pipe or device has a name as well, but no size beforehand.
            yield Source(path.name, status.st_size if stat.S_ISREG(status.st_mode) else None, _read(file))
    elif isinstance(audio, bytes | bytearray | memoryview):
        view = memoryview(audio).cast("B")
        yield Source("", view.nbytes, _split(view))
    elif callable(getattr(audio, "read", None)):
        name = getattr(audio, "name", "")  # A descriptor's number, for files made of one.
        yield Source(os.path.basename(name) if isinstance(name, str) else "", None, _read(audio))  # noqa: PTH119
    elif isinstance(audio, Iterable):
        yield Source("", None, (piece for item in audio for piece in _split(item)))
    else:
        hint = "; AsyncClient takes asynchronous iterables" if isinstance(audio, AsyncIterable) else ""
        raise TypeError(
            f"audio must be a path, bytes, a binary file or an iterable of bytes, not {type(audio).__name__}{hint}."
        )


async def open_async_audio(audio: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The bytes of an asynchronous iterable, at most PIECE_BYTES at a time.

    Raises:
        TypeError: It gives something else than bytes.
    """
    async for item in audio:
        for piece in _split(item):
            yield piece


async def off_loop(items: Generator[_T], audio: object) -> AsyncGenerator[_T]:
    """Runs a generator that reads `audio` in a thread: a slow disk or a blocking iterable never holds up the loop.

    Not in the loop's shared pool: a few microphones would fill that, and name resolution needs it. When this is left
    early the generator is closed in its thread, after the step that it is just doing.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        for item in items:  # Nothing to wait for.
            yield item
        return

    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, thread_name_prefix="voxgate-audio")

    def step() -> list[_T]:
        return list(itertools.islice(items, 1))  # Empty at the end: StopIteration cannot pass through a future.

    try:
        while step_taken := await loop.run_in_executor(executor, step):
            yield step_taken[0]
    finally:
        executor.submit(items.close)
        executor.shutdown(wait=False)


def _read(file: Any) -> Iterator[bytes]:
    while True:
        data = file.read(PIECE_BYTES)
        pieces = list(_split(data))
        if not len(data):
            return
        yield from pieces


def _split(item: Any) -> Iterator[bytes]:
    if not isinstance(item, bytes | bytearray | memoryview):
        raise TypeError(f"The audio gave {type(item).__name__} instead of bytes; open files in binary mode ('rb').")
    if isinstance(item, bytes) and len(item) <= PIECE_BYTES:
        yield item
        return
    view = memoryview(item).cast("B")
    for start in range(0, max(view.nbytes, 1), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])
