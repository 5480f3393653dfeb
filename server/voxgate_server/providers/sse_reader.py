"""Reads server-sent events out of bytes, however these are cut into pieces. No input, no output, no clock.

As the HTML standard has it: lines end in CR, LF or both; a blank line completes an event; what is not complete at the
end of the stream is no event.
"""

import codecs
from typing import NamedTuple

from voxgate_server.errors import AnswerTooLarge

__all__ = ["MAX_EVENT_BYTES", "Event", "SseReader"]

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""The largest event: the last one has the whole transcript, with the times of all its words."""


class Event(NamedTuple):
    """One event."""

    data: bytes
    """Its data, lines joined by LF; UTF-8 as a rule, which nobody has checked."""
    event: str = ""
    """Its type; empty where it has none."""


class SseReader:
    """Takes a stream apart.

    Args:
        who: Who sends it, for messages.
        max_event_bytes: The largest event, its lines together.
    """

    def __init__(self, who: str, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._who = who
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        """What has come of a line."""
        self._after_cr = False
        """An LF now belongs to the line before."""
        self._first = True
        self._data: list[bytes] = []
        self._type = ""
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events these bytes complete.

        Raises:
            AnswerTooLarge: An event is larger than allowed. The reader is of no use afterwards.
        """
        if not data:
            return []
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = False
        events = []
        lines = data.splitlines(keepends=True)  # of bytes: CR, LF and CRLF, and nothing else
        for line in lines:
            text = line.rstrip(b"\r\n")
            self._grow(len(text))
            self._line += text
            if len(text) < len(line):
                event = self._complete(bytes(self._line))
                self._line.clear()
                if event is not None:
                    events.append(event)
        self._after_cr = data.endswith(b"\r")
        return events

    def _complete(self, line: bytes) -> Event | None:
        """Takes a whole line; a blank one may complete an event."""
        if self._first:
            self._first = False
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            event = Event(b"\n".join(self._data), self._type) if self._data else None
            self._data, self._type, self._size = [], "", 0
            return event
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        else:
            # A comment, `id`, `retry` or a name that nobody knows: none of them is kept.
            self._size -= len(line)
        return None

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._max_event_bytes:
            raise AnswerTooLarge(f"{self._who} sent an event of more than {self._max_event_bytes} bytes.")
