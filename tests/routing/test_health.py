"""When a deployment is left alone, for how long, and how it comes back."""

import pytest
from voxgate_server.errors import (
    DrillFailure,
    EmptyTranscript,
    Overloaded,
    ProviderCredential,
    ProviderGarbled,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.routing.health import Circuit, Health, HealthSettings

DOWN = ProviderUnavailable("status 500")


def fail(health: Health, now: float, error: VoxgateError = DOWN, *, caller_limited: bool = False) -> None:
    health.failed(now, error, probe=health.started(now), caller_limited=caller_limited)


def succeed(health: Health, now: float) -> None:
    health.succeeded(now, 1.0, 10.0, probe=health.started(now))


def tripped(now: float = 0.0, **settings) -> Health:
    health = Health(HealthSettings(allowed_fails=0, **settings))
    fail(health, now)
    return health


@pytest.mark.parametrize(("alone", "forgiven"), [(False, 3), (True, 15)])
def test_failures_in_a_row(alone: bool, forgiven: int):
    health = Health(HealthSettings(), alone=alone)
    for _ in range(forgiven):
        fail(health, 0)
    assert health.circuit(0) is Circuit.CLOSED
    fail(health, 0)
    assert health.circuit(0) is Circuit.OPEN
    assert health.available_at(0) == 5


@pytest.mark.parametrize(("alone", "circuit"), [(False, Circuit.OPEN), (True, Circuit.CLOSED)])
def test_more_than_half_of_a_minute(alone: bool, circuit: Circuit):
    health = Health(HealthSettings(), alone=alone)
    for number in range(40):
        (fail if number % 3 else succeed)(health, 0)
        if number == 3:
            assert health.circuit(0) is Circuit.CLOSED
    assert health.circuit(0) is circuit


def test_a_success_forgives_and_a_minute_is_forgotten():
    health = Health(HealthSettings(allowed_fails=2))
    for now in range(0, 600, 61):
        fail(health, now)
        fail(health, now)
        succeed(health, now)
    assert health.circuit(600) is Circuit.CLOSED
    assert health.proved


@pytest.mark.parametrize(
    "error", [ProviderCredential("401"), ProviderQuotaExceeded("402"), ProviderRateLimited("429")], ids=str
)
def test_one_that_says_it_all(error: VoxgateError):
    health, alone = Health(HealthSettings()), Health(HealthSettings(), alone=True)
    fail(health, 0, error)
    fail(alone, 0, error)
    assert health.circuit(0) is Circuit.OPEN
    assert alone.circuit(0) is Circuit.CLOSED


@pytest.mark.parametrize(
    ("retry_after", "fixed", "pause"),
    [(20, None, 20), (1, None, 1), (1e9, None, 300), (20, 9, 9), (None, 9, 0), (0, 9, 0)],
)
def test_the_only_one_pauses_as_long_as_the_provider_says(retry_after: float | None, fixed: float | None, pause: float):
    health = Health(HealthSettings(fixed_cooldown=fixed), alone=True)
    fail(health, 100, ProviderRateLimited("429", retry_after=retry_after))
    assert health.available_at(100) == 100 + pause
    assert health.circuit(100 + pause) is Circuit.CLOSED
    assert not health.started(100 + pause)
    assert not health.started(100 + pause)
    assert health.available_at(100 + pause) == 100 + pause
    assert health.trips == 0


def test_nothing_ends_a_pause_early():
    health = Health(HealthSettings(), alone=True)
    assert not any(health.started(0) for _ in range(4))
    health.failed(0, ProviderRateLimited("429", retry_after=20), probe=False)
    health.succeeded(1, 1.0, None, probe=False)
    assert health.available_at(1) == 20
    health.failed(2, ProviderRateLimited("429", retry_after=3), probe=False)
    assert health.available_at(2) == 20
    health.failed(3, ProviderRateLimited("429", retry_after=30), probe=False)
    assert health.available_at(3) == 33
    succeed(health, 33)
    assert health.open_until is None
    assert health.proved


def test_pauses_over_and_over_are_a_failure_after_all():
    health = Health(HealthSettings(), alone=True)
    for now in range(16):
        fail(health, now, ProviderRateLimited("429", retry_after=1))
    assert health.circuit(16) is Circuit.HALF_OPEN


@pytest.mark.parametrize(
    "error", [ProviderRejected("400"), EmptyTranscript("silence"), DrillFailure("drill"), Overloaded("full")], ids=str
)
def test_what_says_nothing_about_the_deployment(error: VoxgateError):
    health = Health(HealthSettings(allowed_fails=0))
    fail(health, 0, error)
    assert health.circuit(0) is Circuit.CLOSED
    assert health.proved


def test_a_limit_of_the_callers_own_does_not_count():
    health = Health(HealthSettings(allowed_fails=0))
    fail(health, 0, ProviderTimeout("slow"), caller_limited=True)
    assert health.circuit(0) is Circuit.CLOSED
    fail(health, 0, ProviderTimeout("slow"))
    assert health.circuit(0) is Circuit.OPEN


@pytest.mark.parametrize("error", [ProviderUnavailable("refused"), ProviderGarbled("not json")], ids=str)
def test_what_counts(error: VoxgateError):
    health = Health(HealthSettings(allowed_fails=0))
    fail(health, 0, error)
    assert health.circuit(0) is Circuit.OPEN


def test_never_left_alone_when_disabled():
    health = Health(HealthSettings(disabled=True))
    for _ in range(100):
        fail(health, 0, ProviderCredential("401"))
    assert health.available_at(0) == 0
    assert not health.proved


@pytest.mark.parametrize(
    ("retry_after", "fixed", "cooldown"),
    [(None, None, 5), (20, None, 20), (1, None, 1), (0, None, 5), (1e9, None, 300), (None, 9, 9), (20, 9, 9)],
)
def test_how_long(retry_after: float | None, fixed: float | None, cooldown: float):
    health = Health(HealthSettings(fixed_cooldown=fixed))
    fail(health, 100, ProviderRateLimited("429", retry_after=retry_after))
    assert health.available_at(100) == 100 + cooldown


def test_every_failed_probe_doubles_it():
    health, now, cooldowns = tripped(), 0.0, []
    for _ in range(8):
        cooldowns.append(health.available_at(now) - now)
        now = health.available_at(now)
        fail(health, now)
    assert cooldowns == [5, 10, 20, 40, 80, 160, 300, 300]
    now = health.available_at(now)
    succeed(health, now)
    assert health.circuit(now) is Circuit.CLOSED
    for _ in range(4):
        fail(health, now)
    assert health.available_at(now) == now + 5


def test_those_under_way_neither_double_nor_shorten_nor_end_it():
    health = Health(HealthSettings(allowed_fails=0))
    probes = [health.started(0) for _ in range(6)]
    assert not any(probes)
    for _ in range(3):
        health.failed(0, DOWN, probe=False)
    assert health.available_at(0) == 5
    health.failed(1, ProviderRateLimited("429", retry_after=30), probe=False)
    assert health.available_at(1) == 31
    health.failed(2, ProviderRateLimited("429", retry_after=3), probe=False)
    assert health.available_at(2) == 31
    health.succeeded(3, 1.0, None, probe=False)
    assert health.available_at(3) == 31
    assert health.in_flight == 0
    assert health.trips == 1


def test_one_probe_at_a_time():
    health = Health(HealthSettings(allowed_fails=0))
    assert not health.started(0)  # takes long
    fail(health, 0)
    assert health.circuit(6) is Circuit.HALF_OPEN
    assert health.available_at(6) == 6
    assert health.started(6)
    assert health.available_at(6) > 6
    health.failed(7, DOWN, probe=False)  # the long one ends, which is not the probe
    assert health.available_at(7) > 7
    health.abandoned(8, probe=True)
    assert health.available_at(8) == 8
    assert health.started(8)
    health.succeeded(9, 1.0, None, probe=True)
    assert health.circuit(9) is Circuit.CLOSED
    assert health.in_flight == 0


def test_limits():
    health = Health(HealthSettings(rpm=3, max_parallel_requests=2))
    health.started(0)
    health.started(0)
    assert health.available_at(0) > 0
    health.abandoned(0, probe=False)
    assert health.available_at(0) == 0
    health.started(0)
    health.abandoned(10, probe=False)
    assert health.available_at(10) == 60
    assert health.available_at(60) == 60


def test_a_trip_does_not_give_back_the_requests_of_the_minute():
    health = Health(HealthSettings(allowed_fails=0, rpm=1))
    fail(health, 0)
    assert health.available_at(6) == 60


def test_pace_is_per_second_of_audio():
    health = Health(HealthSettings())
    health.succeeded(0, 6.0, 60.0, probe=health.started(0))
    assert health.latency == pytest.approx(0.1)
    health.succeeded(0, 0.3, 0.1, probe=health.started(0))
    assert health.latency == pytest.approx(0.1 + 0.2 * (0.3 - 0.1))
    assert health.window_audio_seconds == pytest.approx(60.1)
