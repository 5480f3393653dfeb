"""Bodies of requests that carry a recording: something before it, the recording, something after it.

The end is written only after the cursor over the recording has ended by itself, which it does for a verified upload
alone. If the cursor raises, so does the body; whoever sends it cuts the connection and the provider sees a broken
body, never a short recording that looks whole.
"""

import binascii
from typing import Self

import httpx

from voxgate_server.audio.spool import Spool
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size

__all__ = ["AudioBody"]


class AudioBody(httpx.AsyncByteStream):
    """One request's body. It can be sent once; another attempt takes another body.

    Args:
        spool: The recording.
        content_type: Of the whole body.
        head: What stands before the recording.
        tail: What stands after it.
        in_base64: The recording is written in base64 (RFC 4648, with padding), for APIs that put it into JSON.
    """

    def __init__(
        self, spool: Spool, *, content_type: str, head: bytes = b"", tail: bytes = b"", in_base64: bool = False
    ) -> None:
        self.content_type = content_type
        self._head = head
        self._tail = tail
        self._in_base64 = in_base64
        self._kept = b""
        """Bytes of the recording that do not make a whole group of base64 yet."""
        self._spool = spool
        self._cursor = spool.cursor()
        self._max_audio_bytes = 0
        self._upstream: Upstream | None = None
        size = (spool.size + 2) // 3 * 4 if in_base64 else spool.size
        self.content_length = len(head) + size + len(tail) if spool.finished else None
        """Bytes of the whole body; None while the recording is still arriving (it is sent chunked then)."""
        self.started = False
        """Somebody has begun to take it."""
        self.audio_bytes = 0
        """Bytes of the recording handed over so far."""
        self.waiting = False
        """The body waits for the caller, not for the provider."""
        self.complete = False
        """All of it was handed over."""

    def limit(self, max_audio_bytes: int, upstream: Upstream) -> None:
        """Ends the body with AudioTooLarge where the recording grows beyond what the provider takes.

        Args:
            max_audio_bytes: 0 for no limit.
            upstream: Whose limit that is.
        """
        self._max_audio_bytes, self._upstream = max_audio_bytes, upstream

    @property
    def recording_bytes(self) -> int | None:
        """Size of the recording; None while it is still arriving."""
        return self._spool.size if self._spool.finished else None

    async def read(self) -> bytes:
        """The whole body at once, for small recordings.

        Raises:
            VoxgateError: The upload failed.
        """
        return b"".join([chunk async for chunk in self])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        # A class and not a generator: a generator that is left in the middle needs somebody to close it.
        if not self.started:
            self.started = True
            if self._head:
                return self._head
        while not self.complete:
            if chunk := await self._next():
                return chunk
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        self.waiting = True
        try:
            chunk = await anext(self._cursor)
        except StopAsyncIteration:
            self.complete = True
            return binascii.b2a_base64(self._kept, newline=False) + self._tail
        finally:
            self.waiting = False
        self.audio_bytes += len(chunk)
        if self._upstream is not None:
            check_size(self.audio_bytes, self._max_audio_bytes, self._upstream)
        return self._encoded(chunk) if self._in_base64 else chunk

    def _encoded(self, chunk: bytes) -> bytes:
        data = self._kept + chunk
        whole = len(data) // 3 * 3
        self._kept = data[whole:]
        return binascii.b2a_base64(data[:whole], newline=False)
