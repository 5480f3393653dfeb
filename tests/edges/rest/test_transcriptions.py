"""The transcription paths over real sockets, against the strict OpenAI emulator."""

import asyncio
import base64
import hashlib
import json

import pytest

from tests.edges.rest.http_client import END, FORM, Connection, field, file_start, form, post
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import AUTH, KEY, Gateway

SPEECH = recording("demo-thanks.wav").data
SHA256 = hashlib.sha256(SPEECH).hexdigest()
PATH = "/v1/audio/transcriptions"


@pytest.mark.parametrize(
    "path",
    [
        PATH,
        "/audio/transcriptions",
        "/openai/v1/audio/transcriptions",
        "/openai/deployments/whisper-1/audio/transcriptions",
        "/openai/deployments/whisper-1/audio/transcriptions?api-version=2024-02-01",
    ],
)
@pytest.mark.parametrize("file_first", [False, True])
async def test_every_path_in_any_field_order(gateway: Gateway, emulator: OpenAIEmulator, path: str, file_first: bool):
    response = await post(
        gateway.rest_port, path, form(SPEECH, file_first=file_first, model="whisper-1", language="en"), AUTH
    )
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {"text": emulator.text, "usage": {"type": "duration", "seconds": 4}}
    record = emulator.records[0]
    assert record.complete
    assert record.file_sha256 == SHA256
    assert ("language", "en") in record.fields
    assert record.order[-1] == "file"


async def test_the_path_names_the_model(gateway: Gateway, emulator: OpenAIEmulator):
    path = "/openai/deployments/whisper-1/audio/transcriptions"
    assert (await post(gateway.rest_port, path, form(SPEECH), AUTH)).status == 200
    assert ("model", "whisper-1") in emulator.records[0].fields


async def test_translations(gateway: Gateway, emulator: OpenAIEmulator):
    response = await post(gateway.rest_port, "/v1/audio/translations", form(SPEECH, model="whisper-1"), AUTH)
    assert response.status == 200
    assert emulator.records[0].path == "/v1/audio/translations"


async def test_the_provider_reads_while_the_caller_still_sends(gateway: Gateway, emulator: OpenAIEmulator):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:8192])
        record = await emulator.record()
        await asyncio.wait_for(record.first_file_byte.wait(), 10)
        assert not record.complete
        await connection.chunk(SPEECH[8192:] + b"\r\n" + END)
        await connection.end()
        assert (await connection.response()).json()["text"] == emulator.text
    assert record.complete
    assert record.file_sha256 == SHA256


async def test_fields_behind_the_file_count_and_no_provider_answers_the_wrong_request(
    gateway: Gateway, emulator: OpenAIEmulator
):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:8192])
        first = await emulator.record()
        await asyncio.wait_for(first.first_file_byte.wait(), 10)
        await connection.chunk(SPEECH[8192:] + b"\r\n" + field("language", "de") + END)
        await connection.end()
        assert (await connection.response()).status == 200
    second = emulator.records[1]
    assert not first.complete
    assert ("language", "de") in second.fields
    assert second.complete
    assert second.file_sha256 == SHA256


async def test_fields_behind_the_file_that_change_nothing_cost_nothing(gateway: Gateway, emulator: OpenAIEmulator):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:8192])
        await asyncio.wait_for((await emulator.record()).first_file_byte.wait(), 10)
        await connection.chunk(SPEECH[8192:] + b"\r\n" + field("response_format", "json") + END)
        await connection.end()
        assert (await connection.response()).status == 200
    assert len(emulator.records) == 1


@pytest.mark.parametrize("gone_by", ["close", "half-close"])
async def test_a_client_that_goes_away_mid_upload_leaves_a_cut_body(
    gateway: Gateway, emulator: OpenAIEmulator, gone_by: str
):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:8192])
        record = await emulator.record()
        await asyncio.wait_for(record.first_file_byte.wait(), 10)
        if gone_by == "half-close":
            connection._writer.write_eof()
            await asyncio.wait_for(record.body_ended.wait(), 10)
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    assert not record.complete


async def test_a_client_that_goes_away_while_waiting_ends_the_providers_work(
    gateway: Gateway, emulator: OpenAIEmulator
):
    body = form(SPEECH, model="fault-hang")
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "content-length": str(len(body)), **AUTH})
        await connection.send(body)
        record = await emulator.record()
        await asyncio.wait_for(record.body_ended.wait(), 10)
    await asyncio.wait_for(record.peer_closed.wait(), 10)


async def test_a_form_cut_inside_its_framing_is_incomplete(gateway: Gateway, emulator: OpenAIEmulator):
    body = field("model", "whisper-1") + file_start() + SPEECH
    response = await post(gateway.rest_port, PATH, body, AUTH)
    assert (response.status, response.error["code"]) == (400, "upload_incomplete")
    assert not any(record.complete for record in emulator.records)


async def test_too_large_is_refused_before_the_upload_ends(gateway: Gateway, emulator: OpenAIEmulator):
    async with Connection(gateway.rest_port) as connection:
        headers = {"content-type": FORM, "content-length": str(100 << 20), **AUTH}
        await connection.head(PATH, headers)
        await connection.send(field("model", "whisper-1") + file_start() + SPEECH + bytes(2 << 20))
        response = await connection.response()
    assert (response.status, response.error["code"], response.error["param"]) == (413, "audio_too_large", "file")
    assert "2097152 bytes" in response.error["message"]
    assert not emulator.records[0].complete


async def test_a_stalled_upload_ends(gateway: Gateway):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(PATH, {"content-type": FORM, "transfer-encoding": "chunked", **AUTH})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:8192])
        response = await connection.response()
    assert (response.status, response.error["code"]) == (408, "audio_idle_timeout")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": KEY},
        {"authorization": "Basic dGVzdA=="},
        {"x-api-key": "wrong"},
    ],
)
async def test_the_key_is_checked_before_the_body_is_read(gateway: Gateway, emulator: OpenAIEmulator, headers):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(
            PATH, {"content-type": FORM, "content-length": "1000000", "expect": "100-continue", **headers}
        )
        response = await connection.response()  # and not "100 Continue"
    assert (response.status, response.error["code"]) == (401, "invalid_api_key")
    assert KEY not in str(response.body)
    assert emulator.records == []


@pytest.mark.parametrize(
    "header",
    ["x-litellm-api-key", "api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key", "authorization"],
)
@pytest.mark.parametrize("prefix", ["", "Bearer "])
async def test_every_header_a_key_may_come_in(gateway: Gateway, header: str, prefix: str):
    if header == "authorization" and not prefix:
        prefix = "bearer "
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="whisper-1"), {header: prefix + KEY})
    assert response.status == 200


async def test_a_client_that_waits_for_100_continue_gets_it(gateway: Gateway):
    body = form(SPEECH, model="whisper-1")
    async with Connection(gateway.rest_port) as connection:
        await connection.head(
            PATH, {"content-type": FORM, "content-length": str(len(body)), "expect": "100-continue", **AUTH}
        )
        assert (await connection.response()).status == 100
        await connection.send(body)
        assert (await connection.response()).status == 200


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (form(SPEECH), 400, "model", None),
        (form(b"", model="whisper-1"), 400, "file", "audio_empty"),
        (field("model", "whisper-1") + END, 400, "file", None),
        (field("model", "whisper-1") + field("file", "text") + END, 400, "file", None),
        (form(SPEECH, model="wisper-1"), 404, "model", "model_not_found"),
        (form(b"%PDF-1.4 not a recording", model="whisper-1"), 415, "file", "unsupported_format"),
        (form(b"PK\x03\x04" + bytes(100), model="whisper-1"), 415, "file", "unsupported_format"),
        (form(SPEECH, model="whisper-1", response_format="yaml"), 400, "response_format", None),
        (form(SPEECH, model="whisper-1", temperature="warm"), 400, "temperature", None),
        (form(SPEECH, model="whisper-1", temperature="2"), 400, "temperature", None),
        (form(SPEECH, model="whisper-1", timestamp_granularities="letter"), 400, "timestamp_granularities", None),
        (form(SPEECH, model="gpt-4o-transcribe", response_format="vtt"), 400, "response_format", "unsupported_value"),
        (form(SPEECH, model="whisper-1", response_format="diarized_json"), 400, "response_format", "unsupported_value"),
        (form(SPEECH, model="whisper-1", api_base="http://169.254.169.254"), 400, "api_base", None),
        (form(SPEECH, model="whisper-1", custom_field="1"), 400, "custom_field", "unsupported_value"),
        (form(SPEECH, model="whisper-1", fallbacks='["nobody/here"]'), 404, "fallbacks[0]", "model_not_found"),
        (b"this is no form", 400, None, None),
    ],
)
async def test_bad_input_is_named_and_nothing_is_sent(
    gateway: Gateway, emulator: OpenAIEmulator, body: bytes, status: int, param: str | None, code: str | None
):
    response = await post(gateway.rest_port, PATH, body, AUTH)
    assert (response.status, response.error["param"], response.error["code"]) == (status, param, code), response.body
    assert response.error["type"] == "invalid_request_error"
    assert emulator.records == []
    assert gateway.app.gateway.calls_in_progress == 0


async def test_an_unknown_model_names_similar_ones(gateway: Gateway):
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="wisper-1"), AUTH)
    assert "whisper-1" in response.error["message"]


@pytest.mark.parametrize(
    ("wanted", "media_type", "start"),
    [
        ("json", "application/json", '{"text":"'),
        ("text", "text/plain; charset=utf-8", "Hello"),
        ("srt", "application/x-subrip; charset=utf-8", "1\n00:00:"),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n"),
        ("verbose_json", "application/json", '{"task":"transcribe","language":"english","duration":'),
    ],
)
async def test_every_format_with_its_media_type(gateway: Gateway, wanted: str, media_type: str, start: str):
    body = form(SPEECH, model="whisper-1", response_format=wanted)
    response = await post(gateway.rest_port, PATH, body, AUTH)
    assert (response.status, response.headers["content-type"]) == (200, media_type)
    assert response.body.decode().startswith(start)


async def test_diarized_json(gateway: Gateway):
    fields = {"response_format": "diarized_json", "chunking_strategy": "auto"}
    body = form(SPEECH, model="gpt-4o-transcribe-diarize", **fields)
    response = await post(gateway.rest_port, PATH, body, AUTH)
    assert response.status == 200
    assert response.json()["segments"][0]["speaker"]


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8"])
@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_a_json_body(gateway: Gateway, emulator: OpenAIEmulator, media_type: str, prefix: str):
    file = prefix + base64.b64encode(SPEECH).decode()
    body = json.dumps({"model": "whisper-1", "file": file, "language": "en"}).encode()
    response = await post(gateway.rest_port, PATH, body, {**AUTH, "content-type": media_type})
    assert response.json()["text"] == emulator.text
    assert emulator.records[0].file_sha256 == SHA256


async def test_a_path_of_the_client_in_a_json_body_is_refused_with_the_form(gateway: Gateway):
    body = json.dumps({"model": "whisper-1", "file": "@/path/to/file/audio.mp3"}).encode()
    response = await post(gateway.rest_port, PATH, body, {**AUTH, "content-type": "application/json"})
    assert (response.status, response.error["param"]) == (400, "file")
    assert "-F file=@" in response.error["message"]


async def test_bifrosts_path_adds_extra_fields(gateway: Gateway, emulator: OpenAIEmulator):
    path = "/litellm/v1/audio/transcriptions"
    response = await post(gateway.rest_port, path, form(SPEECH, model="whisper-1"), AUTH)
    extra = response.json()["extra_fields"]
    assert response.json()["text"] == emulator.text
    assert (extra["request_type"], extra["provider"]) == ("transcription", "openai")
    assert extra["model_requested"] == extra["original_model_requested"] == "whisper-1"
    assert extra["chunk_index"] == 0
    assert isinstance(extra["latency"], int)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("fault-500", 502, "provider_unavailable"), ("fault-early-401", 502, "provider_credential_refused")],
)
async def test_a_failing_provider(gateway: Gateway, model: str, status: int, code: str):
    response = await post(gateway.rest_port, PATH, form(SPEECH, model=model), AUTH)
    assert (response.status, response.error["code"]) == (status, code)
    assert "canary" not in response.body.decode()


@pytest.mark.parametrize("spelling", ["fallbacks[]", "fallbacks"])
async def test_a_fallback_gets_the_same_bytes(gateway: Gateway, emulator: OpenAIEmulator, spelling: str):
    body = form(SPEECH, model="fault-500", **{spelling: "whisper-1"})
    response = await post(gateway.rest_port, PATH, body, AUTH)
    assert response.json()["text"] == emulator.text
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


async def test_more_calls_than_the_limit_are_refused_with_a_wait(gateway: Gateway, emulator: OpenAIEmulator):
    body = form(SPEECH, model="fault-hang")
    hanging = [asyncio.create_task(post(gateway.rest_port, PATH, body, AUTH)) for _ in range(4)]
    await emulator.record(3)
    response = await post(gateway.rest_port, PATH, form(SPEECH, model="whisper-1"), AUTH)
    assert (response.status, response.error["code"]) == (503, "server_overloaded")
    assert response.headers["retry-after"] == "1"
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_models(gateway: Gateway):
    async with Connection(gateway.rest_port) as connection:
        await connection.head("/v1/models", AUTH, method="GET")
        models = (await connection.response()).json()
        assert models["object"] == "list"
        assert {"whisper-1", "gpt-4o-transcribe"} <= {model["id"] for model in models["data"]}
        await connection.head("/v1/models/whisper-1", AUTH, method="GET")
        assert (await connection.response()).json()["owned_by"] == "openai"
        await connection.head("/v1/models/nothing", AUTH, method="GET")
        assert (await connection.response()).error["code"] == "model_not_found"


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", "/v1/chat/completions"), ("POST", "/v1/models")])
async def test_anything_else_is_not_found_in_openais_shape(gateway: Gateway, method: str, path: str):
    async with Connection(gateway.rest_port) as connection:
        await connection.head(path, {**AUTH, "content-length": "0"}, method=method)
        response = await connection.response()
    assert (response.status, response.error["code"]) == (404, "unknown_url")
