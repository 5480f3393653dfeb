"""Bifrost's LiteLLM path: its fallbacks, its answer, its errors."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.config_pb2 import RESPONSE_FORMAT_VERBOSE_JSON
from voxgate.transcription.v1.extra_fields_pb2 import CacheDebug, RawPayload
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.edges.rest.encode import encode_transcription

from tests.edges.rest.http_client import Response, form, post
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import AUTH, Gateway, openai_config, running

GOLDEN = Path(__file__).parent / "golden"
SPEECH = recording("demo-thanks.wav").data
PATH = "/litellm/v1/audio/transcriptions"
CONFIG = """
  - model_name: openai/whisper-1
    litellm_params: {{model: openai/whisper-1, api_base: "{url}", api_key: sk-upstream-canary-0001}}
"""


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    config = openai_config(
        emulator.url,
        models=("fault-500", "whisper-1", "gpt-4o-transcribe"),
        extra="voxgate: {debug: {allow_raw_payloads: true}}",
    )
    config = config.replace("model_list:", f"model_list:{CONFIG.format(url=emulator.url)}", 1)
    async with running(tmp_path, config) as gateway:
        yield gateway


async def ask(gateway: Gateway, headers: dict[str, str] | None = None, **fields: str) -> Response:
    return await post(gateway.rest_port, PATH, form(SPEECH, **fields), {**AUTH, **(headers or {})})


def paths(value: object, name: str = "") -> dict[str, str]:
    """Every leaf of a JSON value with its JSON type; numbers are one type, as in JSON."""
    if isinstance(value, dict) and value:
        return {path: kind for key, item in value.items() for path, kind in paths(item, f"{name}.{key}").items()}
    if isinstance(value, list):
        return {path: kind for item in value for path, kind in paths(item, f"{name}[]").items()}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}
    return {name: kinds[type(value)]}


def test_every_field_of_the_reference_can_be_produced_with_its_type():
    """Usage is either tokens or seconds, so that two answers together have all of it."""
    message = text_format.Parse((GOLDEN / "rich.txtpb").read_text(), Transcription())
    message.extra_fields.raw_request.CopyFrom(RawPayload(data=b'{"model": "whisper-1"}'))
    message.extra_fields.raw_response.CopyFrom(RawPayload(data=b'{"text": "Hello"}'))
    message.extra_fields.cache_debug.CopyFrom(
        CacheDebug(
            cache_hit=True, cache_id="c", hit_type="direct", provider_used="openai", model_used="whisper-1",
            input_tokens=3, threshold=0.5, similarity=0.75,
        )
    )  # fmt: skip
    produced: dict[str, str] = {}
    for usage in ("duration", "tokens"):
        if usage == "tokens":
            message.usage.tokens.input_tokens = 14
            message.usage.tokens.input_token_details.audio_tokens = 14
        body = json.loads(encode_transcription(message, RESPONSE_FORMAT_VERBOSE_JSON, with_extra_fields=True).body)
        for name in ("raw_request", "raw_response"):
            assert isinstance(body["extra_fields"][name], dict)
            body["extra_fields"][name] = {}
        assert isinstance(body["extra_fields"]["latency"], int)
        produced |= paths(body)
    reference = paths(json.loads((GOLDEN / "bifrost_reference.json").read_text()))
    assert {path: produced.get(path) for path in reference} == reference


async def test_a_fallback_by_provider_and_model(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(
        gateway, model="fault-500", fallbacks="openai/whisper-1", response_format="verbose_json",
        timestamp_granularities="word",
    )  # fmt: skip
    body = response.json()
    extra = body["extra_fields"]
    assert response.status == 200
    assert {"duration", "language", "task", "text", "words"} <= set(body)
    assert extra["request_type"] == "transcription"
    assert extra["provider"] == "openai"
    assert extra["model_requested"] == extra["original_model_requested"] == "fault-500"
    assert extra["model_deployment"] == extra["resolved_model_used"] == "whisper-1"
    assert extra["chunk_index"] == 0
    assert isinstance(extra["latency"], int)
    assert [(attempt["model"], attempt["outcome"]) for attempt in extra["attempts"]] == [
        ("fault-500", "failed"), ("whisper-1", "succeeded"),
    ]  # fmt: skip
    assert "raw_request" not in extra
    assert {record.file_sha256 for record in emulator.records} == {hashlib.sha256(SPEECH).hexdigest()}


async def test_a_fallback_by_the_name_of_a_group(gateway: Gateway):
    response = await ask(gateway, model="fault-500", fallbacks="gpt-4o-transcribe")
    assert response.json()["extra_fields"]["model_deployment"] == "gpt-4o-transcribe"


async def test_a_fallback_that_fits_a_pattern(emulator: OpenAIEmulator, tmp_path: Path):
    config = openai_config(emulator.url, models=("fault-500",)).replace(
        "model_list:", f"model_list:{CONFIG.format(url=emulator.url).replace('openai/whisper-1', 'openai/*')}", 1
    )
    async with running(tmp_path, config) as gateway:
        response = await ask(gateway, model="fault-500", fallbacks="openai/gpt-4o-transcribe")
        extra = response.json()["extra_fields"]
        assert (extra["provider"], extra["model_deployment"]) == ("openai", "gpt-4o-transcribe")
        assert response.headers["x-litellm-model-name"] == "openai/gpt-4o-transcribe"
        unknown = await ask(gateway, model="fault-500", fallbacks="groq/whisper-large-v3")
        assert (unknown.status, unknown.error["param"]) == (404, "fallbacks[0]")


async def test_an_unknown_fallback_is_named(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(gateway, model="whisper-1", fallbacks="openai/whisper-1,groq/whisper-large-v3")
    assert (response.status, response.error["code"], response.error["param"]) == (
        404, "model_not_found", "fallbacks[1]",
    )  # fmt: skip
    assert "groq/whisper-large-v3" in response.error["message"]
    assert not emulator.records


async def test_raw_payloads(gateway: Gateway):
    headers = {"x-bf-send-back-raw-request": "true", "x-bf-send-back-raw-response": "true"}
    extra = (await ask(gateway, headers, model="whisper-1")).json()["extra_fields"]
    assert extra["raw_request"]["model"] == "whisper-1"
    assert extra["raw_response"]["text"]
    only = (await ask(gateway, {"x-bf-send-back-raw-response": "true"}, model="whisper-1")).json()["extra_fields"]
    assert "raw_request" not in only
    assert "raw_response" in only


async def test_raw_payloads_need_the_operators_permission(emulator: OpenAIEmulator, tmp_path: Path):
    headers = {"x-bf-send-back-raw-request": "true", "x-bf-send-back-raw-response": "true"}
    async with running(tmp_path, openai_config(emulator.url)) as gateway:
        extra = (await ask(gateway, headers, model="whisper-1")).json()["extra_fields"]
    assert not {"raw_request", "raw_response"} & set(extra)


async def test_errors_have_both_shapes(gateway: Gateway):
    failed = await ask(gateway, model="fault-500", num_retries="0")
    body = failed.json()
    assert failed.error["code"] == "provider_unavailable"
    assert (body["is_bifrost_error"], body["status_code"], failed.status) == (False, 502, 502)
    extra = body["extra_fields"]
    assert (extra["provider"], extra["model_requested"], extra["request_type"]) == (
        "openai", "fault-500", "transcription",
    )  # fmt: skip
    assert extra["request_id"] == failed.headers["x-voxgate-request-id"]
    assert extra["attempts"][0]["http_status"] == 500
    refused = (await ask(gateway, model="nothing")).json()
    assert (refused["is_bifrost_error"], refused["status_code"]) == (True, 404)
    stranger = await post(gateway.rest_port, PATH, form(SPEECH, model="whisper-1"), {})
    assert (stranger.status, stranger.json()["status_code"]) == (401, 401)
    assert stranger.error["code"] == "invalid_api_key"
    # Elsewhere the body is OpenAI's and nothing more.
    plain = await post(gateway.rest_port, "/v1/audio/transcriptions", form(SPEECH, model="nothing"), AUTH)
    assert set(plain.json()) == {"error"}
