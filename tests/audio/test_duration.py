"""The probe's answer is what a decoder plays, for every container, however the bytes come."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate.transcription.v1.audio_pb2 import (
    AUDIO_ENCODING_ALAW,
    AUDIO_ENCODING_MULAW,
    AUDIO_ENCODING_OPUS,
    AUDIO_ENCODING_PCM_S16LE,
    AudioEncoding,
    RawAudioFormat,
)
from voxgate_server.audio.duration import DurationProbe, raw_seconds

from tests.audio.duration_fixtures import (
    MADE,
    PCM,
    RATE,
    SPEECH,
    chunk,
    decoded_seconds,
    made,
    opus_head,
    page,
    truth,
    wav,
    webm,
)
from tests.recordings import recordings

TOLERANCE = 0.010


def probe(data: bytes, *sizes: int) -> DurationProbe:
    """A probe that was fed `data` in chunks of these sizes, over and over; at once when there are none."""
    made = DurationProbe()
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        made.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    return made


def seconds(data: bytes) -> float | None:
    return probe(data).seconds()


@pytest.mark.parametrize("name", MADE)
def test_the_length_is_what_is_played(name: str):
    assert seconds(made(name)) == pytest.approx(truth(name), abs=TOLERANCE)


@pytest.mark.parametrize("item", recordings(), ids=lambda item: item.path.stem)
def test_the_recordings_in_samples(item):
    assert seconds(item.data) == pytest.approx(item.seconds, abs=1e-6)


@pytest.mark.parametrize("name", MADE)
def test_one_byte_at_a_time(name: str):
    whole, bytewise = probe(made(name)), probe(made(name), 1)
    assert (bytewise.seconds(), bytewise.declared) == (whole.seconds(), whole.declared)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(MADE)), sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=8))
def test_chunks_of_any_size(name: str, sizes: list[int]):
    whole, pieces = probe(made(name)), probe(made(name), *sizes)
    assert (pieces.seconds(), pieces.declared) == (whole.seconds(), whole.declared)


@pytest.mark.parametrize("name", MADE)
def test_what_is_kept_is_little(name: str):
    data, feeding = made(name), DurationProbe()
    kept = []
    for start in range(0, len(data), 1000):
        feeding.feed(data[start : start + 1000])
        kept.append(len(feeding._window.data))
    assert max(kept) < 6000


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("wav", 5.5175), ("flac", 5.5175), ("mp3 vbr with xing", 5.5175), ("m4a index first", 5.518),
        ("aiff", 5.5175), ("au", 5.5175), ("caf alac", 5.5175), ("webm", 5.5245), ("rf64", 5.5175),
    ],
)  # fmt: skip
def test_a_claim_is_known_before_the_end(name: str, declared: float):
    data, feeding = made(name), DurationProbe()
    for start in range(0, min(len(data) // 2, 8192), 512):
        feeding.feed(data[start : start + 512])
    if name != "caf alac":  # whose table comes last
        assert feeding.declared == pytest.approx(declared, abs=0.002)
    assert probe(data).declared == pytest.approx(declared, abs=0.002)


@pytest.mark.parametrize("name", ["wav into a pipe", "flac into a pipe", "adts", "ogg opus", "webm into a pipe"])
def test_no_claim_where_the_header_has_none(name: str):
    assert probe(made(name)).declared is None


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, len(PCM) + 1, 0xFFFFFFFE])
def test_a_wav_that_claims_what_did_not_come(size: int):
    assert seconds(wav(size=size)) == pytest.approx(SPEECH.seconds, abs=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        wav(before=chunk(b"LIST", b"INFO" + bytes(7)), after=chunk(b"id3 ", bytes(999))),
        wav(order=">", fmt=struct.pack(">HHIIHH", 1, 1, RATE, RATE * 2, 2, 16), magic=b"RIFX"),
        wav(fmt=struct.pack("<HHIIHHHHI16s", 0xFFFE, 1, RATE, 7, 3, 16, 22, 16, 0, b"\1\0" + bytes(14))),
        wav(fmt=struct.pack("<HHIIHH", 1, 1, RATE, 0, 0, 16)),
        wav(PCM[:60_000], after=chunk(b"data", PCM[60_000:])),
        wav(PCM + b"\0", size=len(PCM) + 1),
    ],
    ids=["chunks around", "big-endian", "extensible", "no byte rate", "two data chunks", "odd"],
)
def test_unusual_wavs(data: bytes):
    assert seconds(data) == pytest.approx(SPEECH.seconds, abs=1e-4)


def test_gsm_in_wav():
    fmt = struct.pack("<HHIIHHHH", 0x31, 1, 8000, 1625, 65, 0, 2, 320)
    assert seconds(wav(bytes(65 * 50), fmt=fmt)) == pytest.approx(50 * 0.04)


def test_a_wav_without_a_rate_or_a_format_is_not_guessed():
    assert seconds(wav(fmt=struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16))) is None
    assert seconds(wav(fmt=struct.pack("<HHIIHH", 0x55, 1, RATE, 4000, 1, 0))) is None
    assert seconds(b"RIFF\0\0\0\0WAVEdata" + struct.pack("<I", len(PCM)) + PCM) is None


def test_a_header_and_nothing_else():
    assert seconds(wav(b"")) == 0
    assert seconds(made("flac")[:8300][:86]) in (0, None)
    assert seconds(b"") is None
    assert seconds(b"RI") is None


@pytest.mark.parametrize(
    ("magic", "sizes", "kinds"),
    [
        (b"#!AMR\n", [13, 14, 16, 18, 20, 21, 27, 32, 6], 9),
        (b"#!AMR-WB\n", [18, 24, 33, 37, 41, 47, 51, 59, 61, 6], 10),
    ],
)
def test_amr(magic: bytes, sizes: list[int], kinds: int):
    rng = random.Random(3)
    frames = b""
    for _ in range(40):
        kind = rng.randrange(kinds)
        frames += (bytes([kind << 3 | 4]) + bytes(sizes[kind] - 1)) * rng.choice([1, 3, 70, 130])
    count = 0
    at = 0
    while at < len(frames):
        at, count = at + sizes[frames[at] >> 3], count + 1
    assert seconds(magic + frames) == pytest.approx(count * 0.02)
    assert probe(magic + frames, 7, 100, 1).seconds() == pytest.approx(count * 0.02)
    # The decoder agrees, as far as it does not hide frames of comfort noise.
    speech = magic + (bytes([7 << 3 | 4]) + bytes(sizes[7] - 1)) * 100
    assert seconds(speech) == pytest.approx(decoded_seconds(speech), abs=TOLERANCE)
    assert seconds(speech[:-1]) == pytest.approx(99 * 0.02)
    assert seconds(magic + b"\x5c" + frames) is None


@pytest.mark.parametrize("second", ["ogg opus stereo", "ogg flac", "ogg vorbis"])
def test_a_chain_of_ogg_streams(second: str):
    chain = made("ogg opus") + made(second) + made("ogg opus of small pages")
    expected = 2 * truth("ogg opus") + truth(second)
    assert seconds(chain) == pytest.approx(expected, abs=TOLERANCE)


def test_an_opus_stream_cut_out_of_a_longer_one():
    packets = [b"\x48" + bytes(20)] * 50  # SILK, 20 ms
    start = page(7, 0, [opus_head()], flags=2) + page(7, 0, [b"OpusTags" + bytes(8)], number=1)
    late = start + b"".join(page(7, 10**9 + 48_000 * turn, packets, number=turn) for turn in range(1, 6))
    assert seconds(late) == pytest.approx(5 - 312 / 48_000)
    with_a_gap = start + page(7, 48_000, packets) + page(7, 48_000 * 30, packets) + page(7, 48_000 * 31, packets)
    assert seconds(with_a_gap) == pytest.approx(3 - 312 / 48_000)
    one_page = start + page(7, 40_000, packets, flags=4)
    assert seconds(one_page) == pytest.approx((40_000 - 312) / 48_000)


def test_a_film_with_sound():
    video = page(1, 0, [b"\x80theora" + bytes(35)], flags=2)
    data = made("ogg opus")
    later = data.index(b"OggS", 4)
    mixed = video + data[:later] + page(1, 5, [bytes(900)]) + data[later:] + page(1, 10**12, [bytes(900)], flags=4)
    assert seconds(mixed) == pytest.approx(truth("ogg opus"), abs=TOLERANCE)


def test_a_browsers_webm():
    packets = [b"\xfb\x03" + bytes(60)] * 16  # three frames of 20 ms
    clusters = [(turn * 960, [(60 * place, packet) for place, packet in enumerate(packets)]) for turn in range(5)]
    data = webm(clusters)
    assert seconds(data) == pytest.approx(5 * 0.96)
    assert probe(data, 1).seconds() == seconds(data)
    assert probe(data).declared is None


def test_junk_and_tags_around_mp3():
    data = made("mp3 without anything")
    ape = b"APETAGEX" + struct.pack("<IIII8x", 2000, 900, 1, 1 << 31) + b"\xff" * 900
    for around in (b"junk" + data, data + b"TAG" + bytes(125), data + ape, data + bytes(50_000), ape + data):
        assert seconds(around) == pytest.approx(truth("mp3 without anything"), abs=TOLERANCE)
    damaged = data[:5000] + bytes(300) + data[5300:]
    assert seconds(damaged) == pytest.approx(truth("mp3 without anything"), abs=0.2)


@pytest.mark.parametrize(
    ("encoding", "rate", "channels", "expected"),
    [
        (AUDIO_ENCODING_PCM_S16LE, 16_000, 0, 1.0),
        (AUDIO_ENCODING_PCM_S16LE, 8000, 2, 1.0),
        (AUDIO_ENCODING_MULAW, 8000, 1, 4.0),
        (AUDIO_ENCODING_ALAW, 48_000, 2, 1 / 3),
        (AUDIO_ENCODING_OPUS, 48_000, 1, None),
        (AUDIO_ENCODING_PCM_S16LE, 0, 1, None),
    ],
)
def test_headerless_audio(encoding: AudioEncoding.ValueType, rate: int, channels: int, expected: float | None):
    raw = RawAudioFormat(encoding=encoding, sample_rate_hertz=rate, channel_count=channels)
    counting = DurationProbe(raw)
    for _ in range(32):
        counting.feed(b"RIFF" * 250)
    assert len(counting._window.data) == 0
    assert counting.seconds() == raw_seconds(raw, 32_000) == (expected and pytest.approx(expected, abs=1e-3))
    assert counting.declared is None
