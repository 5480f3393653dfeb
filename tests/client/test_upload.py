"""How recordings travel, in both clients."""

import asyncio
import hashlib
import io
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from voxgate_client import CallCancelledError, DeadlineExceededError, InvalidRequestError

from tests.client.wire import GUARD, Twin, Wire

PIECE = 256 * 1024
RECORDING = os.urandom(2 * PIECE + 1000)


async def finished(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, GUARD)


def whole(wire: Wire, data: bytes = RECORDING) -> bool:
    """The recording arrived, and the server was told that this was all of it."""
    digest = hashlib.sha256(data).digest()
    return (
        wire.digest.digest() == digest
        and wire.finish is not None
        and (wire.finish.size_bytes, wire.finish.sha256) == (len(data), digest)
    )


async def test_path(client: Twin, wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "meeting.flac"
    path.write_bytes(RECORDING)
    assert (await client.transcribe(path)).text == "hello"
    assert whole(wire)
    assert wire.chunks == [PIECE, PIECE, 1000]
    assert wire.start is not None
    assert (wire.start.audio.filename, wire.start.audio.size_bytes) == ("meeting.flac", len(RECORDING))
    assert (await client.transcribe(str(path), filename="other.wav", media_type="audio/wav")).text == "hello"
    assert (wire.start.audio.filename, wire.start.audio.media_type) == ("other.wav", "audio/wav")


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_bytes(client: Twin, wire: Wire, make: Callable[[bytes], Any]) -> None:
    await client.transcribe(make(RECORDING))
    assert whole(wire)
    assert wire.start is not None
    assert wire.start.audio.size_bytes == len(RECORDING)


async def test_file_is_read_from_where_it_stands_and_left_open(client: Twin, wire: Wire) -> None:
    file = io.BytesIO(b"header" + RECORDING)
    file.seek(6)
    await client.transcribe(file)
    assert whole(wire)
    assert not file.closed
    assert wire.start is not None
    assert not wire.start.audio.HasField("size_bytes")


async def test_pipe_has_no_size(client: Twin, wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    writer = asyncio.create_task(asyncio.to_thread(path.write_bytes, RECORDING))
    await client.transcribe(path)
    await writer
    assert whole(wire)
    assert wire.start is not None
    assert not wire.start.audio.HasField("size_bytes")


async def test_iterable_keeps_its_pieces_and_splits_large_ones(client: Twin, wire: Wire) -> None:
    await client.transcribe(iter([b"ab", b"", RECORDING]))
    assert whole(wire, b"ab" + RECORDING)
    # An empty piece is sent: it keeps a slow upload alive.
    assert wire.chunks == [2, 0, PIECE, PIECE, 1000]


async def test_empty_recording_is_finished_too(client: Twin, wire: Wire) -> None:
    await client.transcribe(b"")
    assert whole(wire, b"")


async def test_missing_file_sends_nothing(client: Twin, wire: Wire, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await client.transcribe(tmp_path / "no.wav")
    assert type(caught.value) is FileNotFoundError
    with pytest.raises(IsADirectoryError):
        await client.transcribe(tmp_path)
    assert wire.calls == 0


@pytest.mark.parametrize("audio", [42, None, object()])
async def test_what_is_no_audio_sends_nothing(client: Twin, wire: Wire, audio: Any) -> None:
    with pytest.raises(TypeError, match="audio must be a path"):
        await client.transcribe(audio)
    assert wire.calls == 0


async def test_text_is_no_audio(client: Twin, wire: Wire) -> None:
    with pytest.raises(TypeError, match="str instead of bytes"):
        await client.transcribe(io.StringIO("text"))
    with pytest.raises(TypeError, match="int instead of bytes"):
        await client.transcribe([1, 2])
    assert wire.finish is None


class Broken(grpc.RpcError):
    """An error of the caller's own that looks like one of ours."""


class Gone(BaseException):
    """What `except Exception` does not catch."""


@pytest.mark.parametrize("error", [ValueError("mine"), Broken(), Gone()], ids=lambda error: type(error).__name__)
async def test_error_of_the_iterator_is_raised_as_it_is(client: Twin, wire: Wire, error: BaseException) -> None:
    def pieces() -> Iterator[bytes]:
        yield RECORDING
        assert wire.received.wait(GUARD)
        raise error

    with pytest.raises(type(error)) as caught:
        await client.transcribe(pieces())
    assert caught.value is error
    assert await finished(wire.ended)
    assert wire.finish is None


async def test_error_of_the_first_piece(client: Twin, wire: Wire) -> None:
    error = LookupError("mine")

    def pieces() -> Iterator[bytes]:
        raise error
        yield b""

    with pytest.raises(LookupError) as caught:
        await client.transcribe(pieces())
    assert caught.value is error
    assert wire.finish is None


async def test_progress(client: Twin, wire: Wire, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    await client.transcribe(RECORDING, on_progress=lambda sent, total: seen.append((sent, total)))
    size = len(RECORDING)
    assert seen == [(0, size), (PIECE, size), (2 * PIECE, size), (size, size), (size, size)]

    def fail(sent: int, total: int | None) -> None:
        raise ZeroDivisionError

    wire.finish = None
    with pytest.raises(ZeroDivisionError):
        await client.transcribe(RECORDING, on_progress=fail)
    assert wire.finish is None


def refuse(context: Any) -> None:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "No such thing.")


async def test_deadline(client: Twin, wire: Wire) -> None:
    wire.after = lambda context: wire.release.wait(GUARD)  # type: ignore[assignment,return-value]
    with pytest.raises(DeadlineExceededError, match=r"within the timeout of 0\.2 s"):
        await client.transcribe(RECORDING, timeout=0.2)
    assert await finished(wire.ended)


async def test_answer_before_the_end_stops_the_upload(client: Twin, wire: Wire) -> None:
    wire.during = refuse
    waiting = threading.Event()

    def endless() -> Iterator[bytes]:
        while not waiting.is_set():
            yield RECORDING

    with pytest.raises(InvalidRequestError, match="No such thing"):
        await client.transcribe(endless())
    waiting.set()


async def test_answer_does_not_wait_for_an_iterator_that_stands_still(client: Twin, wire: Wire) -> None:
    wire.during = refuse

    def stuck() -> Iterator[bytes]:
        yield b"first"
        assert wire.release.wait(GUARD)

    with pytest.raises(InvalidRequestError):
        await client.transcribe(stuck())
    wire.release.set()


async def test_close_ends_running_calls(client: Twin, wire: Wire) -> None:
    wire.after = lambda context: wire.release.wait(GUARD)  # type: ignore[assignment,return-value]
    call = asyncio.create_task(client.transcribe(RECORDING))
    assert await finished(wire.received)
    await client.close()
    with pytest.raises(CallCancelledError):
        await call
    with pytest.raises(RuntimeError, match="closed"):
        await client.transcribe(RECORDING)


async def test_memory_does_not_grow_with_the_recording(client: Twin, wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(96 << 20)
    await client.transcribe(b"warm")
    tracemalloc.start()
    try:
        await client.transcribe(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert wire.finish.size_bytes == 96 << 20
    # Client and server are both in this figure; a client that reads it all, or runs ahead, is far above.
    assert peak < 16 << 20


class TestAsyncOnly:
    @pytest.fixture
    def connect(self) -> Callable[..., Twin]:
        return lambda target, **options: Twin("async", target, **options)

    async def test_async_iterable(self, client: Twin, wire: Wire) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"ab"
            await asyncio.sleep(0)
            yield RECORDING

        await client.transcribe(pieces())
        assert whole(wire, b"ab" + RECORDING)
        await client.close()

    @pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError()], ids=["error", "cancelled"])
    async def test_error_of_an_async_iterable(self, client: Twin, wire: Wire, error: BaseException) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield RECORDING
            assert await finished(wire.received)
            raise error

        with pytest.raises(type(error)) as caught:
            await client.client.transcribe(pieces())
        assert caught.value is error
        assert await finished(wire.ended)
        assert wire.finish is None
        await client.close()

    async def test_async_iterable_that_stands_still_is_cancelled(self, client: Twin, wire: Wire) -> None:
        wire.during = refuse
        ended = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        with pytest.raises(InvalidRequestError):
            await client.transcribe(stuck())
        await asyncio.wait_for(ended.wait(), GUARD)
        await client.close()

    async def test_blocking_iterable_does_not_block_the_loop(self, client: Twin, wire: Wire) -> None:
        go_on = threading.Event()

        def pieces() -> Iterator[bytes]:
            yield b"first"
            # Set by the loop: if this ran on it, nobody would.
            assert go_on.wait(GUARD)
            yield RECORDING

        call = asyncio.create_task(client.transcribe(pieces()))
        assert await finished(wire.received)
        go_on.set()
        await call
        assert whole(wire, b"first" + RECORDING)
        await client.close()

    async def test_cancelled_task(self, client: Twin, wire: Wire) -> None:
        closed = threading.Event()

        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    yield RECORDING
            finally:
                closed.set()

        call = asyncio.create_task(client.client.transcribe(pieces()))
        assert await finished(wire.received)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await finished(wire.ended)
        assert await finished(closed)
        assert wire.finish is None
        await client.close()

    def test_one_loop_for_each_client(self, client: Twin) -> None:
        with asyncio.Runner() as first:
            first.run(client.client.models())
            with pytest.raises(RuntimeError, match="another event loop"), asyncio.Runner() as second:
                second.run(client.client.models())
            first.run(client.close())


async def test_sync_client_refuses_async_iterables(wire: Wire) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    twin = Twin("sync", wire.target)
    with pytest.raises(TypeError, match="AsyncClient takes asynchronous iterables"):
        await twin.transcribe(pieces())
    await twin.close()
