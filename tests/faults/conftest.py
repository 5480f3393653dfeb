"""A gateway whose first provider stands behind a chaos proxy, and the check that nothing of a fault stays behind."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from voxgate_server import gateway

from tests.faults.calling import DOORS, GUARD, Ask
from tests.providers.chaos_proxy import ChaosProxy
from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import KEY, Gateway, running

UPSTREAM_KEY = "sk-upstream-canary-0001"

CONFIG = """
model_list:
  - model_name: first
    litellm_params: &first {{model: openai/whisper-1, api_base: {first}, api_key: {key}}}
  - model_name: alone
    litellm_params: *first
  - model_name: impatient
    litellm_params: {{<<: *first, timeout: 0.5}}
  - model_name: second
    litellm_params: &second {{model: openai/whisper-1, api_base: {second}, api_key: {key}}}
  - model_name: larger
    litellm_params: {{<<: *second, model: openai/gpt-4o-transcribe}}
  - model_name: probe
    litellm_params: {{model: openai/whisper-1, api_base: {probe}, api_key: {key}}}
  - model_name: local
    litellm_params: {{model: local/pocketsphinx}}
router_settings:
  fallbacks:
    - first: [second]
    - impatient: [second]
    - local: [second]
general_settings:
  master_key: {master}
voxgate:
  local: {{workers: 1}}
  limits: {{spool_window_bytes: 64KiB}}
"""


@dataclass
class House:
    """A gateway and its providers."""

    gateway: Gateway
    first: OpenAIEmulator
    """Behind `proxy`; serves the groups `first`, `alone` and `impatient`."""
    second: OpenAIEmulator
    """The fallback of `first`, `impatient` and `local`; serves `larger` with another model."""
    proxy: ChaosProxy

    def health(self, group: str, **changes: object) -> None:
        """Changes the health settings of a group's deployments; `alone` goes with the settings."""
        alone = changes.pop("alone", None)
        for deployment in self.gateway.app.gateway.router.table.group(group):
            deployment.health.settings = dataclasses.replace(deployment.health.settings, **changes)
            if alone is not None:
                deployment.health.alone = bool(alone)

    async def at_rest(self) -> None:
        """Waits until nothing is left of the calls there were."""
        app = self.gateway.app
        async with asyncio.timeout(GUARD):
            while app.gateway.calls_in_progress or app._spools.used_bytes or self._in_flight():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def _in_flight(self) -> int:
        return sum(d.health.in_flight for d in self.gateway.app.gateway.router.table.deployments())


@pytest.fixture(params=DOORS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return DOORS[request.param]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    before = asyncio.all_tasks()
    async with (
        OpenAIEmulator(key=UPSTREAM_KEY, text="From the first.") as first,
        OpenAIEmulator(key=UPSTREAM_KEY, text="From the second.") as second,
        OpenAIEmulator(key=UPSTREAM_KEY, text="Well.") as probe,
        ChaosProxy(first.url) as proxy,
    ):
        config = CONFIG.format(first=proxy.url, second=second.url, probe=probe.url, key=UPSTREAM_KEY, master=KEY)
        async with running(tmp_path, config) as gateway:
            house = House(gateway, first, second, proxy)
            yield house
            await house.at_rest()
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{gateway.url}/health/readiness")).status_code == 200
            for ask in DOORS.values():
                assert (await ask(gateway, "probe")).text == "Well."
            await house.at_rest()
        assert not any(record.file_size == 0 for record in second.records if record.complete)
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not _of_grpc(task)}
    if left:
        _, forgotten = await asyncio.wait(left, timeout=GUARD)
        assert not forgotten


def _of_grpc(task: asyncio.Task[object]) -> bool:
    """grpc's own poller lives as long as the loop."""
    return "grpc" in repr(task.get_coro())


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How calls ended, by their lines in the log."""
    seen: list[str] = []

    def note(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Any:
        seen.append(event["outcome"])
        raise structlog.DropEvent

    # At every level, whatever a command that ran in this process before has configured.
    every = structlog.make_filtering_bound_logger(0)
    monkeypatch.setattr(gateway, "_log", structlog.wrap_logger(None, processors=[note], wrapper_class=every))
    return seen
