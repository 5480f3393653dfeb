"""What a session has to say, and how it is numbered."""

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate_server.errors import NotFound
from voxgate_server.live.outbox import Outbox


def partial(text: str, item: str = "item_0001") -> api.TranscribeLiveResponse:
    return api.TranscribeLiveResponse(partial=api.PartialText(item_id=item, text=text))


def started(at: float) -> api.TranscribeLiveResponse:
    return api.TranscribeLiveResponse(speech_started=api.SpeechStarted(audio_start=at))


async def take(outbox: Outbox, count: int) -> list[api.TranscribeLiveResponse]:
    taken: list[api.TranscribeLiveResponse] = []
    async with contextlib.aclosing(outbox.events()) as events:
        while len(taken) < count:
            taken.append(await anext(events))
    return taken


TIMES = st.floats(0, 100)
STEPS = st.one_of(
    st.tuples(st.just("advance"), st.tuples(TIMES, TIMES, TIMES)),
    st.tuples(st.just("say"), TIMES),
    st.tuples(st.just("partial"), st.text(max_size=3)),
    st.tuples(st.just("take"), st.integers(1, 5)),
    st.tuples(st.just("rewind"), st.integers(-2, 12)),
)


@given(st.lists(STEPS, max_size=30))
def test_numbers_without_gaps_and_cursors_that_only_move_forward(steps: list[tuple[str, object]]):
    async def run() -> None:
        outbox = Outbox(keep=True)
        seen: dict[int, bytes] = {}
        waiting = expected = 0
        last = ""
        for kind, value in steps:
            match kind, value:
                case "advance", (received, processed, final):
                    outbox.advance(received=received, processed=processed, final=final)
                case "say", float(at):
                    await outbox.put(started(at))
                    waiting, last = waiting + 1, "say"
                case "partial", str(text):
                    await outbox.put(partial(text))
                    # It takes the place of one that still waits.
                    waiting, last = waiting + (not (waiting and last == "partial")), "partial"
                case "take", int(count):
                    for event in await take(outbox, min(count, waiting)):
                        assert event.sequence == expected
                        whole = event.SerializeToString(deterministic=True)
                        assert seen.setdefault(expected, whole) == whole
                        expected, waiting = expected + 1, waiting - 1
                case "rewind", int(sequence):
                    if not 0 <= sequence <= expected:
                        with pytest.raises(NotFound):
                            outbox.rewind(sequence)
                        continue
                    outbox.rewind(sequence)
                    waiting, expected = waiting + expected - sequence, sequence
                    last = "" if not waiting else last
            assert outbox.next_sequence == expected
            cursors = outbox.cursors
            assert 0 <= cursors.final <= cursors.processed <= cursors.received
        events = [api.TranscribeLiveResponse.FromString(seen[number]) for number in sorted(seen)]
        for one, two in itertools.pairwise(events):
            assert one.cursors.received <= two.cursors.received
            assert one.cursors.processed <= two.cursors.processed
            assert one.cursors.final <= two.cursors.final

    asyncio.run(run())


async def test_it_is_bounded():
    outbox = Outbox(keep=False)
    for number in range(256):
        await outbox.put(started(number))
    waiting = asyncio.create_task(outbox.put(started(256)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert [event.sequence for event in await take(outbox, 1)] == [0]
    await waiting
    outbox.close()
    outbox.close(ValueError())  # The first time counts.
    taken = [event async for event in outbox.events()]
    assert [event.sequence for event in taken] == list(range(1, 257))
    with pytest.raises(NotFound):
        outbox.rewind(255)  # Nothing was to be kept.


async def test_what_is_kept_is_bounded_too():
    outbox = Outbox(keep=True)
    for number in range(40):
        await outbox.put(partial("x" * 10_000, f"item_{number}"))
        await take(outbox, 1)
    with pytest.raises(NotFound) as caught:
        outbox.rewind(0)
    first = int(caught.value.metadata["first_sequence"])
    assert 0 < 40 - first <= 26
    outbox.rewind(first)
    assert [event.sequence for event in await take(outbox, 40 - first)] == list(range(first, 40))
