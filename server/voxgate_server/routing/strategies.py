"""Which of several equally good deployments comes first. Names and meanings are LiteLLM's, made fit for audio."""

import random
from collections.abc import Callable, Mapping, Sequence

from voxgate_server.routing.deployments import Deployment, shares

__all__ = ["STRATEGIES", "Strategy", "simple_shuffle"]

Strategy = Callable[[Sequence[Deployment], random.Random], Deployment]
"""Chooses one of at least one."""


def simple_shuffle(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """At random, by their shares of the load."""
    return candidates[0] if len(candidates) == 1 else rng.choices(candidates, shares(candidates))[0]


def least_busy(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """The one with the fewest requests under way."""
    return min(candidates, key=lambda candidate: (candidate.health.in_flight, rng.random()))


def latency_based(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """The one that needed least time per second of audio; one that was never asked is asked first."""
    return min(candidates, key=lambda candidate: (candidate.health.latency or 0.0, rng.random()))


def usage_based(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """The one that did least in the current minute: audio first, then requests."""
    return min(
        candidates,
        key=lambda candidate: (
            candidate.health.window_audio_seconds,
            candidate.health.window_requests,
            rng.random(),
        ),
    )


def cost_based(candidates: Sequence[Deployment], rng: random.Random) -> Deployment:
    """The cheapest per second of audio; one without a known price comes last."""
    return min(
        candidates,
        key=lambda candidate: (
            float("inf") if candidate.cost_per_second is None else candidate.cost_per_second,
            rng.random(),
        ),
    )


STRATEGIES: Mapping[str, Strategy] = {
    "simple-shuffle": simple_shuffle,
    "least-busy": least_busy,
    "latency-based-routing": latency_based,
    "usage-based-routing": usage_based,
    "usage-based-routing-v2": usage_based,
    "cost-based-routing": cost_based,
}
"""By the names of `router_settings.routing_strategy`."""
