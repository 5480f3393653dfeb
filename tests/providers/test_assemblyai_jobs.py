"""AssemblyAI: uploads, questions, and what becomes of work nobody waits for."""

import asyncio
import hashlib

import pytest
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore

from tests.providers.assemblyai_emulator import AssemblyAIEmulator, failure
from tests.providers.calling import WAV, attempt_with
from tests.providers.emulator import ok
from tests.providers.provider_calling import ProviderCalling, run


async def test_assemblyai_reads_while_the_caller_sends(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore
):
    data = WAV * 20
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(data[:100_000])
        record = await assemblyai.record()
        await record.first_file_byte.wait()
        assert not spool.finished
        await spool.write(data[100_000:])
        assert not record.body_ended.is_set()
        spool.finish()
        assert (await call).text == assemblyai.text
    assert record.head.framing == "chunked"
    assert record.complete
    assert record.file_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_upload_that_breaks_off_is_never_completed(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore, size: int
):
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV[:size])
        record = await assemblyai.record()
        await record.first_file_byte.wait()
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
        await record.body_ended.wait()
    assert not record.complete
    assert record.status is None
    assert not assemblyai.orders


@pytest.mark.parametrize("finished", [False, True])
async def test_cancelling_the_upload_closes_the_connection(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore, finished: bool
):
    assemblyai.script("hang")
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        await spool.write(WAV)
        if finished:
            spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        record = await assemblyai.record()
        await (record.body_ended if finished else record.first_file_byte).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert record.complete == finished
    assert not assemblyai.orders


async def test_a_caller_who_goes_away_takes_the_job_along(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore
):
    assemblyai.endless = True
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        await spool.write(WAV)
        spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await assemblyai.record(4)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    # `aclose` has waited for it.
    assert assemblyai.deleted == ["job_1"]


async def test_the_deadline_takes_the_job_along(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    assemblyai.endless = True
    with pytest.raises(errors.ProviderTimeout, match="still working"):
        await order(seconds=1, poll_seconds=(0.1, 0.1))
    assert assemblyai.deleted == ["job_1"]
    assert order.attempt is not None
    assert order.attempt.report.http_status == 200


async def test_a_job_that_cannot_be_deleted_spoils_nothing(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    assemblyai.endless = True
    assemblyai.script(ok(), ok(), failure(401), failure(500))
    with pytest.raises(errors.ProviderCredential):
        await order()
    assert assemblyai.records[-1].method == "DELETE"
    assert not assemblyai.deleted


async def test_questions_become_rarer(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("voxgate_server.providers.http_call.asyncio.sleep", note)
    assemblyai.steps = ["processing"] * 7
    await order(poll_seconds=(0.5, 3.0))
    assert waits == [0.5, 0.75, 1.125, 1.6875, 2.53125, 3.0, 3.0, 3.0]


async def test_a_question_may_fail(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    assemblyai.script(
        ok(), ok(), failure(503), "reset-answer", ok(), failure(429, headers={"retry-after": "0.01"}), "html"
    )
    assert (await order()).text == assemblyai.text
    assert not assemblyai.deleted


async def test_but_not_three_times_in_a_row(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    assemblyai.script(ok(), ok(), failure(503), failure(503), failure(503))
    with pytest.raises(errors.ProviderUnavailable, match="503"):
        await order()
    assert assemblyai.deleted == ["job_1"]


async def test_a_fallback_gets_the_same_bytes(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore
):
    assemblyai.script(ok(), failure(503))
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        await spool.write(WAV)
        spool.finish()
        with pytest.raises(errors.ProviderUnavailable):
            await run(provider, attempt_with(spool))
        await run(provider, attempt_with(spool))
    assert {hashlib.sha256(data).digest() for data in assemblyai.uploads.values()} == {hashlib.sha256(WAV).digest()}
