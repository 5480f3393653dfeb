"""What is counted, for Prometheus.

Labels are names of the operator's (deployments, providers) and words of ours, so that no caller can make their number
grow without end; deployments that patterns make for callers' names are limited in number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "DeploymentGauges", "Metrics"]

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
"""Media type of what `Metrics.render` gives: the format every Prometheus reads."""

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MOST_DEPLOYMENTS = 2000
"""Deployments with series of their own. Patterns make deployments for the names that callers use."""
_OTHER = "other"
_OF_DEPLOYMENT = ("deployment", "group", "provider", "model")

# Every counter would have a second series with the time of its making, which nobody asks for.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class DeploymentGauges:
    """How one deployment is doing when the metrics are read."""

    deployment: str
    group: str
    provider: str
    model: str
    circuit: int
    """0 closed, 1 half-open, 2 open."""
    operator_state: int
    """0 enabled, 1 draining, 2 disabled."""
    active_attempts: int


class Metrics:
    """The metrics of one gateway. Counting takes microseconds and never fails."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"voxgate_{name}", text, labels, registry=registry)

        def duration(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"voxgate_{name}", text, labels, buckets=_SECONDS, registry=registry)

        self._calls = counter("calls", "Calls that ended, by how they ended.", "surface", "outcome")
        self._call_seconds = duration("call_duration_seconds", "From a call's first byte to its end.", "surface")
        self._audio_bytes = counter("audio_bytes", "Audio received.", "surface")
        self._attempts = counter(
            "attempts", "Attempts at deployments that ended, by how they ended.", "provider", "deployment", "outcome"
        )
        self._attempt_seconds = duration("attempt_duration_seconds", "From an attempt's begin to its end.", "provider")
        self._audio_seconds = counter("audio_seconds", "Audio recognised, as far as its length is known.", "provider")
        self._retries = counter("retries", "Attempts after the first at a hop, by who was asked.", "provider")
        self._fallbacks = counter(
            "fallbacks", "First attempts at a later hop of a plan (a fallback, or a further order).", "provider"
        )
        self._deployments: set[str] = set()

    def call_ended(self, surface: str, outcome: str, seconds: float, audio_bytes: int) -> None:
        """A call is over.

        Args:
            surface: Where it came in.
            outcome: `ok`, or the reason of its error.
            seconds: How long it took.
            audio_bytes: How much audio it brought.
        """
        self._calls.labels(surface, outcome).inc()
        self._call_seconds.labels(surface).observe(seconds)
        self._audio_bytes.labels(surface).inc(audio_bytes)

    def attempt_began(self, provider: str, *, retry: bool, fallback: bool) -> None:
        """A deployment is asked.

        Args:
            provider: Whose it is.
            retry: It is not the first attempt at its hop.
            fallback: The hop is not the first one.
        """
        if retry:
            self._retries.labels(provider).inc()
        elif fallback:
            self._fallbacks.labels(provider).inc()

    def attempt_ended(
        self, provider: str, deployment: str, outcome: str, seconds: float, audio_seconds: float | None
    ) -> None:
        """A deployment answered, or did not.

        Args:
            provider: Whose it is.
            deployment: Its id.
            outcome: `succeeded`, `failed`, `timed_out` or `cancelled`.
            seconds: How long it took.
            audio_seconds: Length of the recording it recognised; None when unknown, or when it did not.
        """
        if deployment not in self._deployments:
            if len(self._deployments) >= _MOST_DEPLOYMENTS:
                deployment = _OTHER
            else:
                self._deployments.add(deployment)
        self._attempts.labels(provider, deployment, outcome).inc()
        self._attempt_seconds.labels(provider).observe(seconds)
        if audio_seconds is not None:
            self._audio_seconds.labels(provider).inc(audio_seconds)

    def render(self, *, active_calls: int, spool_bytes: int, deployments: Sequence[DeploymentGauges]) -> bytes:
        """All of it as text, with what is not counted but looked at.

        Takes tens of milliseconds with hundreds of deployments: call it in a thread. Two at once do not meet.

        Args:
            active_calls: Calls in progress.
            spool_bytes: Audio held for them.
            deployments: How each deployment is doing.
        """
        circuit, operator, attempts = gauges = [
            GaugeMetricFamily(f"voxgate_deployment_{name}", text, labels=_OF_DEPLOYMENT)
            for name, text in (
                ("circuit_state", "0 closed, 1 half-open, 2 open."),
                ("operator_state", "0 enabled, 1 draining, 2 disabled."),
                ("active_attempts", "Attempts in progress."),
            )
        ]
        for one in deployments:
            labels = (one.deployment, one.group, one.provider, one.model)
            circuit.add_metric(labels, one.circuit)
            operator.add_metric(labels, one.operator_state)
            attempts.add_metric(labels, one.active_attempts)
        gauges += [
            GaugeMetricFamily("voxgate_active_calls", "Calls in progress.", active_calls),
            GaugeMetricFamily("voxgate_spool_bytes", "Audio held for calls in progress.", spool_bytes),
        ]
        return prometheus_client.generate_latest(_Together(self._registry, gauges))


class _Together(Collector):
    """What was counted and what was looked at, as one."""

    def __init__(self, counted: Collector, seen: Iterable[Metric]) -> None:
        self._counted = counted
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        yield from self._counted.collect()
        yield from self._seen
