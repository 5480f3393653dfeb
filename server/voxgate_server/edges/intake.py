"""Receiving and answering at the same time, for every surface."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["answer_while_receiving"]

T = TypeVar("T")


async def answer_while_receiving(receiving: Coroutine[Any, Any, None], answering: Coroutine[Any, Any, T]) -> T:
    """Runs both until there is an answer; whichever fails first ends the other.

    The answer may come while the upload is still running only as an error: a provider is never given the end of
    the recording before the upload was verified, so no success can be earlier.

    Args:
        receiving: Copies the upload into the spool; may go on afterwards, to notice that the caller goes away.
        answering: Comes to the answer.

    Returns:
        What `answering` returns.

    Raises:
        BaseException: What either raised, `receiving` first.
    """
    receiver, answerer = asyncio.ensure_future(receiving), asyncio.ensure_future(answering)
    try:
        await asyncio.wait((receiver, answerer), return_when=asyncio.FIRST_COMPLETED)
        if receiver.done():
            receiver.result()
        return await answerer
    finally:
        for task in (receiver, answerer):
            task.cancel()
        # Collects what either raised, so that an error that lost the race is not reported as forgotten.
        await asyncio.gather(receiver, answerer, return_exceptions=True)
