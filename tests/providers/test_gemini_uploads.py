"""Gemini: when which bytes of a recording leave."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore

from tests.providers.calling import WAV, attempt_with
from tests.providers.gemini_calling import provider_at, run
from tests.providers.gemini_emulator import GeminiEmulator, hang

SHA = hashlib.sha256(WAV).hexdigest()


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


def announced(data: bytes) -> AudioHeader:
    return AudioHeader(size_bytes=len(data))


async def test_a_recording_of_known_size_is_passed_on_while_it_comes(emulator: GeminiEmulator, store: SpoolStore):
    data = WAV * 4
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool, audio=announced(data))))
        await spool.write(data[:100_001])
        record = await emulator.record()
        await record.first_file_byte.wait()
        await spool.write(data[100_001:])
        await asyncio.sleep(0.05)
        assert not record.body_ended.is_set()
        spool.finish()
        assert (await call).text == emulator.text
    assert record.head.framing == "chunked"
    assert emulator.audio[0].sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_upload_that_breaks_off_is_never_completed(emulator: GeminiEmulator, store: SpoolStore, size: int):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool, audio=announced(WAV))))
        await spool.write(WAV[:size])
        record = await emulator.record()
        await record.first_file_byte.wait()
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
        await record.body_ended.wait()
    assert not record.complete
    assert record.status is None


async def test_a_recording_of_unknown_size_is_held_back_until_it_is_whole(emulator: GeminiEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        for start in range(0, len(WAV), 50_000):
            await spool.write(WAV[start : start + 50_000])
            await asyncio.sleep(0.01)
        assert not emulator.connections
        spool.finish()
        assert (await call).text == emulator.text
    assert emulator.audio[0].sha256 == SHA


async def test_nothing_is_sent_of_an_upload_of_unknown_size_that_breaks_off(
    emulator: GeminiEmulator, store: SpoolStore
):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV)
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
    assert not emulator.connections


async def test_the_deadline_while_it_is_held_back(emulator: GeminiEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        with pytest.raises(errors.DeadlineExceeded, match="still coming in"):
            await run(provider, attempt_with(spool, seconds=0.2))
    assert not emulator.connections


@pytest.mark.parametrize("finished", [False, True])
async def test_cancelling_closes_the_connection(emulator: GeminiEmulator, store: SpoolStore, finished: bool):
    emulator.script(hang())
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        if finished:
            spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool, audio=AudioHeader(size_bytes=len(WAV) + 1))))
        record = await emulator.record()
        await (record.body_ended if finished else record.first_file_byte).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert record.complete == finished
