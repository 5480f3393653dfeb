"""Twelve containers under wrong names, at both doors: the provider gets the right one, or one that it takes."""

import asyncio
import hashlib
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import av
import grpc
import pytest
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader, AudioSource, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from tests.audio.converting import GEMINI, OPENAI, listen
from tests.audio.duration_fixtures import made
from tests.edges.rest.http_client import BOUNDARY, END, Response, field, post
from tests.providers.openai_emulator import OpenAIEmulator, failure
from tests.recordings import convert, recording
from tests.running import AUTH, METADATA, UPSTREAM_KEY, Gateway, openai_config, running

PATH = "/v1/audio/transcriptions"
SPEECH = recording("demo-thanks.wav")
MODELS = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
CONTAINERS = {
    # What it is, and what OpenAI gets of it: name, type, and whether it is the same file.
    "wav": ("audio.wav", "audio/wav", True),
    "flac": ("audio.flac", "audio/flac", True),
    "mp3 cbr 44 kHz stereo": ("audio.mp3", "audio/mpeg", True),
    "m4a index last": ("audio.m4a", "audio/mp4", True),
    "mp4 film": ("audio.m4a", "audio/mp4", True),
    "ogg opus": ("audio.ogg", "audio/ogg", True),
    "ogg vorbis": ("audio.ogg", "audio/ogg", True),
    "webm": ("audio.webm", "audio/webm", True),
    "mka film": ("audio.m4a", "audio/mp4", False),
    "adts": ("audio.m4a", "audio/mp4", False),
    "aiff": ("audio.flac", "audio/flac", False),
    "au": ("audio.wav", "audio/wav", False),
    "caf": ("audio.wav", "audio/wav", False),
    "amr": ("audio.flac", "audio/flac", False),
}
WRONG_NAMES = [
    ("speech.wav", "audio/wav"), ("speech.mp3", "application/octet-stream"), ("film.mp4", "video/mp4"),
    ("recording.webm", "video/webm"), ("speech", ""), ("speech.txt", "text/plain"), ("../../etc/passwd", "audio/x-wav"),
    ("SPEECH.OGG", "audio/ogg; codecs=opus"), ("a.tar.gz", "application/gzip"), ("speech.flac", "image/png"),
    ("語音.m4a", "audio/m4a"), ("x.aac", "nonsense"),
]  # fmt: skip


def data_of(name: str) -> bytes:
    if name == "amr":
        return convert(SPEECH.data, "amr", "libopencore_amrnb", rate=8000)
    return made(name)


def silent_film(container: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as target:
        pictures = target.add_stream("libvpx" if container == "webm" else "mpeg4", rate=10, width=64, height=64)
        pictures.pix_fmt = "yuv420p"
        for number in range(20):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            target.mux(pictures.encode(frame))
        target.mux(pictures.encode(None))
    return out.getvalue()


def declare(gateway: Gateway, media_types: tuple[str, ...], *, model: str = "", needs_length: bool = False) -> None:
    """Makes models say that they take these types only, as they do when they are at the provider's own address."""
    for deployment in gateway.app.gateway.router.table.deployments():
        if model in ("", deployment.group):
            capabilities = deployment.provider.capabilities
            del capabilities.media_types[:]
            capabilities.media_types.extend(media_types)
            capabilities.needs_length = needs_length


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    fallbacks = """
        router_settings:
          fallbacks: [{whisper-1: [gpt-4o-transcribe, gpt-4o-mini-transcribe]}]
          num_retries: 0
    """
    async with running(tmp_path, openai_config(emulator.url, models=MODELS, extra=fallbacks)) as gateway:
        yield gateway


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(key=UPSTREAM_KEY) as emulator:
        yield emulator


async def rest(gateway: Gateway, data: bytes, filename: str = "a.wav", media_type: str = "audio/wav") -> Response:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    part += f"Content-Type: {media_type}\r\n\r\n" if media_type else "\r\n"
    body = field("model", "whisper-1") + part.encode() + data + b"\r\n" + END
    return await post(gateway.rest_port, PATH, body, AUTH)


async def by_grpc(gateway: Gateway, audio: AudioSource, model: str = "whisper-1") -> str:
    request = api.TranscribeRequest(config=TranscriptionConfig(model=model), audio=audio)
    response = await gateway.stub.Transcribe(request, metadata=METADATA)
    return str(response.transcription.text)


@pytest.mark.parametrize("name", CONTAINERS)
async def test_the_provider_gets_the_right_type(gateway: Gateway, emulator: OpenAIEmulator, name: str):
    declare(gateway, OPENAI)
    filename, media_type, same = CONTAINERS[name]
    data = data_of(name)
    for wrong_name, wrong_type in WRONG_NAMES:
        answer = await rest(gateway, data, wrong_name, wrong_type)
        assert answer.status == 200, (wrong_name, answer.body)
        source = AudioSource(data=data, filename=wrong_name, media_type=wrong_type)
        assert await by_grpc(gateway, source) == emulator.text
    assert len(emulator.records) == 2 * len(WRONG_NAMES)
    seconds = listen(data).seconds
    for record in emulator.records:
        assert (record.filename, record.file_type) == (filename, media_type)
        assert record.complete
        if same:
            assert record.file_sha256 == hashlib.sha256(data).hexdigest()
    [heard] = {listen(bytes(record.body)).seconds for record in emulator.records} if not same else {seconds}
    assert heard == pytest.approx(seconds, abs=0.020)


async def test_what_a_model_takes_may_be_unknown(gateway: Gateway, emulator: OpenAIEmulator):
    data = made("webm")
    assert (await rest(gateway, data)).status == 200
    assert emulator.records[0].file_sha256 == hashlib.sha256(data).hexdigest()
    assert (emulator.records[0].filename, emulator.records[0].file_type) == ("audio.webm", "audio/webm")


@pytest.mark.parametrize("media_types", [OPENAI, ()], ids=["known", "unknown"])
async def test_headerless_audio_becomes_wav(gateway: Gateway, emulator: OpenAIEmulator, media_types):
    declare(gateway, media_types)
    pcm = SPEECH.data[SPEECH.data.index(b"data") + 8 :]
    raw = RawAudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=16_000)
    await by_grpc(gateway, AudioSource(data=pcm, raw_format=raw))
    [record] = emulator.records
    assert (record.filename, record.file_type) == ("audio.wav", "audio/wav")
    assert listen(bytes(record.body)).samples == pcm
    raw = RawAudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_OPUS, sample_rate_hertz=48_000)
    with pytest.raises(grpc.RpcError, match="headerless"):
        await by_grpc(gateway, AudioSource(data=b"\xf8\xff\xfe" * 1000, raw_format=raw))


async def test_a_live_upload_is_converted_while_it_arrives(gateway: Gateway, emulator: OpenAIEmulator):
    declare(gateway, GEMINI)
    data = convert(recording("demo-congrats.wav").data, "webm", "libopus", rate=48_000)

    async def messages() -> AsyncIterator[api.TranscribeUploadRequest]:
        config = TranscriptionConfig(model="whisper-1")
        yield api.TranscribeUploadRequest(start=api.UploadStart(config=config, audio=AudioHeader()))
        for at in range(0, len(data) - 1000, 10_000):
            yield api.TranscribeUploadRequest(chunk={"data": data[at : at + 10_000]})
        await (await emulator.record()).first_file_byte.wait()
        yield api.TranscribeUploadRequest(chunk={"data": data[at + 10_000 :]})
        yield api.TranscribeUploadRequest(finish={"size_bytes": len(data)})

    response = await gateway.stub.TranscribeUpload(messages(), metadata=METADATA)
    assert response.transcription.text == emulator.text
    [record] = emulator.records
    assert (record.filename, record.head.framing) == ("audio.ogg", "chunked")
    assert listen(bytes(record.body)).seconds == pytest.approx(listen(data).seconds, abs=0.020)


async def test_fallbacks_with_the_same_need_get_the_same_file(gateway: Gateway, emulator: OpenAIEmulator):
    declare(gateway, OPENAI, model="whisper-1")
    declare(gateway, tuple(reversed(OPENAI)), model="gpt-4o-transcribe")
    declare(gateway, ("audio/aac", "audio/flac"), model="gpt-4o-mini-transcribe")
    emulator.script(failure(503), failure(503))
    assert (await rest(gateway, made("mka aac"))).status == 502
    first, second, third = emulator.records
    assert first.file_sha256 == second.file_sha256
    assert first.filename == second.filename == "audio.m4a"
    # OpenAI would refuse the name; it is the name of what this one says it takes.
    assert (third.filename, third.file_type) == ("audio.aac", "audio/aac")
    assert not gateway.app.gateway.spool_bytes


async def test_one_that_takes_it_as_it_is_helps_one_that_does_not(
    gateway: Gateway, emulator: OpenAIEmulator, monkeypatch: pytest.MonkeyPatch
):
    declare(gateway, ("audio/flac",), model="whisper-1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # PyAV is not installed.
    answer = await rest(gateway, made("webm"))
    assert answer.status == 200
    [record] = emulator.records
    assert (record.field("model"), record.filename) == ("gpt-4o-transcribe", "audio.webm")
    declare(gateway, ("audio/flac",))
    answer = await rest(gateway, made("webm"))
    assert answer.status == 415
    assert "webm" in answer.error["message"]
    assert "audio/flac" in answer.error["message"]
    assert "pip install 'voxgate[local]'" in answer.error["message"]


async def test_who_needs_a_length_gets_it(gateway: Gateway, emulator: OpenAIEmulator):
    for media_types, name in itertools.product((OPENAI, ("audio/flac",)), ("wav", "adts")):
        declare(gateway, media_types, needs_length=True)
        data = made(name)

        async def messages(data: bytes = data) -> AsyncIterator[api.TranscribeUploadRequest]:
            config = TranscriptionConfig(model="whisper-1")
            yield api.TranscribeUploadRequest(start=api.UploadStart(config=config, audio=AudioHeader()))
            yield api.TranscribeUploadRequest(chunk={"data": data[:30_000]})
            while not gateway.app.gateway.spool_bytes:  # noqa: ASYNC110 (the gateway tells nobody)
                await asyncio.sleep(0)
            yield api.TranscribeUploadRequest(chunk={"data": data[30_000:]})
            yield api.TranscribeUploadRequest(finish={"size_bytes": len(data)})

        await gateway.stub.TranscribeUpload(messages(), metadata=METADATA)
    assert [record.head.framing for record in emulator.records] == ["length"] * 4


async def test_the_limit_is_that_of_what_is_sent(gateway: Gateway, emulator: OpenAIEmulator):
    data = data_of("amr")
    for deployment in gateway.app.gateway.router.table.deployments():
        deployment.provider.capabilities.max_audio_bytes = 2 * len(data)
    declare(gateway, OPENAI)
    answer = await rest(gateway, data)
    assert answer.status == 413
    assert f"takes at most {2 * len(data)}" in answer.error["message"]
    assert not emulator.records or not any(record.complete for record in emulator.records)


async def test_hours_are_not_decoded_to_be_refused(gateway: Gateway, emulator: OpenAIEmulator):
    declare(gateway, ("audio/flac",))
    # The slowest mode of AMR: 20 ms in 13 bytes.
    answer = await rest(gateway, b"#!AMR\n" + (b"\x04" + bytes(12)) * (50 * 14_500))
    assert answer.status == 413
    assert "is 14500 s long and would have to be converted" in answer.error["message"]
    assert not any(record.complete for record in emulator.records)


@pytest.mark.parametrize("container", ["mp4", "webm", "matroska"])
async def test_a_film_without_sound_is_refused(gateway: Gateway, emulator: OpenAIEmulator, container: str):
    for media_types in (OPENAI, ()):
        declare(gateway, media_types)
        answer = await rest(gateway, silent_film(container), "a.mp4", "video/mp4")
        assert answer.status == 415, answer.body
        assert "no audio track" in answer.error["message"]
    assert not any(record.complete for record in emulator.records)


NO_SOUND = {
    "wav": SPEECH.data[:44],
    "wav of 50 ms": SPEECH.data[: 44 + 1600],
    "flac": made("flac")[:86],
    "ogg": made("ogg opus")[:150],
    "aiff": made("aiff")[:54],
    "au": made("au")[:28],
}


@pytest.mark.parametrize("name", NO_SOUND)
async def test_a_header_is_no_recording(gateway: Gateway, emulator: OpenAIEmulator, name: str):
    answer = await rest(gateway, NO_SOUND[name])
    assert (answer.status, answer.error["code"]) == (400, "audio_empty"), answer.body
    assert not any(record.complete for record in emulator.records)
    assert (await rest(gateway, b"")).error["code"] == "audio_empty"


@pytest.mark.parametrize("name", ["wav", "flac", "mp3 cbr 44 kHz stereo", "m4a index last", "ogg opus", "webm"])
async def test_damaged_audio_is_the_providers_to_judge(gateway: Gateway, emulator: OpenAIEmulator, name: str):
    declare(gateway, OPENAI)
    data = bytearray(made(name))
    for at in range(len(data) // 2, len(data), 61):
        data[at] ^= 0xA5
    emulator.script(failure(400, "Audio file might be corrupted or unsupported", code="invalid_value"))
    answer = await rest(gateway, bytes(data))
    # The fallback has another opinion, for which it needs the same bytes.
    assert answer.status == 200
    assert {record.file_sha256 for record in emulator.records} == {hashlib.sha256(data).hexdigest()}
    assert len(emulator.records) == 2
