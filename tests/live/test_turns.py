"""Live speech through a model that takes whole recordings only: turns, their order, their times, their failures."""

import asyncio
import io
import math
import wave
from array import array
from pathlib import Path

import av
import grpc
import pytest
from voxgate_server.live.turns import TurnStream

from tests.live.calling import (
    CLEAR,
    COMMIT,
    MANUAL,
    SECONDS,
    chunk,
    chunks,
    eventually,
    finish,
    live,
    reason,
    silence,
    start,
    whole,
)
from tests.live.listening_emulator import ListeningEmulator, samples_of
from tests.providers import beeps
from tests.providers.openai_emulator import failure, hang, ok, sse, stream
from tests.recordings import convert
from tests.running import Gateway, openai_config, running

WORDS = "response_format: RESPONSE_FORMAT_VERBOSE_JSON timestamp_granularities: TIMESTAMP_GRANULARITY_WORD"


async def test_every_word_of_every_turn_at_its_time(gateway: Gateway, emulator: ListeningEmulator):
    pcm, heard = beeps.spoken(30)
    session = await whole(gateway, [start(config=WORDS), *chunks(pcm)])
    done = session.of("done")[0].transcription
    assert done.text.split() == [word for word, _, _ in heard]
    for word, (_, begin, end) in zip(done.words, heard, strict=True):
        assert abs(word.start - begin) < 0.03
        assert abs(word.end - end) < 0.03
    assert len(session.of("turn_completed")) == len(emulator.records) == 3
    assert len(session.of("speech_started")) == len(session.of("speech_stopped")) == 3
    assert done.duration == len(pcm) / 32_000
    assert session.events[-1].cursors.final == session.events[-1].cursors.received == done.duration


async def test_a_slow_first_turn_holds_back_the_texts_but_not_the_work(gateway: Gateway, emulator: ListeningEmulator):
    pcm, heard = beeps.spoken(30)
    slow = asyncio.Event()
    emulator.script(ok(until=slow))
    async with live(gateway, start(), *chunks(pcm), finish(len(pcm))) as session:
        await session.until("turn_committed")
        await eventually(lambda: len([one for one in emulator.records if one.status == 200]) == 2)
        slow.set()
        await session.rest()
    texts = [turn.transcription.text.split() for turn in session.of("turn_completed")]
    assert [word for text in texts for word in text] == [word for word, _, _ in heard]
    assert session.kinds.index("turn_completed") > session.kinds.index("speech_stopped")


async def test_a_turn_arrives_as_one_wav_with_its_samples(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(6)
    half = len(pcm) // 4 * 2
    messages = [start(options=MANUAL), *chunks(pcm[:half], 1111), COMMIT, *chunks(pcm[half:], 999), COMMIT, COMMIT]
    session = await whole(gateway, messages)
    assert [samples_of(record) for record in emulator.records] == [pcm[:half], pcm[half:]]
    assert session.kinds.count("speech_started") == 0
    one, two = session.of("turn_completed")
    assert one.transcription.extra_fields.provider == "openai"
    assert one.transcription.extra_fields.request_id == two.transcription.extra_fields.request_id != ""
    assert {record.file_type for record in emulator.records} == {"audio/wav"}


@pytest.mark.parametrize(
    ("encoding", "ffmpeg", "rate", "layout"),
    [
        ("PCM_S16LE", "s16le", 8000, "mono"),
        ("PCM_S16LE", "s16le", 22_050, "mono"),
        ("PCM_S16LE", "s16le", 48_000, "stereo"),
        ("MULAW", "mulaw", 8000, "mono"),
        ("ALAW", "alaw", 8000, "mono"),
        ("MULAW", "mulaw", 16_000, "stereo"),
    ],
)
async def test_encodings_rates_and_channels(
    gateway: Gateway, emulator: ListeningEmulator, encoding: str, ffmpeg: str, rate: int, layout: str
):
    pcm, _ = beeps.spoken(5)
    codec = ffmpeg if ffmpeg == "s16le" else f"pcm_{ffmpeg}"
    raw = convert(beeps.wav(pcm), ffmpeg, codec.replace("s16le", "pcm_s16le"), rate=rate, layout=layout)
    count = 2 if layout == "stereo" else 1
    audio = f"raw_format {{encoding: AUDIO_ENCODING_{encoding} sample_rate_hertz: {rate} channel_count: {count}}}"
    await whole(gateway, [start(audio=audio, options=MANUAL), *chunks(raw, 777), COMMIT])
    with wave.open(io.BytesIO(bytes(emulator.records[0].body))) as file:
        assert file.getframerate() == rate
        assert file.getnchannels() == 1
        got = array("h", file.readframes(file.getnframes()))
    expected = array("h", decoded(raw, ffmpeg, rate, count))
    assert len(got) == len(expected)
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) <= 1


def decoded(raw: bytes, ffmpeg: str, rate: int, channels: int) -> bytes:
    """What FFmpeg makes of such bytes, mixed down."""
    options = {"sample_rate": str(rate), "ch_layout": f"{channels}c"}
    with av.open(io.BytesIO(raw), format=ffmpeg, container_options=options) as container:
        samples = array("h")
        for frame in container.decode(audio=0):
            samples.frombytes(bytes(frame.planes[0])[: 2 * frame.samples * channels])
    return array(
        "h", [sum(samples[at : at + channels]) // channels for at in range(0, len(samples), channels)]
    ).tobytes()


async def test_silence_is_exact_zeros(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(2)
    await whole(gateway, [start(options=MANUAL), chunk(pcm), silence(2500), chunk(pcm)])
    assert samples_of(emulator.records[0]) == pcm + bytes(2 * 40_000) + pcm


async def test_cleared_audio_is_never_sent(gateway: Gateway, emulator: ListeningEmulator):
    one, _ = beeps.spoken(2)
    two, heard = beeps.spoken(3)
    session = await whole(gateway, [start(options=MANUAL), chunk(one), CLEAR, CLEAR, chunk(two), COMMIT])
    assert [samples_of(record) for record in emulator.records] == [two]
    done = session.of("done")[0].transcription
    assert done.text.split() == [word for word, _, _ in heard]
    assert done.duration == (len(one) + len(two)) / 32_000


async def test_a_turn_that_fails_is_told_and_the_session_goes_on(gateway: Gateway, emulator: ListeningEmulator):
    pcm, heard = beeps.spoken(30)
    emulator.script(ok(), *[failure(400, "no")] * 1, ok())
    session = await whole(gateway, [start(config="routing {max_retries: 0}"), *chunks(pcm)])
    turns = session.of("turn_completed")
    lost = [index for index, turn in enumerate(turns) if turn.HasField("error")]
    assert len(turns) == 3
    assert len(lost) == 1
    assert turns[lost[0]].error.reason == "PROVIDER_REJECTED"
    assert turns[lost[0]].transcription.extra_fields.attempts[0].http_status == 400
    assert turns[lost[0]].transcription.text == ""
    (notice,) = session.of("notice")
    dropped = notice.audio_dropped
    words = [word for word, begin, _ in heard if not dropped.start <= begin < dropped.end]
    assert len(words) == 20
    assert session.of("done")[0].transcription.text.split() == words


async def test_three_lost_turns_in_a_row_end_the_session(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(60)
    emulator.script(ok(), *[failure(400, "no")] * 20)
    async with live(gateway, start(config="routing {max_retries: 0}"), *chunks(pcm), finish(len(pcm))) as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert reason(caught.value) == "PROVIDER_REJECTED"
    assert [turn.HasField("error") for turn in session.of("turn_completed")].count(True) == 3
    assert gateway.app.gateway.calls_in_progress == 0


async def test_when_nothing_could_be_recognised_the_session_has_failed(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(5)
    emulator.script(*[failure(500)] * 10)
    async with live(gateway, start(config="routing {max_retries: 0}"), *chunks(pcm), finish(len(pcm))) as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    assert reason(caught.value) == "PROVIDER_UNAVAILABLE"
    assert session.kinds[-1] == "turn_completed"


async def test_silence_alone_is_no_turn(gateway: Gateway, emulator: ListeningEmulator):
    session = await whole(gateway, [start(), silence(60_000), chunk(bytes(32_000)), silence(1)])
    assert session.kinds == ["session_started", "done"]
    done = session.events[-1]
    assert done.done.transcription.duration == done.cursors.final == 61.001
    assert not emulator.records


async def test_audio_that_comes_too_fast_is_held_back_and_nothing_is_lost(
    gateway: Gateway, emulator: ListeningEmulator
):
    pcm, heard = beeps.spoken(400)
    released = asyncio.Event()
    emulator.script(*[ok(until=released)] * 40)
    async with live(gateway, start()) as session, asyncio.TaskGroup() as tasks:
        await session.until("session_started")
        sending = tasks.create_task(session.send(*chunks(pcm, 64_000), finish(len(pcm))))
        reading = tasks.create_task(session.rest())
        (held,) = gateway.app.live.streams
        assert isinstance(held, TurnStream)
        await eventually(lambda: held.backlog_seconds > 60)
        # The bound holds however long nobody answers: it is looked at again after everything that could go on did.
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert held.backlog_seconds < 60 + 15
        assert len(emulator.records) == 4
        released.set()
        await asyncio.gather(sending, reading)
    assert session.of("done")[0].transcription.text.split() == [word for word, _, _ in heard]


async def test_speech_without_a_pause_is_cut_at_the_limit(gateway: Gateway, emulator: ListeningEmulator):
    tone = array(
        "h", [round(9000 * math.sin(0.3 * at)) if at // 1600 % 2 else 0 for at in range(16_000 * 130)]
    ).tobytes()
    session = await whole(gateway, [start(), *chunks(tone, 32_000)])
    assert len(session.of("turn_committed")) == len(emulator.records) == 3
    assert sum(len(samples_of(record)) for record in emulator.records) >= len(tone) - 2 * 16_000
    assert all(len(samples_of(record)) <= 32_000 * 60 for record in emulator.records)


async def test_a_client_that_closes_its_side_without_finish_loses_no_words(gateway: Gateway):
    pcm, heard = beeps.spoken(3)
    async with live(gateway, start(), *chunks(pcm)) as session:
        await session.call.done_writing()
        await session.rest()
    assert session.of("done")[0].transcription.text.split() == [word for word, _, _ in heard]


async def test_a_client_that_goes_away_ends_the_work(gateway: Gateway, emulator: ListeningEmulator):
    pcm, _ = beeps.spoken(12)
    emulator.script(hang())
    async with live(gateway, start(), *chunks(pcm)) as session:
        await session.until("turn_committed")
        record = await emulator.record()
        await asyncio.wait_for(record.body_ended.wait(), SECONDS)
    await asyncio.wait_for(record.peer_closed.wait(), SECONDS)
    await eventually(lambda: not gateway.app.gateway.calls_in_progress and not gateway.app.live.connected)
    # What waits for the client to come back does nothing meanwhile.
    working = {"voxgate-live-turn", "voxgate-live-feed", "voxgate-live-read"}
    assert not [task for task in asyncio.all_tasks() if task.get_name() in working]


async def test_fallback_of_a_turn_is_silent(emulator: ListeningEmulator, tmp_path: Path):
    config = openai_config(emulator.url, models=("whisper-1", "gpt-4o-transcribe"))
    pcm, heard = beeps.spoken(5)
    async with running(tmp_path, config) as gateway:
        emulator.script(failure(500), failure(500))
        routing = 'routing { max_retries: 1 fallbacks { model: "gpt-4o-transcribe" } }'
        session = await whole(gateway, [start(config=routing), *chunks(pcm)])
    (turn,) = session.of("turn_completed")
    assert [attempt.model for attempt in turn.transcription.extra_fields.attempts][-1] == "gpt-4o-transcribe"
    assert turn.transcription.text.split() == [word for word, _, _ in heard]
    assert session.of("done")[0].transcription.usage.tokens.total_tokens == 45


async def test_a_session_s_turns_need_no_place_of_their_own(emulator: ListeningEmulator, tmp_path: Path):
    pcm, heard = beeps.spoken(20)
    config = openai_config(emulator.url, extra="voxgate:\n  limits: {max_concurrent_calls: 1}\n")
    async with running(tmp_path, config) as gateway, live(gateway, start()) as session:
        await session.until("session_started")
        async with live(gateway, start()) as refused:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused.rest()
            assert reason(caught.value) == "SERVER_OVERLOADED"
        await session.send(*chunks(pcm), finish(len(pcm)))
        await session.rest()
    assert session.of("done")[0].transcription.text.split() == [word for word, _, _ in heard]


async def test_a_turn_waits_where_there_is_no_room_for_it(emulator: ListeningEmulator, tmp_path: Path):
    pcm, _ = beeps.spoken(5)
    config = openai_config(emulator.url, extra=f"voxgate:\n  limits: {{spool_quota_bytes: {len(pcm) + 1000}}}\n")
    released = asyncio.Event()
    emulator.script(ok(until=released))
    async with (
        running(tmp_path, config) as gateway,
        live(gateway, start(options=MANUAL), chunk(pcm), COMMIT, chunk(pcm), COMMIT) as session,
    ):
        await session.until("turn_committed")
        await session.until("turn_committed")
        await (await emulator.record()).body_ended.wait()
        released.set()
        await session.send(finish(2 * len(pcm)))
        await session.rest()
    assert not [turn for turn in session.of("turn_completed") if turn.HasField("error")]
    assert len(emulator.records) == 2


async def test_deltas_of_a_lost_answer_are_void(emulator: ListeningEmulator, tmp_path: Path):
    pcm, heard = beeps.spoken(5)
    text = " ".join(word for word, _, _ in heard)
    lost = sse(
        {"type": "transcript.text.delta", "delta": "what nobody "}, {"type": "transcript.text.delta", "delta": "s"}
    )
    emulator.script(stream(*lost, then="reset"))
    config = openai_config(emulator.url, models=("gpt-4o-transcribe", "gpt-4o-mini-transcribe"))
    async with running(tmp_path, config) as gateway:
        routing = 'routing { max_retries: 0 fallbacks { model: "gpt-4o-mini-transcribe" } }'
        session = await whole(gateway, [start("gpt-4o-transcribe", routing), *chunks(pcm)])
    (notice,) = session.of("notice")
    switched = notice.provider_switched
    assert (switched.from_provider, switched.to_provider) == ("openai", "openai")
    assert switched.reason == "PROVIDER_UNAVAILABLE"
    void = session.kinds.index("notice")
    before = [event.delta.delta.delta for event in session.events[:void] if event.HasField("delta")]
    after = [event.delta.delta.delta for event in session.events[void:] if event.HasField("delta")]
    assert "".join(before) == "what nobody s"
    assert len(after) > 1
    assert "".join(after) == text == session.of("turn_completed")[0].transcription.text
