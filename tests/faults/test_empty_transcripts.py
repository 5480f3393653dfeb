"""A provider that hears nothing: an answer, or where the operator wants it a reason to ask one other."""

import dataclasses

import pytest

from tests.faults.calling import SHA256, Ask
from tests.faults.conftest import House
from tests.providers.openai_emulator import failure, hang, raw

NOTHING = raw('{"text": ""}')
BLANK = raw('{"text": " \\n", "usage": {"type": "duration", "seconds": 4}}')


@pytest.fixture
def objecting(house: House) -> House:
    """`voxgate.empty_transcript: fallback`."""
    router = house.gateway.app.gateway.router
    router.settings = dataclasses.replace(router.settings, empty_falls_back=True)
    return house


async def test_it_is_an_answer(house: House, ask: Ask):
    house.first.script(NOTHING)
    outcome = await ask(house.gateway, "first")
    assert (outcome.ok, outcome.text, outcome.attempts) == (True, "", ["succeeded"])
    assert not house.second.records


@pytest.mark.parametrize("answer", [NOTHING, BLANK], ids=["nothing", "blank"])
async def test_another_one_is_asked(objecting: House, ask: Ask, answer):
    objecting.first.script(answer)
    outcome = await ask(objecting.gateway, "first")
    assert outcome.text == "From the second."
    assert outcome.attempts == ["EMPTY_TRANSCRIPT", "succeeded"]
    assert [record.file_sha256 for record in objecting.first.records + objecting.second.records] == [SHA256] * 2


async def test_two_who_hear_nothing_are_enough(objecting: House, ask: Ask):
    objecting.first.script(BLANK)
    objecting.second.script(NOTHING)
    outcome = await ask(objecting.gateway, "first", fallbacks=("second", "probe"))
    assert outcome.ok
    assert outcome.text.strip() == ""
    assert outcome.attempts == ["succeeded", "EMPTY_TRANSCRIPT"]
    assert (len(objecting.first.records), len(objecting.second.records)) == (1, 1)


@pytest.mark.parametrize("fault", ["500", "bad-json", failure(400), "401"], ids=str)
async def test_the_failure_of_the_other_one_is_not_the_end(objecting: House, ask: Ask, fault):
    objecting.first.script(NOTHING)
    objecting.second.script(fault, fault, fault)
    outcome = await ask(objecting.gateway, "first", retries=0)
    assert (outcome.ok, outcome.text) == (True, "")
    assert outcome.attempts[0] == "succeeded"
    assert len(objecting.first.records) == len(objecting.second.records) == 1


async def test_a_failure_in_between_does_not_count(objecting: House, ask: Ask):
    objecting.first.script(NOTHING)
    objecting.second.script("500")
    outcome = await ask(objecting.gateway, "first", retries=0, fallbacks=("second", "probe"))
    assert outcome.text == "Well."


async def test_where_there_is_nobody_else_it_is_an_answer(objecting: House, ask: Ask):
    objecting.first.script(NOTHING)
    outcome = await ask(objecting.gateway, "alone")
    assert (outcome.ok, outcome.text, outcome.attempts) == (True, "", ["succeeded"])
    assert len(objecting.first.records) == 1


async def test_the_time_ends_while_another_one_listens(objecting: House, ask: Ask):
    gateway = objecting.gateway.app.gateway
    before, gateway.limits = gateway.limits, dataclasses.replace(gateway.limits, request_timeout_seconds=1.0)
    objecting.first.script(NOTHING)
    objecting.second.script(hang())
    outcome = await ask(objecting.gateway, "first")
    gateway.limits = before
    assert (outcome.ok, outcome.text) == (True, "")
    assert len(objecting.second.records) == 1


async def test_it_says_nothing_about_the_deployments_health(objecting: House, ask: Ask):
    objecting.health("first", allowed_fails=0)
    objecting.first.script(*[NOTHING] * 5)
    for _ in range(5):
        assert (await ask(objecting.gateway, "first")).text == "From the second."
    assert len(objecting.first.records) == 5
