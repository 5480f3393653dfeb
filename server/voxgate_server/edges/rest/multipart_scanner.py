"""Multipart bodies (RFC 2046, RFC 7578) cut into part heads and payloads, whatever pieces they arrive in.

Written here because the outcome must never depend on how the network cuts the bytes: the push parser of `multipart`
accepts or refuses a preamble, a bare line feed and a header of the greatest length according to the chunks, and does
not tell where the form ends. There is no preamble, no folded header, no padding behind a boundary: no client of ours
sends them, and every leniency is a way for two parsers to read the same bytes differently.
"""

import re

from voxgate_server.errors import InvalidRequest

__all__ = ["MultipartScanner", "PartHead"]

PartHead = dict[str, str]
"""Headers of a part: names in lower case, values as Latin-1, so that every byte is a character."""

_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+\-.^_`|~]+):[ \t]*([^\r\n\0]*)")


class MultipartScanner:
    """Finds the parts of one body.

    Args:
        boundary: As the Content-Type header names it, at most 70 bytes without line breaks.
        max_parts: Parts of the body.
        max_head_bytes: All header lines of one part together.
    """

    def __init__(self, boundary: bytes, *, max_parts: int, max_head_bytes: int) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._max_parts = max_parts
        self._max_head_bytes = max_head_bytes
        self._parts = 0
        self._opened = False
        self._in_head = False
        self._buffer = b""
        self.closed = False
        """The closing boundary was read."""
        self.epilogue_bytes = 0
        """Bytes that came after the closing boundary."""

    def feed(self, data: bytes) -> list[PartHead | bytes | None]:
        """Takes the next bytes; returns for every part its head, its payload in pieces, and None at its end.

        Raises:
            InvalidRequest: The body is malformed or above a limit. The scanner is not to be used after that.
        """
        if self.closed:
            self.epilogue_bytes += len(data)
            return []
        buffer = self._buffer + data if self._buffer else data
        found: list[PartHead | bytes | None] = []
        position = 0 if self._opened else self._start(buffer)
        while self._opened and not self.closed:
            if self._in_head:
                end = self._head(buffer, position, found)
                if end < 0:
                    break
                position = end
                continue
            index = buffer.find(self._delimiter, position)
            end = index if index >= 0 else self._end_of_payload(buffer, position)
            if end > position:
                found.append(buffer[position:end] if position or end < len(buffer) else buffer)
            position = end
            end += len(self._delimiter)
            if index < 0 or end + 2 > len(buffer):
                break
            found.append(None)
            self._after_boundary(buffer, end)
            position = end + 2
        self._buffer = buffer[position:]
        return found

    def _start(self, buffer: bytes) -> int:
        """Where the first head begins; 0 while the buffer is too short to see the first boundary."""
        # A boundary begins with a line break, except, usually, the first one.
        opening = self._delimiter if buffer.startswith(b"\r") else self._delimiter[2:]
        if not buffer.startswith(opening) and not opening.startswith(buffer):
            raise InvalidRequest(
                "The body does not start with the boundary that the Content-Type header names. Let the HTTP library "
                "write that header; do not set it by hand."
            )
        if len(buffer) < len(opening) + 2:
            return 0
        self._opened = True
        self._after_boundary(buffer, len(opening))
        return len(opening) + 2

    def _after_boundary(self, buffer: bytes, position: int) -> None:
        after = buffer[position : position + 2]
        if after == b"--":
            self.closed = True
            self.epilogue_bytes = len(buffer) - position - 2
        elif after == b"\r\n":
            self._parts += 1
            if self._parts > self._max_parts:
                raise InvalidRequest(f"The form has more than {self._max_parts} parts.")
            self._in_head = True
        else:
            raise InvalidRequest("The body is not valid multipart/form-data: other bytes follow a boundary.")

    def _head(self, buffer: bytes, position: int, found: list[PartHead | bytes | None]) -> int:
        """Where the payload begins; -1 while the head is not complete."""
        end = buffer.find(b"\r\n\r\n", position)
        if (end if end >= 0 else len(buffer) - 3) - position > self._max_head_bytes:
            raise InvalidRequest(f"The headers of a part of the form are longer than {self._max_head_bytes} bytes.")
        if end < 0:
            return -1
        head: PartHead = {}
        for line in buffer[position:end].decode("latin-1").split("\r\n"):
            header = _HEADER.fullmatch(line)
            if header is None or header[1].lower() in head:
                raise InvalidRequest("The body is not valid multipart/form-data: a part has malformed headers.")
            head[header[1].lower()] = header[2].rstrip(" \t")
        found.append(head)
        self._in_head = False
        return end + 4

    def _end_of_payload(self, buffer: bytes, position: int) -> int:
        """Where the part of the buffer ends that is payload for certain: before what may become a boundary."""
        # A boundary has its only carriage return in front, so the last one is the only candidate.
        index = buffer.rfind(b"\r", max(position, len(buffer) - len(self._delimiter) + 1))
        return index if index >= 0 and self._delimiter.startswith(buffer[index:]) else len(buffer)
