"""AdminService over a real channel, against the strict OpenAI emulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from voxgate.admin.v1 import admin_service_pb2 as admin
from voxgate.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server import __version__
from voxgate_server.app import App
from voxgate_server.config import load_config
from voxgate_server.edges.listen import ListenError

from tests.edges.grpc.test_transcription import reason, request
from tests.edges.rest.http_client import FORM, Connection, form, post
from tests.providers.openai_emulator import OpenAIEmulator, failure, ok
from tests.recordings import recording
from tests.running import AUTH, KEY, METADATA, Gateway, openai_config, running

SPEECH = recording("demo-thanks.wav").data
PATH = "/v1/audio/transcriptions"
PAIR = """
  - model_name: pair
    litellm_params: {{model: openai/whisper-1, api_base: {url}, api_key: sk-upstream-canary-0001, weight: 1}}
    model_info: {{id: first}}
  - model_name: pair
    litellm_params: {{model: openai/gpt-4o-transcribe, api_base: {url}, api_key: sk-upstream-canary-0001, weight: 1}}
    model_info: {{id: second}}
"""


def config(url: str, extra: str = "") -> str:
    models, rest = openai_config(url, models=("whisper-1", "fault-hang"), extra=extra).split("general_settings:")
    return f"{models}{PAIR.format(url=url)}general_settings:{rest}"


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, config(emulator.url), admin=True) as gateway:
        yield gateway


async def providers(gateway: Gateway, group: str = "") -> dict[str, admin.Provider]:
    answer = await gateway.admin.ListProviders(admin.ListProvidersRequest(group=group), metadata=METADATA)
    return {provider.id: provider for provider in answer.providers}


async def active(gateway: Gateway) -> list[admin.ActiveRequest]:
    answer = await gateway.admin.ListActiveRequests(admin.ListActiveRequestsRequest(), metadata=METADATA)
    return list(answer.requests)


async def set_state(gateway: Gateway, deployment: str, state: admin.ProviderState.ValueType) -> admin.Provider:
    asked = admin.SetProviderStateRequest(id=deployment, state=state)
    return (await gateway.admin.SetProviderState(asked, metadata=METADATA)).provider


async def cancel(gateway: Gateway, request_id: str) -> None:
    await gateway.admin.CancelRequest(admin.CancelRequestRequest(request_id=request_id), metadata=METADATA)


async def test_deployments_are_listed_with_their_state(gateway: Gateway) -> None:
    await gateway.stub.Transcribe(request("whisper-1"), metadata=METADATA)
    found = await providers(gateway)
    assert [provider.group for provider in found.values()] == ["whisper-1", "fault-hang", "pair", "pair"]
    asked, idle = next(iter(found.values())), found["second"]
    assert (asked.provider, asked.model) == ("openai", "whisper-1")
    assert (asked.state, asked.circuit) == (admin.PROVIDER_STATE_ENABLED, admin.CIRCUIT_STATE_CLOSED)
    assert asked.minute_request_count == 1
    assert asked.latency_per_audio_second.ToNanoseconds() > 0
    assert not asked.HasField("open_for")
    assert (asked.active_request_count, asked.error_ratio, asked.consecutive_failure_count) == (0, 0, 0)
    assert (idle.model, idle.minute_request_count) == ("gpt-4o-transcribe", 0)
    assert not idle.HasField("latency_per_audio_second")
    assert list(await providers(gateway, "pair")) == ["first", "second"]


async def test_a_tripped_deployment_shows_why_and_for_how_long(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    # Which of both is asked first is chance: a refused key trips a deployment that has a sibling at once.
    emulator.script(failure(401, "Incorrect API key provided.", code="invalid_api_key"))
    await gateway.stub.Transcribe(request("pair"), metadata=METADATA)
    by_circuit = {provider.circuit: provider for provider in (await providers(gateway, "pair")).values()}
    tripped = by_circuit[admin.CIRCUIT_STATE_OPEN]
    assert tripped.consecutive_failure_count == 1
    assert "openai" in tripped.last_error
    assert "sk-" not in tripped.last_error
    assert 0 < tripped.open_for.ToNanoseconds() <= 5e9
    assert tripped.open_until.ToNanoseconds() > 0
    assert by_circuit[admin.CIRCUIT_STATE_CLOSED].last_error == ""


async def test_failures_that_do_not_trip_are_a_ratio(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    emulator.script(failure(500), failure(500), failure(500))
    with pytest.raises(grpc.RpcError):
        await gateway.stub.Transcribe(request("whisper-1"), metadata=METADATA)
    await gateway.stub.Transcribe(request("whisper-1"), metadata=METADATA)
    (provider,) = (await providers(gateway, "whisper-1")).values()
    assert provider.minute_request_count == 4
    assert provider.error_ratio == 0.75
    assert provider.consecutive_failure_count == 0


@pytest.mark.parametrize("state", [admin.PROVIDER_STATE_DRAINING, admin.PROVIDER_STATE_DISABLED])
async def test_traffic_leaves_a_deployment_and_comes_back(
    gateway: Gateway, emulator: OpenAIEmulator, state: admin.ProviderState.ValueType
) -> None:
    assert (await set_state(gateway, "first", state)).state == state
    for _ in range(12):
        await gateway.stub.Transcribe(request("pair"), metadata=METADATA)
    assert {dict(record.fields)["model"] for record in emulator.records} == {"gpt-4o-transcribe"}
    await set_state(gateway, "second", state)
    with pytest.raises(grpc.RpcError) as nobody:
        await gateway.stub.Transcribe(request("pair"), metadata=METADATA)
    assert nobody.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "in service" in str(nobody.value.details())
    assert len(emulator.records) == 12
    assert (await post(gateway.rest_port, PATH, form(SPEECH, model="pair"), AUTH)).status == 503
    await set_state(gateway, "first", admin.PROVIDER_STATE_ENABLED)
    await gateway.stub.Transcribe(request("pair"), metadata=METADATA)
    assert ("model", "whisper-1") in emulator.records[-1].fields


async def test_a_deployment_out_of_service_ends_what_it_began(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    answered = asyncio.Event()
    emulator.script(ok(until=answered))
    await set_state(gateway, "second", admin.PROVIDER_STATE_DISABLED)
    call = asyncio.ensure_future(post(gateway.rest_port, PATH, form(SPEECH, model="pair"), AUTH))
    await emulator.record()
    draining = await set_state(gateway, "first", admin.PROVIDER_STATE_DRAINING)
    assert draining.active_request_count == 1
    answered.set()
    assert (await call).json()["text"] == emulator.text
    assert (await providers(gateway, "pair"))["first"].active_request_count == 0


async def test_requests_in_progress_are_listed_and_cancelled_over_grpc(
    gateway: Gateway, emulator: OpenAIEmulator
) -> None:
    call = gateway.stub.Transcribe(request("fault-hang"), metadata=METADATA)
    record = await emulator.record()
    (listed,) = await active(gateway)
    assert listed.method == "/voxgate.transcription.v1.TranscriptionService/Transcribe"
    assert (listed.key_id, listed.requested_model, listed.provider, listed.model) == (
        "master", "fault-hang", "openai", "fault-hang",
    )  # fmt: skip
    assert (listed.attempt_count, listed.received_bytes, listed.upload_complete) == (1, len(SPEECH), True)
    assert listed.start_time.ToNanoseconds() > 0
    await cancel(gateway, listed.request_id)
    with pytest.raises(grpc.RpcError) as cancelled:
        await call
    assert cancelled.value.code() is grpc.StatusCode.CANCELLED
    assert "operator" in str(cancelled.value.details())
    assert reason(cancelled.value) == "CANCELLED"
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    assert await active(gateway) == []
    assert gateway.app.gateway.spool_bytes == 0


async def test_a_stream_of_events_is_cancelled(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    asked = api.TranscribeEventsRequest(config=TranscriptionConfig(model="fault-hang"), audio=AudioSource(data=SPEECH))
    call = gateway.stub.TranscribeEvents(asked, metadata=METADATA)
    record = await emulator.record()
    (listed,) = await active(gateway)
    await cancel(gateway, listed.request_id)
    with pytest.raises(grpc.RpcError) as cancelled:
        [event async for event in call]
    assert reason(cancelled.value) == "CANCELLED"
    await asyncio.wait_for(record.peer_closed.wait(), 10)


async def test_an_upload_in_progress_is_cancelled(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(api.TranscribeUploadRequest(start=api.UploadStart(config=TranscriptionConfig(model="whisper-1"))))
    await call.write(api.TranscribeUploadRequest(chunk=AudioChunk(data=SPEECH[:20_000])))
    record = await emulator.record()
    await asyncio.wait_for(record.first_file_byte.wait(), 10)
    (listed,) = await active(gateway)
    assert (listed.received_bytes, listed.upload_complete) == (20_000, False)
    await cancel(gateway, listed.request_id)
    with pytest.raises(grpc.RpcError) as cancelled:
        await call
    assert reason(cancelled.value) == "CANCELLED"
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    assert not record.complete


@pytest.mark.parametrize("whole", [True, False])
async def test_requests_in_progress_are_listed_and_cancelled_over_rest(
    gateway: Gateway, emulator: OpenAIEmulator, whole: bool
) -> None:
    body = form(SPEECH, model="fault-hang")
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "content-length": str(len(body)), **AUTH})
        await connection.send(body if whole else body[:30_000])
        record = await emulator.record()
        await asyncio.wait_for(record.first_file_byte.wait(), 10)
        (listed,) = await active(gateway)
        assert listed.method == f"POST {PATH}"
        await cancel(gateway, listed.request_id)
        response = await connection.response()
    assert (response.status, response.error["code"]) == (499, "cancelled_by_operator")
    assert response.headers["x-voxgate-request-id"] == listed.request_id
    assert "operator" in response.error["message"]
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    assert await active(gateway) == []


async def test_an_id_that_two_callers_chose_ends_both(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    headers = {**AUTH, "x-litellm-call-id": "chosen-twice"}
    calls = [
        asyncio.ensure_future(post(gateway.rest_port, PATH, form(SPEECH, model="fault-hang"), headers))
        for _ in range(2)
    ]
    await emulator.record(1)
    assert [one.request_id for one in await active(gateway)] == ["chosen-twice"] * 2
    await cancel(gateway, "chosen-twice")
    assert [(await call).status for call in calls] == [499, 499]
    assert gateway.app.gateway.calls_in_progress == 0


async def test_what_does_not_exist_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(grpc.RpcError) as unknown:
        await cancel(gateway, "req_0")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as unknown:
        await set_state(gateway, "third", admin.PROVIDER_STATE_DISABLED)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as stateless:
        await set_state(gateway, "first", admin.PROVIDER_STATE_UNSPECIFIED)
    assert stateless.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as later:
        await gateway.admin.ReloadConfig(admin.ReloadConfigRequest(), metadata=METADATA)
    assert (later.value.code(), reason(later.value)) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


async def test_server_info(gateway: Gateway) -> None:
    info = await gateway.admin.GetServerInfo(admin.GetServerInfoRequest(), metadata=METADATA)
    assert info.version == __version__
    assert info.start_time.seconds > 0
    assert not info.HasField("worker")
    assert list(info.api_versions) == ["voxgate.transcription.v1", "voxgate.admin.v1"]


async def test_the_admin_listener_is_its_own(gateway: Gateway) -> None:
    assert gateway.admin_channel is not None
    on_public = AdminServiceStub(gateway.channel).GetServerInfo(admin.GetServerInfoRequest(), metadata=METADATA)
    with pytest.raises(grpc.RpcError) as unimplemented:
        await on_public
    assert unimplemented.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as nameless:
        await gateway.admin.GetServerInfo(admin.GetServerInfoRequest())
    assert nameless.value.code() is grpc.StatusCode.UNAUTHENTICATED
    health = health_pb2_grpc.HealthStub(gateway.admin_channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="voxgate.admin.v1.AdminService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_without_a_key_it_listens_on_loopback_only(emulator: OpenAIEmulator, tmp_path: Path) -> None:
    file = tmp_path / "keyless.yaml"
    file.write_text(openai_config(emulator.url).replace(KEY, "").replace("  master_key: \n", "  {}\n"))
    loaded = load_config(file, environ={})
    app = App(loaded.config, environ={})
    try:
        with pytest.raises(ListenError, match="without a key"):
            await app.start(host="127.0.0.1", grpc_port=0, rest_port=0, admin_host="0.0.0.0", admin_port=0)
        where = await app.start(host="127.0.0.1", grpc_port=0, rest_port=0, admin_port=0)
        async with aio.insecure_channel(f"127.0.0.1:{where.admin_port}") as channel:
            info = await AdminServiceStub(channel).GetServerInfo(admin.GetServerInfoRequest())
        assert info.version == __version__
    finally:
        await app.stop(grace=0)
