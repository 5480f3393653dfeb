"""The multipart bodies providers are sent: fields first, the recording last.

The closing boundary is written only after the cursor over the recording has ended by itself, which it does for a
verified upload alone. If the cursor raises, so does the body; whoever sends it cuts the connection and the provider
sees a broken body, never a short recording that looks whole.
"""

import secrets
from collections.abc import Iterable
from typing import Self

import httpx

from voxgate_server.audio.spool import Spool

__all__ = ["MultipartBody"]

_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class MultipartBody(httpx.AsyncByteStream):
    """One form with one file. It can be sent once; another attempt takes another body.

    Args:
        fields: Names and values, in the order they are sent. Values are sent as UTF-8; lone surrogates as `?`.
        spool: The recording.
        filename: Name of the file for the provider. Ours, never the caller's.
        media_type: Media type of the file, from a closed list.
    """

    def __init__(self, fields: Iterable[tuple[str, str]], *, spool: Spool, filename: str, media_type: str) -> None:
        # 128 random bits: that the recording contains them by chance or malice is out of the question.
        boundary = f"voxgate-{secrets.token_hex(16)}"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_ESCAPES)}"\r\n\r\n{value}\r\n'
            for name, value in fields
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename.translate(_ESCAPES)}"'
            f"\r\nContent-Type: {media_type}\r\n\r\n"
        )
        self._head = "".join(parts).encode("utf-8", "replace")
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._spool = spool
        self._cursor = spool.cursor()
        self.started = False
        """Somebody has begun to take it."""
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.content_length = len(self._head) + spool.size + len(self._tail) if spool.finished else None
        """Bytes of the whole body; None while the recording is still arriving (it is sent chunked then)."""
        self.audio_bytes = 0
        """Bytes of the recording handed over so far."""
        self.waiting = False
        """The body waits for the caller, not for the provider."""
        self.complete = False
        """The closing boundary was handed over."""

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
            return self._head
        if self.complete:
            raise StopAsyncIteration
        self.waiting = True
        try:
            chunk = await anext(self._cursor)
        except StopAsyncIteration:
            self.complete = True
            return self._tail
        finally:
            self.waiting = False
        self.audio_bytes += len(chunk)
        return chunk
