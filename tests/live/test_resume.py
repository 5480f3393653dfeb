"""Sessions whose client was cut off and comes back."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxgate.transcription.v1 import transcription_service_pb2 as api

from tests.live.calling import MANUAL, Session, chunk, chunks, eventually, finish, live, reason, start
from tests.live.listening_emulator import ListeningEmulator
from tests.providers import beeps
from tests.providers.openai_emulator import hang
from tests.running import METADATA, Gateway, openai_config, running

PCM, HEARD = beeps.spoken(24, pause=0.8)
TEXT = [word for word, _, _ in HEARD]


def again(session: Session, sequence: int | None = None, options: str = "") -> api.TranscribeLiveRequest:
    """The `start` that goes on with a session."""
    session_id = session.of("session_started")[0].session_id
    wanted = session.events[-1].sequence + 1 if sequence is None else sequence
    return start(options=f'{options} resume_session_id: "{session_id}" resume_sequence: {wanted}')


async def cut_off(gateway: Gateway, session: Session) -> None:
    session.call.cancel()
    await eventually(lambda: not gateway.app.live.connected)
    assert gateway.app.gateway.calls_in_progress == 0


async def go_on(gateway: Gateway, session: Session, pcm: bytes, **options: Any) -> Session:
    """Resumes a session, sends what the server has not, and reads to the end."""
    call = gateway.stub.TranscribeLive(metadata=METADATA)
    resumed = Session(call)
    await resumed.send(again(session, **options))
    welcome = await call.read()
    assert welcome.session_started.session_id == session.of("session_started")[0].session_id
    assert welcome.cursors.received >= session.events[-1].cursors.received
    received = round(welcome.cursors.received * 32_000)
    resumed.events, resumed._committed = session.events, session._committed
    resumed._completed = session._completed
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(resumed.rest())
        await resumed.send(*chunks(pcm[received:]), finish(len(pcm)))
        await reading
    return resumed


async def test_a_cut_in_the_middle_costs_nothing(gateway: Gateway):
    async with live(gateway, start(), *chunks(PCM[: len(PCM) // 2])) as session:
        await session.until("turn_completed")
        await cut_off(gateway, session)
    resumed = await go_on(gateway, session, PCM)
    assert resumed.of("done")[0].transcription.text.split() == TEXT
    assert len(gateway.app.live) == 0


async def test_upstream_is_let_go_at_once_and_asked_again_later(gateway: Gateway, emulator: ListeningEmulator):
    emulator.script(hang())
    async with live(gateway, start(), *chunks(PCM)) as session:
        await session.until("turn_committed")
        record = await emulator.record()
        await asyncio.wait_for(record.body_ended.wait(), 30)
        await cut_off(gateway, session)
        await asyncio.wait_for(record.peer_closed.wait(), 30)
    resumed = await go_on(gateway, session, PCM)
    assert resumed.of("done")[0].transcription.text.split() == TEXT


async def test_half_a_sample_is_sent_again_and_counted_once(gateway: Gateway):
    async with live(gateway, start(), *chunks(PCM[:32_000]), chunk(PCM[32_000:32_001])) as session:
        await session.until("speech_started")
        await eventually(lambda: gateway.app.live.streams[0]._detector.position == 1.0)  # type: ignore[attr-defined]
        await cut_off(gateway, session)
    resumed = await go_on(gateway, session, PCM)
    assert resumed.of("done")[0].transcription.text.split() == TEXT


async def test_a_connection_that_only_seems_alive_is_taken_over(gateway: Gateway):
    async with live(gateway, start(), *chunks(PCM[:64_000])) as session:
        await session.until("speech_started")
        resumed = await go_on(gateway, session, PCM)
        assert resumed.of("done")[0].transcription.text.split() == TEXT
        assert await session.call.code() == grpc.StatusCode.CANCELLED
        assert "another connection" in await session.call.details()


async def test_the_end_can_be_fetched_afterwards(gateway: Gateway, emulator: ListeningEmulator):
    emulator.script(hang())
    async with live(gateway, start(), *chunks(PCM[:96_000]), finish(96_000)) as session:
        await session.until("turn_committed")
        await cut_off(gateway, session)
    async with live(gateway, again(session)) as resumed:
        await resumed.call.read()
        resumed.events, resumed._committed = session.events, session._committed
        await resumed.rest()
    assert resumed.kinds[-1] == "done"


async def refusal(gateway: Gateway, message: api.TranscribeLiveRequest, **options: Any) -> str:
    async with live(gateway, message, **options) as session:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    return reason(caught.value)


async def test_what_cannot_be_resumed(emulator: ListeningEmulator, tmp_path: Path):
    other = "sk-test-of-somebody-else"
    extra = f"voxgate:\n  live: {{resume_seconds: 1}}\n  keys: [{{name: other, key: {other}}}]\n"
    async with running(tmp_path, openai_config(emulator.url, extra=extra)) as gateway:
        assert await refusal(gateway, start(options='resume_session_id: "live_0"')) == "INVALID_REQUEST"
        async with live(gateway, start(), *chunks(PCM[:32_000])) as session:
            await session.until("speech_started")
            await cut_off(gateway, session)
        stranger = (("authorization", f"Bearer {other}"),)
        assert await refusal(gateway, again(session), metadata=stranger) == "INVALID_REQUEST"
        assert await refusal(gateway, again(session, options=MANUAL)) == "INVALID_REQUEST"
        assert await refusal(gateway, again(session, sequence=99)) == "INVALID_REQUEST"
        assert await refusal(gateway, again(session, sequence=-1)) == "INVALID_REQUEST"
        await eventually(lambda: not len(gateway.app.live))
        assert await refusal(gateway, again(session)) == "INVALID_REQUEST"
        await eventually(lambda: not [t for t in asyncio.all_tasks() if t.get_name().startswith("voxgate-live")])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=5),
    size=st.sampled_from([3200, 1111, 64_000, 250_001]),
)
async def test_cuts_anywhere_any_number_of_times(gateway: Gateway, cuts: list[tuple[int, int]], size: int):
    """Whatever was sent and read before each cut: the events put together are those of one session without any."""
    pcm = PCM[:320_000]
    reference = Session(None)
    first = start()
    for sent, read in cuts:
        async with live(gateway, first) as session:
            welcome = await session.call.read()
            if not reference.events:
                reference.events.append(welcome)
            at = round(welcome.cursors.received * 32_000)
            await session.send(*chunks(pcm[at:], size)[:sent])
            for _ in range(read):
                try:
                    async with asyncio.timeout(0.02):
                        event = await session.call.read()
                except TimeoutError:
                    break
                if isinstance(event, api.TranscribeLiveResponse):
                    reference._check(event)
                    reference.events.append(event)
            await cut_off(gateway, session)
        first = again(reference)
    async with live(gateway, first) as session:
        welcome = await session.call.read()
        if not reference.events:
            reference.events.append(welcome)
        at = round(welcome.cursors.received * 32_000)
        reference.call = session.call
        await session.send(*chunks(pcm[at:], size), finish(len(pcm)))
        await reference.rest()
    words = [word for word, _, end in HEARD if end < 10]
    assert reference.of("done")[0].transcription.text.split()[: len(words)] == words
    assert reference.of("done")[0].transcription.duration == len(pcm) / 32_000
