"""GET /health and GET /metrics over real sockets, against the strict OpenAI emulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from voxgate.admin.v1 import admin_service_pb2 as admin
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from tests.edges.rest.http_client import Connection, Response, form, post
from tests.providers.openai_emulator import OpenAIEmulator, failure
from tests.recordings import recording
from tests.running import AUTH, METADATA, Gateway, openai_config, running

SPEECH = recording("demo-thanks.wav").data
PATH = "/v1/audio/transcriptions"
PAIR = """
  - model_name: pair
    litellm_params: {{model: openai/whisper-1, api_base: {url}, api_key: sk-upstream-canary-0001}}
    model_info: {{id: first}}
  - model_name: pair
    litellm_params: {{model: openai/gpt-4o-transcribe, api_base: {url}, api_key: sk-upstream-canary-0001}}
    model_info: {{id: second}}
"""


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    models, rest = openai_config(emulator.url, models=("whisper-1", "fault-hang")).split("general_settings:")
    config = f"{models}{PAIR.format(url=emulator.url)}general_settings:{rest}"
    async with running(tmp_path, config, admin=True) as gateway:
        yield gateway


async def get(gateway: Gateway, path: str, headers: dict[str, str] | None = None) -> Response:
    async with Connection(gateway.rest_port) as connection:
        await connection.head(path, AUTH if headers is None else headers, method="GET")
        return await connection.response()


async def metrics(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """By name and values of the labels, in order of the labels' names."""
    response = await get(gateway, "/metrics")
    assert (response.status, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


async def transcribe(gateway: Gateway, model: str) -> Response:
    return await post(gateway.rest_port, PATH, form(SPEECH, model=model), AUTH)


async def test_a_tripped_deployment_shows_in_all_three_places(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    emulator.script(failure(401, "Incorrect API key provided.", code="invalid_api_key"))
    assert (await transcribe(gateway, "pair")).status == 200
    document = (await get(gateway, "/health?model=pair")).json()
    assert (document["healthy_count"], document["unhealthy_count"]) == (1, 1)
    (healthy,), (unhealthy,) = document["healthy_endpoints"], document["unhealthy_endpoints"]
    assert {healthy["model_id"], unhealthy["model_id"]} == {"first", "second"}
    assert healthy["model"] in {"openai/whisper-1", "openai/gpt-4o-transcribe"}
    assert (unhealthy["model_name"], unhealthy["circuit"]) == ("pair", "open")
    assert unhealthy["error"].startswith("Cools down for ")

    found = await metrics(gateway)
    circuits = {key[1]: value for key, value in found.items() if key[0] == "voxgate_deployment_circuit_state"}
    assert (circuits[unhealthy["model_id"]], circuits[healthy["model_id"]]) == (2, 0)

    listed = await gateway.admin.ListProviders(admin.ListProvidersRequest(group="pair"), metadata=METADATA)
    by_id = {provider.id: provider.circuit for provider in listed.providers}
    assert by_id == {
        unhealthy["model_id"]: admin.CIRCUIT_STATE_OPEN,
        healthy["model_id"]: admin.CIRCUIT_STATE_CLOSED,
    }
    assert len(emulator.records) == 2, "looking at the state must cost nobody a call"


async def test_health_lists_all_and_says_nothing_of_where_they_are(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    response = await get(gateway, "/health")
    document = response.json()
    assert set(document) == {"healthy_endpoints", "unhealthy_endpoints", "healthy_count", "unhealthy_count"}
    assert (document["healthy_count"], document["unhealthy_endpoints"]) == (4, [])
    assert emulator.url.encode() not in response.body
    assert b"sk-" not in response.body
    assert (await get(gateway, "/health?model=nobody")).status == 404


async def test_a_deployment_out_of_service_is_not_healthy(gateway: Gateway) -> None:
    asked = admin.SetProviderStateRequest(id="first", state=admin.PROVIDER_STATE_DISABLED)
    await gateway.admin.SetProviderState(asked, metadata=METADATA)
    (endpoint,) = (await get(gateway, "/health?model=pair")).json()["unhealthy_endpoints"]
    assert (endpoint["model_id"], endpoint["state"]) == ("first", "disabled")
    assert "operator" in endpoint["error"]
    found = await metrics(gateway)
    assert found["voxgate_deployment_operator_state", "first", "pair", "whisper-1", "openai"] == 2


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_the_state_is_behind_the_key(gateway: Gateway, path: str) -> None:
    assert (await get(gateway, path, {})).status == 401
    assert (await get(gateway, path, {"authorization": "Bearer sk-wrong"})).status == 401
    assert (await get(gateway, "/health/liveliness", {})).status == 200


async def test_what_is_counted(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    emulator.script(failure(500), failure(500))
    config = form(SPEECH, model="whisper-1", response_format="verbose_json")
    assert (await post(gateway.rest_port, PATH, config, AUTH)).status == 200
    emulator.script(failure(400, "No.", kind="invalid_request_error"))
    fallback = await post(gateway.rest_port, PATH, form(SPEECH, model="whisper-1", fallbacks="pair"), AUTH)
    assert fallback.status == 200
    assert (await transcribe(gateway, "nobody")).status == 404
    found = await metrics(gateway)
    assert found["voxgate_calls_total", "ok", "rest"] == 2
    assert found["voxgate_calls_total", "UNKNOWN_MODEL", "rest"] == 1
    attempts = [(*key[2:], value) for key, value in found.items() if key[0] == "voxgate_attempts_total"]
    assert sum(value for outcome, provider, value in attempts if (outcome, provider) == ("succeeded", "openai")) == 2
    assert sum(value for outcome, provider, value in attempts if (outcome, provider) == ("failed", "openai")) == 3
    assert found["voxgate_retries_total", "openai"] == 2
    assert found["voxgate_fallbacks_total", "openai"] == 1
    assert found["voxgate_audio_bytes_total", "rest"] >= 2 * len(SPEECH)
    assert found["voxgate_audio_seconds_total", "openai"] > 0
    assert found["voxgate_call_duration_seconds_count", "rest"] == 3
    assert found["voxgate_attempt_duration_seconds_count", "openai"] == 5
    assert (found["voxgate_active_calls",], found["voxgate_spool_bytes",]) == (0, 0)
    assert found["process_resident_memory_bytes",] > 0
    assert not any(key[0].endswith("_created") for key in found)


async def test_a_call_in_progress_is_counted_while_it_is(gateway: Gateway, emulator: OpenAIEmulator) -> None:
    call = gateway.stub.Transcribe(
        api.TranscribeRequest(config=TranscriptionConfig(model="fault-hang"), audio=AudioSource(data=SPEECH)),
        metadata=METADATA,
    )
    record = await emulator.record()
    found = await metrics(gateway)
    assert found["voxgate_active_calls",] == 1
    assert found["voxgate_spool_bytes",] == len(SPEECH)
    assert [value for key, value in found.items() if key[0] == "voxgate_deployment_active_attempts" and value] == [1]
    (running_call,) = gateway.app.gateway.active
    assert running_call.task is not None
    call.cancel()
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    await asyncio.wait((running_call.task,), timeout=10)
    found = await metrics(gateway)
    assert found["voxgate_calls_total", "CANCELLED", "grpc"] == 1
    assert found["voxgate_active_calls",] == 0
