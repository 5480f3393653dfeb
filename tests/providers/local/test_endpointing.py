"""Cutting at pauses, and reading what is still arriving."""

import itertools
import random
import threading
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.audio.isolation.frames import MAX_PAYLOAD, SAMPLE_RATE, FrameError, Kind, decode_header, encode
from voxgate_server.audio.isolation.recording import Recording, RecordingDropped
from voxgate_server.providers.local.endpointing import FEW_PAUSES, PAUSES, Endpointer, Stretch

from tests.recordings import recording

LOUDNESS = st.sampled_from([0, 3, 30, 300, 3000, 20_000])
PIECES = st.lists(st.tuples(LOUDNESS, st.integers(1, 400)), min_size=1, max_size=12)
"""Noise of some loudness for some hundredths of a second."""


def sound(pieces: list[tuple[int, int]]) -> bytes:
    randomly = random.Random(len(pieces))
    samples = array("h")
    for loudness, length in pieces:
        hundredth = [randomly.randint(-loudness, loudness) for _ in range(SAMPLE_RATE // 100)]
        samples.extend(hundredth * length)
    return samples.tobytes()


def stretches(pcm: bytes, cuts: list[int], pauses: Sequence[tuple[int, int]] = PAUSES) -> list[Stretch]:
    endpointer = Endpointer(pauses)
    found = []
    places = [0, *sorted(cut % len(pcm) for cut in cuts), len(pcm)]
    for start, end in itertools.pairwise(places):
        found += endpointer.feed(pcm[start:end])
    last = endpointer.finish()
    return [*found, last] if last is not None else found


@settings(max_examples=40, deadline=None)
@given(PIECES, st.lists(st.integers(0, 1 << 20), max_size=8), st.sampled_from([PAUSES, FEW_PAUSES]))
def test_stretches_are_pieces_of_the_sound_in_order(
    pieces: list[tuple[int, int]], cuts: list[int], pauses: Sequence[tuple[int, int]]
):
    pcm = sound(pieces)
    found = stretches(pcm, cuts, pauses)
    assert found == stretches(pcm, [], pauses)
    end = 0
    for stretch in found:
        start = round(stretch.start * SAMPLE_RATE) * 2
        assert start >= end
        end = start + len(stretch.pcm)
        assert stretch.pcm == pcm[start:end]
        assert len(stretch.pcm) <= 26 * SAMPLE_RATE * 2


def test_few_pauses_cut_seldom():
    pcm = sound([(5000, 300), (0, 100)] * 9)
    assert len(stretches(pcm, [])) == 9
    few = stretches(pcm, [], FEW_PAUSES)
    assert len(few) == 3
    assert [len(stretch.pcm) > 10 * SAMPLE_RATE * 2 for stretch in few] == [True, True, False]


def test_silence_is_left_out():
    pcm = sound([(0, 500), (5000, 100), (0, 500), (5000, 100), (0, 500)])
    found = stretches(pcm, [])
    assert [round(stretch.start, 1) for stretch in found] == [4.8, 10.8]
    assert all(len(stretch.pcm) <= 1.4 * SAMPLE_RATE * 2 for stretch in found)


@pytest.mark.parametrize("loudness", [300, 3000, 30_000])
def test_nothing_of_an_unbroken_sound_is_lost(loudness: int):
    pcm = sound([(loudness, 10_000)])
    assert b"".join(stretch.pcm for stretch in stretches(pcm, [])) == pcm


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01])
def test_speech_is_found_whether_loud_or_quiet(gain: float):
    data = recording("demo-congrats.wav").data
    samples = array("h", data[data.index(b"data") + 8 :])
    pcm = array("h", (int(sample * gain) for sample in samples)).tobytes()
    found = stretches(pcm, [])
    assert 3 <= len(found) <= 6
    assert sum(len(stretch.pcm) for stretch in found) > 0.9 * len(pcm)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(max_size=100), max_size=20),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 300)), max_size=10),
)
def test_a_recording_reads_like_a_file(chunks: list[bytes], reads: list[tuple[int, int]]):
    whole = b"".join(chunks)
    arriving = Recording(container=True)

    def arrive() -> None:
        for chunk in chunks:
            arriving.append(chunk)
        arriving.finish()

    thread = threading.Thread(target=arrive)
    thread.start()
    for offset, size in reads:
        assert arriving.seek(offset) == arriving.tell() == offset
        assert arriving.read(size) == whole[offset : offset + size]
        assert arriving.tell() == offset + len(whole[offset : offset + size])
    assert arriving.head(10) == whole[:10]
    arriving.wait_finished()
    thread.join()
    arriving.close()
    with pytest.raises(RecordingDropped):
        arriving.read(1)


def test_a_reader_learns_that_nothing_more_comes():
    arriving = Recording(container=False)
    arriving.append(b"RIFF")
    threading.Timer(0.01, arriving.drop).start()
    with pytest.raises(RecordingDropped):
        arriving.read(5)
    with pytest.raises(RecordingDropped):
        arriving.wait_finished()
    arriving.append(b"ignored")
    arriving.close()


@given(st.sampled_from(Kind), st.binary(max_size=300))
def test_frames(kind: Kind, payload: bytes):
    frame = encode(kind, payload)
    assert decode_header(frame[:5]) == (kind, len(payload))
    assert frame[5:] == payload


@pytest.mark.parametrize("header", [b"\x00\x00\x00\x00\x00", b"\xff\xff\xff\xff\x01", b"\x00\x00\x00\x00\x07"])
def test_frames_that_are_none(header: bytes):
    with pytest.raises(FrameError):
        decode_header(header)
    with pytest.raises(FrameError):
        encode(Kind.AUDIO, bytes(MAX_PAYLOAD + 1))
