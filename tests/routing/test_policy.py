"""What follows which failure, how long is waited, how much there may be of it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.errors import (
    AudioTooLarge,
    DeadlineExceeded,
    DrillFailure,
    EmptyTranscript,
    InternalError,
    Overloaded,
    ProviderCredential,
    ProviderGarbled,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedAudio,
    UnsupportedParameter,
    UploadIncomplete,
    VoxgateError,
)
from voxgate_server.routing.policy import RetryBudget, Verdict, backoff, judge

from tests.routing.fakes import deployment, hop

SAME, SIBLING, FALLBACK, END = (
    Verdict(True, True, True),
    Verdict(False, True, True),
    Verdict(False, False, True),
    Verdict(False, False, False),
)


@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        (ProviderTimeout("x"), 408, SAME),
        (ProviderTimeout("x"), None, SAME),
        (ProviderUnavailable("x"), 409, SAME),
        (ProviderRateLimited("x"), 429, SAME),
        (ProviderUnavailable("x"), 500, SAME),
        (ProviderUnavailable("x"), 503, SAME),
        (ProviderUnavailable("connection refused"), None, SAME),
        (ProviderGarbled("x"), 200, SAME),
        (Overloaded("x"), None, SAME),
        (ProviderCredential("x"), 401, SIBLING),
        (ProviderCredential("x"), 403, SIBLING),
        (ProviderQuotaExceeded("x"), 402, SIBLING),
        (ProviderUnavailable("x"), 404, SIBLING),
        (EmptyTranscript("x"), 200, SIBLING),
        (ProviderRejected("x"), 400, FALLBACK),
        (AudioTooLarge("x"), 413, FALLBACK),
        (UnsupportedAudio("x"), 415, FALLBACK),
        (UnsupportedParameter("x"), None, FALLBACK),
        (DrillFailure("x"), None, FALLBACK),
        (UploadIncomplete("x"), None, END),
        (DeadlineExceeded("x"), None, END),
        (InternalError("x"), None, END),
    ],
)
def test_by_the_kind_of_the_error(error: VoxgateError, status: int | None, verdict: Verdict):
    assert judge(error, status, hop(deployment("a"))) == verdict


@pytest.mark.parametrize(
    ("error", "status", "again", "fallback"),
    [
        (ProviderRejected("x"), 418, True, False),
        (ProviderUnavailable("x"), 500, False, True),
        (ProviderUnavailable("refused"), None, True, True),
        (ProviderTimeout("x"), None, False, False),
        (ProviderRateLimited("x"), 429, False, False),
    ],
)
def test_by_the_statuses_of_the_hop(error: VoxgateError, status: int | None, again: bool, fallback: bool):
    one = hop(deployment("a"), retry_statuses=frozenset({418, 502}), fallback_statuses=frozenset({500, 502}))
    assert judge(error, status, one) == Verdict(again, again, fallback)


def test_a_drill_goes_on_whatever_the_statuses():
    one = hop(deployment("a"), retry_statuses=frozenset({502}), fallback_statuses=frozenset({429}))
    assert judge(DrillFailure("x"), None, one) == FALLBACK


@given(failures=st.integers(1, 60), seed=st.integers())
def test_full_jitter_under_a_doubling_ceiling(failures: int, seed: int):
    assert 0 <= backoff(failures, random.Random(seed)) <= min(0.5 * 2 ** (failures - 1), 8)


def test_the_jitter_is_full():
    waits = [backoff(3, random.Random(seed)) for seed in range(1000)]
    assert min(waits) < 0.1
    assert max(waits) > 1.9
    assert 0.9 < sum(waits) / 1000 < 1.1


def test_a_tenth_in_the_long_run():
    budget = RetryBudget()
    spent = 0
    for _ in range(10_000):
        budget.earn()
        while budget.spend():
            spent += 1
    assert 990 <= spent <= 1010


def test_quiet_times_do_not_save_more_than_the_burst():
    budget = RetryBudget(burst=4)
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 4
