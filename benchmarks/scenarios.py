"""What is run, and what is measured while it runs."""

import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import load as loads
from benchmarks import planning
from benchmarks.clients import GrpcCallers, RestClient
from benchmarks.load import Client, Load, Outcome
from benchmarks.process import Gateway, Tree, Upstream, machine_busy_seconds
from benchmarks.upstream import UPSTREAM_KEY

__all__ = ["DIRECT", "GRPC", "INSIDE", "REST", "SCENARIOS", "Lab", "NoAnswerError", "Run", "Scenario"]

DIRECT, REST, GRPC, INSIDE = "direct", "rest", "grpc", "inside"
MB: Final = 1_000_000

Run = dict[str, float | str | dict[str, int]]
"""The figures of one run of a scenario over one target, by name; the unit is the name's last word."""

_START_SECONDS: Final = 30


class NoAnswerError(Exception):
    """A gateway that was started gives no correct answer."""


@dataclass(frozen=True)
class Scenario:
    """One load, over some targets.

    Attributes:
        name: Its name on the command line.
        load: The load.
        targets: `direct` (REST to the provider itself), `rest` and `grpc` (through the gateway), or `inside`: nothing
            is sent, only planned.
        fresh: Whether each run gets a gateway that was started for it.
        rounds: How often each target runs it; `--quick` runs everything once.
    """

    name: str
    load: Load
    targets: tuple[str, ...] = (DIRECT, REST, GRPC)
    fresh: bool = False
    rounds: int = 3


# Ten seconds of 16 kHz wav as 100 ms pieces, at five times real time.
_PACED: Final = Load(calls=12, at_once=4, size=320_044, piece_bytes=3200, piece_seconds=0.02, stagger_seconds=0.037)
# 4 MB at 4 MB/s to a provider that reads at 4 MB/s.
_THROTTLED: Final = Load(
    calls=4, at_once=2, size=4 * MB, model="throttled", piece_bytes=80_000, piece_seconds=0.02, stagger_seconds=0.037
)
_BIG: Final = Load(calls=8, at_once=8, size=100 * MB)

SCENARIOS: Final = (
    Scenario("start", Load(calls=20), (REST,), fresh=True),
    Scenario("memory", _BIG, (REST, GRPC), fresh=True, rounds=2),
    Scenario("memory-held", replace(_BIG, model="think-3000"), (REST, GRPC), fresh=True, rounds=2),
    Scenario("small-1", Load(calls=1000, unary=True)),
    Scenario("small-8", Load(calls=3000, at_once=8, unary=True)),
    Scenario("small-64", Load(calls=3000, at_once=64, unary=True)),
    Scenario("planning", Load(calls=2000), (INSIDE,)),
    Scenario("failover", Load(calls=1000, model="failover", unary=True)),
    Scenario("paced", _PACED),
    Scenario("throttled", _THROTTLED),
    Scenario("burst", Load(calls=500, at_once=500, model="think-1000", stagger_seconds=0.0005, unary=True)),
    Scenario("large", Load(calls=24, at_once=4, size=25 * MB)),
)


class Lab:
    """The provider, and the gateway that runs at the moment.

    Args:
        upstream: The provider.
        command: What starts the gateway, see `benchmarks.process.Gateway`.
        gateway_cpu: The CPU the gateway runs on. None means any.
    """

    def __init__(self, upstream: Upstream, command: list[str], gateway_cpu: int | None) -> None:
        self._upstream, self._command, self._cpu = upstream, command, gateway_cpu
        self._key = f"sk-bench-{secrets.token_hex(8)}"
        self._gateway: Gateway | None = None
        self._grpc: GrpcCallers | None = None
        self._start_seconds = 0.0
        self._served = False

    async def measure(self, scenario: Scenario, target: str, load: Load) -> Run:
        """Runs a scenario's load once over one target.

        Raises:
            NoAnswerError: The gateway runs, but not one reply was right.
            RuntimeError: The gateway ended at its start; the message has the end of its log.
        """
        if target == INSIDE:
            return {"calls": load.calls, "failed": 0, **planning.measure(load.calls)}
        if target == DIRECT:
            prefix = "/throttled" if load.model == "throttled" else ""
            return await self._observe(lambda _: _rest(self._upstream.port, UPSTREAM_KEY, prefix), load, None)
        gateway = self._gateway
        if scenario.fresh or self._served is False or gateway is None or not gateway.alive:
            self._served = False
            gateway = await self._start(target)
            if not scenario.fresh:
                for warm in (REST, GRPC):
                    await loads.run(self._connect(gateway, warm), Load(calls=400, at_once=8, unary=True))
        self._served = not scenario.fresh
        run = await self._observe(self._connect(gateway, target), load, gateway.tree)
        if scenario.fresh and target == REST:  # a gRPC channel waits a second before it tries again
            run["start_s"] = self._start_seconds
        if not gateway.alive:
            run["gateway_died"] = gateway.log()
        return run

    async def close(self) -> None:
        """Stops the gateway."""
        if self._grpc:
            await self._grpc.close()
        if self._gateway:
            self._gateway.close()
        self._gateway = self._grpc = None

    def _connect(self, gateway: Gateway, target: str) -> Callable[[int], Awaitable[Client]]:
        if target == REST:
            return lambda _: _rest(gateway.rest_port, self._key)
        self._grpc = self._grpc or GrpcCallers(gateway.grpc_port, self._key)
        return self._grpc.connect

    async def _start(self, target: str) -> Gateway:
        """Starts a gateway and waits for its first correct answer."""
        await self.close()
        started = time.monotonic()
        gateway = self._gateway = Gateway(self._command, self._upstream.port, self._key, self._cpu)
        connect, first = self._connect(gateway, target), Load(calls=1, size=8192, unary=True, call_seconds=5)
        while not (outcome := await loads.run(connect, first)).timings:
            if not gateway.alive:
                raise RuntimeError(f"the gateway ended at its start:\n{gateway.log()}")
            if time.monotonic() > started + _START_SECONDS:
                raise NoAnswerError(f"no correct answer in {_START_SECONDS} s, {dict(outcome.errors)}")
            await asyncio.sleep(0.01)
        self._start_seconds = outcome.timings[0].ended - started
        await asyncio.sleep(2)  # until what it does after its first answer is done: this is idle
        return gateway

    async def _observe(self, connect: Callable[[int], Awaitable[Client]], load: Load, tree: Tree | None) -> Run:
        """Runs a load and reads what the processes used for it."""
        loads.recordings(load.size)
        idle_mb = 0.0
        if tree:
            tree.reset_peak()
            idle_mb = tree.memory_mb()[0]
        sampler = asyncio.create_task(_highest_memory(tree)) if tree and load.size > MB else None
        before = self._used(tree)
        outcome = await loads.run(connect, load)
        used = {name: now - before[name] for name, now in self._used(tree).items()}
        run = _timings(outcome, load)
        run["span_s"] = used["clock"]
        run["harness_busy"] = (used["client"] + used["provider"]) / used["clock"]
        run["foreign_s"] = max(0.0, used["machine"] - used["client"] - used["provider"] - used["gateway"])
        if tree:
            run["gateway_busy"] = used["gateway"] / used["clock"]
            await _settle(tree)
            run["cpu_ms"] = (tree.cpu_seconds() - before["gateway"]) / max(1, len(outcome.timings)) * 1000
            peak = tree.memory_mb()[1]
            if sampler:
                sampler.cancel()
                peak = max(peak, await sampler)
            run |= {"idle_mb": idle_mb, "above_idle_mb": peak - idle_mb}
        return run

    def _used(self, tree: Tree | None) -> dict[str, float]:
        """Seconds so far: of the clock, and of CPU time by the client, the provider, the gateway and the machine."""
        return {
            "clock": time.monotonic(),
            "client": time.process_time(),
            "provider": self._upstream.tree.cpu_seconds(),
            "gateway": tree.cpu_seconds() if tree else 0.0,
            "machine": machine_busy_seconds(),
        }


async def _rest(port: int, key: str, prefix: str = "") -> RestClient:
    return RestClient(port, key, prefix)


async def _highest_memory(tree: Tree) -> float:
    """Resident MB of the whole tree at its highest, until cancelled: children that end take their peak along."""
    highest = 0.0
    try:
        while True:
            highest = max(highest, tree.memory_mb()[0])
            await asyncio.sleep(0.25)
    except asyncio.CancelledError:
        return highest


async def _settle(tree: Tree) -> None:
    """Waits, four seconds at most, until the gateway's work after the last reply is done."""
    last = tree.cpu_seconds()
    for _ in range(20):
        await asyncio.sleep(0.2)
        now = tree.cpu_seconds()
        if now - last < 0.02:
            return
        last = now


def _timings(outcome: Outcome, load: Load) -> Run:
    good = outcome.timings
    run: Run = {"calls": load.calls, "failed": load.calls - len(good), "errors": dict(outcome.errors)}
    if good:
        wall = max(timing.ended for timing in good) - outcome.started
        run |= {
            "wall_s": wall,
            "latency_ms": statistics.median(timing.ended - timing.started for timing in good) * 1000,
            "wait_ms": statistics.median(timing.ended - timing.last_sent for timing in good) * 1000,
            "overlap": sum(timing.first_held < timing.last_sent for timing in good) / len(good),
            "mb_per_s": len(good) * load.size / MB / wall,
        }
    return run
