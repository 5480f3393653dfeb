"""Two attempts side by side: the first answer counts, the other attempt is cancelled."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from voxgate_server.errors import VoxgateError
from voxgate_server.routing.route import Try

__all__ = ["hedged"]

T = TypeVar("T")


async def hedged(
    attempt: Callable[[Try], AsyncGenerator[T, None]],
    first: Try,
    second: Callable[[], Try | None],
    failed: Callable[[Try, VoxgateError], None],
    delay: float,
) -> AsyncGenerator[T, None]:
    """Runs an attempt and, when it takes too long, another one beside it. Gives the events of the faster one.

    Args:
        attempt: Begins one; closing it early ends the provider's work.
        first: The attempt to begin with.
        second: Chooses the other one; None when there is nobody.
        failed: Told of the failure of the second attempt, when there was one.
        delay: Seconds after which the second attempt begins.

    Raises:
        VoxgateError: Both failed; the error of the first.
    """
    running = {asyncio.ensure_future(_all(attempt(first))): first}
    first_error: VoxgateError | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=delay)
        if not done and (other := second()) is not None:
            running[asyncio.ensure_future(_all(attempt(other)))] = other
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                which = running.pop(task)
                try:
                    events = task.result()
                except VoxgateError as error:
                    if which is first:
                        first_error = error
                    else:
                        failed(which, error)
                    continue
                for event in events:
                    yield event
                return
        assert first_error is not None
        raise first_error
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _all(events: AsyncGenerator[T, None]) -> list[T]:
    try:
        return [event async for event in events]
    finally:
        await events.aclose()
