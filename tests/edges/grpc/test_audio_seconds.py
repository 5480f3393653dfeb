"""A call knows how long its recording is: what the header claims at once, what it is once all of it is there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import (
    AUDIO_ENCODING_PCM_S16LE,
    AudioChunk,
    AudioHeader,
    AudioSource,
    AudioTrailer,
    RawAudioFormat,
)
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server.call import Call, Caller

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import convert, recording
from tests.running import METADATA, Gateway, openai_config, running

SPEECH = recording("demo-thanks.wav")


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, openai_config(emulator.url, models=("fault-hang",))) as gateway:
        yield gateway


async def only_call(gateway: Gateway) -> Call:
    for _ in range(2000):
        if calls := list(gateway.app.gateway.active):
            break
        await asyncio.sleep(0.005)
    [call] = calls
    return call


@pytest.mark.parametrize(
    ("data", "declared", "expected"),
    [
        (SPEECH.data, SPEECH.seconds, SPEECH.seconds),
        (convert(SPEECH.data, "webm", "libopus", rate=48_000, options={"live": "1"}), None, SPEECH.seconds),
        (convert(SPEECH.data, "flac", "flac"), SPEECH.seconds, SPEECH.seconds),
        (b"\x30\x26\xb2\x75" + bytes(80_000), None, None),
    ],
    ids=["wav", "webm", "flac", "asf"],
)
async def test_an_upload(gateway: Gateway, data: bytes, declared: float | None, expected: float | None):
    sent = gateway.stub.TranscribeUpload(metadata=METADATA)
    start = api.UploadStart(config=TranscriptionConfig(model="fault-hang"), audio=AudioHeader())
    await sent.write(api.TranscribeUploadRequest(start=start))
    await sent.write(api.TranscribeUploadRequest(chunk=AudioChunk(data=data[:9000])))
    call = await only_call(gateway)
    while call.spool.size < 9000:
        await call.spool.read(call.spool.size)
    assert call.declared_seconds == (declared and pytest.approx(declared, abs=0.01))
    assert call.audio_seconds is None
    for at in range(9000, len(data), 30_000):
        await sent.write(api.TranscribeUploadRequest(chunk=AudioChunk(data=data[at : at + 30_000])))
    await sent.write(api.TranscribeUploadRequest(finish=AudioTrailer(size_bytes=len(data))))
    await call.spool.wait_finished()
    assert call.audio_seconds == (expected and pytest.approx(expected, abs=0.01))
    sent.cancel()


async def test_headerless_audio(gateway: Gateway):
    raw = RawAudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=16_000)
    rooms = gateway.app.gateway
    call = rooms.open(request_id="req_1", caller=Caller(), audio=AudioHeader(raw_format=raw))
    try:
        await call.spool.write(bytes(80_000))
        assert (call.audio_seconds, call.declared_seconds) == (None, None)
        call.spool.finish()
        assert (call.audio_seconds, call.declared_seconds) == (2.5, None)
    finally:
        rooms.close(call)


async def test_a_whole_recording(gateway: Gateway):
    config = TranscriptionConfig(model="fault-hang")
    request = api.TranscribeRequest(config=config, audio=AudioSource(data=SPEECH.data))
    sent = gateway.stub.Transcribe(request, metadata=METADATA)
    call = await only_call(gateway)
    await call.spool.wait_finished()
    assert call.audio_seconds == pytest.approx(SPEECH.seconds)
    sent.cancel()
