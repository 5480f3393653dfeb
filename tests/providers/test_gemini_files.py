"""Gemini: recordings that are too large to go inside a request."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore

from tests.providers.calling import WAV, attempt_with
from tests.providers.gemini_calling import BOTH, GENERAL, Calling, provider_at, run
from tests.providers.gemini_emulator import (
    KEY,
    Behaviour,
    GeminiEmulator,
    failure,
    hang,
    ok,
    raw,
    reset_mid_answer,
    reset_mid_body,
)

LARGE = WAV + bytes(20_000_000)
SHA = hashlib.sha256(LARGE).hexdigest()
SMALL_LIMIT = {"max_inline_bytes": 100_000}
GENERATE = f"POST /v1beta/models/{GENERAL}:generateContent"
START = "POST /upload/v1beta/files"
SEND = "POST /upload/v1beta/files?X&upload_protocol=resumable"
POLL = "GET /v1beta/files/X"
DELETE = "DELETE /v1beta/files/X"


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: GeminiEmulator, store: SpoolStore) -> Calling:
    return Calling(emulator, store)


@pytest.mark.parametrize("model", BOTH)
async def test_a_large_recording(call: Calling, emulator: GeminiEmulator, model: str):
    config = "response_format: RESPONSE_FORMAT_SRT debug { include_raw_request: true include_raw_response: true }"
    result = await call(config, model, data=LARGE)
    assert result.text == emulator.text
    assert result.segments or result.words
    assert emulator.paths() == [START, SEND, POLL, GENERATE.replace(GENERAL, model), DELETE]
    start, send, *_ = emulator.records
    assert json.loads(start.body)["file"]["sizeBytes"] == len(LARGE)
    assert send.file_sha256 == SHA
    assert send.head.framing == "length"
    assert send.headers["content-type"] == "audio/wav"
    assert "x-goog-api-key" not in send.headers
    [audio] = emulator.audio
    assert (audio.mime_type, audio.size, audio.sha256) == ("audio/wav", len(LARGE), SHA)
    assert not emulator.files
    assert emulator.deleted == [audio.name]
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200
    assert call.attempt.raw_request is not None
    assert b"fileUri" in call.attempt.raw_request.data
    assert call.attempt.raw_response is not None
    assert json.loads(call.attempt.raw_response.data)["modelVersion"] == model


async def test_the_limit_is_that_of_the_whole_request(call: Calling, emulator: GeminiEmulator):
    """One byte decides."""
    await call()
    overhead = len(emulator.records[0].body) - (len(WAV) + 2) // 3 * 4
    encoded = (len(WAV) + 2) // 3 * 4
    await call(max_inline_bytes=overhead + encoded)
    await call(max_inline_bytes=overhead + encoded - 1)
    assert emulator.paths() == [GENERATE, GENERATE, START, SEND, POLL, GENERATE, DELETE]
    assert {audio.sha256 for audio in emulator.audio} == {hashlib.sha256(WAV).hexdigest()}


async def test_a_file_that_is_ready_at_once_is_not_asked_for(call: Calling, emulator: GeminiEmulator):
    emulator.processing = 0
    await call(**SMALL_LIMIT)
    assert emulator.paths() == [START, SEND, GENERATE, DELETE]


async def test_deleting_is_not_waited_for(emulator: GeminiEmulator, store: SpoolStore):
    emulator.processing = 0
    until = asyncio.Event()
    emulator.script(ok(), ok(), ok(), ok(until=until))
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator, **SMALL_LIMIT) as provider:
        await spool.write(WAV)
        spool.finish()
        assert (await run(provider, attempt_with(spool))).text == emulator.text
        assert not emulator.deleted
        until.set()
    assert len(emulator.deleted) == 1


@pytest.mark.parametrize("announced", [False, True])
async def test_a_file_needs_a_length(emulator: GeminiEmulator, store: SpoolStore, announced: bool):
    header = AudioHeader(size_bytes=len(WAV)) if announced else None
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator, **SMALL_LIMIT) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool, audio=header)))
        await spool.write(WAV[:-5])
        await asyncio.sleep(0.05)
        assert not emulator.connections
        await spool.write(WAV[-5:])
        spool.finish()
        assert (await call).text == emulator.text
    assert emulator.audio[0].sha256 == hashlib.sha256(WAV).hexdigest()


async def test_nothing_is_sent_of_an_upload_that_breaks_off(emulator: GeminiEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator, **SMALL_LIMIT) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV)
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
    assert not emulator.connections


async def test_without_files_the_limit_is_final_and_told_at_once(store: SpoolStore):
    async with GeminiEmulator(vertex=True) as emulator, provider_at(emulator, **SMALL_LIMIT) as provider:
        assert provider.capabilities.max_audio_bytes == 75_000
        async with store.open(max_bytes=1 << 30) as spool:
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            await spool.write(WAV)
            with pytest.raises(errors.AudioTooLarge, match=r"vertex_ai.*at most 7\d{4}") as caught:
                await call
            assert not spool.finished
            assert caught.value.metadata["provider"] == "vertex_ai"
        async with store.open(max_bytes=1 << 30) as spool:
            with pytest.raises(errors.AudioTooLarge):
                await run(provider, attempt_with(spool, audio=AudioHeader(size_bytes=100_000)))
        assert not emulator.connections


async def test_above_the_limit_of_a_file(emulator: GeminiEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 40) as spool, provider_at(emulator) as provider:
        with pytest.raises(errors.AudioTooLarge, match="2000000000"):
            await run(provider, attempt_with(spool, audio=AudioHeader(size_bytes=2_000_000_001)))
    assert not emulator.connections


BROKEN = failure(503, "UNAVAILABLE", "The model is overloaded.")


@pytest.mark.parametrize(
    ("behaviours", "kind", "paths", "status"),
    [
        ([failure(403, "PERMISSION_DENIED")], errors.ProviderCredential, [START], 403),
        ([BROKEN], errors.ProviderUnavailable, [START], 503),
        ([Behaviour(cut=-1, then="reset")], errors.ProviderUnavailable, [START], None),
        ([ok(), BROKEN], errors.ProviderUnavailable, [START, SEND, DELETE], 503),
        ([ok(), reset_mid_body()], errors.ProviderUnavailable, [START, SEND, DELETE], None),
        ([ok(), reset_mid_answer()], errors.ProviderUnavailable, [START, SEND, DELETE], None),
        ([ok(), raw("{}")], errors.ProviderGarbled, [START, SEND, DELETE], 200),
        ([ok(), raw("<html>")], errors.ProviderGarbled, [START, SEND, DELETE], 200),
        ([ok(), raw('{"file": {"name": "files/../x", "uri": "u", "state": "ACTIVE"}}')], errors.ProviderGarbled,
         [START, SEND, DELETE], 200),
        ([ok(), raw('{"file": {"name": "files/a", "uri": "u", "state": "NEW"}}')], errors.ProviderGarbled,
         [START, SEND, "DELETE /v1beta/files/a"], 200),
        ([ok(), ok(), BROKEN], errors.ProviderUnavailable, [START, SEND, POLL, DELETE], 503),
        ([ok(), ok(), raw("[]")], errors.ProviderGarbled, [START, SEND, POLL, DELETE], 200),
        ([ok(), ok(), ok(), BROKEN], errors.ProviderUnavailable, [START, SEND, POLL, GENERATE, DELETE], 503),
        ([ok(), ok(), ok(), raw("{}")], errors.ProviderGarbled, [START, SEND, POLL, GENERATE, DELETE], 200),
    ],
)  # fmt: skip
async def test_failures_on_the_way(
    call: Calling, emulator: GeminiEmulator, behaviours: list[Behaviour], kind: type[errors.VoxgateError],
    paths: list[str], status: int | None,
):  # fmt: skip
    emulator.script(*behaviours)
    with pytest.raises(errors.VoxgateError, match="gemini") as caught:
        await call(**SMALL_LIMIT)
    assert type(caught.value) is kind
    assert KEY not in caught.value.message
    assert emulator.paths() == paths
    assert not emulator.files
    assert call.attempt is not None
    if status is not None:
        assert call.attempt.report.http_status == status


async def test_a_file_google_cannot_read(call: Calling, emulator: GeminiEmulator):
    emulator.fail_files = True
    with pytest.raises(errors.ProviderRejected, match="could not be decoded"):
        await call(**SMALL_LIMIT)
    assert len(emulator.deleted) == 1


async def test_a_file_that_is_never_ready(call: Calling, emulator: GeminiEmulator):
    emulator.processing = 1_000_000
    with pytest.raises(errors.ProviderTimeout, match="still working"):
        await call(seconds=1, **SMALL_LIMIT)
    assert len(emulator.deleted) == 1


async def test_what_cannot_be_deleted_does_not_spoil_the_answer(call: Calling, emulator: GeminiEmulator):
    emulator.script(ok(), ok(), ok(), ok(), failure(500, "INTERNAL"))
    assert (await call(**SMALL_LIMIT)).text == emulator.text
    assert len(emulator.files) == 1


@pytest.mark.parametrize(
    "url",
    [
        "", "nothing", "http://127.0.0.1:1/upload", "https://example.com/upload", "https://googleapis.com.evil.example/",
        "http://generativelanguage.googleapis.com/upload", "http://[", "ftp://storage.googleapis.com/x",
    ],
)  # fmt: skip
async def test_a_recording_goes_nowhere_else(call: Calling, emulator: GeminiEmulator, url: str):
    emulator.script(raw("{}", headers={"x-goog-upload-url": url}))
    with pytest.raises(errors.ProviderGarbled, match="address for the upload"):
        await call(**SMALL_LIMIT)
    assert len(emulator.records) == 1


@pytest.mark.parametrize("number", range(4))
async def test_cancelling_deletes_the_file(emulator: GeminiEmulator, store: SpoolStore, number: int):
    """Whichever request is under way."""
    emulator.script(*[ok()] * number, hang())
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator, **SMALL_LIMIT) as provider:
        await spool.write(WAV)
        spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        record = await emulator.record(number)
        await record.body_ended.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert not emulator.files
    assert emulator.paths()[number + 1 :] == ([DELETE] if number else [])


async def test_a_file_whose_upload_was_answered_to_nobody_is_deleted(emulator: GeminiEmulator, store: SpoolStore):
    """It has the name we gave it, so it can be deleted although nobody heard that it is there."""
    until = asyncio.Event()
    emulator.script(ok(), ok(until=until))
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator, **SMALL_LIMIT) as provider:
        await spool.write(WAV)
        spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await emulator.uploaded.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    until.set()
    assert len(emulator.deleted) == 1
