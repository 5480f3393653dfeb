"""The figures that are printed: what they are made of, their goals, and the table."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.scenarios import DIRECT, GRPC, INSIDE, REST, Run

__all__ = ["FIGURES", "Figure", "Results", "table"]

Results = Mapping[str, Mapping[str, Sequence[Run]]]
"""Scenario -> target -> its runs, one per round."""


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        label: What it is.
        scenario, target, metric: Where it comes from (scenarios.py).
        unit: Printed behind the number.
        goal: The limit it has to keep. None means that it is only printed.
        over_direct: `added` or `ratio`: compared with `direct` in the same round. Empty means as it is.
        pick: Makes one number of the rounds'. What holds for "always" or "at most" is the worst round's.
        at_least: Whether the goal is a lower limit.
    """

    label: str
    scenario: str
    target: str
    metric: str
    unit: str
    goal: float | None = None
    over_direct: str = ""
    pick: Callable[[Sequence[float]], float] = statistics.median
    at_least: bool = False

    def rounds(self, results: Results) -> list[float]:
        """Its value in every round.

        Raises:
            ValueError: A run failed; the message says how.
        """
        runs = results[self.scenario]
        for run in [*runs[self.target], *(runs[DIRECT] if self.over_direct else [])]:
            fault = _fault(run)
            if fault:
                raise ValueError(fault)
        mine = [_number(run, self.metric) for run in runs[self.target]]
        if not self.over_direct:
            return mine
        direct = [_number(run, self.metric) for run in runs[DIRECT]]
        pairs = list(zip(mine, direct, strict=True))
        return [a - b for a, b in pairs] if self.over_direct == "added" else [a / b for a, b in pairs]

    def row(self, results: Results) -> tuple[str, str, str, str, str, str]:
        """The cells of its row: label, value, range, direct, goal, verdict."""
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self._print(self.goal)}"
        try:
            values = self.rounds(results)
        except ValueError as error:
            return self.label, "", "", "", goal, f"FAILED: {' '.join(str(error).split())[:200]}"
        value = self.pick(values)
        direct = ""
        if self.over_direct:
            middle = statistics.median(_number(run, self.metric) for run in results[self.scenario][DIRECT])
            direct = f"{middle:.2f} {self.metric.rpartition('_')[2]}"
        verdict = ""
        if self.goal is not None:
            verdict = "reached" if (value >= self.goal if self.at_least else value <= self.goal) else "MISSED"
        return self.label, self._print(value), _range(values), direct, goal, verdict

    def _print(self, value: float) -> str:
        return f"{value:.0%}" if self.unit == "%" else f"{value:.2f} {self.unit}"


def _number(run: Run, metric: str) -> float:
    value = run[metric]
    assert isinstance(value, int | float)
    return float(value)


def _fault(run: Run) -> str:
    """Why a run does not count; empty when it does."""
    if "broken" in run:
        return str(run["broken"])
    if "gateway_died" in run:
        return "the gateway died"
    if run["failed"]:
        return f"{run['failed']} of {run['calls']} calls, {run['errors']}"
    return ""


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} … {max(values):.2f}" if len(values) > 1 else ""


def _both(label: str, scenario: str, metric: str, unit: str, goal: float, **more: object) -> list[Figure]:
    """The same row for REST and for gRPC."""
    return [
        Figure(f"{label}, {name}", scenario, target, metric, unit, goal, **more)  # type: ignore[arg-type]
        for name, target in (("REST", REST), ("gRPC", GRPC))
    ]


FIGURES: Final = (
    Figure("CPU per 32 KB call, 8 at a time, REST", "small-8", REST, "cpu_ms", "ms", 0.6),
    Figure("CPU per 32 KB call, 64 at a time, REST", "small-64", REST, "cpu_ms", "ms", 0.6),
    *_both("wait after the last byte of a paced upload, added", "paced", "wait_ms", "ms", 1.0, over_direct="added"),
    *_both(
        "provider has the first byte before the last is sent", "paced", "overlap", "%", 1.0, pick=min, at_least=True
    ),
    *_both("memory above idle, 8 x 100 MB at once", "memory", "above_idle_mb", "MB", 64.0, pick=max),
    *_both("the same, provider thinks 3 s", "memory-held", "above_idle_mb", "MB", 64.0, pick=max),
    *_both("4 MB in at 4 MB/s, out at 4 MB/s: time", "throttled", "latency_ms", "x", 1.1, over_direct="ratio"),
    Figure("planning among 1,000 deployments, a group each", "planning", INSIDE, "groups_us", "us", 100.0),
    Figure("planning among 1,000 deployments of one group", "planning", INSIDE, "one_group_us", "us"),
    *_both("primary answers 500, fallback answers: added", "failover", "latency_ms", "ms", 1.5, over_direct="added"),
    *_both("500 calls at once, provider thinks 1 s: time", "burst", "wall_s", "x", 1.3, over_direct="ratio"),
    Figure("start to the first correct answer", "start", REST, "start_s", "s", 1.5),
    Figure("32 KB call, one at a time, added to p50, REST", "small-1", REST, "latency_ms", "ms", None, "added"),
    Figure("32 KB call, one at a time, added to p50, gRPC", "small-1", GRPC, "latency_ms", "ms", None, "added"),
    Figure("CPU per 32 KB call, 8 at a time, gRPC", "small-8", GRPC, "cpu_ms", "ms"),
    Figure("CPU per 32 KB call, 64 at a time, gRPC", "small-64", GRPC, "cpu_ms", "ms"),
    Figure("25 MB uploads, 4 at a time, REST", "large", REST, "mb_per_s", "MB/s"),
    Figure("25 MB uploads, 4 at a time, gRPC", "large", GRPC, "mb_per_s", "MB/s"),
    Figure("resident memory, idle", "start", REST, "idle_mb", "MB"),
)


def table(results: Results) -> str:
    """The figures of all scenarios that were run, as text."""
    rows = [("figure", "measured", "rounds", "direct", "goal", "")]
    rows += [figure.row(results) for figure in FIGURES if figure.scenario in results]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:5], widths[1:], strict=True)), row[5]])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    name, share = max(((name, _foreign(runs)) for name, runs in results.items()), key=lambda pair: pair[1])
    noise = f"Other processes of this machine used up to {share:.2f} CPUs (during {name})"
    return "\n".join([*lines, "", f"{noise}; above 0.2 the times are not to be trusted."])


def _foreign(runs: Mapping[str, Sequence[Run]]) -> float:
    """How many CPUs the machine's other processes used during a scenario."""
    measured = [run for of_target in runs.values() for run in of_target if "span_s" in run]
    seconds = sum(_number(run, "span_s") for run in measured)
    return sum(_number(run, "foreign_s") for run in measured) / seconds if seconds else 0.0
