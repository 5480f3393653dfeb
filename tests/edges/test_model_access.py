"""Keys that are for some models only: what they see, what they may ask for, and where they may fall back to."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from voxgate.transcription.v1 import model_service_pb2 as models_api
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import RouteTarget, RoutingConfig, TranscriptionConfig

from tests.edges.rest.http_client import form, get, post
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import KEY, UPSTREAM_KEY, Gateway, running

SPEECH = recording("demo-thanks.wav").data
PATH = "/v1/audio/transcriptions"
GUEST = "sk-guest-0123456789abcdef"
GUEST_AUTH = {"authorization": f"Bearer {GUEST}"}

CONFIG = """
model_list:
  - {{model_name: allowed, litellm_params: &at {{model: openai/whisper-1, api_base: "{url}", api_key: {key}}}}}
  - {{model_name: eu-one, litellm_params: *at}}
  - {{model_name: other, litellm_params: *at}}
  - {{model_name: backup, litellm_params: *at}}
router_settings:
  fallbacks: [{{allowed: [backup]}}]
  model_group_alias: {{good: allowed, secret: {{model: other, hidden: true}}}}
general_settings: {{master_key: {master}}}
voxgate:
  keys:
    - {{name: guest, key: {guest}, models: [allowed, "eu-*"]}}
    - {{name: everything, key: sk-everything-0123456789}}
"""


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    config = CONFIG.format(url=emulator.url, key=UPSTREAM_KEY, master=KEY, guest=GUEST)
    async with running(tmp_path, config) as gateway:
        yield gateway


@pytest.mark.parametrize("model", ["allowed", "good", "eu-one"])
async def test_its_models(gateway: Gateway, model: str):
    assert (await post(gateway.rest_port, PATH, form(SPEECH, model=model), GUEST_AUTH)).status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "other"}, "model"),
        ({"model": "secret"}, "model"),
        ({"model": "allowed", "fallbacks": "eu-one,other"}, "fallbacks[1]"),
    ],
)
async def test_others_are_refused_before_anybody_is_asked(
    gateway: Gateway, emulator: OpenAIEmulator, fields: dict[str, str], param: str
):
    response = await post(gateway.rest_port, PATH, form(SPEECH, **fields), GUEST_AUTH)
    assert (response.status, response.error["code"]) == (403, "permission_denied")
    assert response.error["param"] == param
    assert GUEST not in response.error["message"]
    assert not emulator.records


async def test_over_grpc(gateway: Gateway, emulator: OpenAIEmulator):
    routing = RoutingConfig(fallbacks=[RouteTarget(model="other")])
    request = api.TranscribeRequest(
        config=TranscriptionConfig(model="allowed", routing=routing),
        audio=AudioSource(data=SPEECH),
    )
    metadata = (("authorization", f"Bearer {GUEST}"),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request, metadata=metadata)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert not emulator.records
    request.config.ClearField("routing")
    assert (await gateway.stub.Transcribe(request, metadata=metadata)).transcription.text


async def test_an_unknown_model_is_unknown(gateway: Gateway):
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="nobody"), GUEST_AUTH)
    assert response.status == 404


async def test_the_operators_fallback_serves_everybody(gateway: Gateway, emulator: OpenAIEmulator):
    emulator.script("401")
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="allowed", num_retries="0"), GUEST_AUTH)
    assert response.status == 200  # from `backup`, which the key is not for
    assert len(emulator.records) == 2


async def test_targets_of_a_portkey_config(gateway: Gateway, emulator: OpenAIEmulator):
    config = {"strategy": {"mode": "fallback"}, "targets": [{"override_params": {"model": "other"}}]}
    headers = {**GUEST_AUTH, "x-portkey-config": json.dumps(config)}
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="allowed"), headers)
    assert (response.status, response.error["param"]) == (403, "x-portkey-config")
    assert not emulator.records
    config["targets"] = [{"override_params": {"model": "eu-one"}}]
    headers["x-portkey-config"] = json.dumps(config)
    assert (await post(gateway.rest_port, PATH, form(SPEECH, model="other"), headers)).status == 200


async def test_it_sees_its_models_only(gateway: Gateway):
    listed = json.loads((await get(gateway.rest_port, "/v1/models", GUEST_AUTH)).body)
    assert [model["id"] for model in listed["data"]] == ["allowed", "good", "eu-one"]
    assert (await get(gateway.rest_port, "/v1/models/other", GUEST_AUTH)).status == 403
    metadata = (("authorization", f"Bearer {GUEST}"),)
    answer = await gateway.models.ListModels(models_api.ListModelsRequest(), metadata=metadata)
    assert [model.id for model in answer.models] == ["allowed", "eu-one"]


async def test_a_key_without_models_is_for_all(gateway: Gateway):
    auth = {"authorization": "Bearer sk-everything-0123456789"}
    assert (await post(gateway.rest_port, PATH, form(SPEECH, model="other"), auth)).status == 200
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="other", mock_testing_fallbacks="true"), auth)
    assert response.status == 403  # it is no admin's


async def test_a_hidden_alias_is_not_listed(gateway: Gateway):
    answer = await gateway.models.ListModels(
        models_api.ListModelsRequest(), metadata=(("authorization", f"Bearer {KEY}"),)
    )
    assert {model.id: list(model.aliases) for model in answer.models}["allowed"] == ["good"]
    assert not any("secret" in model.aliases for model in answer.models)
