"""The race of two attempts, without a network: every order of endings."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest
from voxgate_server.errors import ProviderUnavailable, VoxgateError
from voxgate_server.hedging import hedged

FIRST, SECOND = SimpleNamespace(name="first"), SimpleNamespace(name="second")


class Race:
    """Attempts that end when the test says so."""

    def __init__(self) -> None:
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.closed: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.begun = asyncio.Event()

    async def attempt(self, which: SimpleNamespace) -> AsyncGenerator[str, None]:
        self.ends[which.name] = asyncio.get_running_loop().create_future()
        if len(self.ends) == 2:
            self.begun.set()
        try:
            yield await self.ends[which.name]
        finally:
            self.closed.append(which.name)

    def note(self, which: SimpleNamespace, error: VoxgateError) -> None:
        self.failed.append((which.name, error.message))

    async def run(self, *, other: bool = True) -> list[str]:
        events = hedged(self.attempt, FIRST, lambda: SECOND if other else None, self.note, 0.01)  # type: ignore[arg-type, return-value]
        return [event async for event in events]


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_the_first_answer_counts_and_the_other_attempt_ends(winner: str):
    race = Race()
    task = asyncio.create_task(race.run())
    await race.begun.wait()
    race.ends[winner].set_result("text")
    assert await task == ["text"]
    assert sorted(race.closed) == ["first", "second"]
    assert race.failed == []


@pytest.mark.parametrize(("loser", "winner"), [("first", "second"), ("second", "first")])
async def test_a_failure_leaves_the_other_one_running(loser: str, winner: str):
    race = Race()
    task = asyncio.create_task(race.run())
    await race.begun.wait()
    race.ends[loser].set_exception(ProviderUnavailable("no"))
    await asyncio.sleep(0.02)
    assert not task.done()
    race.ends[winner].set_result("text")
    assert await task == ["text"]
    assert race.failed == ([("second", "no")] if loser == "second" else [])


async def test_when_both_fail_the_first_error_is_raised():
    race = Race()
    task = asyncio.create_task(race.run())
    await race.begun.wait()
    race.ends["second"].set_exception(ProviderUnavailable("two"))
    race.ends["first"].set_exception(ProviderUnavailable("one"))
    with pytest.raises(ProviderUnavailable, match="one"):
        await task
    assert race.failed == [("second", "two")]


async def test_without_another_deployment_there_is_no_race():
    race = Race()
    task = asyncio.create_task(race.run(other=False))
    await asyncio.sleep(0.05)
    assert list(race.ends) == ["first"]
    race.ends["first"].set_result("text")
    assert await task == ["text"]


async def test_cancelling_ends_both():
    race = Race()
    task = asyncio.create_task(race.run())
    await race.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(race.closed) == ["first", "second"]
