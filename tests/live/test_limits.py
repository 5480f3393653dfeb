"""What ends a session that does not end by itself, and what its client is told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live.calling import COMMIT, MANUAL, chunk, chunks, eventually, finish, info, live, reason, silence, start
from tests.live.listening_emulator import ListeningEmulator
from tests.providers import beeps
from tests.providers.openai_emulator import hang, ok, raw
from tests.running import METADATA, Gateway, openai_config, running


@pytest.fixture
def settings() -> str:
    return ""


@contextlib.asynccontextmanager
async def limited(emulator: ListeningEmulator, tmp_path: Path, settings: str) -> AsyncIterator[Gateway]:
    config = openai_config(emulator.url, extra=f"voxgate:\n  live: {{{settings}}}\n")
    async with running(tmp_path, config) as gateway:
        yield gateway


SPEECH, HEARD = beeps.spoken(3)
TEXT = [word for word, _, _ in HEARD]


async def test_a_session_in_which_nothing_comes_gives_what_was_said(emulator: ListeningEmulator, tmp_path: Path):
    async with (
        limited(emulator, tmp_path, "idle_seconds: 0.3") as gateway,
        live(gateway, start(), *chunks(SPEECH)) as session,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert info(caught.value).reason == "AUDIO_IDLE_TIMEOUT"
    assert info(caught.value).metadata["limit_seconds"] == "0.3"
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert session.of("turn_completed")[0].transcription.text.split() == TEXT
    assert "done" not in session.kinds


async def test_empty_chunks_and_silence_keep_a_session(emulator: ListeningEmulator, tmp_path: Path):
    async with (
        limited(emulator, tmp_path, "idle_seconds: 0.4") as gateway,
        live(gateway, start()) as session,
    ):
        for message in [chunk(b""), silence(10), chunk(b""), chunk(b"")]:
            await asyncio.sleep(0.2)
            await session.send(message)
        await session.send(finish(0))
        await session.rest()
    assert session.kinds == ["session_started", "done"]


async def test_silence_for_longer_than_the_limit_has_a_reason_of_its_own(emulator: ListeningEmulator, tmp_path: Path):
    async with (
        limited(emulator, tmp_path, "max_silence_seconds: 30") as gateway,
        live(gateway, start(), *chunks(SPEECH), silence(29_000), *chunks(SPEECH), silence(31_000)) as session,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
        assert reason(caught.value) == "AUDIO_IDLE_TIMEOUT"
        assert "Nothing was said for 30 s" in (caught.value.details() or "")
        assert [turn.transcription.text.split() for turn in session.of("turn_completed")] == [TEXT, TEXT]
        async with live(gateway, start(options=MANUAL), silence(31_000), finish(0)) as manual:
            await manual.rest()
    assert manual.kinds[-1] == "done"


async def test_a_session_has_an_age_and_is_told_before(emulator: ListeningEmulator, tmp_path: Path):
    async with (
        limited(emulator, tmp_path, "max_session_seconds: 1") as gateway,
        live(gateway, start(), *chunks(SPEECH)) as session,
    ):
        started = await session.until("session_started")
        assert started.session_started.max_duration.ToMilliseconds() == 1000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert reason(caught.value) == "DEADLINE_EXCEEDED"
    assert 0 < session.of("notice")[0].going_away.time_left.ToMilliseconds() <= 1000
    assert session.of("turn_completed")[0].transcription.text.split() == TEXT
    assert "done" not in session.kinds


async def test_the_caller_s_own_deadline_is_kept_with_its_last_words(gateway: Gateway):
    async with live(gateway, start(), *chunks(SPEECH), timeout=2.0) as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert session.of("turn_completed")[0].transcription.text.split() == TEXT


async def test_when_the_server_stops_sessions_are_told_and_lose_no_words(emulator: ListeningEmulator, tmp_path: Path):
    released = asyncio.Event()
    emulator.script(ok(until=released))
    async with (
        limited(emulator, tmp_path, "") as gateway,
        live(gateway, start(), *chunks(SPEECH)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        await session.until("speech_started")
        stopping = tasks.create_task(gateway.app.stop(grace=3))
        notice = await session.until("notice")
        assert 0 < notice.notice.going_away.time_left.ToMilliseconds() <= 3000
        released.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
        assert reason(caught.value) == "SERVER_OVERLOADED"
        assert session.of("turn_completed")[0].transcription.text.split() == TEXT
        await stopping


async def test_a_client_that_finishes_in_time_sees_a_good_end(emulator: ListeningEmulator, tmp_path: Path):
    async with (
        limited(emulator, tmp_path, "") as gateway,
        live(gateway, start(), *chunks(SPEECH)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        await session.until("speech_started")
        stopping = tasks.create_task(gateway.app.stop(grace=20))
        await session.until("notice")
        await session.send(finish(len(SPEECH)))
        await session.until("done")
        assert await session.next() is None
        await stopping


async def test_a_session_of_an_operator_s_choice_is_ended(emulator: ListeningEmulator, tmp_path: Path):
    emulator.script(hang())
    async with (
        limited(emulator, tmp_path, "") as gateway,
        live(gateway, start(), *chunks(SPEECH), silence(1000)) as session,
    ):
        await session.until("turn_committed")
        record = await emulator.record()
        calls = {call.request_id for call in gateway.app.gateway.active}
        assert len(calls) == 1
        gateway.app.gateway.active.cancel(calls.pop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
        assert reason(caught.value) == "CANCELLED"
        await asyncio.wait_for(record.peer_closed.wait(), 30)
        await eventually(lambda: not gateway.app.gateway.calls_in_progress)


async def test_a_client_that_reads_nothing_is_ended(emulator: ListeningEmulator, tmp_path: Path):
    emulator.script(*[raw(json.dumps({"text": "word " * 20_000}))] * 200)
    async with limited(emulator, tmp_path, "unread_seconds: 0.5") as gateway:
        call = gateway.stub.TranscribeLive(metadata=METADATA)
        await call.write(start(options=MANUAL))
        await eventually(lambda: len(gateway.app.live) == 1)

        async def send() -> None:
            for _ in range(200):
                await call.write(chunk(SPEECH[:8000]))
                await call.write(COMMIT)

        sending = asyncio.create_task(send())
        await eventually(lambda: not gateway.app.live.connected and not gateway.app.gateway.calls_in_progress)
        # The connection itself takes some 4 MiB, turns of 100 kB; what is taken beyond that is bounded.
        assert len(emulator.records) < 120
        await asyncio.wait_for(_not_ok(call), 30)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _not_ok(call: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert reason(caught.value) == "SERVER_OVERLOADED"
    assert "nothing of it was read for 0.5 s" in (caught.value.details() or "")


async def test_a_client_that_does_not_read_a_complete_recording(emulator: ListeningEmulator, tmp_path: Path):
    emulator.script(raw(json.dumps({"text": "word " * 800_000})))
    async with limited(emulator, tmp_path, "unread_seconds: 0.5") as gateway:
        call = gateway.stub.TranscribeLive(metadata=METADATA)
        for message in (start(audio="", options="processing: AUDIO_PROCESSING_COMPLETE"), chunk(beeps.wav(SPEECH))):
            await call.write(message)
        await call.write(finish(len(beeps.wav(SPEECH))))
        await emulator.record()
        await eventually(lambda: not gateway.app.gateway.calls_in_progress)
        await asyncio.wait_for(_not_ok(call), 30)
