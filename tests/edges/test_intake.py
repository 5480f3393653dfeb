"""Receiving and answering at once: whichever fails first ends the other."""

import asyncio

import pytest
from voxgate_server.edges.intake import answer_while_receiving
from voxgate_server.errors import Cancelled, ProviderUnavailable, UploadIncomplete


class Side:
    """One side of a call, which records how it ended."""

    def __init__(self, result: object = None, *, after: int = 0, error: Exception | None = None) -> None:
        self.result, self.after, self.error, self.cancelled = result, after, error, False

    async def run(self):
        try:
            for _ in range(self.after):
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            if self.after < 0:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.result


async def test_the_answer_comes_after_the_upload():
    assert await answer_while_receiving(Side(after=2).run(), Side("text", after=9).run()) == "text"


async def test_an_answer_ends_the_watch_over_the_caller():
    watching = Side(after=-1)
    assert await answer_while_receiving(watching.run(), Side("text", after=3).run()) == "text"
    assert watching.cancelled


@pytest.mark.parametrize("error", [UploadIncomplete("cut"), Cancelled("gone")])
async def test_a_failing_upload_ends_the_answer(error: Exception):
    answering = Side(after=-1)
    with pytest.raises(type(error)):
        await answer_while_receiving(Side(after=2, error=error).run(), answering.run())
    assert answering.cancelled


async def test_an_early_failure_of_the_answer_ends_the_upload():
    receiving = Side(after=-1)
    with pytest.raises(ProviderUnavailable):
        await answer_while_receiving(receiving.run(), Side(after=2, error=ProviderUnavailable("no")).run())
    assert receiving.cancelled


async def test_when_both_fail_the_upload_is_the_cause():
    with pytest.raises(UploadIncomplete):
        await answer_while_receiving(
            Side(after=3, error=UploadIncomplete("cut")).run(), Side(after=3, error=ProviderUnavailable("no")).run()
        )


async def test_cancelling_ends_both():
    receiving, answering = Side(after=-1), Side(after=-1)
    task = asyncio.create_task(answer_while_receiving(receiving.run(), answering.run()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert receiving.cancelled
    assert answering.cancelled
