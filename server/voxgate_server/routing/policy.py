"""After which failure what is tried, how long to wait before, and how much of it there may be."""

import random
from dataclasses import dataclass

from voxgate_server.errors import (
    AudioTooLarge,
    DrillFailure,
    EmptyTranscript,
    Overloaded,
    ProviderCredential,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRejected,
    ProviderTimeout,
    UnsupportedAudio,
    UnsupportedParameter,
    VoxgateError,
)
from voxgate_server.routing.plan import Hop

__all__ = ["RetryBudget", "Verdict", "backoff", "judge"]

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may follow a failure."""

    same: bool
    """The same deployment may be asked again."""
    sibling: bool
    """Another deployment of the hop may be asked."""
    fallback: bool
    """The next hop may be taken."""


def judge(error: VoxgateError, http_status: int | None, hop: Hop) -> Verdict:
    """What may follow a failure, by LiteLLM's table unless the hop names statuses of its own.

    Args:
        error: How the attempt failed.
        http_status: The provider's status; None when there was none. A hop's statuses are then compared with the
            status a caller would see: 502 for a connection that failed, 504 for one that was too slow.
        hop: Where.
    """
    if isinstance(error, DrillFailure):
        return Verdict(False, False, True)
    statuses = _statuses(error, http_status)
    fallback = hop.fallback_statuses is None or bool(statuses & hop.fallback_statuses)
    if hop.retry_statuses is not None:
        again = bool(statuses & hop.retry_statuses)
        return Verdict(again, again, fallback)
    match error:
        case AudioTooLarge() if http_status is None:
            # Our own look at the deployment's limit; another one may have another.
            return Verdict(False, True, fallback)
        case ProviderRejected() | AudioTooLarge() | UnsupportedAudio() | UnsupportedParameter():
            # The request itself: the same model would say the same, another one may not.
            return Verdict(False, False, fallback)
        case ProviderCredential() | ProviderQuotaExceeded() | EmptyTranscript():
            return Verdict(False, True, fallback)
        case ProviderError() | Overloaded():
            # A model the provider does not know does not appear by asking again; another deployment may have it.
            return Verdict(http_status not in (404, 405), True, fallback)
        case _:
            return Verdict(False, False, False)


def _statuses(error: VoxgateError, http_status: int | None) -> frozenset[int]:
    """By which statuses a hop can name a failure."""
    if http_status is not None and http_status >= 400:
        return frozenset({http_status})
    # Nothing came, or only the beginning of an answer: what a gateway says of it, and what Portkey calls it.
    return frozenset({408, 504} if isinstance(error, ProviderTimeout) else {502, 503, error.http_status})


def backoff(failures: int, rng: random.Random) -> float:
    """Seconds to wait before the same deployment is asked again: full jitter under a doubling ceiling.

    Args:
        failures: How often it failed in this call, from 1.
        rng: Where the jitter comes from.
    """
    return rng.uniform(0, min(_FIRST_WAIT * 2 ** (failures - 1), _LONGEST_WAIT))


class RetryBudget:
    """Keeps extra attempts a fraction of the calls, so that an outage is not answered with more load.

    Every call earns a fraction of an extra attempt; every extra attempt at a deployment that failed last costs one.
    A deployment against which nothing speaks costs nothing: failing over to it is what it is there for.

    Args:
        ratio: Extra attempts per call in the long run.
        burst: Extra attempts that may come at once.
    """

    def __init__(self, *, ratio: float = 0.1, burst: float = 10.0) -> None:
        self._ratio = ratio
        self._burst = burst
        self._tokens = burst

    def earn(self) -> None:
        """A call came in."""
        self._tokens = min(self._tokens + self._ratio, self._burst)

    def spend(self) -> bool:
        """Takes one extra attempt, if there is one left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
