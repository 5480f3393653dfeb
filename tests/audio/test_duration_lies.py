"""Recordings that lie, are cut, or are no recordings: nothing is guessed, nothing raises, nothing grows."""

import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.audio.duration import DurationProbe
from voxgate_server.audio.duration.window import _FREE_STEPS, _STEP_BYTES
from voxgate_server.audio.frame_headers import mpeg_length

from tests.audio.duration_fixtures import (
    MADE,
    RATE,
    SPEECH,
    box,
    chunk,
    decoded_seconds,
    element,
    made,
    mp4,
    opus_head,
    page,
    truth,
    wav,
    webm,
)
from tests.audio.test_duration import TOLERANCE, probe, seconds


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("name", ["mp3 vbr with xing", "mp3 cbr 16 kHz"])
@pytest.mark.parametrize("frames", [1, 100, 10**6, 0xFFFFFFFF])
def test_a_lying_xing_count_loses_against_the_walk(name: str, frames: int):
    data = made(name)
    at = max(data.find(b"Xing"), data.find(b"Info"))
    lie = patched(data, at + 8, struct.pack(">I", frames))
    told = probe(lie)
    # Where more is claimed than came, the end is taken for cut off, and its padding counts; decoders do the same.
    expected = decoded_seconds(lie) if frames >= 10**6 else truth(name)
    assert told.seconds() == pytest.approx(expected, abs=TOLERANCE)
    assert told.declared != pytest.approx(truth(name), abs=0.5)


def test_a_lying_vbri_header_loses():
    data = made("mp3 without anything")
    frame = bytearray(data[: mpeg_length(data[:4])])
    frame[4:] = bytes(len(frame) - 4)
    frame[36:54] = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, 10**6, 10**7)
    told = probe(bytes(frame) + data)
    assert told.declared == pytest.approx(10**7 * 576 / 22_050)
    assert told.seconds() == pytest.approx(truth("mp3 without anything"), abs=TOLERANCE)


@pytest.mark.parametrize("samples", [0, 1, 10_000, 1 << 35])
def test_a_lying_flac_header_loses(samples: int):
    data = made("flac")
    bits = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    lie = patched(data, 18, bits.to_bytes(8, "big"))
    assert seconds(lie) == pytest.approx(truth("flac"), abs=1e-6)
    assert probe(lie).declared == (samples / RATE if samples else None)
    assert seconds(lie + b"TAG" + bytes(125)) == pytest.approx(truth("flac"), abs=1e-6)


def test_an_mp4_that_claims_seventy_hours():
    packets = [400] * 25
    assert seconds(mp4(packets)) == pytest.approx(1.6)
    hours = 70 * 3600 * RATE
    told = probe(mp4(packets, claimed=hours))
    assert (told.declared, told.seconds()) == (252_000.0, pytest.approx(1.6))
    assert seconds(mp4(packets, ticks=hours // 25)) is None
    assert seconds(mp4(packets, sizes=[400] * 24)) is None
    # The sound it speaks of did not come.
    assert seconds(mp4([400] * 100_000, media=bytes(10_000))) is None
    assert seconds(mp4([0] * 100_000, media=bytes(10_000))) is None


def test_an_edit_list_shows_no_more_than_there_is():
    edits = b"".join(struct.pack(">Ii4x", 0, 0) for _ in range(60))
    elst = box(b"edts", box(b"elst", struct.pack(">II", 0, 60), edits))
    lie = mp4([400] * 25).replace(b"trak", b"trak" + elst)
    assert seconds(lie) == pytest.approx(1.6)


def test_ogg_positions_that_no_packet_reaches():
    packets = [b"\x48" + bytes(20)] * 50
    start = page(7, 0, [opus_head(skipped=0)], flags=2) + page(7, 0, [b"OpusTags" + bytes(8)])
    lie = start + page(7, 48_000, packets) + page(7, 1 << 60, packets) + page(7, 144_000, packets)
    assert seconds(lie) == pytest.approx(3)
    vorbis = made("ogg vorbis")
    last = vorbis.rindex(b"OggS")
    assert seconds(patched(vorbis, last + 6, struct.pack("<q", 1 << 40))) is None
    assert seconds(start + page(7, 48_000, [b"\xfb\x3f"] * 10)) == 0  # 63 frames, which is no packet


def test_times_of_clusters_that_no_block_lasts():
    packets = [(0, bytes([255]) * 40)] * 3
    assert seconds(webm([(0, packets), (10**9, packets)], codec=b"A_AAC")) is None
    assert seconds(webm([(0, [(0, b"\xf8" + bytes(40))]), (10**9, [(0, b"\xf8" + bytes(40))])])) == pytest.approx(0.04)
    lie = element(0x4489, struct.pack(">d", 3.6e8))
    data = made("webm into a pipe")
    info = data.index(b"\x15\x49\xa9\x66")
    assert seconds(data) == pytest.approx(truth("webm into a pipe"), abs=TOLERANCE)
    told = probe(webm([(0, [(0, b"\xf8" + bytes(40))] * 50)]).replace(b"\x16\x54\xae\x6b", lie + b"\x16\x54\xae\x6b"))
    assert (told.declared, told.seconds()) == (360_000.0, pytest.approx(1.0))
    for bad in (float("nan"), float("inf"), -1.0):
        with_bad = data[:info] + element(0x4489, struct.pack(">d", bad)) + data[info:]
        assert probe(with_bad).declared is None
        assert seconds(with_bad) == seconds(data)


@pytest.mark.parametrize("codec", [b"A_OPUS", b"A_AAC"])
def test_numbers_beyond_all_measure(codec: bytes):
    huge = b"\xff" * 60
    values = b"".join(element(name, huge) for name in (0x56AA, 0x23E383, 0xB5, 0x9F, 0x6264))
    blocks = [(0, b"\xf8" + bytes(40))] * 3
    data = webm([(0, blocks)], codec=codec, extra=values)
    for name in (0x2AD7B1, 0xE7, 0x9B, 0x75A2, 0x4489):
        more = data + element(name, huge) + b"\xa3\x88\x81\x00\x00\x80\xf8\x00\x00\x00" + element(name, huge)
        told = probe(more)
        assert told.seconds() is None or told.seconds() == 0
        assert told.declared is None


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_cut_recording_is_as_long_as_what_came_or_unknown(name: str, part: float):
    data = made(name)[: int(len(made(name)) * part)]
    told = seconds(data)
    if name.startswith(("mp4", "m4a", "mov", "3gp", "fragmented", "caf alac", "webm vorbis")):
        # An index that comes last is missing; one that comes first names what did not come.
        return
    assert told is not None
    try:
        played = decoded_seconds(data)
    except Exception:
        return
    # The packet that was cut, and in Ogg the page, may be counted or not.
    assert told == pytest.approx(played, abs=1.1 if name.startswith("ogg") else 0.35)
    assert told < truth(name) or "film" in name


@pytest.mark.parametrize("name", ["m4a index first", "m4a index last", "mp4 16 kHz", "caf alac"])
def test_a_cut_index_is_not_guessed_from(name: str):
    data = made(name)
    for part in (0.2, 0.5, 0.8, 0.95):
        assert seconds(data[: int(len(data) * part)]) is None


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(MADE)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=30),
    in_head=st.booleans(),
    cut=st.floats(0.05, 1),
)
def test_flipped_bits_never_raise_and_chunks_do_not_matter(
    name: str, flips: list[tuple[float, int]], in_head: bool, cut: float
):
    data = bytearray(made(name)[: int(len(made(name)) * cut)])
    for place, bit in flips:
        data[int(place * (min(len(data), 2000) if in_head else len(data)))] ^= 1 << bit
    whole, pieces = probe(bytes(data)), probe(bytes(data), 4096, 1, 37)
    assert (whole.seconds(), whole.declared) == (pieces.seconds(), pieces.declared)
    assert whole.seconds() is None or 0 <= whole.seconds() <= len(data)


@settings(max_examples=300, deadline=None)
@given(
    head=st.sampled_from([
        b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVE", b"fLaC", b"OggS\0\2", b"\x1aE\xdf\xa3", b"\0\0\0\x08ftyp",
        b"FORM\0\0\0\0AIFF", b".snd", b"caff\0\1\0\0", b"#!AMR\n", b"ID3\4\0\0\0\0\0\0", b"\xff\xfb\x90\0", b"\xff\xf1",
    ]),
    body=st.binary(max_size=3000),
    repeat=st.integers(1, 40),
)  # fmt: skip
def test_any_bytes_behind_any_magic(head: bytes, body: bytes, repeat: int):
    data = head + body * repeat
    whole, pieces = probe(data), probe(data, 100, 3)
    assert (whole.seconds(), whole.declared) == (pieces.seconds(), pieces.declared)


UNITS = {
    "wav": (b"RIFF\0\0\0\0WAVE", b"abcd\0\0\0\0"),
    "mp4": (b"\0\0\0\x08ftyp", b"\0\0\0\x08free"),
    "mp4 containers": (b"\0\0\0\x08ftyp", b"\0\0\0\x08moov"),
    "flac": (b"fLaC", b"\1\0\0\0"),
    "aiff": (b"FORM\0\0\0\0AIFF", b"abcd\0\0\0\0"),
    "caf": (b"caff\0\1\0\0", b"abcd" + bytes(8)),
    "webm": (b"\x1aE\xdf\xa3\x80", b"\xec\x80"),
    "mp3": (b"ID3\4\0\0\0\0\0\0", b"\xff\xfb\x1c"),
}


@pytest.mark.parametrize("name", UNITS)
def test_many_small_parts_are_given_up(name: str):
    head, unit = UNITS[name]
    feeding = DurationProbe()
    feeding.feed(head)
    steps = 0
    for _ in range(40):
        feeding.feed(unit * 10_000)
        steps = max(steps, feeding._window._effort)
    assert feeding._given_up
    assert feeding.seconds() is None
    assert steps <= _FREE_STEPS + 40 * 10_000 * len(unit) // _STEP_BYTES + 1


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x08moov\0\0\0\x08trak\xff\xff\xff\xffstts\0\0\0\0\x0f\xff\xff\xff",
        b"\0\0\0\x08moov\0\0\0\x08trak\xff\xff\xff\xffstsz\0\0\0\0\0\0\0\0\x0f\xff\xff\xff",
        b"\0\0\0\x01ftyp\x7f" + b"\xff" * 7,
        b"\x1aE\xdf\xa3\x80\x18S\x80g\x01"
        + b"\xff" * 7
        + b"\x1fC\xb6u\x01"
        + b"\xff" * 7
        + b"\xa3\x08\xff\xff\xff\xff",
        b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", bytes(16), 0xFFFFFFF0),
        b"fLaC\0\xff\xff\xff",
        b"caff\0\1\0\0data\x7f" + b"\xff" * 7,
        b"#!AMR\n",
        made("flac into a pipe")[:9000],
    ],
)
def test_sizes_allocate_nothing(data: bytes):
    feeding = DurationProbe()
    block = random.Random(5).randbytes(65_536)
    feeding.feed(data)
    tracemalloc.start()
    for _ in range(64):
        feeding.feed(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 600_000
    feeding.seconds()


def test_no_byte_lasts_longer_than_a_second():
    data = made("caf into a pipe")
    frames_in_a_packet = data.index(b"desc") + 12 + 20
    assert seconds(patched(data, frames_in_a_packet, b"\x7f")) is None
    slow = struct.pack("<HHIIHHHH", 0x11, 1, 1, 1, 1, 4, 2, 65_535)
    assert seconds(wav(bytes(1000), fmt=slow)) is None


def test_a_wav_of_four_gigabytes_is_as_long_as_what_came():
    told = probe(wav(bytes(32_000), size=0xFFFFFFF0))
    assert told.seconds() == 1.0
    assert told.declared == pytest.approx(0xFFFFFFF0 / 2 / RATE)
    assert SPEECH.seconds > 1
