"""What the recogniser does not take, and what it says."""

import asyncio
import io
import wave
import zipfile

import av
import pytest
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import (
    AudioTooLarge,
    EmptyAudio,
    InvalidRequest,
    UnsupportedAudio,
    UnsupportedParameter,
    VoxgateError,
)
from voxgate_server.providers.local import PocketsphinxProvider
from voxgate_server.providers.local import pocketsphinx as pocketsphinx_module
from voxgate_server.providers.registry import build_for_caller

from tests.providers.local.calling import refused, transcribe
from tests.recordings import convert, recording

WAV = recording("demo-thanks.wav").data


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("speech.wav", WAV)
    return out.getvalue()


def film(sound: bool) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as target:
        pictures = target.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        speech = target.add_stream("libopus", rate=48_000, layout="mono") if sound else None
        for _ in range(100):
            target.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        target.mux(pictures.encode(None))
        if speech is not None:
            resampler = av.AudioResampler(format=speech.format, layout="mono", rate=48_000, frame_size=960)
            with av.open(io.BytesIO(WAV)) as source:
                for frame in source.decode(audio=0):
                    for part in resampler.resample(frame):
                        target.mux(speech.encode(part))
            target.mux(speech.encode(None))
    return out.getvalue()


NOT_AUDIO = {
    "a PDF document": b"%PDF-1.7\n" + b"1 0 obj << /Type /Catalog >> endobj\n" * 400,
    "a ZIP archive or an office document": zipped(),
    "an HTML or XML document": b"<!DOCTYPE html><html><body>" + b"<p>Not found.</p>" * 300,
    "plain text": b"hello, this is what I said\n" * 300,
    "JSON": b'{"error": {"message": "no such file"}}',
    "data of an unknown kind": bytes((index * 7919 + index // 3) % 251 for index in range(100_000)),
    "a playlist": b"#EXTM3U\n#EXTINF:10,\nhttps://example.invalid/a.ts\n#EXT-X-ENDLIST\n",
    "wav": WAV[:60],
    "mp3": b"ID3\x04\x00\x00\x00\x01\x0f\x00" + bytes(40_000),
}


async def test_what_is_not_audio_is_named(provider: PocketsphinxProvider, store: SpoolStore):
    for name, data in NOT_AUDIO.items():
        error = await refused(provider, store, data)
        assert isinstance(error, UnsupportedAudio), (name, error)
        assert error.metadata["detected"] == name
        assert name in error.message
        assert error.param == "file"
    [worker] = provider.worker_pids
    assert (await transcribe(provider, store, WAV)).text
    assert provider.worker_pids == [worker]


async def test_a_worker_goes_on_after_an_upload_it_refused_early(provider: PocketsphinxProvider, store: SpoolStore):
    upload = NOT_AUDIO["a PDF document"] * 100
    with pytest.RaisesGroup(UnsupportedAudio):
        await transcribe(provider, store, upload, cuts=tuple(range(0, len(upload), 10_000)))
    [worker] = provider.worker_pids
    assert (await transcribe(provider, store, WAV)).text
    assert provider.worker_pids == [worker]


async def test_a_film_needs_sound(provider: PocketsphinxProvider, store: SpoolStore):
    error = await refused(provider, store, film(sound=False))
    assert isinstance(error, UnsupportedAudio)
    assert "no audio track (only: video)" in error.message
    expected = (await transcribe(provider, store, WAV)).text
    assert (await transcribe(provider, store, film(sound=True))).text.split()[3:] == expected.split()[3:]


async def test_a_recording_that_breaks_off_is_not_taken_for_a_short_one(
    provider: PocketsphinxProvider, store: SpoolStore
):
    flac = convert(WAV, "flac", "flac")
    m4a = convert(WAV, "ipod", "aac", rate=44_100)
    webm = convert(WAV, "webm", "libopus", rate=48_000)
    fragmented = convert(WAV, "mp4", "aac", rate=44_100, options={"movflags": "empty_moov+frag_keyframe"})
    for data in (
        flac[: len(flac) // 2],
        flac[: len(flac) * 9 // 10],
        m4a[: len(m4a) // 2],
        webm[: len(webm) // 2],
        webm[: len(webm) // 3] + bytes(len(webm) // 3) + webm[len(webm) * 2 // 3 :],
        fragmented[:2000],
    ):
        error = await refused(provider, store, data)
        assert isinstance(error, UnsupportedAudio), error
        assert "cannot be read" in error.message


async def test_damage_never_hangs_and_never_kills(provider: PocketsphinxProvider, store: SpoolStore):
    """Bytes overwritten here and there: words or an error of ours, from the same process."""
    workers = set()
    for container, codec, rate in (("flac", "flac", 16_000), ("ogg", "libopus", 48_000), ("ipod", "aac", 44_100)):
        whole = convert(recording("vm-goodbye.wav").data, container, codec, rate=rate)
        for place in range(20, len(whole) - 50, len(whole) // 6):
            damaged = whole[:place] + bytes(index % 251 for index in range(40)) + whole[place + 40 :]
            try:
                await transcribe(provider, store, damaged)
            except* VoxgateError as group:
                for error in group.exceptions:
                    assert isinstance(error, UnsupportedAudio), error
            workers.update(provider.worker_pids)
    assert len(workers) == 1


async def test_playlists_reach_nobody(provider: PocketsphinxProvider, store: SpoolStore):
    reached = []

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.ts".encode()
        for playlist in (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + url + b"\n#EXT-X-ENDLIST\n",
            b"ffconcat version 1.0\nfile '" + url + b"'\n",
            b"ffconcat version 1.0\nfile /etc/hostname\n",
            b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            b'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4">'
            b'<Representation id="1" bandwidth="1"><BaseURL>' + url + b"</BaseURL></Representation></AdaptationSet>"
            b"</Period></MPD>",
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        ):
            assert isinstance(await refused(provider, store, playlist), UnsupportedAudio)
    assert reached == []


async def test_no_samples(provider: PocketsphinxProvider, store: SpoolStore):
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
    error = await refused(provider, store, out.getvalue())
    assert isinstance(error, EmptyAudio)
    assert error.message == "The recording has no audio in it."
    half = await refused(provider, store, b"\x00", audio="raw_format { encoding: 1 sample_rate_hertz: 8000 }")
    assert isinstance(half, UnsupportedAudio)


async def test_too_long(store: SpoolStore):
    provider = PocketsphinxProvider(workers=1, max_audio_seconds=5)
    error = await refused(provider, store, WAV)
    assert isinstance(error, AudioTooLarge)
    assert "5 seconds" in error.message
    assert (await transcribe(provider, store, recording("vm-goodbye.wav").data)).transcription is not None
    await provider.aclose()


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ('language: "de"', "language"),
        ('languages: ["de", "fr"]', "languages"),
        ("task: TRANSCRIPTION_TASK_TRANSLATE", "task"),
        ("response_format: RESPONSE_FORMAT_DIARIZED_JSON", "response_format"),
        ('known_speakers { name: "Ada" }', "known_speaker_names"),
        ("include: INCLUDE_LOGPROBS", "include"),
    ],
)
async def test_options_it_cannot_honour(provider: PocketsphinxProvider, store: SpoolStore, config: str, param: str):
    error = await refused(provider, store, WAV, config)
    assert isinstance(error, UnsupportedParameter)
    assert error.param == param
    assert provider.worker_pids == []


async def test_options_that_change_nothing_are_reported(provider: PocketsphinxProvider, store: SpoolStore):
    answer = await transcribe(
        provider,
        store,
        recording("vm-goodbye.wav").data,
        """language: "en-US" languages: ["de", "EN"] prompt: "PBX" temperature: 0 keywords: "asterisk"
        chunking_strategy { auto {} } extra_params { fields { key: "beam" value { number_value: 5 } } }
        timestamp_granularities: TIMESTAMP_GRANULARITY_WORD response_format: RESPONSE_FORMAT_VERBOSE_JSON""",
    )
    assert answer.attempt.dropped_params == [
        "prompt", "temperature", "chunking_strategy", "keywords", "languages", "beam",
    ]  # fmt: skip


async def test_raw_opus(provider: PocketsphinxProvider, store: SpoolStore):
    error = await refused(provider, store, WAV, audio="raw_format { encoding: AUDIO_ENCODING_OPUS }")
    assert isinstance(error, UnsupportedAudio)
    assert "Ogg or WebM" in error.message
    error = await refused(provider, store, WAV, audio="raw_format { sample_rate_hertz: 8000 }")
    assert isinstance(error, InvalidRequest)


async def test_what_it_says_of_itself(provider: PocketsphinxProvider):
    assert (provider.name, provider.model) == ("local", "pocketsphinx")
    assert provider.capabilities.streaming
    assert provider.capabilities.live
    assert list(provider.capabilities.languages) == ["en"]


def test_missing_packages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pocketsphinx_module, "_PACKAGES", ("av", "voxgate_no_such_package"))
    with pytest.raises(ValueError, match=r"voxgate_no_such_package.*pip install 'voxgate\[local\]'"):
        PocketsphinxProvider()


@pytest.mark.parametrize("arguments", [{"model": "whisper"}, {"workers": 0}, {"max_audio_seconds": 0}])
def test_arguments(arguments):
    with pytest.raises(ValueError):
        PocketsphinxProvider(**arguments)


@pytest.mark.parametrize("provider", ["local/pocketsphinx", "faster_whisper/small"])
def test_callers_start_nothing_here(provider: str):
    with pytest.raises(ValueError, match="only the operator decides"):
        build_for_caller(*provider.split("/"), {})
