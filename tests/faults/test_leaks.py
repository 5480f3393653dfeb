"""Faults over and over leave neither descriptors nor tasks behind."""

import asyncio
import os
from pathlib import Path

from tests.faults.calling import DOORS, GUARD
from tests.faults.conftest import House
from tests.providers.chaos_proxy import both, downstream, upstream
from tests.providers.openai_emulator import failure


def descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


async def faults(house: House) -> None:
    """Every kind of end a connection can have, through every door."""
    for ask in DOORS.values():
        for behaviour in ("500", "reset-answer", "cut-answer", "early-413", "reset-body", "bad-json", failure(401)):
            house.first.script(behaviour)
            assert (await ask(house.gateway, "first")).text == "From the second."
        for toxics in (both(reset_peer=0), upstream(reset_peer=9000), downstream(limit_data=20)):
            # A connection that is kept would spare the next call the fault.
            await house.proxy.down()
            await house.proxy.up()
            house.proxy.script(toxics)
            assert (await ask(house.gateway, "first")).text == "From the second."
    await house.at_rest()


async def test_faults_leave_nothing_behind(house: House):
    house.health("first", disabled=True)
    await faults(house)
    open_before, tasks_before = descriptors(), len(asyncio.all_tasks())
    for _ in range(5):
        await faults(house)
    async with asyncio.timeout(GUARD):
        while descriptors() > open_before + 2 or len(asyncio.all_tasks()) > tasks_before + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
