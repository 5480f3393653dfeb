"""Recorded human speech through the embedded recogniser while it is spoken."""

import asyncio
import io
import itertools
import wave
from collections.abc import AsyncIterator

import jiwer
import pytest
from grpc import aio
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server.app import App
from voxgate_server.config import default_config

from tests.live.calling import CLEAR, COMMIT, MANUAL, Session, chunk, chunks, eventually, finish, live, silence, start
from tests.providers.local.calling import plain_words
from tests.recordings import Recording, convert, recording
from tests.running import Gateway

INTERIM = "interim_results: true"
ONE, TWO = recording("demo-abouttotry.wav"), recording("agent-incorrect.wav")
FASTER = 3
"""Than real time, so that the test is done sooner; the recogniser keeps up with that."""


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    loaded = default_config({})
    app = App(loaded.config, environ=loaded.environment)
    try:
        where = await app.start(host="127.0.0.1", grpc_port=0, rest_port=0)
        async with aio.insecure_channel(f"127.0.0.1:{where.grpc_port}") as channel:
            yield Gateway(app, where.rest_port, where.grpc_port, channel)
    finally:
        await app.stop(grace=0)


def samples(item: Recording, rate: int = 16_000) -> bytes:
    with wave.open(io.BytesIO(convert(item.data, "wav", "pcm_s16le", rate=rate))) as file:
        return file.readframes(file.getnframes())


async def batch(gateway: Gateway, item: Recording) -> str:
    request = api.TranscribeRequest(config=TranscriptionConfig(model="whisper-1"), audio=AudioSource(data=item.data))
    return (await gateway.stub.Transcribe(request)).transcription.text


async def speak(session: Session, pcm: bytes, rate: int = 16_000) -> None:
    """Sends tenths of seconds when they have been spoken."""
    begin = asyncio.get_running_loop().time()
    for number, message in enumerate(chunks(pcm, 2 * rate // 10), 1):
        await asyncio.sleep(begin + number / 10 / FASTER - asyncio.get_running_loop().time())
        await session.send(message)


async def spoken(gateway: Gateway, first: api.TranscribeLiveRequest, pcm: bytes, rate: int = 16_000) -> Session:
    async with live(gateway, first, metadata=()) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(session.rest())
        await speak(session, pcm, rate)
        await session.send(finish(len(pcm)))
        await eventually(lambda: session.kinds[-1:] == ["done"])
    return session


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100])
async def test_partials_while_speaking_and_the_batch_text_at_the_end(gateway: Gateway, rate: int):
    audio = f"raw_format {{encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: {rate}}}"
    first = start("whisper-1", audio=audio, options=f"{INTERIM} {MANUAL}")
    session = await spoken(gateway, first, samples(ONE, rate), rate)
    partials = session.of("partial")
    committed = session.kinds.index("turn_committed")
    assert session.kinds[:committed].count("partial") > 10
    assert [partial.revision for partial in partials] == list(range(len(partials)))
    assert {partial.item_id for partial in partials} == {"item_0001"}
    assert all(one.text != two.text for one, two in itertools.pairwise(partials))
    text = session.of("done")[0].transcription.text
    assert jiwer.wer(plain_words(await batch(gateway, ONE)), plain_words(text)) <= (0 if rate == 16_000 else 0.25)
    # The last partial is about what the final says.
    assert jiwer.wer(plain_words(text), plain_words(partials[-1].text)) <= 0.5


async def test_several_turns_have_partials_each_and_words_at_their_times(gateway: Gateway):
    pause = bytes(32_000)
    pcm = samples(TWO) + pause + samples(ONE) + pause + samples(TWO)
    words = "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD response_format: RESPONSE_FORMAT_VERBOSE_JSON"
    options = f"{INTERIM} turn_detection {{ server_vad {{ silence_duration_ms: 800 }} }}"
    session = await spoken(gateway, start("whisper-1", words, options=options), pcm)
    texts = [turn.transcription.text for turn in session.of("turn_completed")]
    assert len(texts) == 3
    expected = [await batch(gateway, item) for item in (TWO, ONE, TWO)]
    rate = jiwer.wer([plain_words(text) for text in expected], [plain_words(text) for text in texts])
    assert rate <= 0.1
    for item in ("item_0001", "item_0002", "item_0003"):
        revisions = [partial.revision for partial in session.of("partial") if partial.item_id == item]
        assert revisions == list(range(len(revisions)))
        assert revisions, f"{item} has none"
    done = session.of("done")[0].transcription
    starts = [word.start for word in done.words]
    assert starts == sorted(starts)
    second = next(word for word in done.words if word.start > TWO.seconds)
    assert TWO.seconds + 0.9 < second.start < TWO.seconds + 2
    assert [segment.id for segment in done.segments] == list(range(len(done.segments)))
    assert len(done.words) == len(done.text.split())


async def test_without_interim_results_there_are_none(gateway: Gateway):
    session = await spoken(gateway, start("whisper-1", options=MANUAL), samples(TWO))
    assert "partial" not in session.kinds
    assert session.of("done")[0].transcription.text == await batch(gateway, TWO)


async def test_a_cleared_turn_leaves_nothing_behind(gateway: Gateway):
    pcm = samples(TWO)
    async with live(gateway, start("whisper-1", options=f"{INTERIM} {MANUAL}"), metadata=()) as session:
        await session.send(chunk(samples(ONE)[:64_000]))
        await session.until("partial")
        await session.send(CLEAR, chunk(pcm), COMMIT, finish(64_000 + len(pcm)))
        await session.until("done")
    assert session.of("done")[0].transcription.text == await batch(gateway, TWO)
    assert len(session.of("turn_committed")) == 1
    (turn,) = session.of("turn_completed")
    late = [one for one in session.of("partial") if one.item_id == turn.item_id]
    assert not late or late[0].revision == 0


async def test_a_worker_that_dies_costs_partials_but_no_words(gateway: Gateway):
    (provider,) = {deployment.provider for deployment in gateway.app.gateway.router.table.deployments()}
    pcm = samples(TWO)
    async with live(gateway, start("whisper-1", options=f"{INTERIM} {MANUAL}"), metadata=()) as session:
        await session.send(chunk(pcm[:80_000]))
        await session.until("partial")
        for worker in list(provider._pool._workers):  # type: ignore[attr-defined]
            worker.kill()
        await session.send(chunk(pcm[80_000:]), COMMIT, finish(len(pcm)))
        await session.until("done")
    assert session.of("done")[0].transcription.text == await batch(gateway, TWO)


async def test_silence_says_nothing(gateway: Gateway):
    async with live(gateway, start("whisper-1", options=INTERIM), silence(5000), finish(0), metadata=()) as session:
        await session.rest()
    assert session.kinds == ["session_started", "done"]
