"""The 16 scenarios of failoverbench, ported to transcription.

They and their numbers are those of github.com/failoverbench/failoverbench, methodology v0.1. There a scenario is a
streamed chat; here it is a recording whose whole transcript is waited for, through REST and gRPC (unary and upload).
As there, the first provider has the fault, there is one fallback, and both sides are judged: what the caller got, and
what the providers saw. Each runs with two configured retries, as there, and with none configured.

What can only happen to an answer that streams belongs to the step that brings streamed answers:

    S07  a limit for the first token (here: for the answer)
    S08  a cut between events, S09 a stall between events (here: within the one answer)
    S10  a malformed event among good ones, which could be skipped
    S11  a stream without `[DONE]` (here: an answer whose end is the connection's, without usage)
    S14  going on in the middle of an answer (here: nothing of a broken answer reaches the fallback)
"""

import asyncio
import dataclasses
import time
from dataclasses import dataclass

import grpc
import pytest
from voxgate_server.routing.health import Circuit

from tests.faults.calling import GUARD, SHA256, Ask, Outcome
from tests.faults.conftest import House
from tests.providers.openai_emulator import Behaviour, cut_answer, failure, hang, ok, raw

FIRST, SECOND = "From the first.", "From the second."
ALWAYS = 10
"""More calls than any scenario makes."""
HEAD_ONLY = Behaviour(body=b'{"text": "too late"}', cut=0, then="hang")
HALF = raw('{"text": "From the fir', cut=12, then="hang")
CONTEXT = failure(400, "The recording is longer than the context.", code="context_length_exceeded")
CONTENT = failure(400, "The recording is against the rules.", code="content_policy_violation")


@dataclass(frozen=True)
class Scenario:
    """A fault of the first provider, and what comes of it."""

    title: str
    faults: tuple[Behaviour, ...]
    """Of its calls, in order; after that it is well."""
    by_default: tuple[int, str]
    """How often it is asked, and whose answer the caller gets, with no retries configured."""
    with_retries: tuple[int, str]
    """The same with two."""
    group: str = "first"
    """`impatient` has a limit of half a second for an answer."""


SCENARIOS = {
    "S01": Scenario(
        "429 with Retry-After: the wait is honoured, then the same one is asked again",
        (failure(429, headers={"retry-after": "2"}),),
        by_default=(2, FIRST),
        with_retries=(2, FIRST),
    ),
    "S02": Scenario(
        "429 without Retry-After, persistent: never hammered, straight to the fallback",
        (failure(429),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
    ),
    "S03": Scenario(
        "500 once, then healthy: the same one again where retries are configured, else the fallback at once",
        (failure(500),),
        by_default=(1, SECOND),
        with_retries=(2, FIRST),
    ),
    "S04": Scenario(
        "503 persistent: the fallback within the budget of retries",
        (failure(503),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(3, SECOND),
    ),
    "S05": Scenario(
        "reset before the answer's head: answered all the same",
        (Behaviour(cut=-1, then="reset"),),
        by_default=(1, SECOND),
        with_retries=(2, FIRST),
    ),
    "S06": Scenario(
        "no answer at all: the silent one is asked once",
        (hang(),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
        group="impatient",
    ),
    "S07": Scenario(
        "the head at once, the answer too late: its limit triggers the fallback",
        (HEAD_ONLY,) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
        group="impatient",
    ),
    "S08": Scenario(
        "answer cut in the middle: never a success that is truncated",
        (cut_answer(12),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(3, SECOND),
    ),
    "S09": Scenario(
        "answer stalls in the middle: noticed within the limit, never a success that is truncated",
        (HALF,) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
        group="impatient",
    ),
    "S10": Scenario(
        "malformed answer: nothing of it reaches the caller",
        (raw('{"text": "From the first.", }}'),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(3, SECOND),
    ),
    "S11": Scenario(
        "a whole answer that only the end of the connection ends, without usage: it is the answer",
        (raw('{"text": "From the first."}', headers={"content-length": None}, then="close"),),
        by_default=(1, FIRST),
        with_retries=(1, FIRST),
    ),
    "S12": Scenario(
        "400 context_length_exceeded: never the same model again",
        (CONTEXT,) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
    ),
    "S13": Scenario(
        "400 content_policy_violation: never the same model again",
        (CONTENT,) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(1, SECOND),
    ),
    "S14": Scenario(
        "answer cut, and a fallback that wants the recording and nothing else: it starts from the beginning",
        (cut_answer(20),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(3, SECOND),
    ),
    "S16": Scenario(
        "503 persistent: the account is the fallback's",
        (failure(503),) * ALWAYS,
        by_default=(1, SECOND),
        with_retries=(3, SECOND),
    ),
}  # S15 is a sequence: see below.


async def settled(house: House, outcome: Outcome, *, first: int, second: int) -> None:
    """What holds of every scenario: the providers' side, once and for all time after."""
    for _ in range(2):
        await house.at_rest()
        assert (len(house.first.records), len(house.second.records)) == (first, second), outcome
    assert [record.file_sha256 for record in house.first.records + house.second.records] == [SHA256] * (first + second)
    assert len(outcome.attempts) == first + second
    assert not house.gateway.app.gateway.calls_in_progress


@pytest.mark.parametrize("retries", [None, 2], ids=["by-default", "with-retries"])
@pytest.mark.parametrize("number", SCENARIOS)
async def test_scenario(house: House, ask: Ask, number: str, retries: int | None):
    scenario = SCENARIOS[number]
    house.first.script(*scenario.faults)
    outcome = await ask(house.gateway, scenario.group, retries=retries)
    asked, text = scenario.by_default if retries is None else scenario.with_retries
    assert (outcome.ok, outcome.text) == (True, text), (scenario.title, outcome)
    await settled(house, outcome, first=asked, second=int(text == SECOND))
    assert outcome.attempts[-1] == "succeeded"
    assert "succeeded" not in outcome.attempts[:-1]


async def test_s01_the_wait_is_not_shortened(house: House, ask: Ask):
    house.first.script(*SCENARIOS["S01"].faults)
    assert (await ask(house.gateway, "first")).ok
    asked, again = (record.first_file_byte_at or 0 for record in house.first.records)
    assert again - asked >= 2


async def test_s01_a_long_wait_is_nobodys(house: House, ask: Ask):
    house.first.script(failure(429, headers={"retry-after": "120"}))
    outcome = await ask(house.gateway, "first", retries=2)
    assert outcome.text == SECOND
    await settled(house, outcome, first=1, second=1)


async def test_s07_where_there_is_no_limit_a_slow_answer_is_one(house: House, ask: Ask):
    thought = asyncio.Event()
    house.first.script(ok(until=thought))
    call = asyncio.create_task(ask(house.gateway, "first"))
    record = await asyncio.wait_for(house.first.record(), GUARD)
    await asyncio.wait_for(record.body_ended.wait(), GUARD)
    thought.set()
    outcome = await call
    assert outcome.text == FIRST
    await settled(house, outcome, first=1, second=0)


@pytest.mark.parametrize(("number", "fault"), [("S12", CONTEXT), ("S13", CONTENT)])
async def test_s12_s13_the_providers_reason_where_there_is_nobody_else(
    house: House, ask: Ask, number: str, fault: Behaviour
):
    house.first.script(fault)
    outcome = await ask(house.gateway, "alone", retries=2)
    assert outcome.matches(400, grpc.StatusCode.INVALID_ARGUMENT), number
    assert ("context" if number == "S12" else "rules") in outcome.message
    await house.at_rest()
    assert len(house.first.records) == 1


async def test_s12_a_larger_model_where_one_is_configured(house: House, ask: Ask):
    router = house.gateway.app.gateway.router
    router.settings = dataclasses.replace(router.settings, context_window_fallbacks={"first": ["larger"]})
    house.first.script(CONTEXT)
    outcome = await ask(house.gateway, "first", retries=2)
    assert (outcome.text, outcome.model) == (SECOND, "gpt-4o-transcribe")
    await settled(house, outcome, first=1, second=1)


async def test_s13_who_is_asked_after_a_rejection_is_the_operators_choice(house: House, ask: Ask):
    router = house.gateway.app.gateway.router
    router.settings = dataclasses.replace(router.settings, content_policy_fallbacks={"first": ["larger"]})
    house.first.script(CONTENT)
    outcome = await ask(house.gateway, "first", retries=2)
    assert (outcome.text, outcome.model) == (SECOND, "gpt-4o-transcribe")
    await settled(house, outcome, first=1, second=1)


async def test_s14_nothing_of_a_broken_answer_reaches_the_fallback(house: House, ask: Ask):
    house.first.script(cut_answer(20))
    outcome = await ask(house.gateway, "first")
    (first,), (second,) = house.first.records, house.second.records
    assert second.fields == first.fields
    assert second.field("prompt") is None
    await settled(house, outcome, first=1, second=1)


async def test_s14_the_fallbacks_own_refusal_does_not_hide_the_cause(house: House, ask: Ask):
    house.first.script(cut_answer(20))
    house.second.script(failure(400, "Assistant prefill is not supported."))
    outcome = await ask(house.gateway, "first", retries=0)
    assert outcome.matches(502, grpc.StatusCode.UNAVAILABLE)
    assert "broke the connection" in outcome.message
    assert "prefill" not in outcome.message
    await house.at_rest()
    assert (len(house.first.records), len(house.second.records)) == (1, 1)


@pytest.mark.parametrize("retries", [None, 2], ids=["by-default", "with-retries"])
async def test_s15_the_first_flaps(house: House, ask: Ask, retries: int | None):
    """Down, then healthy: the fallback serves while it is down, a single probe at a time finds out when it is not."""
    [deployment] = house.gateway.app.gateway.router.table.group("first")
    house.health("first", fixed_cooldown=3600.0)
    house.first.script(*[failure(503)] * 100)
    for _ in range(10):
        assert (await ask(house.gateway, "first", retries=retries)).text == SECOND
    # Three failures in a row are forgiven.
    assert len(house.first.records) == 4
    assert deployment.health.circuit(time.monotonic()) is Circuit.OPEN

    for probes in (1, 2):
        deployment.health.open_until = time.monotonic()  # its cooldown is over
        for _ in range(3):
            assert (await ask(house.gateway, "first", retries=retries)).text == SECOND
        assert len(house.first.records) == 4 + probes

    house.first.unscript()
    deployment.health.open_until = time.monotonic()
    for _ in range(3):
        assert (await ask(house.gateway, "first", retries=retries)).text == FIRST
    assert deployment.health.circuit(time.monotonic()) is Circuit.CLOSED
    assert len(house.first.records) == 4 + 2 + 3
    assert {record.file_sha256 for record in house.first.records + house.second.records} == {SHA256}


async def test_s16_model_and_usage_are_the_fallbacks(house: House, ask: Ask):
    """Of the failed attempts nothing but their failure is told; what calls cost comes with the accounts."""
    house.first.script(*SCENARIOS["S16"].faults)
    outcome = await ask(house.gateway, "first", retries=2, fallbacks=("larger",))
    assert (outcome.text, outcome.model, outcome.usage) == (SECOND, "gpt-4o-transcribe", "tokens")
    assert outcome.attempts == ["PROVIDER_UNAVAILABLE"] * 3 + ["succeeded"]
    await settled(house, outcome, first=3, second=1)


async def test_one_calls_fault_is_not_anothers(house: House, ask: Ask):
    """Calls at the same time, every other one of which meets a fault: each gets its own whole answer."""
    house.health("first", disabled=True)
    house.first.script(*[cut_answer(12), ok()] * 8)
    outcomes = await asyncio.gather(*(ask(house.gateway, "first") for _ in range(16)))
    assert sorted(outcome.text for outcome in outcomes) == [FIRST] * 8 + [SECOND] * 8
    await house.at_rest()
    assert (len(house.first.records), len(house.second.records)) == (16, 8)
