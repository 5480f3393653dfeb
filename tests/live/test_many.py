"""Many sessions at once."""

import asyncio

from tests.live.calling import chunks, eventually, finish, live, start
from tests.live.listening_emulator import ListeningEmulator
from tests.providers import beeps
from tests.running import Gateway

SESSIONS = 50


async def test_fifty_sessions_at_once(gateway: Gateway, emulator: ListeningEmulator):
    """Each speaks in real time, and has heard everything of what it said and nothing of the others."""
    pcm, heard = beeps.spoken(12, pause=0.8)
    text = [word for word, _, _ in heard]
    everybody = asyncio.Barrier(SESSIONS)

    async def one(number: int) -> None:
        own = pcm[number * 640 :]  # Nobody has the same samples.
        async with live(gateway, start()) as session, asyncio.TaskGroup() as tasks:
            await session.until("session_started")
            reading = tasks.create_task(session.rest())
            await everybody.wait()
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for tenth, message in enumerate(chunks(own), 1):
                await asyncio.sleep(begin + tenth / 10 - loop.time())
                await session.send(message)
            await session.send(finish(len(own)))
            await reading
        assert session.of("done")[0].transcription.text.split()[-len(text) + 2 :] == text[2:]
        assert session.of("done")[0].transcription.duration == len(own) / 32_000

    async with asyncio.TaskGroup() as tasks:
        for number in range(SESSIONS):
            tasks.create_task(one(number))
    await eventually(lambda: not gateway.app.live.connected and not gateway.app.gateway.calls_in_progress)
    assert len(emulator.records) == 2 * SESSIONS
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("voxgate-live")]
