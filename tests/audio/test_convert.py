"""Conversions: what a container becomes, and that it is still the same sound."""

import asyncio
import io

import av
import pytest
from voxgate_server.audio.convert import Converter
from voxgate_server.audio.sniff import HEAD_BYTES, sniff
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import UnsupportedAudio

from tests.audio.converting import GEMINI, OPENAI, begin, contents, converted, listen, packets
from tests.audio.duration_fixtures import film, made
from tests.recordings import convert, recording

SPEECH = recording("demo-thanks.wav")
FLAC_ONLY = ("audio/flac",)
TOLERANCE = 0.020

CASES = [
    # What, what the provider takes, what it gets, and whether the packets are the same.
    ("webm", GEMINI, "ogg", True),
    ("webm live", GEMINI, "ogg", True),
    ("webm vorbis", GEMINI, "ogg", True),
    ("webm film", GEMINI, "ogg", True),
    ("mka aac", OPENAI, "mp4", True),
    ("mka film", OPENAI, "mp4", True),
    ("mka mp3", OPENAI, "mp3", True),
    ("mka flac", OPENAI, "flac", True),
    ("mka pcm into a pipe", OPENAI, "wav", True),
    ("adts", OPENAI, "mp4", True),
    ("adts 16 kHz", OPENAI, "mp4", True),
    ("mp4 opus", GEMINI, "ogg", True),
    ("mp4 flac", GEMINI, "flac", True),
    ("m4a alac", GEMINI, "flac", False),
    ("mov pcm", GEMINI, "wav", True),
    ("ogg flac", FLAC_ONLY, "flac", True),
    ("au", OPENAI, "wav", True),
    ("au 16 bit into a pipe", OPENAI, "flac", False),
    ("aiff", OPENAI, "flac", False),
    ("aiff 24 bit", OPENAI, "flac", False),
    ("caf", OPENAI, "wav", True),
    ("mp2", FLAC_ONLY, "flac", False),
    ("mp3 cbr 44 kHz stereo", FLAC_ONLY, "flac", False),
    ("wav float", FLAC_ONLY, "flac", False),
    ("ogg opus stereo", FLAC_ONLY, "flac", False),
    ("aiff", ("audio/wav",), "wav", False),
]


@pytest.mark.parametrize(("name", "media_types", "result", "same_packets"), CASES)
@pytest.mark.parametrize("live", [False, True], ids=["whole", "live"])
async def test_it_is_the_same_sound_in_another_container(
    converter: Converter, store: SpoolStore, name, media_types, result, same_packets, live
):
    data = made(name)
    kind, out = await converted(converter, store, data, media_types, live=live)
    assert kind.name == result
    assert kind.media_type in media_types
    assert sniff(out[:HEAD_BYTES]) == kind
    before, after = listen(data), listen(out)
    # What an MP3's first frame says of the padding behind its last is not heeded when it is read in one pass.
    tolerance = 1152 / before.rate if name.startswith("mp3") else TOLERANCE
    assert after.seconds == pytest.approx(before.seconds, abs=tolerance)
    assert (after.rate, after.channels) == (before.rate, before.channels)
    if same_packets:
        assert after.codec == before.codec
        # Samples without a header are cut into packets anywhere.
        assert b"".join(packets(out)) == b"".join(packets(data))


@pytest.mark.parametrize("name", ["m4a index last", "m4a index first", "fragmented mp4", "mp4 16 kHz", "mp4 film"])
async def test_mp4_becomes_bare_aac_without_its_priming(converter: Converter, store: SpoolStore, name: str):
    data = made(name)
    kind, out = await converted(converter, store, data, GEMINI)
    assert (kind.name, kind.media_type) == ("aac", "audio/aac")
    before, after = listen(data), listen(out)
    # A frame of AAC is not divisible, and an MP4's index may say that less of the last one is sound.
    assert abs(after.seconds - before.seconds) <= 1024 / before.rate
    assert set(packets(data)) >= set(packets(out))


async def test_the_index_of_an_m4a_comes_first(converter: Converter, store: SpoolStore):
    for live in (False, True):
        _, out = await converted(converter, store, made("adts"), OPENAI, live=live)
        assert 0 < out.index(b"moov") < out.index(b"mdat")


async def test_flac_has_every_sample(converter: Converter, store: SpoolStore):
    for live in (False, True):
        _, out = await converted(converter, store, made("aiff"), FLAC_ONLY, live=live)
        assert listen(out).samples == listen(SPEECH.data).samples


async def test_what_is_there_gets_its_length_into_the_header(converter: Converter, store: SpoolStore):
    _, out = await converted(converter, store, made("aiff"), FLAC_ONLY)
    total = int.from_bytes(out[21:26], "big") & (1 << 36) - 1
    assert total == round(SPEECH.seconds * 16_000)
    assert out[26:42] != bytes(16)  # The digest of the samples.
    _, out = await converted(converter, store, made("mka pcm into a pipe"), OPENAI)
    assert int.from_bytes(out[4:8], "little") == len(out) - 8


async def test_what_no_model_needs_is_left_out(converter: Converter, store: SpoolStore):
    surround = convert(SPEECH.data, "flac", "flac", rate=96_000, layout="5.1")
    _, out = await converted(converter, store, surround, ("audio/wav",))
    sound = listen(out)
    assert (sound.rate, sound.channels) == (48_000, 2)
    assert sound.seconds == pytest.approx(SPEECH.seconds, abs=TOLERANCE)


async def test_packets_that_do_not_fit_after_all_are_decoded(converter: Converter, store: SpoolStore):
    # Opus can be decoded without the header that Ogg has to have. Here it is something to be skipped.
    data = bytearray(made("webm"))
    at = data.index(b"OpusHead") - 3
    assert data[at : at + 2] == b"\x63\xa2"
    data[at : at + 3] = bytes([0xEC, 0x40, data[at + 2] & 0x7F])
    kind, out = await converted(converter, store, bytes(data), GEMINI)
    assert kind.name == "flac"
    assert listen(out).seconds == pytest.approx(SPEECH.seconds, abs=TOLERANCE)


async def test_a_provider_reads_while_the_caller_sends(converter: Converter, store: SpoolStore):
    speech = recording("demo-congrats.wav").data
    data = convert(speech, "webm", "libopus", rate=48_000)
    async with store.open(max_bytes=1 << 30) as source:
        conversion = begin(converter, source, data, GEMINI)
        await source.write(data[: len(data) // 2])
        cursor = conversion.spool.cursor()
        assert (await conversion.identify()).name == "ogg"
        early = b""
        while len(early) < 16_000:
            early += await asyncio.wait_for(anext(cursor), 30)
        assert not source.finished
        assert not conversion.spool.finished
        await source.write(data[len(data) // 2 :])
        source.finish()
        out = early + b"".join([chunk async for chunk in cursor])
        assert listen(out).seconds == pytest.approx(listen(speech).seconds, abs=TOLERANCE)
        conversion.close()


async def test_a_film_without_sound_is_refused(converter: Converter, store: SpoolStore):
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as target:
        pictures = target.add_stream("mpeg4", rate=10, width=64, height=64)
        pictures.pix_fmt = "yuv420p"
        for number in range(20):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            target.mux(pictures.encode(frame))
        target.mux(pictures.encode(None))
    with pytest.raises(UnsupportedAudio, match=r"no audio track \(only: video\)"):
        await converted(converter, store, out.getvalue(), OPENAI)
    # The process has survived, and serves the next.
    [worker] = converter.worker_pids
    await converted(converter, store, film("matroska", "aac", "mpeg4"), OPENAI)
    assert converter.worker_pids == [worker]


async def test_there_is_no_way_to_everything(converter: Converter, store: SpoolStore):
    with pytest.raises(UnsupportedAudio, match=r"cannot be converted to any of audio/amr.*looks like webm"):
        await converted(converter, store, made("webm"), ("audio/amr",))


async def test_without_pyav_the_way_out_is_named(
    converter: Converter, store: SpoolStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    async with store.open(max_bytes=1 << 30) as source:
        with pytest.raises(UnsupportedAudio) as raised:
            begin(converter, source, made("webm"), FLAC_ONLY)
        assert raised.value.message == (
            "The recording is webm and somebody (their-model) takes audio/flac only. To convert it, this server needs "
            "PyAV (pip install 'voxgate[local]')."
        )
        assert raised.value.metadata == {"detected": "webm"}
    assert not store.used_bytes


async def test_it_is_not_begun_before_all_is_there_when_processes_are_few(store: SpoolStore):
    converter = Converter(store, max_bytes=1 << 30, workers=1)
    data = made("webm")
    try:
        async with store.open(max_bytes=1 << 30) as slow, store.open(max_bytes=1 << 30) as quick:
            await slow.write(data[:1000])
            first = begin(converter, slow, data, GEMINI)
            await quick.write(data)
            quick.finish()
            second = begin(converter, quick, data, GEMINI)
            # The second is served although the first was there before.
            assert listen(await contents(second.spool)).seconds == pytest.approx(SPEECH.seconds, abs=TOLERANCE)
            assert not first.spool.size
            await slow.write(data[1000:])
            slow.finish()
            assert await contents(first.spool) == await contents(second.spool)
            first.close()
            second.close()
    finally:
        await converter.aclose()
