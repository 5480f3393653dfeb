"""The spool: whatever the chunking, every cursor reads exactly what was written, and only a verified end is an end."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import (
    AudioTooLarge,
    ChecksumMismatch,
    EmptyAudio,
    Overloaded,
    UploadIncomplete,
    VoxgateError,
)

LARGE = 1 << 40


async def collect(cursor: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in cursor])


@pytest.fixture
def store(tmp_path: Path):
    store = SpoolStore(directory=tmp_path, window_bytes=4096)
    yield store
    store.close()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=60),
    window=st.sampled_from([1, 1000, 4096, 65_536, 1 << 20]),
    seed=st.integers(0, 2**32),
)
def test_every_cursor_reads_what_was_written(sizes: list[int], window: int, seed: int):
    rng = random.Random(seed)
    pieces = [rng.randbytes(size) for size in sizes]
    data = b"".join(pieces) + b"."

    async def run() -> None:
        store = SpoolStore(window_bytes=window)
        async with store.open(max_bytes=LARGE) as spool:
            readers = [asyncio.create_task(collect(spool.cursor()))]
            for piece in pieces:
                await spool.write(piece)
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                if rng.random() < 0.1:
                    readers.append(asyncio.create_task(collect(spool.cursor())))
            await spool.write(b".")
            spool.finish(size=len(data), sha256=hashlib.sha256(data).digest())
            readers.append(asyncio.create_task(collect(spool.cursor())))
            for result in await asyncio.gather(*readers):
                assert result == data
            assert spool.sha256 == hashlib.sha256(data).digest()
            assert await spool.head(10) == data[:10]
        assert store.used_bytes == 0
        store.close()

    asyncio.run(run())


async def test_an_observer_sees_what_is_kept_in_order_and_once(store: SpoolStore):
    seen: list[bytes] = []
    async with store.open(max_bytes=5000, observe=seen.append) as spool:
        for piece in (b"a" * 3000, b"", b"b" * 2000):
            await spool.write(piece)
        with pytest.raises(AudioTooLarge):
            await spool.write(b"c")
    assert b"".join(seen) == b"a" * 3000 + b"b" * 2000


async def test_memory_is_bounded_by_the_window(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        for _ in range(1000):
            await spool.write(b"x" * 1000)
        held = sum(len(block) for block in spool._blocks)
        assert held <= 2 * store.window_bytes
        spool.finish()
        assert len(await collect(spool.cursor())) == 1_000_000


async def test_a_million_tiny_writes_do_not_become_a_million_objects(tmp_path: Path):
    store = SpoolStore(directory=tmp_path, window_bytes=1 << 20)
    async with store.open(max_bytes=LARGE) as spool:
        for _ in range(200_000):
            await spool.write(b"x")
        assert len(spool._blocks) < 10
    store.close()


async def test_nothing_is_left_in_the_directory(store: SpoolStore, tmp_path: Path):
    async with store.open(max_bytes=LARGE) as spool:
        await spool.write(b"x" * 100_000)
        assert list(tmp_path.iterdir()) == []


async def test_reader_sees_bytes_before_the_writer_is_done(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        cursor = spool.cursor()
        await spool.write(b"first")
        assert await anext(cursor) == b"first"
        waiting = asyncio.create_task(anext(cursor))
        await asyncio.sleep(0)
        assert not waiting.done()
        await spool.write(b"second")
        assert await waiting == b"second"


@pytest.mark.parametrize(
    ("size", "sha256", "error"),
    [(4, None, ChecksumMismatch), (6, None, ChecksumMismatch), (None, b"0" * 32, ChecksumMismatch)],
)
async def test_an_end_that_does_not_verify_is_no_end(store: SpoolStore, size, sha256, error: type[VoxgateError]):
    async with store.open(max_bytes=LARGE) as spool:
        reader = asyncio.create_task(collect(spool.cursor()))
        await spool.write(b"12345")
        with pytest.raises(error):
            spool.finish(size=size, sha256=sha256)
        with pytest.raises(error):
            await reader
        with pytest.raises(error):
            await spool.write(b"6")
        assert not spool.finished


async def test_a_failed_upload_fails_every_cursor(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        reader = asyncio.create_task(collect(spool.cursor()))
        await spool.write(b"12345")
        spool.fail(UploadIncomplete("gone"))
        with pytest.raises(UploadIncomplete):
            await reader
        with pytest.raises(UploadIncomplete):
            await anext(spool.cursor())


async def test_empty_is_refused(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        await spool.write(b"")
        with pytest.raises(EmptyAudio):
            spool.finish()


async def test_too_large_is_refused_at_the_byte_that_is_too_much(store: SpoolStore):
    async with store.open(max_bytes=10) as spool:
        await spool.write(b"1234567890")
        with pytest.raises(AudioTooLarge, match="10 bytes"):
            await spool.write(b"1")
    with pytest.raises(AudioTooLarge):
        store.open(max_bytes=10, expected_bytes=11)


async def test_announced_size_is_held_to(store: SpoolStore):
    async with store.open(max_bytes=LARGE, expected_bytes=3) as spool:
        await spool.write(b"12")
        with pytest.raises(ChecksumMismatch):
            spool.finish()
    async with store.open(max_bytes=LARGE, expected_bytes=3) as spool:
        with pytest.raises(ChecksumMismatch):
            await spool.write(b"1234")


async def test_quota_is_shared_and_given_back(tmp_path: Path):
    store = SpoolStore(directory=tmp_path, window_bytes=10, quota_bytes=100)
    first, second = store.open(max_bytes=LARGE), store.open(max_bytes=LARGE)
    await first.write(b"x" * 60)
    with pytest.raises(Overloaded) as caught:
        await second.write(b"x" * 60)
    assert caught.value.retry_after == 5
    first.close()
    third = store.open(max_bytes=LARGE)
    await third.write(b"x" * 100)
    for spool in (second, third):
        spool.close()
        spool.close()
    assert store.used_bytes == 0
    store.close()


async def test_full_disk_is_an_error_of_the_server():
    store = SpoolStore(window_bytes=10)

    class FullDisk:
        descriptor = os.open("/dev/full", os.O_RDWR)

        def append(self, blocks, offset):
            os.pwrite(self.descriptor, b"".join(bytes(block) for block in blocks), offset)

    async with store.open(max_bytes=LARGE) as spool:
        spool._file = FullDisk()  # type: ignore[assignment]
        with pytest.raises(Overloaded, match="No space left"):
            await spool.write(b"x" * 100)
        with pytest.raises(Overloaded):
            await anext(spool.cursor())
    os.close(FullDisk.descriptor)
    store.close()


async def test_waiting_for_the_verified_end(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        waiting = asyncio.create_task(spool.wait_finished())
        for _ in range(10):
            await spool.write(b"x" * 10_000)
            await asyncio.sleep(0)
        assert not waiting.done()
        spool.finish()
        await waiting
        await spool.wait_finished()
    async with store.open(max_bytes=LARGE) as spool:
        waiting = asyncio.create_task(spool.wait_finished())
        await asyncio.sleep(0)
        spool.fail(UploadIncomplete("gone"))
        with pytest.raises(UploadIncomplete):
            await waiting


async def test_closing_wakes_a_waiting_reader(store: SpoolStore):
    spool = store.open(max_bytes=LARGE)
    reader = asyncio.create_task(collect(spool.cursor()))
    await asyncio.sleep(0)
    spool.close()
    with pytest.raises(RuntimeError):
        await reader


async def test_a_cancelled_reader_does_not_disturb_others(store: SpoolStore):
    async with store.open(max_bytes=LARGE) as spool:
        doomed, other = (asyncio.create_task(collect(spool.cursor())) for _ in range(2))
        await asyncio.sleep(0)
        doomed.cancel()
        await spool.write(b"x" * 50_000)
        spool.finish()
        assert len(await other) == 50_000
        with pytest.raises(asyncio.CancelledError):
            await doomed
