"""What a caller decides about the routing of its call, on both surfaces: counted at the provider."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioHeader, AudioSource
from voxgate.transcription.v1.config_pb2 import RouteTarget, RoutingConfig, TranscriptionConfig
from voxgate_server.call import Caller
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.rest.app import rest_app
from voxgate_server.edges.rest.server import RestServer
from voxgate_server.errors import PermissionDenied
from voxgate_server.gateway import Gateway as Core
from voxgate_server.gateway import GatewayLimits

from tests.edges.rest.http_client import Response, form, post
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import AUTH, KEY, METADATA, Gateway, openai_config, running

SPEECH = recording("demo-thanks.wav").data
SHA256 = hashlib.sha256(SPEECH).hexdigest()
PATH = "/v1/audio/transcriptions"


@pytest.fixture
async def primary() -> AsyncIterator[OpenAIEmulator]:
    """The provider of the first group."""
    async with OpenAIEmulator(key="sk-upstream-canary-0001") as emulator:
        yield emulator


@pytest.fixture
async def gateway(primary: OpenAIEmulator, emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    """`primary` falls back to `backup` by configuration; each is at a server of its own."""
    config = openai_config(
        primary.url, models=("whisper-1",), extra="router_settings: {fallbacks: [{primary: [backup]}]}"
    )
    config = config.replace("model_name: whisper-1", "model_name: primary").replace(
        "general_settings:",
        f"""
  - model_name: backup
    litellm_params: {{model: openai/whisper-1, api_base: "{emulator.url}", api_key: sk-upstream-canary-0001}}
general_settings:""",
    )
    async with running(tmp_path, config) as gateway:
        yield gateway


async def ask(port: int, headers: Mapping[str, str] = AUTH, **fields: str) -> Response:
    return await post(port, PATH, form(SPEECH, **{"model": "primary", **fields}), dict(headers))


async def call(gateway: Gateway, **routing: Any) -> api.TranscribeResponse:
    request = api.TranscribeRequest(
        config=TranscriptionConfig(model="primary", routing=RoutingConfig(**routing)), audio=AudioSource(data=SPEECH)
    )
    return await gateway.stub.Transcribe(request, metadata=METADATA)


async def test_the_configured_fallback(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    primary.script("500")
    assert (await ask(gateway.rest_port)).headers["x-litellm-attempted-fallbacks"] == "1"
    assert (len(primary.records), len(emulator.records)) == (1, 1)


@pytest.mark.parametrize("value", ["true", "True", "1", '"true"', "yes"])
async def test_disable_fallbacks(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator, value: str):
    primary.script("500")
    response = await ask(gateway.rest_port, disable_fallbacks=value, num_retries="0")
    assert response.status == 502
    assert (len(primary.records), len(emulator.records)) == (1, 0)


async def test_disable_fallbacks_grpc(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    primary.script("500")
    with pytest.raises(grpc.RpcError) as failed:
        await call(gateway, disable_fallbacks=True, max_retries=0)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert (len(primary.records), len(emulator.records)) == (1, 0)


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_num_retries(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator, retries: int):
    primary.script("500", "500", "500")
    response = await ask(gateway.rest_port, num_retries=str(retries))
    assert (len(primary.records), len(emulator.records)) == (1 + retries, 1)
    assert response.headers["x-litellm-attempted-retries"] == str(retries)


async def test_num_retries_grpc(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    primary.script("500", "500")
    answer = await call(gateway, max_retries=1)
    assert (len(primary.records), len(emulator.records)) == (2, 1)
    assert [attempt.retry_count for attempt in answer.transcription.extra_fields.attempts] == [0, 1, 0]


async def test_timeout(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    primary.script("hang")
    response = await ask(gateway.rest_port, timeout="0.3", num_retries="0")
    assert (response.status, response.headers["x-litellm-timeout"]) == (200, "0.3")
    assert (len(primary.records), len(emulator.records)) == (1, 1)


async def test_timeout_grpc(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    primary.script("hang")
    answer = await call(gateway, attempt_timeout=Duration(nanos=300_000_000), max_retries=0)
    assert answer.transcription.text == emulator.text
    assert (len(primary.records), len(emulator.records)) == (1, 1)


@pytest.mark.parametrize("value", ["true", '"true"', "True", "1"])
async def test_a_drill(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator, value: str):
    response = await ask(gateway.rest_port, mock_testing_fallbacks=value)
    assert (response.status, response.json()["text"]) == (200, emulator.text)
    assert response.headers["x-litellm-attempted-fallbacks"] == "1"
    assert response.headers["x-litellm-model-group"] == "backup"
    assert not primary.records
    assert [record.file_sha256 for record in emulator.records] == [SHA256]


async def test_a_drill_grpc(gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator):
    answer = await call(gateway, mock_testing_fallbacks=True, fallbacks=[RouteTarget(model="backup")])
    attempts = answer.transcription.extra_fields.attempts
    assert [bool(attempt.error_code) for attempt in attempts] == [True, False]
    assert not primary.records
    assert [record.file_sha256 for record in emulator.records] == [SHA256]


async def test_a_drill_without_fallbacks_says_what_it_was(gateway: Gateway, primary: OpenAIEmulator):
    response = await ask(gateway.rest_port, mock_testing_fallbacks="true", disable_fallbacks="true")
    assert (response.status, response.error["code"]) == (502, "mock_testing_fallbacks")
    assert "after its audio was consumed" in response.error["message"]
    assert not primary.records


async def test_a_drill_tells_why_the_fallback_failed(gateway: Gateway, emulator: OpenAIEmulator):
    emulator.script("429")
    response = await ask(gateway.rest_port, mock_testing_fallbacks="true", num_retries="0")
    assert (response.status, response.error["code"]) == (429, "rate_limit_exceeded")


class Guests(Identity):
    """Whoever has the key is a caller like any other."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        return Caller(key_id=super().caller(headers).key_id)


@pytest.mark.parametrize(("allowed", "status"), [(False, 403), (True, 200)])
async def test_drills_of_callers_without_an_admin_key(
    gateway: Gateway, primary: OpenAIEmulator, emulator: OpenAIEmulator, allowed: bool, status: int
):
    inner = gateway.app.gateway
    core = Core(inner.router, inner._spools, GatewayLimits(allow_drills=allowed))
    server = RestServer(rest_app(core, Guests(KEY), ready=lambda: True, portkey=gateway.app._portkey))
    port = await server.start("127.0.0.1", 0)
    try:
        response = await ask(port, mock_testing_fallbacks="true")
    finally:
        await server.stop(0)
    assert response.status == status
    if not allowed:
        assert (response.error["code"], response.error["param"]) == ("permission_denied", "mock_testing_fallbacks")
    assert not primary.records
    assert len(emulator.records) == int(allowed)


async def test_the_permission_is_asked_for_whatever_the_surface(gateway: Gateway):
    core = gateway.app.gateway
    opened = core.open(request_id="req_1", caller=Caller(), audio=AudioHeader())
    try:
        with pytest.raises(PermissionDenied):
            core.plan(opened, TranscriptionConfig(model="primary", routing=RoutingConfig(mock_testing_fallbacks=True)))
    finally:
        core.close(opened)
