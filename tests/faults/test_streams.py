"""Streams that are lost midway: never two models' halves as one, never a part as the whole."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from voxgate_server.edges.rest import answer as answer_module
from voxgate_server.edges.rest import sse as sse_module

from tests.faults.streams import FIRST, SECOND, SPEECH, Streams, events_of, grpc_events, rest, streams
from tests.faults.test_leaks import descriptors
from tests.providers.emulator import ok, sse, stream
from tests.providers.openai_emulator import OpenAIEmulator

DIGEST = hashlib.sha256(SPEECH).hexdigest()
WORDS = ["One", " two", " three", " four."]
FRAMES = [
    *sse(*({"type": "transcript.text.delta", "delta": word} for word in WORDS)),
    *sse({"type": "transcript.text.done", "text": FIRST}),
]
LOST = [
    pytest.param({"then": "close"}, id="cut"),
    pytest.param({"then": "reset"}, id="reset"),
    pytest.param({"tidy": True}, id="ended"),
]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Streams]:
    async with streams(tmp_path) as found:
        yield found


@pytest.fixture
async def restarting(tmp_path: Path) -> AsyncIterator[Streams]:
    async with streams(tmp_path, restart=True) as found:
        yield found


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


def cut_after(count: int) -> int:
    """Bytes of so many of the first one's frames."""
    return sum(map(len, FRAMES[:count]))


class Begun:
    """The first one says so many words; when they have been seen it says half a one more and is lost."""

    def __init__(self, emulator: OpenAIEmulator, count: int, **how: Any) -> None:
        self._count = count
        self._gate = asyncio.Event()
        open_gate = asyncio.Event()
        open_gate.set()
        paces = [*[open_gate] * count, *([self._gate] if count else [])]
        emulator.script(stream(*FRAMES, cut=cut_after(count) + 1, paces=paces, **(how or {"then": "reset"})))

    def __call__(self, count: int) -> None:
        if count >= self._count:
            self._gate.set()


@pytest.mark.parametrize("how", LOST)
async def test_nothing_said_yet_is_nobodys_loss(house: Streams, client: httpx.AsyncClient, how: dict[str, object]):
    Begun(house.first, 0, **how)
    found = await rest(client, house, "first")
    assert "".join(found.deltas) == SECOND
    assert found.done is not None
    assert found.done["text"] == SECOND
    Begun(house.first, 0, **how)
    events, code = await grpc_events(house, "first")
    assert code == grpc.StatusCode.OK
    assert not any(event.HasField("reset") for event in events)
    assert "".join(event.delta.delta for event in events) == events[-1].done.transcription.text == SECOND
    assert [record.file_sha256 for record in house.second.records] == [DIGEST, DIGEST]


@pytest.mark.parametrize("count", range(1, len(WORDS) + 1))
@pytest.mark.parametrize("how", LOST)
async def test_rest_tells_and_ends(
    house: Streams,
    client: httpx.AsyncClient,
    how: dict[str, object],
    count: int,
    outcomes: list[str],
):
    begun = Begun(house.first, count, **how)
    found = await rest(client, house, "first", seen=begun)
    assert found.deltas == WORDS[:count]
    assert found.done is None
    assert found.error is not None
    assert found.error["code"] == ("provider_invalid_response" if "tidy" in how else "provider_unavailable")
    assert set(found.error) == {"message", "type", "param", "code"}
    assert found.objects[-1] == {"error": found.error}
    assert not house.second.records
    await house.at_rest()
    assert outcomes == ["PROVIDER_UNAVAILABLE"]


@pytest.mark.parametrize("count", range(1, len(WORDS) + 1))
@pytest.mark.parametrize("how", LOST)
async def test_grpc_voids_and_begins_anew(house: Streams, how: dict[str, object], count: int):
    begun = Begun(house.first, count, **how)
    events, code = await grpc_events(house, "first", seen=begun)
    assert code == grpc.StatusCode.OK
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["delta"] * count + ["reset"] + ["delta"] * 3 + ["done"]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert (events[count].reset.generation, events[count].reset.reason) == (1, "PROVIDER_UNAVAILABLE")
    after = events[count + 1 :]
    assert "".join(event.delta.delta for event in after) == after[-1].done.transcription.text == SECOND
    extra = after[-1].done.transcription.extra_fields
    assert [attempt.error_code for attempt in extra.attempts] == ["PROVIDER_UNAVAILABLE", ""]
    # The second hears all of it, and what is told first names who says it.
    assert house.second.records[0].file_sha256 == DIGEST
    assert events[0].extra_fields.provider == after[0].extra_fields.provider == "openai"
    assert after[-1].extra_fields.chunk_index == events[-1].sequence


async def test_grpc_without_a_second(house: Streams):
    events, code = await grpc_events(house, "alone", seen=Begun(house.first, 2))
    assert [event.WhichOneof("event") for event in events] == ["delta", "delta"]
    assert code == grpc.StatusCode.UNAVAILABLE


async def test_grpc_when_both_are_lost(house: Streams):
    first, second = Begun(house.first, 2), Begun(house.second, 1)

    def seen(count: int) -> None:
        first(count)
        second(count - 3)

    events, code = await grpc_events(house, "first", seen=seen)
    assert [event.WhichOneof("event") for event in events] == ["delta", "delta", "reset", "delta"]
    assert code == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("fault", [sse({"error": {"message": "GPU lost", "code": 500}}), sse("{nonsense")])
async def test_an_error_in_the_stream(house: Streams, client: httpx.AsyncClient, fault: list[bytes]):
    house.first.script(stream(*FRAMES[:2], *fault, FRAMES[-1]), stream(*FRAMES[:2], *fault, FRAMES[-1]))
    found = await rest(client, house, "first")
    assert (found.deltas, found.done) == (WORDS[:2], None)
    events, _ = await grpc_events(house, "first")
    assert [event.WhichOneof("event") for event in events][:3] == ["delta", "delta", "reset"]
    assert events[-1].done.transcription.text == SECOND


async def test_sse_that_begins_anew(restarting: Streams, client: httpx.AsyncClient):
    found = await rest(client, restarting, "first", seen=Begun(restarting.first, 2))
    assert found.deltas == WORDS[:2]
    assert found.error is None
    assert found.done is not None
    assert (found.done["text"], found.done["restarted"]) == (SECOND, True)
    assert found.done["usage"]["total_tokens"] == 45
    assert any("begins anew" in comment for comment in found.comments)
    assert restarting.second.records[0].file_sha256 == DIGEST


async def test_bifrosts_chunks_that_begin_anew(restarting: Streams, client: httpx.AsyncClient):
    path = "/litellm/v1/audio/transcriptions"
    found = await rest(client, restarting, "first", path, seen=Begun(restarting.first, 2))
    assert [one["extra_fields"]["chunk_index"] for one in found.objects] == [0, 1, 2]
    assert found.done is not None
    assert "restarted" not in found.done
    assert found.done["extra_fields"]["restarted"] is True


async def test_sse_that_begins_anew_and_is_lost_again(restarting: Streams, client: httpx.AsyncClient):
    restarting.second.script(stream(*FRAMES, cut=cut_after(1), then="reset"))
    found = await rest(client, restarting, "first", seen=Begun(restarting.first, 2))
    assert (found.deltas, found.done) == (WORDS[:2], None)
    assert found.error is not None


async def test_sse_that_was_never_lost_says_nothing_of_it(restarting: Streams, client: httpx.AsyncClient):
    Begun(restarting.first, 0)
    found = await rest(client, restarting, "first")
    assert found.done is not None
    assert found.done["text"] == SECOND
    assert "restarted" not in found.done


async def test_comments_keep_the_line(restarting: Streams, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse_module, "KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(answer_module, "KEEP_ALIVE_SECONDS", 0.02)
    gates = [asyncio.Event() for _ in range(4)]
    begun = Begun(restarting.first, 2)
    restarting.second.script(ok(paces=gates))

    async def open_slowly() -> None:
        for gate in gates:
            await asyncio.sleep(0.1)
            gate.set()

    opening = asyncio.create_task(open_slowly())
    found = await rest(client, restarting, "first", seen=begun)
    await opening
    assert found.done is not None
    assert found.done["text"] == SECOND
    assert len([comment for comment in found.comments if "waiting" in comment]) >= 4


@pytest.mark.parametrize("seed", range(4))
async def test_random_cuts(house: Streams, client: httpx.AsyncClient, seed: int):
    """Any beginning of a stream, through real sockets and both doors: never a success that is not the whole."""
    draw = random.Random(seed)
    body = sum(map(len, FRAMES))
    for _ in range(25):
        cut = draw.randrange(body)
        how = {"cut": cut, **draw.choice([{"then": "close"}, {"then": "reset"}, {"tidy": True}])}
        house.first.script(stream(*FRAMES, **how))
        found = await rest(client, house, "alone")
        assert found.done is None, (cut, how)
        assert found.error is not None
        assert (found.status == 200) == bool(found.deltas)
        assert found.deltas == WORDS[: len(found.deltas)]
        house.first.script(stream(*FRAMES, **how))
        events, code = await grpc_events(house, "first")
        assert code == grpc.StatusCode.OK
        said = [event.WhichOneof("event") for event in events]
        last = events[said.index("reset") + 1 :] if "reset" in said else events
        assert events[-1].done.transcription.text == "".join(event.delta.delta for event in last) == SECOND


async def test_lost_streams_leave_nothing_behind(restarting: Streams, client: httpx.AsyncClient):
    async def lose(times: int) -> None:
        for _ in range(times):
            await rest(client, restarting, "first", seen=Begun(restarting.first, 2))
            await rest(client, restarting, "alone", seen=Begun(restarting.first, 1))
            await grpc_events(restarting, "first", seen=Begun(restarting.first, 3, tidy=True))
            restarting.first.script(stream(*FRAMES, paces=[asyncio.Event()]))
            call = events_of(restarting, "alone")
            await restarting.first.record(len(restarting.first.records))
            call.cancel()
        await restarting.at_rest()

    await lose(2)
    open_before, tasks = descriptors(), len(asyncio.all_tasks())
    await lose(10)
    async with asyncio.timeout(30):
        while descriptors() > open_before + 2 or len(asyncio.all_tasks()) > tasks + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
