"""Types by content: containers as FFmpeg really writes them, under no name at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.audio.sniff import HEAD_BYTES, describe, sniff

from tests.recordings import convert, recording

SPEECH = recording("agent-incorrect.wav").data

CONTAINERS = [
    ("wav", "pcm_s16le", 16_000, "wav", "audio/wav"),
    ("flac", "flac", 16_000, "flac", "audio/flac"),
    ("mp3", "libmp3lame", 44_100, "mp3", "audio/mpeg"),
    ("mp3", "libmp3lame", 16_000, "mp3", "audio/mpeg"),
    ("mp2", "mp2", 44_100, "mp3", "audio/mpeg"),
    ("ipod", "aac", 44_100, "m4a", "audio/mp4"),
    ("mp4", "aac", 44_100, "m4a", "audio/mp4"),
    ("ogg", "libopus", 48_000, "ogg", "audio/ogg"),
    ("ogg", "flac", 16_000, "ogg", "audio/ogg"),
    ("webm", "libopus", 48_000, "webm", "audio/webm"),
    ("matroska", "libopus", 48_000, "webm", "audio/x-matroska"),
    ("adts", "aac", 44_100, "aac", "audio/aac"),
    ("aiff", "pcm_s16be", 16_000, "aiff", "audio/aiff"),
    ("au", "pcm_mulaw", 8_000, "au", "audio/basic"),
    ("caf", "pcm_s16le", 16_000, "caf", "audio/x-caf"),
]


@pytest.mark.parametrize(("container", "codec", "rate", "extension", "media_type"), CONTAINERS)
def test_every_container_is_known_by_its_first_bytes(container, codec, rate, extension, media_type):
    data = convert(SPEECH, container, codec, rate=rate)
    kind = sniff(data[:HEAD_BYTES])
    assert kind is not None
    assert (kind.extension, kind.media_type) == (extension, media_type)


def test_an_mp3_without_its_tag_and_behind_stray_bytes():
    data = convert(SPEECH, "mp3", "libmp3lame", rate=44_100, options={"id3v2_version": "0", "write_xing": "0"})
    assert data[:3] != b"ID3"
    for prefix in (b"", b"\0" * 100, b"junk"):
        kind = sniff((prefix + data)[:HEAD_BYTES])
        assert kind is not None
        assert kind.name == "mp3"


def test_a_long_tag_is_enough_for_mp3():
    kind = sniff(b"ID3\x04\0\0\0\x7f\0\0" + b"\0" * 100)
    assert kind is not None
    assert kind.name == "mp3"


@pytest.mark.parametrize(
    ("data", "seems"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive or an office document"),
        (b"<!DOCTYPE html><html>", "an HTML or XML document"),
        (b'  {"error": 1}', "JSON"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"hello there", "plain text"),
        (b"#EXTM3U\n", "a playlist"),
        (b"RIFF\xff\0\0\0AVI LIST", "data of an unknown kind"),
        (bytes(range(128, 256)) * 20, "data of an unknown kind"),
    ],
)
def test_what_is_not_audio(data: bytes, seems: str):
    assert sniff(data) is None
    assert describe(data) == seems


def test_silence_without_a_header_is_not_audio():
    assert sniff(b"\0" * HEAD_BYTES) is None


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_are_judged_without_an_error(data: bytes):
    sniff(data)
    assert describe(data)
