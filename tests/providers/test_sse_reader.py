"""Server-sent events, however the bytes are cut."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.errors import AnswerTooLarge
from voxgate_server.providers.sse_reader import Event, SseReader


def read(*pieces: bytes) -> list[Event]:
    reader = SseReader("somebody")
    return [event for piece in pieces for event in reader.feed(piece)]


def by_the_book(stream: bytes) -> list[Event]:
    """The standard's algorithm, on the whole stream at once."""
    events = []
    data, kind = [], b""
    # The last line has no end: it is none.
    for line in re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if not line:
            if data:
                events.append(Event(b"\n".join(data), kind.decode("utf-8", "replace")))
            data, kind = [], b""
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return events


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_stream(end: bytes):
    lines = [
        b"\xef\xbb\xbf: a comment", b"event: greeting", b'data: {"a":', b"data:1}", b"id: 7", b"retry: 10", b"",
        b"data", b"", b"event: lost", b"", b"nothing: known", b"data:  two spaces", b"", b"data: cut off",
    ]  # fmt: skip
    assert read(end.join(lines)) == [Event(b'{"a":\n1}', "greeting"), Event(b""), Event(b" two spaces")]


_LINE = st.sampled_from(
    [b"", b"data: x", b"data:", b"data", b"data: \xc3\xa9", b": c", b"event: e", b"event", b"id: 1", b"\xef\xbb\xbf"]
) | st.binary(max_size=6)  # fmt: skip
_STREAM = st.lists(st.tuples(_LINE, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(st.sampled_from([b"", b"\xef\xbb\xbf"]), _STREAM, st.lists(st.integers(0, 200), max_size=20))
def test_cuts_change_nothing(mark: bytes, lines: bytes, cuts: list[int]):
    stream = mark + lines
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert read(*pieces) == by_the_book(stream)
    assert read(*(stream[index : index + 1] for index in range(len(stream)))) == by_the_book(stream)


@given(_STREAM, st.integers(0, 300))
def test_what_is_cut_is_a_beginning(stream: bytes, cut: int):
    whole = read(stream)
    part = read(stream[:cut])
    assert part == whole[: len(part)]


@pytest.mark.parametrize("stream", [b"data: ", b"data: 12345\n", b": ", b"event: "])
def test_an_event_without_end(stream: bytes):
    reader = SseReader("somebody", max_event_bytes=1000)

    def endless() -> None:
        for _ in range(10_000):
            reader.feed(stream)

    with pytest.raises(AnswerTooLarge, match="somebody sent an event of more than 1000 bytes"):
        endless()


def test_many_events_are_no_large_one():
    reader = SseReader("somebody", max_event_bytes=100)
    assert sum(len(reader.feed(b"data: 0123456789\n\n: comment\n")) for _ in range(1000)) == 1000
