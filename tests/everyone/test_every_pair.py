"""Every provider fails over to every other one, in every way to fail: the second hears exactly the same bytes."""

import asyncio

import pytest

from tests.everyone.sides import SIDES, House
from tests.faults.calling import DOORS, GUARD, SHA256, Ask
from tests.providers import emulator as emulation

FAULTS = {
    "500": lambda: emulation.raw('{"error": {"message": "it broke"}}', status=500),
    "timeout": emulation.hang,
    "reset-mid-upload": emulation.reset_mid_body,
    "cut-answer": emulation.cut_answer,
    "invalid-json": lambda: emulation.raw('{"text": "hel'),
}


@pytest.fixture(params=["rest", "upload"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """REST and gRPC."""
    return DOORS[request.param]


@pytest.mark.parametrize("first", SIDES)
async def test_the_second_hears_the_same(everyone: House, ask: Ask, first: str):
    for second in SIDES:
        target = second if second != first else f"{second}-speakers"
        for name, fault in FAULTS.items():
            where = f"{first} → {second} by {name}"
            for emulator in everyone.emulators.values():
                emulator.unscript()
            before = len(everyone.taken(second))
            everyone.emulators[first].script(fault())
            # Who is slow for another reason than its fault fails too: only the second has to be in time.
            asking = ask(everyone.gateway, f"{first}-impatient", retries=0, fallbacks=(target,))
            outcome = await asyncio.wait_for(asking, GUARD)
            assert outcome.ok, f"{where}: {outcome}"
            assert outcome.text, where
            assert outcome.attempts[0] != "succeeded", where
            assert outcome.attempts[1:] == ["succeeded"], f"{where}: {outcome.attempts}"
            taken = everyone.taken(second)
            assert len(taken) > before, where
            assert taken[-1] == SHA256, where
