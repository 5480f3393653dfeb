"""A caller that goes away, or whose time is over: the provider's connection ends and nothing is begun any more."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import grpc
import pytest
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from tests.edges.rest import http_client
from tests.faults.calling import (
    GUARD,
    REST_PATH,
    SPEECH,
    Ask,
    routing,
    unary,
    upload,
    upload_chunk,
    upload_finish,
    upload_start,
)
from tests.faults.conftest import House
from tests.providers.openai_emulator import failure, hang, stall
from tests.running import AUTH, METADATA

Leave = Callable[[], Awaitable[None]]


async def start_rest(house: House, model: str, *, whole: bool) -> Leave:
    connection = await http_client.Connection(house.gateway.rest_port).__aenter__()
    await connection.head(REST_PATH, {"content-type": http_client.FORM, "transfer-encoding": "chunked", **AUTH})
    begin = http_client.field("model", model) + http_client.field("num_retries", "3") + http_client.file_start()
    await connection.chunk(begin + (SPEECH + b"\r\n" + http_client.END if whole else SPEECH[:9000]))
    if whole:
        await connection.end()

    async def leave() -> None:
        await connection.__aexit__()

    return leave


def leaving(call: grpc.aio.Call) -> Leave:
    async def leave() -> None:
        call.cancel()
        await asyncio.wait([asyncio.ensure_future(call.code())])

    return leave


async def start_unary(house: House, model: str, *, whole: bool) -> Leave:
    assert whole
    request = api.TranscribeRequest(
        config=TranscriptionConfig(model=model, routing=routing(retries=3)), audio=AudioSource(data=SPEECH)
    )
    call = house.gateway.stub.Transcribe(request, metadata=METADATA)
    return leaving(call)


async def start_upload(house: House, model: str, *, whole: bool) -> Leave:
    call = house.gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(upload_start(model, retries=3))
    await call.write(upload_chunk(SPEECH if whole else SPEECH[:9000]))
    if whole:
        await call.write(upload_finish(SPEECH))
        await call.done_writing()
    return leaving(call)


Start = Callable[..., Awaitable[Leave]]
STARTS = {"rest": start_rest, "unary": start_unary, "upload": start_upload}


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest) -> Start:
    return STARTS[request.param]


@pytest.mark.parametrize("fault", [hang(), stall()], ids=["hang", "stall"])
async def test_the_providers_connection_ends(house: House, start: Start, fault):
    house.first.script(fault)
    leave = await start(house, "first", whole=True)
    await asyncio.wait_for(house.first.record(), GUARD)
    await leave()
    await asyncio.wait_for(house.proxy.links[0].client_closed.wait(), GUARD)
    await house.at_rest()
    assert len(house.first.records) == 1
    assert not house.second.records


@pytest.mark.parametrize("start", [start_rest, start_upload])
async def test_the_body_is_cut_when_the_upload_was_not_complete(house: House, start: Start):
    leave = await start(house, "first", whole=False)
    record = await asyncio.wait_for(house.first.record(), GUARD)
    await asyncio.wait_for(record.first_file_byte.wait(), GUARD)
    await leave()
    await asyncio.wait_for(record.peer_closed.wait(), GUARD)
    await house.at_rest()
    assert not record.complete
    assert len(house.first.records) == 1
    assert not house.second.records


async def test_the_fallbacks_connection_ends(house: House, start: Start):
    house.first.script("401")
    house.second.script(hang())
    leave = await start(house, "first", whole=True)
    record = await asyncio.wait_for(house.second.record(), GUARD)
    await leave()
    await asyncio.wait_for(record.peer_closed.wait(), GUARD)
    await house.at_rest()
    assert (len(house.first.records), len(house.second.records)) == (1, 1)


async def test_nothing_follows_a_wait(house: House, start: Start):
    house.health("alone", alone=True)
    house.first.script(failure(503, headers={"retry-after": "30"}))
    leave = await start(house, "alone", whole=True)
    [deployment] = house.gateway.app.gateway.router.table.group("alone")
    async with asyncio.timeout(GUARD):
        while not deployment.health.consecutive_failures:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert house.gateway.app.gateway.calls_in_progress == 1
    await leave()
    await house.at_rest()
    assert len(house.first.records) == 1


def limited(house: House, seconds: float) -> None:
    gateway = house.gateway.app.gateway
    gateway.limits = dataclasses.replace(
        gateway.limits, request_timeout_seconds=seconds, request_timeout_per_audio_second=0.0
    )


@pytest.mark.parametrize("ask", [unary, upload])
async def test_no_attempt_after_the_callers_deadline(house: House, ask: Ask):
    house.first.script(hang())
    outcome = await ask(house.gateway, "first", retries=3, timeout=0.5)
    assert outcome.status is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(house.proxy.links[0].client_closed.wait(), GUARD)
    await house.at_rest()
    assert len(house.first.records) == 1
    assert not house.second.records


async def test_no_attempt_after_the_servers_limit(house: House, ask: Ask):
    limited(house, 0.5)
    house.first.script(hang())
    outcome = await ask(house.gateway, "first", retries=3)
    limited(house, 60)
    assert outcome.matches(504, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert "0.5 s" in outcome.message
    await asyncio.wait_for(house.proxy.links[0].client_closed.wait(), GUARD)
    await house.at_rest()
    assert len(house.first.records) == 1
    assert not house.second.records


async def test_nobody_waits_beyond_the_deadline(house: House, ask: Ask):
    limited(house, 10)
    house.health("alone", alone=True)
    house.first.script(failure(503, headers={"retry-after": "30"}))
    outcome = await ask(house.gateway, "alone")
    assert outcome.matches(502, grpc.StatusCode.UNAVAILABLE)
    assert outcome.retry_after == 30
    assert len(house.first.records) == 1


async def test_the_limit_passes_before_the_recording_has_begun(house: House):
    limited(house, 0.3)
    async with http_client.Connection(house.gateway.rest_port) as connection:
        await connection.head(REST_PATH, {"content-type": http_client.FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(http_client.field("model", "first") + http_client.file_start() + b"RIFF")
        response = await connection.response()
    limited(house, 60)
    assert response.status == 504
    assert "0.3 s" in response.error["message"]
    assert not house.first.records


@pytest.mark.parametrize("ask", [unary, upload])
async def test_attempts_told_are_attempts_made(house: House, ask: Ask):
    house.first.script("500", "bad-json")
    house.second.script("html", "500")
    outcome = await ask(house.gateway, "first", retries=1)
    assert outcome.matches(502, grpc.StatusCode.UNAVAILABLE)
    assert len(outcome.attempts) == len(house.first.records) + len(house.second.records) == 4
