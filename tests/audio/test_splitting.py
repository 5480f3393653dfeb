"""Cutting recordings in processes of their own: what comes out, and what becomes of the processes."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import voxgate_server
from voxgate.transcription.v1.audio_pb2 import RawAudioFormat
from voxgate_server import errors
from voxgate_server.audio.splitting import SAMPLE_RATE, Piece, Splitter
from voxgate_server.audio.spool import Spool, SpoolStore

from tests.providers.beeps import wav
from tests.recordings import convert, recording

SPEECH = recording("demo-congrats.wav")
RAW = RawAudioFormat(encoding="AUDIO_ENCODING_PCM_S16LE", sample_rate_hertz=SAMPLE_RATE)
MINUTES = bytes(2 * SAMPLE_RATE * 200)
"""200 seconds of silence."""


@pytest.fixture
async def splitter() -> AsyncIterator[Splitter]:
    splitter = Splitter(piece_seconds=10, max_audio_seconds=300, workers=1, max_waiting=1)
    assert splitter.worker_pids == []
    yield splitter
    await splitter.aclose()
    assert splitter.worker_pids == []


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    store = SpoolStore(directory=tmp_path)
    async with store.open(max_bytes=1 << 40) as spool:
        yield spool
    store.close()


async def filled(spool: Spool, data: bytes) -> Spool:
    await spool.write(data)
    spool.finish()
    return spool


def soon() -> float:
    return time.monotonic() + 60


async def rest_of(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


async def all_of(splitter: Splitter, spool: Spool, raw: RawAudioFormat | None = None) -> list[Piece]:
    return await rest_of(splitter.pieces(spool, raw, soon()))


async def test_the_pieces_are_the_recording(splitter: Splitter, spool: Spool):
    pieces = await all_of(splitter, await filled(spool, SPEECH.data))
    assert len(pieces) >= 4
    assert pieces[0].start == 0
    for piece, following in itertools.pairwise(pieces):
        assert following.start == piece.start + piece.seconds
        assert 5 <= piece.seconds <= 10
    assert sum(piece.seconds for piece in pieces) == pytest.approx(SPEECH.seconds, abs=0.001)
    assert any(piece.pcm.strip(b"\0") for piece in pieces)


async def test_other_containers_and_headerless_audio(splitter: Splitter, tmp_path: Path):
    store = SpoolStore(directory=tmp_path)
    for data, raw in ((convert(SPEECH.data, "webm", "libopus", rate=48_000), None), (MINUTES, RAW)):
        async with store.open(max_bytes=1 << 40) as spool:
            pieces = await all_of(splitter, await filled(spool, data), raw)
            seconds = 200 if raw else SPEECH.seconds
            assert sum(piece.seconds for piece in pieces) == pytest.approx(seconds, abs=0.05)
    store.close()
    # One process has served both.
    assert len(splitter.worker_pids) == 1


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (b"nothing of the kind", errors.UnsupportedAudio, "plain text"),
        (wav(b""), errors.EmptyAudio, "no audio in it"),
    ],
)
async def test_what_is_no_audio(
    splitter: Splitter, spool: Spool, data: bytes, expected: type[errors.VoxgateError], words: str
):
    with pytest.raises(expected, match=words):
        await all_of(splitter, await filled(spool, data))
    assert len(splitter.worker_pids) == 1


async def test_what_is_too_long(splitter: Splitter, spool: Spool):
    with pytest.raises(errors.AudioTooLarge, match="300 seconds"):
        await all_of(splitter, await filled(spool, MINUTES * 2), RAW)


async def test_bare_opus(splitter: Splitter, spool: Spool):
    raw = RawAudioFormat(encoding="AUDIO_ENCODING_OPUS", sample_rate_hertz=48_000)
    with pytest.raises(errors.UnsupportedAudio, match="Ogg or WebM"):
        await all_of(splitter, spool, raw)


async def test_an_upload_that_breaks_off(splitter: Splitter, spool: Spool):
    await spool.write(MINUTES)
    error = errors.UploadIncomplete("it broke off")
    pieces = splitter.pieces(spool, RAW, soon())
    await anext(pieces)
    spool.fail(error)
    with pytest.raises(errors.UploadIncomplete) as caught:
        await rest_of(pieces)
    assert caught.value is error


async def test_who_has_enough_ends_the_process(splitter: Splitter, spool: Spool):
    await filled(spool, MINUTES)
    async with contextlib.aclosing(splitter.pieces(spool, RAW, soon())) as pieces:
        await anext(pieces)
        [worker] = splitter._pool._workers
    await worker.ended
    assert splitter.worker_pids == []


async def test_no_time(splitter: Splitter, spool: Spool):
    await spool.write(MINUTES[:1000])
    with pytest.raises(errors.ProviderTimeout, match="the audio decoder"):
        await rest_of(splitter.pieces(spool, RAW, time.monotonic() + 0.5))


async def test_no_room(splitter: Splitter, spool: Spool):
    await filled(spool, MINUTES)
    async with contextlib.aclosing(splitter.pieces(spool, RAW, soon())) as pieces:
        await anext(pieces)
        waiting = asyncio.create_task(all_of(splitter, spool, RAW))
        await asyncio.sleep(0)
        with pytest.raises(errors.Overloaded, match="all 1 processes are busy"):
            await all_of(splitter, spool, RAW)
    # The one that waited gets its turn.
    assert len(await waiting) >= 20


@pytest.mark.parametrize("seconds", [0, 61, float("nan")])
def test_what_makes_no_sense(seconds: float):
    with pytest.raises(ValueError, match="piece_seconds"):
        Splitter(piece_seconds=seconds, max_audio_seconds=300)


def test_a_worker_is_light():
    """Neither grpc nor the gateway is loaded in a process that reads strangers' files."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import voxgate_server.audio.splitting_worker, sys; print(*sys.modules)"],
        env={"PYTHONPATH": str(Path(voxgate_server.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"grpc", "google", "voxgate", "asyncio", "aiohttp", "pydantic", "pocketsphinx"}
    assert not [name for name in loaded if name.split(".")[0] in heavy]
    assert "voxgate_server.errors" not in loaded
