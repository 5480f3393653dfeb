"""Worker processes: who gets one, and when they end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import voxgate_server
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import Overloaded, ProviderTimeout, ProviderUnavailable, UploadIncomplete
from voxgate_server.providers.local import PocketsphinxProvider

from tests.providers.local.calling import attempt_at, follow, gone, refused, transcribe
from tests.recordings import recording

SHORT = recording("vm-goodbye.wav").data
SAMPLES = recording("demo-congrats.wav").data
SAMPLES = SAMPLES[SAMPLES.index(b"data") + 8 :]
RAW = "raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 }"
TEN_MINUTES = SAMPLES * 20
"""A minute of computing."""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def drain(events: AsyncIterator[TranscriptionEvent]) -> None:
    """Reads on until it fails; the end must not come before."""
    async for event in events:
        assert event.WhichOneof("event") == "delta"


async def test_a_worker_stays_warm(provider: PocketsphinxProvider, store: SpoolStore):
    await transcribe(provider, store, SHORT)
    pids = provider.worker_pids
    assert len(pids) == 1
    await transcribe(provider, store, SHORT)
    assert provider.worker_pids == pids


async def test_closing_the_iterator_ends_the_work(provider: PocketsphinxProvider, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(TEN_MINUTES)
        spool.finish()
        events = provider.transcribe(attempt_at(spool, audio=RAW))
        assert (await anext(events)).delta.delta
        [pid] = provider.worker_pids
        await events.aclose()
        await gone(pid)
    await transcribe(provider, store, SHORT)
    assert provider.worker_pids != [pid]
    assert not is_running(pid)


async def test_cancelling_ends_the_work(provider: PocketsphinxProvider, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(TEN_MINUTES)
        spool.finish()
        speaking = asyncio.Event()

        async def call() -> None:
            async for _ in provider.transcribe(attempt_at(spool, audio=RAW)):
                speaking.set()

        task = asyncio.create_task(call())
        await speaking.wait()
        [pid] = provider.worker_pids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(pid)
    assert await transcribe(provider, store, SHORT)


async def test_the_deadline_ends_the_work(provider: PocketsphinxProvider, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(TEN_MINUTES)
        spool.finish()
        attempt = attempt_at(spool, audio=RAW)
        events = provider.transcribe(attempt)
        await anext(events)
        [pid] = provider.worker_pids
        await events.aclose()
        attempt.deadline -= 99.5
        with pytest.raises(ProviderTimeout):
            await follow(provider, attempt)
        await gone(pid)
    assert await transcribe(provider, store, SHORT)


async def test_a_worker_that_is_killed_is_replaced(provider: PocketsphinxProvider, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(TEN_MINUTES)
        spool.finish()
        events = provider.transcribe(attempt_at(spool, audio=RAW))
        await anext(events)
        [pid] = provider.worker_pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProviderUnavailable, match="SIGKILL"):
            await drain(events)
    assert await transcribe(provider, store, SHORT)
    assert provider.worker_pids != [pid]


async def test_an_idle_worker_that_is_killed_is_replaced(provider: PocketsphinxProvider, store: SpoolStore):
    await transcribe(provider, store, SHORT)
    [worker] = provider._pool._workers
    os.kill(worker.pid, signal.SIGKILL)
    await worker.ended
    assert provider.worker_pids == []
    assert await transcribe(provider, store, SHORT)


async def test_an_upload_that_breaks_off_has_no_result(store: SpoolStore):
    provider = PocketsphinxProvider(workers=2)
    for sent in (b"", SHORT[:1000], SHORT, TEN_MINUTES):
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(sent)
            error = UploadIncomplete("The caller went away.")
            events = provider.transcribe(attempt_at(spool, audio=RAW if sent is TEN_MINUTES else ""))
            if sent is TEN_MINUTES:
                await anext(events)
            asyncio.get_running_loop().call_soon(spool.fail, error)
            with pytest.raises(UploadIncomplete) as caught:
                await drain(events)
            assert caught.value is error
    assert await transcribe(provider, store, SHORT)
    await provider.aclose()


async def test_the_last_free_worker_is_for_recordings_that_are_there(store: SpoolStore):
    provider = PocketsphinxProvider(workers=2)
    async with store.open(max_bytes=1 << 30) as first, store.open(max_bytes=1 << 30) as second:
        await first.write(SAMPLES[: len(SAMPLES) // 2])
        await second.write(SHORT)
        early = provider.transcribe(attempt_at(first, audio=RAW))
        assert (await anext(early)).delta.delta
        slow = asyncio.create_task(follow(provider, attempt_at(second)))
        assert await transcribe(provider, store, SHORT)
        assert not slow.done()
        second.finish()
        assert (await slow).transcription is not None
        await early.aclose()
    await provider.aclose()


async def test_a_slow_upload_has_until_its_deadline(store: SpoolStore):
    provider = PocketsphinxProvider(workers=1)
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(SHORT)
        with pytest.raises(ProviderTimeout, match="complete in time"):
            await follow(provider, attempt_at(spool, seconds=0.05))
    await provider.aclose()


async def test_waiting_is_first_come_first_served_and_bounded(store: SpoolStore):
    provider = PocketsphinxProvider(workers=1, max_waiting=2)
    order: list[str] = []

    async def call(name: str) -> None:
        async with store.open(max_bytes=1 << 30) as own:
            await own.write(SHORT)
            own.finish()
            await follow(provider, attempt_at(own, seconds=100))
            order.append(name)

    async with provider._pool.lease(time.monotonic() + 100):
        first, second = asyncio.create_task(call("first")), asyncio.create_task(call("second"))
        await asyncio.sleep(0)
        error = await refused(provider, store, SHORT)
        assert isinstance(error, Overloaded)
        assert error.retry_after
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        third = asyncio.create_task(call("third"))
        await asyncio.sleep(0)
        assert isinstance(await refused(provider, store, SHORT), Overloaded)
        assert order == []
    await asyncio.gather(second, third)
    assert order == ["second", "third"]
    assert len(provider.worker_pids) == 1
    await provider.aclose()


async def test_waiting_ends_at_the_deadline(store: SpoolStore):
    provider = PocketsphinxProvider(workers=1)
    async with provider._pool.lease(time.monotonic() + 100):
        error = await refused(provider, store, SHORT, seconds=0.05)
        assert isinstance(error, ProviderTimeout)
        assert "became free" in error.message
    assert await transcribe(provider, store, SHORT)
    await provider.aclose()


async def test_closing_the_provider_ends_everything(store: SpoolStore):
    provider = PocketsphinxProvider(workers=2)
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(SAMPLES[: len(SAMPLES) // 2])
        busy = provider.transcribe(attempt_at(spool, audio=RAW))
        await anext(busy)
        await transcribe(provider, store, SHORT)
        pids = provider.worker_pids
        assert len(pids) == 2
        await provider.aclose()
        assert provider.worker_pids == []
        assert not any(is_running(pid) for pid in pids)
        with pytest.raises(ProviderUnavailable):
            await drain(busy)
        assert isinstance(await refused(provider, store, SHORT), ProviderUnavailable)


async def test_signals_to_the_group_leave_a_worker_alone(provider: PocketsphinxProvider, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(SAMPLES[: len(SAMPLES) // 2])
        events = provider.transcribe(attempt_at(spool, audio=RAW))
        await anext(events)
        [pid] = provider.worker_pids
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        spool.finish()
        rest = [event async for event in events]
        assert rest[-1].HasField("done")
    assert provider.worker_pids == [pid]


PARENT = """
import asyncio, json, sys, time
from voxgate.transcription.v1.audio_pb2 import AudioHeader, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.local import PocketsphinxProvider

async def main():
    provider = PocketsphinxProvider(workers=1)
    with open(sys.argv[1], "rb") as file:
        samples = file.read()
    async with SpoolStore().open(max_bytes=1 << 30) as spool:
        await spool.write(samples * 20)
        spool.finish()
        header = AudioHeader(raw_format=RawAudioFormat(encoding=1, sample_rate_hertz=16000))
        attempt = Attempt("req_1", TranscriptionConfig(model="x"), header, spool, time.monotonic() + 1000)
        async for _ in provider.transcribe(attempt):
            print(json.dumps(provider.worker_pids), flush=True)

asyncio.run(main())
"""


async def test_workers_end_with_their_parent(tmp_path: Path):
    script, audio = tmp_path / "parent.py", tmp_path / "audio.raw"
    script.write_text(PARENT)
    audio.write_bytes(SAMPLES)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        audio,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    [pid] = json.loads(await parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    await parent.communicate()
    await gone(pid)


def test_a_worker_is_light():
    """Neither grpc nor the gateway is loaded in a process that reads strangers' files."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import voxgate_server.providers.local.worker, sys; print(*sys.modules)"],
        env={"PYTHONPATH": str(Path(voxgate_server.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not [
        name for name in loaded if name.split(".")[0] in {"grpc", "google", "voxgate", "asyncio", "aiohttp", "pydantic"}
    ]
    assert "voxgate_server.errors" not in loaded


async def test_a_worker_does_not_see_the_operators_keys(
    provider: PocketsphinxProvider, store: SpoolStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    await transcribe(provider, store, SHORT)
    [pid] = provider.worker_pids
    assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
