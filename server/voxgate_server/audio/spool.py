"""The spool: an upload is written once and read through any number of independent cursors.

What fits stays in a window in memory; past the window everything goes to an unlinked temporary file, in blocks,
off the event loop. A cursor that keeps up reads from the window and never touches the file; one that comes later (a
fallback) starts at byte 0 and catches up from the file. A cursor ends by itself only after `finish` has verified
the upload, and raises when the upload failed: whoever copies a cursor into a request cannot send a short recording
that looks whole.
"""

import asyncio
import bisect
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from voxgate_server.errors import AudioTooLarge, ChecksumMismatch, EmptyAudio, Overloaded, VoxgateError

__all__ = ["Spool", "SpoolStore"]

_SMALL = 16 * 1024
"""Writes below this many bytes are joined, so that a million tiny writes do not become a million objects."""
_BLOCK = 64 * 1024
"""Joined writes grow up to this many bytes."""
_READ = 256 * 1024
"""Bytes read from the file at a time."""


class SpoolStore:
    """Where the spools of one process keep what does not fit into memory.

    Args:
        directory: For the temporary files; None means the system's (`TMPDIR`, else /var/tmp where it exists, which
            unlike /tmp is seldom in memory).
        window_bytes: How much of each upload stays in memory.
        quota_bytes: How many bytes all open spools may hold together, in memory and on disk.
    """

    def __init__(
        self, *, directory: Path | None = None, window_bytes: int = 1 << 20, quota_bytes: int = 8 << 30
    ) -> None:
        if directory is None:
            directory = Path("/var/tmp") if "TMPDIR" not in os.environ else Path(tempfile.gettempdir())  # noqa: S108
        self.directory = directory if directory.is_dir() else Path(tempfile.gettempdir())
        self.window_bytes = window_bytes
        self.quota_bytes = quota_bytes
        self.used_bytes = 0
        self.executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="spool")

    def open(
        self,
        *,
        max_bytes: int,
        expected_bytes: int | None = None,
        observe: Callable[[bytes], None] | None = None,
        verify: Callable[[int], None] | None = None,
    ) -> "Spool":
        """Opens a spool for one upload.

        Args:
            max_bytes: The largest upload that is taken.
            expected_bytes: Size the caller announced, or None.
            observe: Sees the bytes as they are written, in order and once.
            verify: Asked before the upload counts as complete, with its size in bytes; the VoxgateError it raises is
                the upload's failure.

        Raises:
            AudioTooLarge: The announced size is above the limit.
        """
        if expected_bytes is not None and expected_bytes > max_bytes:
            raise _too_large(max_bytes)
        return Spool(self, max_bytes, expected_bytes, observe, verify)

    def close(self) -> None:
        """Ends the threads. Spools must be closed before."""
        self.executor.shutdown(wait=True)

    def reserve(self, count: int) -> None:
        """Takes `count` bytes of the quota.

        Raises:
            Overloaded: There are not that many left.
        """
        if self.used_bytes + count > self.quota_bytes:
            raise Overloaded(
                f"The uploads in progress already hold {self.used_bytes} of the {self.quota_bytes} bytes this server "
                "keeps for them. Try again shortly.",
                metadata={"limit_bytes": str(self.quota_bytes)},
                retry_after=5,
            )
        self.used_bytes += count

    def release(self, count: int) -> None:
        """Gives `count` bytes of the quota back."""
        self.used_bytes -= count


class _UnlinkedFile:
    """A temporary file without a name.

    It is closed when the last user lets go of it, not earlier: a thread may still read while its caller was
    cancelled, and a descriptor closed under it could already belong to somebody else's upload.
    """

    def __init__(self, directory: Path) -> None:
        self.descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def append(self, blocks: list[bytes | bytearray], offset: int) -> None:
        """Writes all blocks at `offset`."""
        for block in blocks:
            view = memoryview(block)
            while view:
                count = os.pwrite(self.descriptor, view, offset)
                offset += count
                view = view[count:]

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, offset)


class Spool:
    """One upload. One writer, any number of cursors, all on the same event loop."""

    def __init__(
        self,
        store: SpoolStore,
        max_bytes: int,
        expected_bytes: int | None,
        observe: Callable[[bytes], None] | None = None,
        verify: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._verify = verify
        self._observe = observe
        self._max_bytes = max_bytes
        self._expected_bytes = expected_bytes
        self._size = 0
        self._digest = hashlib.sha256()
        self._blocks: list[bytes | bytearray] = []
        self._offsets: list[int] = []
        self._flushed = 0
        self._file: _UnlinkedFile | None = None
        self._finished = False
        self._error: VoxgateError | None = None
        self._closed = False
        self._waiters: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def finished(self) -> bool:
        """The upload is complete and verified."""
        return self._finished

    @property
    def error(self) -> VoxgateError | None:
        """Why the upload failed, or None."""
        return self._error

    @property
    def sha256(self) -> bytes:
        """SHA-256 over the bytes written so far (32 bytes)."""
        return self._digest.digest()

    async def write(self, data: bytes) -> None:
        """Appends bytes; waits while they are written to disk.

        Raises:
            AudioTooLarge: The upload is larger than allowed, or than announced.
            Overloaded: All uploads together hold more than the server keeps for them, or its disk is full.
            VoxgateError: The spool has failed before; the same error again.
        """
        self._check_open()
        count = len(data)
        if not count:
            return
        if self._size + count > self._max_bytes:
            raise self.fail(_too_large(self._max_bytes))
        if self._expected_bytes is not None and self._size + count > self._expected_bytes:
            raise self.fail(_wrong_size(self._expected_bytes, self._size + count, "so far"))
        try:
            self._store.reserve(count)
        except Overloaded as error:
            raise self.fail(error) from None
        self._digest.update(data)
        if self._observe is not None:
            self._observe(data)
        self._append(data)
        self._size += count
        self._wake()
        if self._size - self._flushed >= self._store.window_bytes // 2 and self._size > self._store.window_bytes:
            await self._flush()

    def finish(self, *, size: int | None = None, sha256: bytes | None = None) -> None:
        """Declares the upload complete and lets the cursors end.

        Args:
            size: Bytes the caller says it sent, or None when it did not say.
            sha256: SHA-256 the caller computed (32 bytes), or None.

        Raises:
            EmptyAudio: Nothing was written.
            ChecksumMismatch: Size or digest differs from what arrived.
            VoxgateError: The spool has failed before; the same error again.
        """
        self._check_open()
        for expected in (size, self._expected_bytes):
            if expected is not None and expected != self._size:
                raise self.fail(_wrong_size(expected, self._size, "in all"))
        if not self._size:
            raise self.fail(EmptyAudio("The recording has no bytes.", param="file"))
        if sha256 is not None and sha256 != self._digest.digest():
            raise self.fail(
                ChecksumMismatch(
                    f"The SHA-256 of the {self._size} bytes received is {self._digest.hexdigest()}, not the "
                    f"{sha256.hex()[:64]} that was announced. Send the recording again.",
                    param="file",
                    metadata={"received_sha256": self._digest.hexdigest()},
                )
            )
        if self._verify is not None:
            try:
                self._verify(self._size)
            except VoxgateError as error:
                raise self.fail(error) from None
        self._finished = True
        self._wake()

    def fail(self, error: VoxgateError) -> VoxgateError:
        """Makes every cursor raise `error`, unless the upload has ended before. Returns the error in force."""
        if self._error is None and not self._finished:
            self._error = error
            self._wake()
        return self._error or error

    def cursor(self) -> AsyncIterator[bytes]:
        """Reads from byte 0 to the verified end, waiting for bytes that are not there yet.

        The iterator raises the spool's error when the upload failed.
        """
        return _Cursor(self)

    async def head(self, size: int) -> bytes:
        """The first `size` bytes; fewer only when the whole recording is shorter.

        Raises:
            VoxgateError: The upload failed.
        """
        head = bytearray()
        if size > 0:
            async for chunk in self.cursor():
                head += chunk[: size - len(head)]
                if len(head) >= size:
                    break
        return bytes(head)

    async def wait_finished(self) -> None:
        """Waits for the verified end.

        Raises:
            VoxgateError: The upload failed.
        """
        offset = self._size
        while not self._finished:
            await self.read(offset)
            offset = self._size

    def close(self) -> None:
        """Forgets everything. Cursors still open raise."""
        if not self._closed:
            self._closed = True
            self._store.release(self._size)
            self._blocks.clear()
            self._offsets.clear()
            self._file = None
            self._wake()

    async def read(self, offset: int) -> bytes | None:
        """Bytes from `offset` on, at least one; None at the verified end. Waits for them; what cursors are made of."""
        while True:
            self._check_open(reading=True)
            if offset < self._size:
                return self._in_memory(offset) or await self._from_file(offset)
            if self._finished:
                return None
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _check_open(self, *, reading: bool = False) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._closed or (self._finished and not reading):
            raise RuntimeError("the spool is closed")

    def _append(self, data: bytes) -> None:
        last = self._blocks[-1] if self._blocks else None
        # Blocks already on disk are left alone: growing one would leave a hole in the file.
        if isinstance(last, bytearray) and self._offsets[-1] >= self._flushed and len(last) + len(data) <= _BLOCK:
            last += data
        else:
            self._blocks.append(data if len(data) >= _SMALL else bytearray(data))
            self._offsets.append(self._size)

    def _in_memory(self, offset: int) -> bytes | None:
        index = bisect.bisect_right(self._offsets, offset) - 1
        if index < 0:
            return None
        block = self._blocks[index]
        start = offset - self._offsets[index]
        return block if isinstance(block, bytes) and not start else bytes(memoryview(block)[start:])

    async def _from_file(self, offset: int) -> bytes:
        # What is not in memory has been flushed: blocks leave the window in order and only after that.
        file = self._file
        assert file is not None
        count = min(_READ, self._flushed - offset)
        return await asyncio.get_running_loop().run_in_executor(self._store.executor, file.read, offset, count)

    async def _flush(self) -> None:
        first = bisect.bisect_left(self._offsets, self._flushed)
        blocks, end = self._blocks[first:], self._size
        try:
            await asyncio.get_running_loop().run_in_executor(self._store.executor, self._write_out, blocks)
        except OSError as error:
            raise self.fail(
                Overloaded(
                    f"The server cannot keep the upload: {os.strerror(error.errno or 0)}. Try again shortly.",
                    retry_after=5,
                )
            ) from error
        self._flushed = end
        while self._offsets and self._size - self._offsets[0] > self._store.window_bytes:
            if self._offsets[0] + len(self._blocks[0]) > self._flushed:
                break
            del self._offsets[0], self._blocks[0]

    def _write_out(self, blocks: list[bytes | bytearray]) -> None:
        if self._file is None:
            self._file = _UnlinkedFile(self._store.directory)
        self._file.append(blocks, self._flushed)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Cursor:
    """A reader's place in a spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._offset = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._spool.read(self._offset)
        if chunk is None:
            raise StopAsyncIteration
        self._offset += len(chunk)
        return chunk


def _too_large(limit: int) -> AudioTooLarge:
    return AudioTooLarge(
        f"The recording is larger than the {limit} bytes this server takes. Send a shorter or better compressed one "
        "(FLAC or Opus), or ask the operator to raise voxgate.limits.max_audio_bytes.",
        param="file",
        metadata={"limit_bytes": str(limit)},
    )


def _wrong_size(announced: int, received: int, when: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{announced} bytes were announced and {received} received {when}. Send the recording again.",
        param="file",
        metadata={"announced_bytes": str(announced), "received_bytes": str(received)},
    )
