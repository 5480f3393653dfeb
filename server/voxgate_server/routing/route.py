"""One call's way through its plan, as a state machine without clock, chance or I/O of its own.

    next() ─→ Try ─→ succeeded() ─→ over
      ↑        └──→ failed() ──┐
      └───── Wait ←────────────┴──→ GaveUp

Whoever drives it asks `next`, does what it says and reports how it went. At most one attempt is under way at a time
unless the driver hedges; nothing is tried after the deadline or after a success.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from voxgate_server.errors import NoDeploymentAvailable, VoxgateError
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.policy import RetryBudget, Verdict, backoff, judge
from voxgate_server.routing.strategies import Strategy

__all__ = ["DEFAULT_RETRIES", "GaveUp", "Route", "Try", "Wait"]

DEFAULT_RETRIES = 2
"""Attempts after the first at a hop that says nothing else."""
_PATIENCE = 60.0
"""Seconds up to which a provider's own wish to wait is followed when there is no other way."""
_SHORT_WAIT = 3.0
"""Seconds up to which it is followed although there is another way."""


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this deployment now."""

    deployment: Deployment
    hop: Hop
    hop_index: int
    retry: int
    """0 for the first attempt at this hop."""
    deadline: float
    """When the attempt has to be over."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There is nothing left to try."""

    error: VoxgateError


class Route:
    """One call's way.

    Args:
        hops: The plan; at least one.
        strategy: Chooses among equally good deployments.
        budget: What the process may spend on extra attempts.
        deadline: The call's, on the clock whose times are handed in.
        rng: Where chance comes from.
    """

    def __init__(
        self, hops: Sequence[Hop], *, strategy: Strategy, budget: RetryBudget, deadline: float, rng: random.Random
    ) -> None:
        self._hops = hops
        self._strategy = strategy
        self._budget = budget
        self._deadline = deadline
        self._rng = rng
        self._index = 0
        self._tries = 0
        """Attempts at the current hop."""
        self._tried: set[str] = set()
        self._verdict: Verdict | None = None
        self._resume_at = float("-inf")
        self._first_error: VoxgateError | None = None
        self._cooling_until: float | None = None
        self._over: GaveUp | None = None
        self.attempts = 0
        """Attempts begun so far."""
        budget.earn()

    def next(self, now: float) -> Try | Wait | GaveUp:
        """What to do now."""
        while self._over is None:
            if self._index >= len(self._hops):
                return self._give_up(now)
            hop = self._hops[self._index]
            if self._tries > self._retries(hop):
                self._advance()
                continue
            candidate = self._candidate(hop, now)
            if candidate is None:
                self._advance()
                continue
            if self._resume_at > now:
                if self._resume_at >= self._deadline:
                    self._advance()
                    continue
                return Wait(self._resume_at - now)
            if now >= self._deadline:
                return self._give_up(now)
            if self.attempts and not candidate.health.proved(now) and not self._budget.spend():
                return self._give_up(now)
            return self._try(hop, candidate, now)
        return self._over

    def succeeded(self) -> None:
        """The attempt under way gave the answer."""
        self._index = len(self._hops)

    def failed(self, attempt: Try, error: VoxgateError, http_status: int | None, now: float) -> None:
        """The attempt under way failed.

        Args:
            attempt: Which.
            error: How.
            http_status: The provider's status; None when there was none.
            now: When.
        """
        self._first_error = self._first_error or error
        verdict = judge(error, http_status, attempt.hop)
        self._verdict = verdict
        if not (verdict.same or verdict.sibling):
            self._leave(verdict)
            return
        elsewhere = self._siblings(attempt.hop, now) or self._has_further_hop(now)
        wait = backoff(self._tries, self._rng)
        if error.retry_after is not None:
            if error.retry_after > (_SHORT_WAIT if elsewhere else _PATIENCE):
                self._verdict = Verdict(False, verdict.sibling, verdict.fallback)
            wait = max(wait, error.retry_after)
        # Nobody waits for a deployment while another one is there.
        self._resume_at = float("-inf") if self._siblings(attempt.hop, now) else now + wait

    def redirect(self, hops: Sequence[Hop]) -> None:
        """Takes these hops instead of those that were left; the current one is over."""
        self._hops = [*self._hops[: self._index + 1], *hops] if self._index < len(self._hops) else hops
        self._verdict = None
        self._advance()

    def _try(self, hop: Hop, candidate: Deployment, now: float) -> Try:
        self._tried.add(candidate.id)
        retry, self._tries = self._tries, self._tries + 1
        self.attempts += 1
        self._resume_at = float("-inf")
        timeout = candidate.timeout if hop.timeout is None else hop.timeout
        deadline = self._deadline if timeout is None else min(self._deadline, now + timeout)
        return Try(candidate, hop, self._index, retry, deadline)

    def _retries(self, hop: Hop) -> int:
        return DEFAULT_RETRIES if hop.retries is None else hop.retries

    def _candidate(self, hop: Hop, now: float) -> Deployment | None:
        fresh = self._siblings(hop, now)
        if fresh:
            return self._strategy(fresh, self._rng)
        if self._verdict is None:  # Nothing was tried here, and nothing is there: all of them cool down.
            self._note_cooling(hop, now)
            return None
        if not self._verdict.same or (hop.retries is None and self._has_further_hop(now)):
            return None
        again = [deployment for deployment in hop.deployments if deployment.health.available_at(now) <= now]
        if not again:
            self._note_cooling(hop, now)
        return self._strategy(again, self._rng) if again else None

    def _siblings(self, hop: Hop, now: float) -> list[Deployment]:
        """Deployments of the hop that were not tried yet and may be asked."""
        if self._verdict is not None and not self._verdict.sibling:
            return []
        return [
            deployment
            for deployment in hop.deployments
            if deployment.id not in self._tried and deployment.health.available_at(now) <= now
        ]

    def _has_further_hop(self, now: float) -> bool:
        return any(
            deployment.health.available_at(now) <= now
            for hop in self._hops[self._index + 1 :]
            for deployment in hop.deployments
        )

    def _leave(self, verdict: Verdict) -> None:
        if verdict.fallback:
            self._advance()
        else:
            self._index = len(self._hops)

    def _advance(self) -> None:
        if self._verdict is not None and not self._verdict.fallback:
            self._index = len(self._hops)
            return
        self._index += 1
        self._tries = 0
        self._tried = set()
        self._verdict = None
        self._resume_at = float("-inf")

    def _note_cooling(self, hop: Hop, now: float) -> None:
        until = min(deployment.health.available_at(now) for deployment in hop.deployments)
        self._cooling_until = until if self._cooling_until is None else min(self._cooling_until, until)

    def _give_up(self, now: float) -> GaveUp:
        error = self._first_error
        if error is None:
            wait = max((self._cooling_until or now + 1.0) - now, 0.0)
            names = ", ".join(dict.fromkeys(hop.name for hop in self._hops))
            if math.isinf(wait):
                return self._end(
                    NoDeploymentAvailable(f"No deployment of {names} is in service: the operator took them out of it.")
                )
            error = NoDeploymentAvailable(
                f"No deployment of {names} can be asked at present: they failed lately and cool down, or are at their "
                f"limits. Try again in {max(1, round(wait))} s.",
                retry_after=max(wait, 1.0),
            )
        return self._end(error)

    def _end(self, error: VoxgateError) -> GaveUp:
        self._over = GaveUp(error)
        return self._over
