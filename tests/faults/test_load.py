"""Many calls over several deployments: shares, deaths, returns, and what an outage costs."""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.faults.calling import GUARD, Ask, Outcome, unary
from tests.faults.conftest import UPSTREAM_KEY
from tests.providers.chaos_proxy import ChaosProxy
from tests.providers.openai_emulator import OpenAIEmulator, failure, hang, ok
from tests.running import KEY, Gateway, running


@dataclass
class Fleet:
    """Three deployments of one group, `shared`, each behind a proxy."""

    gateway: Gateway
    emulators: list[OpenAIEmulator]
    proxies: list[ChaosProxy]

    def health(self, **changes: object) -> None:
        for deployment in self.gateway.app.gateway.router.table.group("shared"):
            deployment.health.settings = dataclasses.replace(deployment.health.settings, **changes)

    @property
    def attempts(self) -> int:
        return sum(len(emulator.records) for emulator in self.emulators)

    async def calls(self, count: int, *, at_once: int = 8, ask: Ask = unary) -> list[Outcome]:
        """So many calls, a few at a time."""
        left = iter(range(count))

        async def caller() -> list[Outcome]:
            return [await ask(self.gateway, "shared") for _ in left]

        return [outcome for part in await asyncio.gather(*(caller() for _ in range(at_once))) for outcome in part]


@contextlib.asynccontextmanager
async def fleet_of(tmp_path: Path, *weights: int) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        emulators = [await stack.enter_async_context(OpenAIEmulator(key=UPSTREAM_KEY)) for _ in weights]
        proxies = [await stack.enter_async_context(ChaosProxy(emulator.url)) for emulator in emulators]
        entries = "".join(
            f"""
  - model_name: shared
    litellm_params: {{model: openai/whisper-1, api_base: {proxy.url}, api_key: {UPSTREAM_KEY}, weight: {weight}}}"""
            for proxy, weight in zip(proxies, weights, strict=True)
        )
        config = f"model_list:{entries}\ngeneral_settings: {{master_key: {KEY}}}\n"
        gateway = await stack.enter_async_context(running(tmp_path, config))
        yield Fleet(gateway, emulators, proxies)
        app = gateway.app
        async with asyncio.timeout(GUARD):
            while app.gateway.calls_in_progress or app._spools.used_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_calls_are_shared_by_weight(tmp_path: Path):
    async with fleet_of(tmp_path, 6, 3, 1) as fleet:
        assert all(outcome.ok for outcome in await fleet.calls(300))
        shares = [len(emulator.records) / 300 for emulator in fleet.emulators]
    # Four standard deviations of 300 draws are 0.11.
    assert all(abs(share - weight) < 0.12 for share, weight in zip(shares, (0.6, 0.3, 0.1), strict=True)), shares


async def test_one_of_three_dies_and_comes_back(tmp_path: Path, ask: Ask):
    async with fleet_of(tmp_path, 1, 1, 1) as fleet:
        fleet.health(fixed_cooldown=0.2)
        under_load = asyncio.create_task(fleet.calls(150, ask=ask))
        await fleet.emulators[0].record(5)
        await fleet.proxies[0].down()
        outcomes = await under_load
        seen = len(fleet.emulators[0].records)
        assert Counter(outcome.status for outcome in outcomes) == {outcomes[0].status: 150}
        assert outcomes[0].ok
        await fleet.proxies[0].up()
        async with asyncio.timeout(GUARD):
            while len(fleet.emulators[0].records) == seen:
                assert (await ask(fleet.gateway, "shared")).ok


async def test_an_outage_is_not_answered_with_more_load(tmp_path: Path):
    async with fleet_of(tmp_path, 1, 1, 1) as fleet:
        fleet.health(disabled=True)
        for emulator in fleet.emulators:
            emulator.script(*[failure(500)] * 500)
        await fleet.calls(30)  # spends the budget
        before = fleet.attempts
        outcomes = await fleet.calls(200)
        assert {outcome.status for outcome in outcomes} == {grpc.StatusCode.UNAVAILABLE}
        assert 200 <= fleet.attempts - before <= 221


async def test_an_outage_ends_in_answers_that_say_when(tmp_path: Path, ask: Ask):
    async with fleet_of(tmp_path, 1, 1, 1) as fleet:
        fleet.health(fixed_cooldown=20.0, allowed_fails=0)
        for emulator in fleet.emulators:
            emulator.script(*[failure(500)] * 100)
        await fleet.calls(10)
        before = fleet.attempts
        outcome = await ask(fleet.gateway, "shared")
        assert outcome.matches(503, grpc.StatusCode.UNAVAILABLE)
        assert 1 <= (outcome.retry_after or 0) <= 20
        assert fleet.attempts == before


async def test_a_single_probe_decides_whether_it_comes_back(tmp_path: Path):
    async with fleet_of(tmp_path, 1, 0) as fleet:
        # With these weights the first is asked whenever it may be asked.
        fleet.health(fixed_cooldown=0.1, allowed_fails=0)
        first, second = fleet.emulators
        thought = asyncio.Event()
        first.script(failure(500), ok(until=thought))
        assert (await unary(fleet.gateway, "shared")).ok
        await asyncio.sleep(0.15)  # its cooldown
        waiting = [asyncio.create_task(unary(fleet.gateway, "shared")) for _ in range(10)]
        await asyncio.wait_for(second.record(9), GUARD)
        assert len(first.records) == 2
        thought.set()
        assert all([(await call).ok for call in waiting])
        assert (await unary(fleet.gateway, "shared")).ok
        assert len(first.records) == 3


async def test_calls_from_before_do_not_make_room_for_a_second_probe(tmp_path: Path):
    async with fleet_of(tmp_path, 1, 0) as fleet:
        fleet.health(fixed_cooldown=0.1, allowed_fails=0)
        first, second = fleet.emulators
        thought = asyncio.Event()
        first.script(hang(), failure(500), ok(until=thought))
        old = asyncio.create_task(unary(fleet.gateway, "shared"))
        await first.record()
        assert (await unary(fleet.gateway, "shared")).ok
        await asyncio.sleep(0.15)  # its cooldown
        probe = asyncio.create_task(unary(fleet.gateway, "shared"))
        await asyncio.wait_for(first.record(2), GUARD)
        old.cancel()
        await asyncio.wait_for(fleet.proxies[0].links[0].client_closed.wait(), GUARD)
        seen = len(second.records)
        assert (await unary(fleet.gateway, "shared")).ok
        assert len(second.records) == seen + 1
        thought.set()
        assert (await probe).ok


async def test_calls_that_fail_together_open_the_circuit_once_and_all_fail_over(tmp_path: Path):
    async with fleet_of(tmp_path, 1, 0) as fleet:
        thought = asyncio.Event()
        first, _ = fleet.emulators
        first.script(*[failure(500, until=thought)] * 30)
        calls = [asyncio.create_task(unary(fleet.gateway, "shared")) for _ in range(30)]
        await asyncio.wait_for(first.record(29), GUARD)
        thought.set()
        assert all([(await call).ok for call in calls])
        assert fleet.gateway.app.gateway.router.table.group("shared")[0].health.trips == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_rests_its_deployment_only(tmp_path: Path, ask: Ask, status: int):
    async with fleet_of(tmp_path, 1, 0) as fleet:
        fleet.emulators[0].script(*[failure(status)] * 5)
        for _ in range(3):
            assert (await ask(fleet.gateway, "shared")).ok
        assert [len(emulator.records) for emulator in fleet.emulators] == [1, 3]
