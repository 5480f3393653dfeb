"""One call's way: what is tried after which failure, and that it always comes to an end."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.errors import (
    AudioTooLarge,
    DeadlineExceeded,
    DrillFailure,
    EmptyTranscript,
    InternalError,
    NoDeploymentAvailable,
    ProviderCredential,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.health import Circuit, HealthSettings
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.policy import RetryBudget
from voxgate_server.routing.route import GaveUp, Route, Try, Wait
from voxgate_server.routing.strategies import STRATEGIES

from tests.routing.fakes import deployment, hop, route

FIRST, SECOND, THIRD = "first", "second", "third"


def down(retry_after: float | None = None) -> VoxgateError:
    return ProviderUnavailable("status 500", retry_after=retry_after)


class Drive:
    """Does what the gateway does: reports to the health, then to the route."""

    def __init__(self, way: Route, *, now: float = 0.0) -> None:
        self.way, self.now = way, now
        self.asked: list[str] = []
        self.waits: list[float] = []

    def step(self) -> Try | GaveUp:
        while isinstance(step := self.way.next(self.now), Wait):
            self.waits.append(step.seconds)
            self.now += step.seconds
        if isinstance(step, Try):
            self.asked.append(step.deployment.id)
        return step

    def fail(self, error: VoxgateError, status: int | None = None) -> Try | GaveUp:
        step = self.step()
        assert isinstance(step, Try), step
        health = step.deployment.health
        health.failed(self.now, error, probe=health.started(self.now))
        self.way.failed(step, error, status, self.now)
        return step

    def end(self, error: VoxgateError | None = None) -> VoxgateError:
        """The error it ends with, when everything from now on fails like this."""
        for _ in range(100):
            if error is None or isinstance(step := self.step(), GaveUp):
                break
            health = step.deployment.health
            health.failed(self.now, error, probe=health.started(self.now))
            self.way.failed(step, error, None, self.now)
        step = self.way.next(self.now)
        assert isinstance(step, GaveUp), step
        return step.error


def three() -> tuple[Deployment, Deployment, Deployment]:
    return deployment(FIRST), deployment(SECOND), deployment(THIRD)


def test_a_failure_goes_straight_to_the_fallback():
    first, second, _ = three()
    drive = Drive(route([hop(first), hop(second)]))
    drive.fail(down())
    step = drive.step()
    assert isinstance(step, Try)
    assert (drive.asked, drive.waits, step.hop_index, step.retry) == ([FIRST, SECOND], [], 1, 0)


def test_siblings_come_before_the_fallback_and_without_a_wait():
    first, second, third = three()
    drive = Drive(route([hop(first, second), hop(third)]))
    drive.fail(down())
    drive.fail(down())
    drive.fail(down())
    assert set(drive.asked[:2]) == {FIRST, SECOND}
    assert drive.asked[2] == THIRD
    assert drive.waits == []


def test_the_same_deployment_again_is_the_last_resort():
    drive = Drive(route([hop(deployment(FIRST))]))
    assert drive.end(down()).message == "status 500"
    assert drive.asked == [FIRST] * 3
    assert 0 < drive.waits[0] <= 0.5
    assert 0 < drive.waits[1] <= 1.0


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_as_many_retries_as_are_configured(retries: int, attempts: int):
    quiet = HealthSettings(disabled=True)
    drive = Drive(route([hop(deployment(FIRST, quiet), retries=retries), hop(deployment(SECOND), retries=0)]))
    drive.end(down())
    assert drive.asked == [FIRST] * attempts + [SECOND]


@pytest.mark.parametrize(
    ("status", "statuses", "asked"), [(None, None, 1), (200, None, 1), (504, None, 3), (None, frozenset({504}), 3)]
)
def test_a_silent_one_is_not_asked_again_while_there_is_another(
    status: int | None, statuses: frozenset[int] | None, asked: int
):
    first, second, _ = three()
    drive = Drive(route([hop(first, retries=2, retry_statuses=statuses), hop(second)]))
    for _ in range(asked):
        drive.fail(ProviderTimeout("slow"), status)
    drive.step()
    assert drive.asked == [FIRST] * asked + [SECOND]


def test_a_silent_one_is_asked_again_where_there_is_no_other():
    drive = Drive(route([hop(deployment(FIRST), retries=2)]))
    drive.end(ProviderTimeout("slow"))
    assert drive.asked == [FIRST] * 3


def test_without_configured_retries_a_call_makes_three_attempts_and_asks_every_hop():
    quiet = HealthSettings(disabled=True)
    groups = [[deployment(f"{group}{number}", quiet) for number in range(4)] for group in "abcd"]
    drive = Drive(route([hop(*group) for group in groups]))
    drive.end(down())
    assert [name[0] for name in drive.asked] == ["a", "a", "a", "b", "c", "d"]


class TestAsksForAPause:
    """`Retry-After`."""

    @pytest.mark.parametrize("further", [False, True])
    def test_a_short_one_is_followed_once(self, further: bool):
        first, second, _ = three()
        drive = Drive(route([hop(first), hop(second)] if further else [hop(first)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=2.5), 429)
        drive.fail(ProviderRateLimited("slow down", retry_after=2.5), 429)
        drive.step()
        assert drive.asked == [FIRST, FIRST, SECOND if further else FIRST]
        assert drive.waits == ([2.5] if further else [2.5, 2.5])

    def test_a_longer_one_only_when_there_is_no_other_way(self):
        first, second, _ = three()
        drive = Drive(route([hop(first), hop(second)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=20), 429)
        drive.step()
        assert (drive.asked, drive.waits) == ([FIRST, SECOND], [])
        drive = Drive(route([hop(deployment(FIRST))]))
        drive.fail(ProviderRateLimited("slow down", retry_after=60), 429)
        drive.step()
        assert (drive.asked, drive.waits) == ([FIRST, FIRST], [60])

    def test_nobody_waits_while_there_is_a_sibling(self):
        first, second, _ = three()
        drive = Drive(route([hop(first, second)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=1), 429)
        drive.step()
        assert (set(drive.asked), drive.waits) == ({FIRST, SECOND}, [])

    @pytest.mark.parametrize(("retry_after", "deadline"), [(61, 600), (20, 15)])
    def test_too_long_ends_with_the_providers_own_429(self, retry_after: float, deadline: float):
        drive = Drive(route([hop(deployment(FIRST))], deadline=deadline))
        drive.fail(ProviderRateLimited("slow down", retry_after=retry_after), 429)
        error = drive.end()
        assert isinstance(error, ProviderRateLimited)
        assert error.retry_after == retry_after
        assert drive.waits == []


class TestTheOnlyOneAsksForAPause:
    """It rests as long as it said, for everybody, although there is nothing else."""

    def test_until_then_nobody_asks_it(self):
        only = deployment(FIRST, alone=True)
        drive = Drive(route([hop(only)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=100), 429)
        error = drive.end()
        assert isinstance(error, ProviderRateLimited)
        assert error.retry_after == 100
        error = Drive(route([hop(only)]), now=30).end()
        assert isinstance(error, NoDeploymentAvailable)
        assert error.retry_after == 70
        assert isinstance(Drive(route([hop(only)]), now=100).step(), Try)

    def test_after_it_everybody_may(self):
        only = deployment(FIRST, alone=True)
        drives = [Drive(route([hop(only)])) for _ in range(5)]
        steps = [drive.step() for drive in drives]
        for drive, step in zip(drives, steps, strict=True):
            assert isinstance(step, Try)
            error = ProviderRateLimited("slow down", retry_after=2)
            only.health.failed(0, error, probe=only.health.started(0))
            drive.way.failed(step, error, 429, 0)
        for drive in drives:
            assert isinstance(drive.step(), Try)
            only.health.started(drive.now)
            assert (drive.asked, drive.waits) == ([FIRST, FIRST], [2])

    @pytest.mark.parametrize(("later", "waits"), [(30, [2, 30]), (59, [2])])
    def test_it_asks_another_call_for_a_longer_one(self, later: float, waits: list[float]):
        only = deployment(FIRST, alone=True)
        drive = Drive(route([hop(only)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=2), 429)
        step = drive.way.next(0)
        assert isinstance(step, Wait)
        drive.waits.append(step.seconds)
        drive.now = 2
        only.health.failed(2, ProviderRateLimited("slow down", retry_after=later), probe=only.health.started(2))
        step = drive.step()
        assert drive.waits == waits
        assert isinstance(step, Try if len(waits) == 2 else GaveUp)

    def test_a_fallback_of_the_callers_own_is_taken_meanwhile(self):
        only, second = deployment(FIRST, alone=True), deployment(SECOND)
        drive = Drive(route([hop(only), hop(second)]))
        drive.fail(ProviderRateLimited("slow down", retry_after=100), 429)
        drive.step()
        assert drive.asked == [FIRST, SECOND]
        other = Drive(route([hop(only), hop(second)]))
        other.step()
        assert other.asked == [SECOND]


class TestBudget:
    """Extra attempts at deployments that failed last."""

    @staticmethod
    def spent() -> RetryBudget:
        budget = RetryBudget(ratio=0.0, burst=1.0)
        assert budget.spend()
        return budget

    def test_a_fallback_that_was_never_asked_costs_nothing(self):
        first, second, _ = three()
        drive = Drive(route([hop(first), hop(second)], budget=self.spent()))
        drive.fail(down())
        assert isinstance(drive.step(), Try)
        assert drive.asked == [FIRST, SECOND]

    def test_one_that_fails_is_passed_over_for_one_that_works(self):
        first, second, third = three()
        second.health.failed(0, down(), probe=second.health.started(0))
        drive = Drive(route([hop(first), hop(second), hop(third)], budget=self.spent()))
        drive.fail(down())
        assert isinstance(drive.step(), Try)
        assert drive.asked == [FIRST, THIRD]

    def test_the_same_again_costs_even_where_the_failure_says_nothing(self):
        drive = Drive(route([hop(deployment(FIRST), timeout_by_caller=True)], budget=self.spent()))
        step = drive.step()
        assert isinstance(step, Try)
        error = ProviderTimeout("too slow")
        step.deployment.health.failed(0, error, probe=step.deployment.health.started(0), caller_limited=True)
        drive.way.failed(step, error, None, 0)
        assert drive.end() is error

    def test_with_everybody_down_calls_are_hardly_multiplied(self):
        """≤ 1.1 attempts per call, also without any cooldown."""
        quiet = HealthSettings(disabled=True)
        hops = [hop(deployment(FIRST, quiet), deployment(SECOND, quiet), retries=5), hop(deployment(THIRD, quiet))]
        budget = RetryBudget()
        attempts = []
        for _ in range(3000):
            drive = Drive(route(hops, budget=budget))
            drive.end(down())
            attempts.append(len(drive.asked))
        assert sum(attempts[1000:]) / 2000 <= 1.1


class TestErrors:
    """The most useful one of several."""

    def test_the_first_one_not_what_a_fallback_found(self):
        first, second, _ = three()
        drive = Drive(route([hop(first), hop(second)]))
        drive.fail(down())
        drive.fail(ProviderRejected("bad language"), 400)
        assert drive.end(down()).message == "status 500"

    def test_a_callers_fault_stays_one(self):
        first, second, _ = three()
        drive = Drive(route([hop(first), hop(second)]))
        drive.fail(ProviderRejected("bad language"), 400)
        drive.fail(down())
        assert isinstance(drive.end(down()), ProviderRejected)

    def test_everything_cools_down(self):
        first, second, third = three()
        for number, one in enumerate((first, second, third)):
            one.health.failed(0, ProviderRateLimited("slow", retry_after=20 + number), probe=one.health.started(0))
        error = Drive(route([hop(first, second), hop(third)]), now=5).end()
        assert isinstance(error, NoDeploymentAvailable)
        assert error.retry_after == 15
        assert "15 s" in error.message

    def test_it_went_down_during_the_call(self):
        """Attempts of this call failed, and now everybody cools down: 503 with the time, as for the calls after it."""
        first, second, _ = (deployment(name, HealthSettings(allowed_fails=0)) for name in (FIRST, SECOND, THIRD))
        drive = Drive(route([hop(first), hop(second)]))
        drive.fail(down())
        drive.fail(down())
        error = drive.end()
        assert isinstance(error, NoDeploymentAvailable)
        assert error.retry_after == 5

    def test_one_of_them_is_still_there(self):
        first, second, _ = (deployment(name, HealthSettings(allowed_fails=0)) for name in (FIRST, SECOND, THIRD))
        drive = Drive(route([hop(first), hop(second)]))
        drive.fail(down())
        drive.fail(ProviderRejected("bad language"), 400)
        assert drive.end().message == "status 500"

    @pytest.mark.parametrize("error", [ProviderCredential("401"), ProviderRateLimited("429", retry_after=100)])
    def test_what_the_operator_or_the_caller_can_act_upon_is_kept(self, error: VoxgateError):
        drive = Drive(route([hop(deployment(FIRST))]))
        drive.fail(error)
        assert drive.end() is error

    def test_the_time_was_over_before_anybody_was_asked(self):
        assert isinstance(Drive(route([hop(deployment(FIRST))], deadline=3), now=3).end(), DeadlineExceeded)


class TestRedirect:
    """Fallbacks for certain failures."""

    @pytest.mark.parametrize("configured", [0, 1, 2])
    def test_takes_the_place_of_the_fallbacks(self, configured: int):
        first, special = deployment(FIRST), deployment("special")
        drive = Drive(route([hop(first), *(hop(deployment(f"f{number}")) for number in range(configured))]))
        drive.fail(AudioTooLarge("too large"), 413)
        drive.way.redirect([hop(special)])
        step = drive.step()
        assert isinstance(step, Try)
        assert (drive.asked, step.hop_index) == ([FIRST, "special"], 1)

    def test_from_a_fallback(self):
        first, second, third = three()
        drive = Drive(route([hop(first), hop(second), hop(third)]))
        drive.fail(down())
        drive.fail(AudioTooLarge("too large"), 413)
        drive.way.redirect([hop(deployment("special"))])
        drive.step()
        assert drive.asked == [FIRST, SECOND, "special"]

    def test_comes_to_an_end_when_the_other_way_fails_alike(self):
        first, special = deployment(FIRST), deployment("special")
        drive = Drive(route([hop(first)]))
        for _ in range(2):
            drive.fail(AudioTooLarge("too large"), 413)
            drive.way.redirect([hop(special)])
        assert isinstance(drive.end(), AudioTooLarge)
        assert drive.asked == [FIRST, "special"]


def test_a_pause_is_followed_by_the_single_probe():
    one = deployment(FIRST)
    drive = Drive(route([hop(one)]))
    drive.fail(ProviderRateLimited("slow down", retry_after=2), 429)
    assert one.health.circuit(drive.now) is Circuit.OPEN
    assert isinstance(drive.step(), Try)
    assert one.health.circuit(drive.now) is Circuit.HALF_OPEN
    assert one.health.started(drive.now)
    assert isinstance(Drive(route([hop(one)]), now=drive.now).end(), NoDeploymentAvailable)


ERRORS: list[tuple[VoxgateError, int | None]] = [
    (ProviderUnavailable("500"), 500),
    (ProviderUnavailable("503", retry_after=1.0), 503),
    (ProviderUnavailable("refused"), None),
    (ProviderUnavailable("404"), 404),
    (ProviderTimeout("slow"), None),
    (ProviderRateLimited("429"), 429),
    (ProviderRateLimited("429", retry_after=2.0), 429),
    (ProviderRateLimited("429", retry_after=45.0), 429),
    (ProviderRateLimited("429", retry_after=1e4), 429),
    (ProviderCredential("401"), 401),
    (ProviderRejected("400"), 400),
    (AudioTooLarge("413"), 413),
    (EmptyTranscript("silence"), 200),
    (DrillFailure("drill"), None),
    (InternalError("bug"), None),
]


class Running:
    """A call, as the gateway holds it."""

    def __init__(self, way: Route, hops: list[Hop], deadline: float) -> None:
        self.way, self.hops, self.deadline = way, hops, deadline
        self.under_way: Try | None = None
        self.probe = False
        self.resume_at = float("-inf")
        self.attempts = 0
        self.tries_at_hop: dict[int, int] = {}
        self.steps = 0
        self.redirected = False


class World:
    """Calls at the same time over the same deployments, with random plans, outcomes and times."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now = 1000.0
        self.budget = RetryBudget()
        self.calls: list[Running] = []
        alone = rng.random() < 0.1
        self.all = [deployment(f"d{number}", self.limits(), alone=alone) for number in range(rng.randint(1, 6))]
        self.running = {one.id: 0 for one in self.all}
        self.probes = {one.id: 0 for one in self.all}
        self.seen: Counter[str] = Counter()

    def limits(self) -> HealthSettings:
        rng = self.rng
        return HealthSettings(
            allowed_fails=rng.randint(0, 2),
            cooldown_seconds=rng.choice([0.0, 0.5, 5.0]),
            fixed_cooldown=rng.choice([None, None, 7.0]),
            rpm=rng.choice([None, None, None, 6]),
            max_parallel_requests=rng.choice([None, None, 1, 2]),
            disabled=rng.random() < 0.1,
        )

    def plan(self, most: int) -> list[Hop]:
        rng = self.rng
        statuses = [None, None, None, frozenset({429, 500, 502}), frozenset({400})]
        return [
            hop(
                *rng.sample(self.all, rng.randint(1, min(4, len(self.all)))),
                retries=rng.choice([None, None, 0, 1, 3]),
                timeout=rng.choice([None, 0.5, 20.0]),
                timeout_by_caller=rng.random() < 0.2,
                retry_statuses=rng.choice(statuses),
                fallback_statuses=rng.choice(statuses),
            )
            for _ in range(rng.randint(1, most))
        ]

    def step(self) -> None:
        rng = self.rng
        match rng.choices(["call", "time", "go on"], [2, 1, 6])[0]:
            case "call" if len(self.calls) < 12:
                hops, deadline = self.plan(4), self.now + rng.choice([0.0, 1.0, 30.0, 600.0])
                strategy = STRATEGIES[rng.choice(sorted(STRATEGIES))]
                way = Route(hops, strategy=strategy, budget=self.budget, deadline=deadline, rng=rng)
                self.calls.append(Running(way, hops, deadline))
            case "time":
                self.now += rng.choice([0.1, 1.0, 5.0])
            case _ if self.calls:
                self.go_on(rng.choice(self.calls))
        for one in self.all:
            assert one.health.in_flight == self.running[one.id] >= 0
            assert 0 <= self.probes[one.id] <= 1

    def go_on(self, call: Running) -> None:
        """What the gateway does next with a call."""
        call.steps += 1
        assert call.steps < 200
        if call.under_way is not None:
            ended = self.end_attempt(call, call.under_way)
        elif call.resume_at > self.now and self.rng.random() < 0.5:
            return
        else:
            self.now = max(self.now, call.resume_at)
            ended = self.next_step(call)
        if ended:
            self.calls.remove(call)

    def next_step(self, call: Running) -> bool:
        before = {one.id: one.health.circuit(self.now) for one in self.all}
        step = call.way.next(self.now)
        self.seen[type(step).__name__] += 1
        if isinstance(step, GaveUp):
            assert call.way.next(self.now + 1e6) is step
            error = step.error
            self.seen[type(error).__name__] += 1
            if isinstance(error, NoDeploymentAvailable):
                wait, planned = error.retry_after, [one for each in call.hops for one in each.deployments]
                assert wait is not None
                assert wait >= 1
                soonest = min(one.health.available_at(self.now) for one in planned)
                assert self.now < soonest <= self.now + wait + 1e-6
            assert call.attempts or isinstance(error, NoDeploymentAvailable | DeadlineExceeded)
            return True
        if isinstance(step, Wait):
            assert 0 < step.seconds <= 60
            call.resume_at = self.now + step.seconds
            assert call.resume_at <= call.deadline + 1e-6
            return False
        name, health = step.deployment.id, step.deployment.health
        assert self.now < step.deadline <= call.deadline
        assert before[name] is not Circuit.OPEN
        limit = health.settings.max_parallel_requests
        assert limit is None or self.running[name] < limit
        assert health.settings.rpm is None or health.window_requests < health.settings.rpm
        call.attempts += 1
        assert call.way.attempts == call.attempts <= 20
        assert call.tries_at_hop.get(step.hop_index, 0) == step.retry
        call.tries_at_hop[step.hop_index] = step.retry + 1
        assert step.retry <= (2 if step.hop.retries is None else step.hop.retries)
        assert step.hop_index == max(call.tries_at_hop)
        call.under_way, call.probe = step, health.started(self.now)
        # An open circuit is asked by one at a time, and that one knows it.
        assert call.probe == (before[name] is Circuit.HALF_OPEN)
        self.running[name] += 1
        self.probes[name] += call.probe
        self.seen["probe"] += call.probe
        return False

    def end_attempt(self, call: Running, step: Try) -> bool:
        name, health = step.deployment.id, step.deployment.health
        call.under_way = None
        self.running[name] -= 1
        self.probes[name] -= call.probe
        until, closed = health.open_until, health.circuit(self.now) is Circuit.CLOSED
        outcome = self.rng.choices(["succeeds", "is cancelled", "fails"], [2, 1, 9])[0]
        if outcome == "succeeds":
            health.succeeded(self.now, 1.0, 10.0, probe=call.probe)
            call.way.succeeded()
            assert isinstance(call.way.next(self.now), GaveUp)
            # Only the probe ends a cooldown; a pause is over by itself.
            assert call.probe or closed or health.open_until == until
            return True
        if outcome == "is cancelled":
            health.abandoned(self.now, probe=call.probe)
            return True
        error, status = self.rng.choice(ERRORS)
        health.failed(self.now, error, probe=call.probe, caller_limited=step.hop.timeout_by_caller)
        assert until is None or (health.open_until or 0) >= until
        if self.now >= call.deadline:
            return True
        call.way.failed(step, error, status, self.now)
        if isinstance(error, AudioTooLarge):
            hops = self.plan(2)
            call.way.redirect(hops)
            if not call.redirected:
                call.hops = [*call.hops[: step.hop_index + 1], *hops]
            call.redirected = True
        return False


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_whatever_happens(seed: int):
    world = World(seed)
    for _ in range(300):
        world.step()
    while world.calls:  # every call comes to an end; `steps` is bounded
        world.go_on(world.calls[0])
    assert not any(world.running.values())


def test_what_happens_is_everything():
    """The worlds above are worth as much as what occurs in them."""
    seen: Counter[str] = Counter()
    for seed in range(20):
        world = World(seed)
        for _ in range(300):
            world.step()
        seen += world.seen
    for event in ("Try", "Wait", "GaveUp", "probe", "NoDeploymentAvailable", "DeadlineExceeded", "ProviderRateLimited"):
        assert seen[event] >= 20, (event, seen)
