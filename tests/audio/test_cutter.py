"""Cutting samples: no sample is lost, no piece is too long, and a pause is where it is cut."""

from array import array

from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.audio.cutter import Cutter
from voxgate_server.audio.isolation.frames import SAMPLE_RATE

LOUD = array("h", [8000, -8000] * (SAMPLE_RATE // 2)).tobytes()
"""A second of noise."""
QUIET = bytes(2 * SAMPLE_RATE)
"""A second of silence."""


def pieces_of(pcm: bytes, step: int, *, longest: float = 4, shortest: float = 2) -> list[bytes]:
    cutter = Cutter(longest=longest, shortest=shortest)
    pieces = [piece for at in range(0, len(pcm), step) for piece in cutter.feed(pcm[at : at + step])]
    rest = cutter.finish()
    assert cutter.finish() == b""
    return [*pieces, rest] if rest else pieces


def test_it_is_cut_in_the_pause():
    loud = LOUD * 3
    first, second, third = pieces_of(loud + QUIET[: SAMPLE_RATE // 2] + loud + QUIET[: SAMPLE_RATE // 2] + LOUD, 3200)
    assert first.startswith(loud)
    assert first.rstrip(b"\0") == loud
    assert 0 < len(first) - len(loud) < SAMPLE_RATE // 2
    assert second.strip(b"\0") == loud
    assert third.strip(b"\0") == LOUD


def test_of_several_pauses_the_later_one():
    pause = QUIET[: 2 * SAMPLE_RATE * 3 // 10]
    pcm = LOUD * 2 + LOUD[:SAMPLE_RATE] + pause + LOUD[:SAMPLE_RATE] + pause + LOUD * 2
    first = pieces_of(pcm, 1 << 20)[0]
    assert first.rstrip(b"\0") == LOUD * 2 + LOUD[:SAMPLE_RATE] + pause + LOUD[:SAMPLE_RATE]


def test_what_is_short_is_not_cut():
    assert pieces_of(LOUD * 4, 999) == [LOUD * 4]
    assert len(pieces_of(LOUD * 4 + b"\0\0", 999)) == 2
    assert pieces_of(b"", 1) == []


@given(
    parts=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=8),
    step=st.integers(1, 40_000).map(lambda count: 2 * count),
)
def test_every_sample_comes_once(parts: list[tuple[bool, int]], step: int):
    pcm = b"".join((LOUD if loud else QUIET) * (count // 1000) + LOUD[: 2 * (count % 1000)] for loud, count in parts)
    pieces = pieces_of(pcm, step)
    assert b"".join(pieces) == pcm
    assert all(len(piece) <= 4 * 2 * SAMPLE_RATE for piece in pieces)
    assert all(len(piece) >= 2 * 2 * SAMPLE_RATE for piece in pieces[:-1])
    # However the samples arrive, the pieces are the same.
    assert pieces == pieces_of(pcm, 1 << 22)
