"""A recording that is still arriving, as a file: reads wait for bytes that are not there yet."""

import os
import tempfile
import threading

from voxgate_server.audio.sniff import HEAD_BYTES, MP4, sniff

__all__ = ["Recording", "RecordingDropped"]


class RecordingDropped(Exception):
    """Nobody waits for the recording any more."""


class Recording:
    """Bytes in an unlinked temporary file: one thread appends, another reads.

    Args:
        container: The bytes have a container, which may have to be read back and forth.
    """

    def __init__(self, *, container: bool) -> None:
        self._container = container
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by `close`)
        self._size = 0
        self._position = 0
        self._finished = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def append(self, data: bytes) -> None:
        """Adds bytes. After `close` they are ignored; a full disk is reported to the reader."""
        with self._changed:
            if self._error is not None:
                return
            try:
                view = memoryview(data)
                while view:
                    count = os.pwrite(self._file.fileno(), view, self._size)
                    self._size += count
                    view = view[count:]
            except OSError as error:
                self._error = error
            self._changed.notify_all()

    def finish(self) -> None:
        """Says that the recording is complete."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Ends the recording before it is complete: the reader gets RecordingDropped."""
        with self._changed:
            self._error = self._error or RecordingDropped()
            self._changed.notify_all()

    def close(self) -> None:
        """Frees the disk. What comes afterwards is ignored."""
        with self._changed:
            self._error = self._error or RecordingDropped()
            self._file.close()

    def wait_finished(self) -> None:
        """Waits until the recording is complete.

        Raises:
            RecordingDropped: It never will be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._error is not None)
            if self._error is not None:
                raise self._error

    def head(self, size: int) -> bytes:
        """The first `size` bytes, fewer when the recording is shorter. Does not move the position."""
        return self._at(0, size)

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end of the recording."""
        data = self._at(self._position, size)
        self._position += len(data)
        return data

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether it has to be read back and forth: an MP4 can have its index behind the audio.

        Everything else is read in one pass, which lets the reader follow the upload and makes the result
        independent of how the upload arrives.
        """
        return self._container and sniff(self.head(HEAD_BYTES)) is MP4

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, also to where nothing has arrived yet.

        Returns:
            The new position in bytes, or -1 when it is not known (the end of a recording that is still arriving).
        """
        if whence == os.SEEK_END:
            # Always, so that the result does not depend on whether the end was there already.
            return -1
        position = offset + (self._position if whence == os.SEEK_CUR else 0)
        if position < 0:
            return -1
        self._position = position
        return position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def _at(self, offset: int, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._finished or self._error is not None or self._size - offset >= size)
            if self._error is not None:
                raise self._error
        parts = []
        while size > 0 and (part := os.pread(self._file.fileno(), size, offset)):
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)
