"""One call's way through its plan, as a state machine without clock, chance or I/O of its own.

    next() ─→ Try ─→ succeeded() ─→ over
      ↑        └──→ failed() ──┐
      └───── Wait ←────────────┴──→ GaveUp

Whoever drives it asks `next`, does what it says and reports how it went. At most one attempt is under way at a time
unless the driver hedges; nothing is tried after the deadline or after a success.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voxgate_server.errors import (
    DeadlineExceeded,
    NoDeploymentAvailable,
    PermissionDenied,
    ProviderTimeout,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.routing.deployments import Deployment, Pool
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.policy import RetryBudget, Verdict, backoff, judge
from voxgate_server.routing.strategies import Strategy, simple_shuffle

__all__ = ["DEFAULT_RETRIES", "GaveUp", "Route", "Try", "Wait"]

DEFAULT_RETRIES = 2
"""Attempts of a call after the first unless a number is configured; every further hop is tried once all the same."""
_PATIENCE = 60.0
"""Seconds up to which a provider's own wish to wait is followed when there is no other way."""
_MANY = 16
"""Deployments from which on one is drawn by lot before all of them are looked at."""
_DRAWS = 4
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
        fits: Whether a deployment takes the recording, as far as it has come.
    """

    def __init__(
        self,
        hops: Sequence[Hop],
        *,
        strategy: Strategy,
        budget: RetryBudget,
        deadline: float,
        rng: random.Random,
        fits: Callable[[Deployment], bool] = lambda _: True,
    ) -> None:
        self._hops = hops
        self._strategy = strategy
        self._budget = budget
        self._deadline = deadline
        self._rng = rng
        self._fits = fits
        self._index = 0
        self._tries = 0
        """Attempts at the current hop."""
        self._tried: set[str] = set()
        self._again: set[str] = set()
        """Those of them that may be asked once more."""
        self._verdict: Verdict | None = None
        """What may follow the newest failure at the current hop."""
        self._resume_at = 0.0
        """When one that was tried already may be asked again."""
        self._patient_until = 0.0
        """Until when it may ask for more time, by what it says to other calls."""
        self._paid = False
        """The next attempt has its place in the budget."""
        self._last_hop = -1
        self._redirected = False
        self._errors: list[VoxgateError] = []
        self._over: GaveUp | None = None
        self.attempts = 0
        """Attempts begun so far."""
        budget.earn()

    def next(self, now: float) -> Try | Wait | GaveUp:
        """What to do now."""
        while self._over is None:
            if self._index >= len(self._hops) or now >= self._deadline:
                self._over = GaveUp(self._error(now))
                break
            hop = self._hops[self._index]
            candidate = self._candidate(hop, now)
            if candidate is None:
                self._advance()
                continue
            # Nobody waits for a deployment while another one is there.
            resume_at = self._resume_at if candidate.id in self._tried else now
            if resume_at >= self._deadline or not self._affordable(candidate):
                self._advance()
            elif resume_at > now:
                return Wait(resume_at - now)
            else:
                return self._try(hop, candidate, now)
        return self._over

    def hedge(self, now: float) -> Try | None:
        """A second attempt beside the one under way, at another deployment of its hop; None when there is none.

        Both are reported like any other; the success of one of them ends the route.
        """
        if self._over is not None or self._index >= len(self._hops) or now >= self._deadline:
            return None
        hop = self._hops[self._index]
        idle = [one for one in self._siblings(hop, now) if one.health.proved]
        return self._try(hop, self._strategy(idle, self._rng), now) if idle else None

    def succeeded(self) -> None:
        """The attempt under way gave the answer."""
        self._index = len(self._hops)

    def failed(self, attempt: Try, error: VoxgateError, http_status: int | None, now: float) -> None:
        """The attempt under way failed. The deployment's health has to know already.

        Args:
            attempt: Which.
            error: How.
            http_status: The provider's status; None when there was none.
            now: When.
        """
        self._errors.append(error)
        if isinstance(error, PermissionDenied):
            # As if it had been found when the call was planned: nothing is tried instead.
            self._over = GaveUp(error)
            return
        hop, verdict = attempt.hop, judge(error, http_status, attempt.hop)
        further = verdict.fallback and self._has_further_hop(now)
        again, wait = verdict.same, backoff(self._tries, self._rng)
        self._patient_until = now
        if error.retry_after:
            # A short wish is followed once although there is another way, any other one only when there is none.
            patience = _PATIENCE if not further else _SHORT_WAIT if self._tries == 1 else 0.0
            self._patient_until = now + patience
            again &= error.retry_after <= patience
            wait = max(wait, error.retry_after)
        elif further and (hop.retries is None or (hop.retry_statuses is None and _silent(error, http_status))):
            again = False
        self._again.discard(attempt.deployment.id)
        if again:
            self._again.add(attempt.deployment.id)
            self._resume_at = now + wait
        self._verdict = verdict

    def redirect(self, hops: Sequence[Hop]) -> None:
        """Takes these hops instead of those that were left. Only the first time, so that a call comes to an end."""
        if self._redirected or self._over is not None:
            return
        self._redirected = True
        self._index = self._last_hop
        self._hops = [*self._hops[: self._index + 1], *hops]
        self._verdict = None
        self._advance()

    def _try(self, hop: Hop, candidate: Deployment, now: float) -> Try:
        self._tried.add(candidate.id)
        retry, self._tries = self._tries, self._tries + 1
        self.attempts += 1
        self._paid = False
        self._last_hop = self._index
        timeout = candidate.timeout if hop.timeout is None else hop.timeout
        deadline = self._deadline if timeout is None else min(self._deadline, now + timeout)
        return Try(candidate, hop, self._index, retry, deadline)

    def _candidate(self, hop: Hop, now: float) -> Deployment | None:
        """Who is asked next at this hop, if anybody."""
        if not self.attempts and (drawn := self._drawn(hop, now)):
            return drawn
        candidates = self._siblings(hop, now)
        if not candidates and self._again and self._may_retry(hop):
            # One that asked for a pause cools down until the pause is over, which may be later than it said to us.
            again = [(one.health.available_at(now), one) for one in hop.deployments if one.id in self._again]
            soonest = min((free for free, _ in again), default=math.inf)
            if self._resume_at < soonest <= self._patient_until:
                self._resume_at = soonest
            then = max(now, self._resume_at)
            candidates = [one for free, one in again if free <= then]
        if self.attempts:
            candidates = [one for one in candidates if one.health.proved] or candidates
        return self._strategy(candidates, self._rng) if candidates else None

    def _drawn(self, hop: Hop, now: float) -> Deployment | None:
        """One of many by lot, without a look at all of them; None when that does not lead to somebody available."""
        pool = hop.deployments
        if self._strategy is not simple_shuffle or not isinstance(pool, Pool) or len(pool) < _MANY:
            return None
        # Drawing again until the lot falls on somebody available gives each of these the share it has among them.
        drawn = (pool.draw(self._rng) for _ in range(_DRAWS))
        return next((one for one in drawn if self._fits(one) and one.health.available_at(now) <= now), None)

    def _siblings(self, hop: Hop, now: float) -> list[Deployment]:
        """Deployments of the hop that were not tried yet and may be asked."""
        if self._verdict is not None and not (self._verdict.sibling and self._may_retry(hop)):
            return []
        return [
            one
            for one in hop.deployments
            if one.id not in self._tried and self._fits(one) and one.health.available_at(now) <= now
        ]

    def _may_retry(self, hop: Hop) -> bool:
        return self.attempts <= DEFAULT_RETRIES if hop.retries is None else self._tries <= hop.retries

    def _has_further_hop(self, now: float) -> bool:
        further = self._hops[self._index + 1 :]
        return any(
            self._fits(one) and one.health.available_at(now) <= now for hop in further for one in hop.deployments
        )

    def _affordable(self, candidate: Deployment) -> bool:
        """Whether the attempt may be made; takes its price from the budget, once."""
        free = not self.attempts or (candidate.health.proved and candidate.id not in self._tried)
        self._paid = self._paid or free or self._budget.spend()
        return self._paid

    def _advance(self) -> None:
        ended = self._verdict is not None and not self._verdict.fallback
        self._index = len(self._hops) if ended else self._index + 1
        self._tries = 0
        self._tried = set()
        self._again = set()
        self._verdict = None
        self._paid = False

    def _error(self, now: float) -> VoxgateError:
        """The most useful cause: the first, as that of the model that was asked for.

        When it was down and everybody cools down by now, it is more useful to know until when.
        """
        if not self._errors and now >= self._deadline:
            return DeadlineExceeded("The time for this call was over before anybody could be asked. Allow more time.")
        until = min(one.health.available_at(now) for hop in self._hops for one in hop.deployments)
        first = self._errors[0] if self._errors else None
        if first is not None and not (isinstance(first, ProviderUnavailable | ProviderTimeout) and until > now):
            return first
        wait = max(until - now, 1.0)
        names = ", ".join(dict.fromkeys(hop.name for hop in self._hops))
        if math.isinf(wait):
            return first or NoDeploymentAvailable(
                f"No deployment of {names[:200]} is in service: the operator took them out of it."
            )
        return NoDeploymentAvailable(
            f"No deployment of {names[:200]} can be asked at present: they failed lately and cool down, or are at "
            f"their limits. Try again in {math.ceil(wait)} s.",
            retry_after=wait,
        )


def _silent(error: VoxgateError, http_status: int | None) -> bool:
    """Whether it was waited for in vain. To wait as long again for the same one only makes the caller wait longer."""
    return isinstance(error, ProviderTimeout) and (http_status is None or http_status < 400)
