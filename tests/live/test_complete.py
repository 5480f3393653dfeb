"""Recordings over TranscribeLive that are processed when they are complete."""

import asyncio

import grpc
import pytest

from tests.live.calling import SECONDS, chunks, finish, live, reason, start, whole
from tests.live.listening_emulator import ListeningEmulator
from tests.providers import beeps
from tests.providers.openai_emulator import failure
from tests.recordings import convert
from tests.running import Gateway

COMPLETE = "processing: AUDIO_PROCESSING_COMPLETE"
VERBOSE = "response_format: RESPONSE_FORMAT_VERBOSE_JSON"


async def test_a_recording_in_any_container(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(4)
    flac = convert(beeps.wav(pcm), "flac", "flac")
    session = await whole(gateway, [start(config=VERBOSE, audio="", options=COMPLETE), *chunks(flac)])
    (turn,) = session.of("turn_completed")
    segments = ["segment"] * len(turn.transcription.segments)
    assert segments
    assert session.kinds == ["session_started", "turn_committed", *segments, "turn_completed", "done"]
    assert session.of("done")[0].transcription.text == turn.transcription.text == emulator.text
    assert bytes(emulator.records[0].body) == flac
    assert session.events[-1].cursors.final == pytest.approx(len(pcm) / 32_000)


async def test_the_provider_reads_while_the_caller_still_sends(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(4)
    recording = beeps.wav(pcm)
    async with live(gateway, start(audio="", options=COMPLETE), *chunks(recording[:64_000])) as session:
        record = await emulator.record()
        await asyncio.wait_for(record.first_file_byte.wait(), SECONDS)
        assert not record.complete
        await session.send(*chunks(recording[64_000:]), finish(len(recording)))
        await session.until("done")
        assert await session.next() is None
    assert record.complete


@pytest.mark.parametrize(("size", "expected"), [(1, "CHECKSUM_MISMATCH"), (None, "UPLOAD_INCOMPLETE")])
async def test_a_broken_recording_is_never_whole_upstream(
    gateway: Gateway, emulator: ListeningEmulator, size: int | None, expected: str
):
    recording = beeps.wav(beeps.spoken(4)[0])
    async with live(gateway, start(audio="", options=COMPLETE), *chunks(recording)) as session:
        record = await emulator.record()
        await asyncio.wait_for(record.first_file_byte.wait(), SECONDS)
        if size is not None:
            await session.send(finish(size))
        await session.call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert reason(caught.value) == expected
    await asyncio.wait_for(record.body_ended.wait(), SECONDS)
    assert not record.complete
    assert session.kinds == ["session_started"]


async def test_the_provider_s_error_is_the_session_s(gateway: Gateway, emulator: ListeningEmulator):
    emulator.script(*[failure(400, "no such thing")] * 5)
    recording = beeps.wav(beeps.spoken(2)[0])
    with pytest.raises(BaseExceptionGroup) as caught:
        await whole(gateway, [start(audio="", options=COMPLETE), *chunks(recording)])
    error = caught.value.exceptions[0]
    assert isinstance(error, grpc.aio.AioRpcError)
    assert reason(error) == "PROVIDER_REJECTED"
