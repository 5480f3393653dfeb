"""How a deployment is doing: its circuit, what is under way, and how fast it has been.

CLOSED ──(too many failures, or one that says it all)──→ OPEN ──(cooldown over)──→ HALF_OPEN
↑                                                       ↑                           │
└──────────────────(the single probe succeeded)─────────│───────────────────────────┤
└──────(the probe failed)───┘

One without which there is nothing is not left alone for a single 429, unless the provider said for how long: then
everybody may come back when that time is over, without a probe.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass

from voxgate_server.errors import (
    DrillFailure,
    EmptyTranscript,
    ProviderCredential,
    ProviderError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    VoxgateError,
)

__all__ = ["Circuit", "Health", "HealthSettings", "OperatorState"]

_WINDOW_SECONDS = 60.0
_RECENT = 100
_WINDOW_REQUESTS = 5
_LEAST_WAIT = 1.0
"""Seconds after which it is worth looking again, where nobody knows better."""
_LONGEST_COOLDOWN = 300.0
_ALONE = 5
"""How many times more failures in a row a deployment is allowed without which there is nothing."""
_SMOOTHING = 0.2
"""Weight of the newest call in the moving average of the latency."""
_ERROR_CHARACTERS = 200


class Circuit(enum.Enum):
    """Whether a deployment is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class OperatorState(enum.Enum):
    """What the operator decided. Both of the latter keep new attempts away, and leave those in progress alone."""

    ENABLED = "enabled"
    DRAINING = "draining"
    """About to be stopped or restarted."""
    DISABLED = "disabled"
    """Out of service."""


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When a deployment is left alone, and for how long."""

    allowed_fails: int = 3
    """Failures in a row that are forgiven."""
    cooldown_seconds: float = 5.0
    """How long it is left alone; doubled every time the probe fails, up to 300 s."""
    fixed_cooldown: float | None = None
    """The deployment's own `cooldown_time`, which wins over everything else."""
    rpm: int | None = None
    """Requests it takes a minute."""
    max_parallel_requests: int | None = None
    """Requests it takes at once."""
    disabled: bool = False
    """It is never left alone (`disable_cooldowns`)."""


class Health:
    """One deployment's health. Times are those of `time.monotonic()`, handed in, in seconds.

    Args:
        settings: Its limits.
        alone: A call that comes for it has no other way: it is the only one of its group, which has no fallbacks.
    """

    def __init__(self, settings: HealthSettings, *, alone: bool = False) -> None:
        self.settings = settings
        self.alone = alone
        self.operator_state = OperatorState.ENABLED
        """Kept until the process ends."""
        self.in_flight = 0
        self.latency: float | None = None
        """Seconds of work per second of audio, as a moving average; None before the first success."""
        self.recent: deque[float] = deque(maxlen=_RECENT)
        """Seconds of the newest successes, for percentiles."""
        self.consecutive_failures = 0
        self.last_error = ""
        """What the newest failure said; empty after a success."""
        self.trips = 0
        """How often the circuit opened since it was last closed."""
        self.open_until: float | None = None
        self._pause = False
        """It is open by the provider's own wish, not by failures."""
        self._probing = False
        self._window_start = float("-inf")
        self.window_requests = 0
        """Requests begun in the current minute."""
        self.window_audio_seconds = 0.0
        """Audio recognised in the current minute."""
        self._window_answers = 0
        """Attempts of the current minute that ended and said something about the deployment."""
        self._window_failures = 0

    def circuit(self, now: float) -> Circuit:
        """The state of the circuit."""
        if self.open_until is None:
            return Circuit.CLOSED
        if now < self.open_until:
            return Circuit.OPEN
        return Circuit.CLOSED if self._pause else Circuit.HALF_OPEN

    def available_at(self, now: float) -> float:
        """When it may be asked: `now` when it may at once, infinity while the operator keeps it out of service."""
        if self.operator_state is not OperatorState.ENABLED:
            return math.inf
        self._roll(now)
        if self.open_until is not None:
            if now < self.open_until:
                return self.open_until
            if self._probing:
                return now + max(self.settings.cooldown_seconds, _LEAST_WAIT)
        limit = self.settings.max_parallel_requests
        if limit is not None and self.in_flight >= limit:
            return now + _LEAST_WAIT
        if self.settings.rpm is not None and self.window_requests >= self.settings.rpm:
            return self._window_start + _WINDOW_SECONDS
        return now

    def error_ratio(self, now: float) -> float:
        """Share of the answers of the current minute that were failures, 0 to 1."""
        self._roll(now)
        return self._window_failures / self._window_answers if self._window_answers else 0.0

    @property
    def proved(self) -> bool:
        """Nothing speaks against it: its newest answer was a success, or there was none yet."""
        return not self.consecutive_failures

    def started(self, now: float) -> bool:
        """An attempt begins.

        Returns:
            Whether it is the single probe of an open circuit; whoever reports how it ended has to say so.
        """
        self._roll(now)
        self.in_flight += 1
        self.window_requests += 1
        probe = not self._probing and self.circuit(now) is Circuit.HALF_OPEN
        self._probing = self._probing or probe
        return probe

    def succeeded(self, now: float, seconds: float, audio_seconds: float | None, *, probe: bool) -> None:
        """An attempt gave the answer.

        Args:
            now: When.
            seconds: How long it took.
            audio_seconds: Length of the recording; None when unknown.
            probe: What `started` said.
        """
        self._ended(now, probe)
        self._window_answers += 1
        self.window_audio_seconds += audio_seconds or 0.0
        pace = seconds / max(audio_seconds or 1.0, 1.0)
        self.latency = pace if self.latency is None else self.latency + _SMOOTHING * (pace - self.latency)
        self.recent.append(seconds)
        # One that began before the circuit opened says nothing about what opened it.
        if probe or self.circuit(now) is Circuit.CLOSED:
            self.consecutive_failures = 0
            self.last_error = ""
            self.trips = 0
            self.open_until = None

    def failed(self, now: float, error: VoxgateError, *, probe: bool, caller_limited: bool = False) -> None:
        """An attempt failed.

        Args:
            now: When.
            error: How.
            probe: What `started` said.
            caller_limited: The limit that passed was the caller's own.
        """
        self._ended(now, probe)
        if not _counts(error, caller_limited):
            return
        self.consecutive_failures += 1
        self._window_answers += 1
        self.last_error = error.message[:_ERROR_CHARACTERS]
        self._window_failures += 1
        if self.settings.disabled:
            return
        closed = self.circuit(now) is Circuit.CLOSED
        if probe or (closed and (self._too_many() or (_says_it_all(error) and not self.alone))):
            self._open(now, error)
        elif closed and isinstance(error, ProviderRateLimited) and error.retry_after:
            self._pause = True
            self._leave_alone(now, error)
        elif self.open_until is not None and error.retry_after and self.settings.fixed_cooldown is None:
            # One of many that were under way when the circuit opened. It may make the cooldown longer, not double it.
            self.open_until = max(self.open_until, now + min(error.retry_after, _LONGEST_COOLDOWN))

    def abandoned(self, now: float, *, probe: bool) -> None:
        """An attempt was ended by us; it says nothing."""
        self._ended(now, probe)

    def _ended(self, now: float, probe: bool) -> None:
        self._roll(now)
        self.in_flight -= 1
        if probe:
            self._probing = False

    def _too_many(self) -> bool:
        forgiven = self.settings.allowed_fails * (_ALONE if self.alone else 1)
        if self.consecutive_failures > forgiven:
            return True
        # One that answers every other call is better than nothing.
        enough = not self.alone and self._window_answers >= _WINDOW_REQUESTS
        return enough and self._window_failures * 2 > self._window_answers

    def _open(self, now: float, error: VoxgateError) -> None:
        self.trips += 1
        self._pause = False
        self._leave_alone(now, error)
        self._window_answers = 0
        self._window_failures = 0

    def _leave_alone(self, now: float, error: VoxgateError) -> None:
        seconds = min(self.settings.cooldown_seconds * 2 ** min(self.trips - 1, 16), _LONGEST_COOLDOWN)
        if self.settings.fixed_cooldown is not None:
            seconds = self.settings.fixed_cooldown
        elif error.retry_after:
            seconds = min(error.retry_after, _LONGEST_COOLDOWN)
        # A cooldown that runs already is never made shorter.
        self.open_until = max(self.open_until or 0.0, now + seconds)

    def _roll(self, now: float) -> None:
        if now >= self._window_start + _WINDOW_SECONDS:
            self._window_start = now
            self.window_requests = 0
            self.window_audio_seconds = 0.0
            self._window_answers = 0
            self._window_failures = 0


def _counts(error: VoxgateError, caller_limited: bool) -> bool:
    """Whether an error says something about the deployment and not about the request."""
    if isinstance(error, ProviderTimeout):
        return not caller_limited
    return isinstance(error, ProviderError) and not isinstance(error, ProviderRejected | EmptyTranscript | DrillFailure)


def _says_it_all(error: VoxgateError) -> bool:
    """After one of these the next call would fail as well."""
    return isinstance(error, ProviderCredential | ProviderQuotaExceeded | ProviderRateLimited)
