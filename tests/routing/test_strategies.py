"""What each strategy means."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.health import HealthSettings
from voxgate_server.routing.strategies import STRATEGIES

from tests.routing.fakes import deployment


def shares(name: str, candidates: Sequence[Deployment], times: int = 6000) -> dict[str, float]:
    rng = random.Random(7)
    chosen = Counter(STRATEGIES[name](candidates, rng).id for _ in range(times))
    return {candidate.id: chosen[candidate.id] / times for candidate in candidates}


def rpm(name: str, value: int | None, weight: float | None = None) -> Deployment:
    return deployment(name, HealthSettings(rpm=value), weight=weight)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([rpm("a", None), rpm("b", None)], [0.5, 0.5]),
        ([rpm("a", None, 3), rpm("b", None, 1)], [0.75, 0.25]),
        ([rpm("a", 900), rpm("b", 100)], [0.9, 0.1]),
        ([rpm("a", 900, 1), rpm("b", 100, 1)], [0.5, 0.5]),
        ([rpm("a", 900, 1), rpm("b", 100, 3), rpm("c", 10)], [1 / 6, 3 / 6, 2 / 6]),
        ([rpm("a", 100), rpm("b", None)], [0.5, 0.5]),
        ([rpm("a", None, 1), rpm("b", None, 0)], [1, 0]),
        ([rpm("a", None, 0), rpm("b", None, 0)], [0.5, 0.5]),
        ([rpm("a", None, 0), rpm("b", None)], [0, 1]),
    ],
)
def test_simple_shuffle(candidates: Sequence[Deployment], expected: Sequence[float]):
    assert list(shares("simple-shuffle", candidates).values()) == pytest.approx(expected, abs=0.03)


def test_least_busy():
    a, b, c = deployment("a"), deployment("b"), deployment("c")
    a.health.started(0)
    assert shares("least-busy", [a, b, c]) == pytest.approx({"a": 0, "b": 0.5, "c": 0.5}, abs=0.03)


def test_latency_counts_per_second_of_audio_and_the_unknown_is_asked_first():
    long, short, fresh = deployment("long"), deployment("short"), deployment("fresh")
    long.health.succeeded(0, 30.0, 600.0, probe=long.health.started(0))
    short.health.succeeded(0, 2.0, 4.0, probe=short.health.started(0))
    assert shares("latency-based-routing", [long, short])["long"] == 1
    assert shares("latency-based-routing", [long, short, fresh])["fresh"] == 1


@pytest.mark.parametrize("name", ["usage-based-routing", "usage-based-routing-v2"])
def test_usage_counts_audio_before_requests(name: str):
    a, b, c = deployment("a"), deployment("b"), deployment("c")
    a.health.succeeded(0, 1.0, 3600.0, probe=a.health.started(0))
    for _ in range(3):
        b.health.succeeded(0, 1.0, 1.0, probe=b.health.started(0))
    c.health.succeeded(0, 1.0, 3.0, probe=c.health.started(0))
    assert shares(name, [a, b])["b"] == 1
    assert shares(name, [a, b, c])["c"] == 1


def test_cost():
    cheap, dear, unknown = (
        deployment("cheap", cost_per_second=0.0001),
        deployment("dear", cost_per_second=0.01),
        deployment("unknown"),
    )
    assert shares("cost-based-routing", [unknown, dear, cheap])["cheap"] == 1
    assert shares("cost-based-routing", [unknown, dear])["dear"] == 1
