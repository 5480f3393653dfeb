"""Whatever way a provider fails in after it took the audio, the fallback gets exactly the same bytes."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Awaitable, Callable

import grpc
import pytest
from voxgate_server.providers.local import PocketsphinxProvider

from tests.edges.rest import http_client
from tests.faults.calling import (
    DOORS,
    GUARD,
    REST_PATH,
    SHA256,
    Ask,
    grpc_outcome,
    rest_outcome,
    upload_chunk,
    upload_finish,
    upload_start,
)
from tests.faults.conftest import House
from tests.providers.chaos_proxy import both, downstream, upstream
from tests.providers.openai_emulator import failure, hang, raw, stall
from tests.recordings import recording
from tests.running import AUTH, METADATA

LONG = recording("demo-congrats.wav").data
"""Too long to lie in the buffers between here and there."""


def scripted(*behaviours) -> Callable[[House], Awaitable[None]]:
    async def fail(house: House) -> None:
        house.first.script(*behaviours)

    return fail


def spoiled(*toxics) -> Callable[[House], Awaitable[None]]:
    async def fail(house: House) -> None:
        house.proxy.script(*toxics)

    return fail


async def refused(house: House) -> None:
    await house.proxy.down()


CONSUMED = {
    "500": scripted("500"),
    "503": scripted("503"),
    "429": scripted("429"),
    "quota": scripted("quota"),
    "401": scripted("401"),
    "403": scripted(failure(403)),
    "404": scripted(failure(404)),
    "408": scripted(failure(408)),
    "413": scripted(failure(413)),
    "silent": scripted(hang()),
    "reset-before-answer": scripted(raw("", cut=-1, then="reset")),
    "closed-before-answer": scripted(raw("", cut=-1, then="close")),
    "reset-answer": scripted("reset-answer"),
    "cut-answer": scripted("cut-answer"),
    "invalid-json": scripted("bad-json"),
    "html-502": scripted("html"),
    "html-200": scripted(raw("<html>hello</html>", media_type="text/html")),
    "error-in-200": scripted("error-200"),
    "empty-200": scripted(raw("")),
    "null": scripted(raw("null")),
    "no-text": scripted(raw('{"result": "hello"}')),
    "text-is-no-text": scripted(raw('{"text": 7}')),
    "deep-json": scripted(raw('{"text":' + "[" * 100_000)),
    "length-too-long": scripted(raw('{"text": "hello"}', headers={"content-length": "9999"}, then="close")),
    "length-too-short": scripted(raw('{"text": "hello"}', headers={"content-length": "5"}, then="close")),
    "gzip-not-asked-for": scripted(raw(b"\x1f\x8b\x08", headers={"content-encoding": "gzip"})),
    "redirect": scripted(failure(307, headers={"location": "http://127.0.0.1:1/v1/audio/transcriptions"})),
    "cut-by-the-network": spoiled(downstream(limit_data=30)),
    "reset-by-the-network": spoiled(downstream(reset_peer=30)),
    "black-hole-in-the-answer": spoiled(downstream(timeout=30)),
}
NOT_CONSUMED = {
    "refused": refused,
    "reset-on-accept": spoiled(both(reset_peer=0)),
    "reset-mid-upload": spoiled(upstream(reset_peer=20_000)),
    "closed-mid-upload": spoiled(upstream(limit_data=20_000)),
    "black-hole-mid-upload": spoiled(upstream(timeout=20_000)),
    "reset-at-first-byte": scripted("reset-body"),
    "reads-nothing": scripted(stall()),
    "early-401": scripted("early-401"),
    "early-413": scripted("early-413"),
}
SLOW = {"silent", "black-hole-in-the-answer", "black-hole-mid-upload", "reads-nothing"}


@pytest.mark.parametrize("fault", [*CONSUMED, *NOT_CONSUMED])
async def test_the_fallback_gets_the_same_bytes(house: House, ask: Ask, fault: str):
    await (CONSUMED | NOT_CONSUMED)[fault](house)
    outcome = await ask(house.gateway, "impatient" if fault in SLOW else "first")
    assert outcome.ok, outcome
    assert outcome.text == "From the second."
    assert len(outcome.attempts) == 2
    [record] = house.second.records
    assert record.complete
    assert record.file_sha256 == SHA256
    if fault in CONSUMED:
        [record] = house.first.records
        assert record.file_sha256 == SHA256
    else:
        assert not any(record.complete for record in house.first.records)


@pytest.mark.parametrize("fault", ["500", "reset-at-first-byte", "early-413", "reset-mid-upload"])
async def test_a_long_recording_too(house: House, ask: Ask, fault: str):
    await (CONSUMED | NOT_CONSUMED)[fault](house)
    outcome = await ask(house.gateway, "first", LONG)
    assert outcome.text == "From the second."
    assert house.second.records[0].file_sha256 == hashlib.sha256(LONG).hexdigest()


async def test_down_a_chain(house: House, ask: Ask):
    house.first.script("500", "bad-json")
    outcome = await ask(house.gateway, "first", fallbacks=("alone", "second"))
    assert outcome.text == "From the second."
    assert len(outcome.attempts) == 3
    assert [record.file_sha256 for record in house.first.records + house.second.records] == [SHA256] * 3


async def test_from_a_provider_to_the_embedded_recogniser(house: House, ask: Ask):
    house.first.script("500")
    outcome = await ask(house.gateway, "first", fallbacks=("local",))
    assert outcome.ok, outcome
    assert outcome.text
    assert outcome.text == (await ask(house.gateway, "local")).text
    assert house.first.records[0].file_sha256 == SHA256


def recogniser(house: House) -> PocketsphinxProvider:
    [deployment] = house.gateway.app.gateway.router.table.group("local")
    assert isinstance(deployment.provider, PocketsphinxProvider)
    return deployment.provider


async def worker_of(provider: PocketsphinxProvider) -> int:
    """Waits for the process that works on a call."""
    async with asyncio.timeout(GUARD):
        while not provider.worker_pids:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return provider.worker_pids[0]


async def test_from_a_killed_recogniser_to_a_provider(house: House, ask: Ask):
    call = asyncio.create_task(ask(house.gateway, "local", LONG))
    os.kill(await worker_of(recogniser(house)), signal.SIGKILL)
    outcome = await call
    assert outcome.text == "From the second."
    assert house.second.records[0].file_sha256 == hashlib.sha256(LONG).hexdigest()


async def test_from_an_overloaded_recogniser_to_a_provider(house: House, ask: Ask):
    provider = recogniser(house)
    provider._pool._max_waiting = 0
    occupying = asyncio.create_task(DOORS["unary"](house.gateway, "local", LONG))
    await worker_of(provider)
    outcome = await ask(house.gateway, "local")
    assert outcome.text == "From the second."
    assert house.second.records[0].file_sha256 == SHA256
    occupying.cancel()
    await asyncio.wait([occupying])


@pytest.mark.parametrize("fault", ["reset-body", "early-413", "early-401", "early-200"])
async def test_a_fallback_catches_up_with_a_rest_upload_that_goes_on(house: House, fault: str):
    house.first.script(fault)
    async with http_client.Connection(house.gateway.rest_port) as connection:
        headers = {"content-type": http_client.FORM, "transfer-encoding": "chunked", **AUTH}
        await connection.head(REST_PATH, headers)
        await connection.chunk(http_client.field("model", "first") + http_client.file_start() + LONG[:300_000])
        record = await asyncio.wait_for(house.second.record(), GUARD)
        await asyncio.wait_for(record.first_file_byte.wait(), GUARD)
        assert not record.body_ended.is_set()
        await connection.chunk(LONG[300_000:] + b"\r\n" + http_client.END)
        await connection.end()
        outcome = rest_outcome(await connection.response())
    assert outcome.text == "From the second."
    assert record.file_sha256 == hashlib.sha256(LONG).hexdigest()


@pytest.mark.parametrize("fault", ["reset-body", "early-413", "early-401", "early-200"])
async def test_a_fallback_catches_up_with_a_grpc_upload_that_goes_on(house: House, fault: str):
    house.first.script(fault)
    call = house.gateway.stub.TranscribeUpload(metadata=METADATA, timeout=GUARD)
    await call.write(upload_start("first"))
    await call.write(upload_chunk(LONG[:300_000]))
    record = await asyncio.wait_for(house.second.record(), GUARD)
    await asyncio.wait_for(record.first_file_byte.wait(), GUARD)
    assert not record.body_ended.is_set()
    await call.write(upload_chunk(LONG[300_000:]))
    await call.write(upload_finish(LONG))
    await call.done_writing()
    outcome = await grpc_outcome(call)
    assert outcome.text == "From the second."
    assert record.file_sha256 == hashlib.sha256(LONG).hexdigest()


async def test_the_error_tells_of_all_who_failed(house: House, ask: Ask):
    house.first.script("early-401")
    house.second.script("500", "500", "500")
    outcome = await ask(house.gateway, "first", retries=0)
    assert outcome.matches(502, grpc.StatusCode.UNAVAILABLE)
    assert "401" in outcome.message
    assert "500" in outcome.message
