"""How conversions end that do not end well, and what is left then: nothing."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server.audio.convert import Converter
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import AudioTooLarge, DeadlineExceeded, EmptyAudio, Overloaded, UnsupportedAudio, UploadIdle

from tests.audio.converting import GEMINI, OPENAI, begin, contents, converted
from tests.audio.duration_fixtures import made

FLAC_ONLY = ("audio/flac",)
DATA = made("webm")


async def gone(pids: list[int]) -> None:
    """Waits until these processes, which a converter has started, are gone."""
    async with asyncio.timeout(30):
        while any(Path(f"/proc/{pid}").exists() for pid in pids):  # noqa: ASYNC110 (nobody else tells)
            await asyncio.sleep(0.01)


async def test_an_upload_that_breaks_off_fails_the_result_too(converter: Converter, store: SpoolStore):
    for media_types in (GEMINI, FLAC_ONLY):
        async with store.open(max_bytes=1 << 30) as source:
            await source.write(DATA[:-100])
            conversion = begin(converter, source, DATA, media_types)
            await conversion.identify()
            pids = converter.worker_pids
            error = source.fail(UploadIdle("Nothing came."))
            with pytest.raises(UploadIdle) as raised:
                await asyncio.wait_for(contents(conversion.spool), 30)
            assert raised.value is error
            assert conversion.usable  # It would fail again.
            conversion.close()
            await gone(pids)
    assert not store.used_bytes


async def test_one_that_is_not_wanted_any_more_ends_with_its_process(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:-100])
        conversion = begin(converter, source, DATA, GEMINI)
        await conversion.identify()
        [pid] = converter.worker_pids
        assert store.used_bytes == source.size + conversion.spool.size
        conversion.close()
        assert store.used_bytes == source.size
        await gone([pid])
    _, out = await converted(converter, store, DATA, GEMINI)
    assert out


async def test_a_process_that_dies_is_nobodys_fault_and_is_replaced(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:-100])
        conversion = begin(converter, source, DATA, GEMINI)
        await conversion.identify()
        [pid] = converter.worker_pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Overloaded, match=r"the audio converter's process ended unexpectedly \(SIGKILL\)"):
            await asyncio.wait_for(contents(conversion.spool), 30)
        assert not conversion.usable
        conversion.close()
    _, out = await converted(converter, store, DATA, GEMINI)
    assert out


async def test_too_costly_a_recording_ends_the_process(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:-100])
        conversion = begin(converter, source, DATA, GEMINI)
        await conversion.identify()
        [pid] = converter.worker_pids
        os.kill(pid, signal.SIGXCPU)  # What the system does at the limit.
        with pytest.raises(UnsupportedAudio, match="takes more than 120 s of processor time"):
            await asyncio.wait_for(contents(conversion.spool), 30)
        conversion.close()


async def test_the_system_is_told_the_limits(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:-100])
        conversion = begin(converter, source, DATA, GEMINI)
        await conversion.identify()
        [pid] = converter.worker_pids
        limits = {
            line[:25].strip(): line[25:].split()[0] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        }
        assert 120 < int(limits["Max cpu time"]) <= 125
        assert int(limits["Max address space"]) == 1 << 30
        conversion.close()


async def test_a_result_that_is_too_large(store: SpoolStore):
    converter = Converter(store, max_bytes=20_000)
    try:
        for media_types in (GEMINI, FLAC_ONLY):
            for live in (False, True):
                with pytest.raises(AudioTooLarge) as raised:
                    await asyncio.wait_for(converted(converter, store, DATA, media_types, live=live), 30)
                assert "20000 bytes" in raised.value.message
    finally:
        await converter.aclose()
    assert not store.used_bytes


async def test_a_recording_that_is_too_long(store: SpoolStore):
    converter = Converter(store, max_bytes=1 << 30, max_audio_seconds=5)
    try:
        for name, media_types in (("webm", GEMINI), ("webm", FLAC_ONLY), ("adts", OPENAI), ("mka mp3", OPENAI)):
            with pytest.raises(AudioTooLarge, match="longer than the 5 seconds"):
                await converted(converter, store, made(name), media_types)
    finally:
        await converter.aclose()


@pytest.mark.parametrize("name", ["webm", "mka aac", "m4a index last", "adts", "aiff", "caf"])
async def test_damaged_and_cut_recordings_end_in_a_refusal_or_in_audio(
    converter: Converter, store: SpoolStore, name: str
):
    data = made(name)
    damaged = bytearray(data)
    for at in range(len(data) // 3, len(data), 97):
        damaged[at] ^= 0x55
    for broken in (bytes(damaged), data[: len(data) // 2], data[:200], data[:64]):
        with contextlib.suppress(UnsupportedAudio, EmptyAudio):
            _, out = await asyncio.wait_for(converted(converter, store, broken, FLAC_ONLY), 60)
            assert sniff(out[:64])
    _, out = await converted(converter, store, data, FLAC_ONLY)
    assert out


async def test_the_deadline_holds(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:1000])
        conversion = converter.begin(
            source, AudioHeader(), sniff(DATA[:64]), media_types=FLAC_ONLY, deadline=time.monotonic() + 0.2, who="x"
        )
        with pytest.raises(DeadlineExceeded, match="while the recording was being converted"):
            await asyncio.wait_for(conversion.spool.wait_finished(), 30)
        pids = converter.worker_pids
        conversion.close()
        await gone(pids)


async def test_a_full_store_refuses_the_result(tmp_path: Path):
    store = SpoolStore(directory=tmp_path, quota_bytes=len(DATA) + 10_000)
    converter = Converter(store, max_bytes=1 << 30)
    try:
        with pytest.raises(Overloaded, match="uploads in progress already hold"):
            await asyncio.wait_for(converted(converter, store, DATA, FLAC_ONLY), 30)
    finally:
        await converter.aclose()
        assert not store.used_bytes
        store.close()


async def test_a_converter_can_be_closed_in_the_middle(store: SpoolStore):
    converter = Converter(store, max_bytes=1 << 30)
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(DATA[:-100])
        conversion = begin(converter, source, DATA, GEMINI)
        await conversion.identify()
        pids = converter.worker_pids
        await converter.aclose()
        assert not converter.worker_pids
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        conversion.close()
