"""Options in request headers, and what the headers of an answer tell, over real sockets."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioHeader, AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server import __version__
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.call import Call, Caller
from voxgate_server.edges.header_options import header_options
from voxgate_server.edges.rest.headers import call_headers
from voxgate_server.errors import InvalidRequest
from voxgate_server.providers.openai import OpenAIProvider
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.route import Try

from tests.edges.grpc.test_transcription import details
from tests.edges.rest.http_client import Response, form, post
from tests.providers.openai_emulator import OpenAIEmulator, failure
from tests.recordings import recording
from tests.running import AUTH, KEY, METADATA, Gateway, openai_config, running

SPEECH = recording("demo-thanks.wav").data
PATH = "/v1/audio/transcriptions"
MODELS = (
    "whisper-1", "gpt-4o-transcribe", "fault-500", "fault-hang", "fault-401", "fault-429", "fault-quota",
    "fault-bad-json",
)  # fmt: skip


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, openai_config(emulator.url, models=MODELS)) as gateway:
        yield gateway


async def ask(
    gateway: Gateway, headers: dict[str, str] | None = None, *, file_first: bool = False, **fields: str
) -> Response:
    body = form(SPEECH, file_first=file_first, **{"model": "whisper-1", **fields})
    return await post(gateway.rest_port, PATH, body, {**AUTH, **(headers or {})})


async def test_a_plain_answer(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(gateway, {"x-portkey-trace-id": "trace-7"})
    headers = response.headers
    request_id = headers["x-voxgate-request-id"]
    deployment = gateway.app.gateway.router.table.group("whisper-1")[0].id
    assert response.status == 200
    assert {name: value for name, value in headers.items() if "duration" not in name and name != "date"} == {
        "content-type": "application/json",
        "content-length": str(len(response.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-voxgate-request-id": request_id,
        "x-request-id": request_id,
        "x-litellm-call-id": request_id,
        "x-litellm-version": __version__,
        "x-litellm-model-id": deployment,
        "x-litellm-model-name": "openai/whisper-1",
        "x-litellm-model-group": "whisper-1",
        "x-litellm-model-api-base": emulator.url,
        "x-litellm-attempted-retries": "0",
        "x-litellm-max-retries": "2",
        "x-litellm-attempted-fallbacks": "0",
        "x-litellm-timeout": "605.517",  # ten minutes and the length of the recording
        "x-portkey-last-used-option-index": "config",
        "x-portkey-retry-attempt-count": "0",
        "x-portkey-cache-status": "DISABLED",
        "x-portkey-trace-id": "trace-7",
        "x-portkey-provider": "openai",
        "llm_provider-x-request-id": "req-1",
        "llm_provider-openai-processing-ms": "17",
    }
    total, overhead = (float(headers[f"x-litellm-{kind}-duration-ms"]) for kind in ("response", "overhead"))
    assert 0 <= overhead < total


async def test_after_a_retry_and_a_fallback(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(gateway, {"x-litellm-num-retries": "1"}, model="fault-500", fallbacks="whisper-1")
    headers = response.headers
    assert response.status == 200
    assert len(emulator.records) == 3
    assert headers["x-litellm-model-group"] == "whisper-1"
    assert headers["x-litellm-attempted-retries"] == "1"
    assert headers["x-litellm-max-retries"] == "1"
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert headers["x-portkey-retry-attempt-count"] == "0"
    assert headers["llm_provider-x-request-id"] == "req-3"


async def test_a_retry_at_the_same_target(gateway: Gateway, emulator: OpenAIEmulator):
    emulator.script("500")
    headers = (await ask(gateway, {"x-litellm-num-retries": "1"})).headers
    assert headers["x-portkey-retry-attempt-count"] == headers["x-litellm-attempted-retries"] == "1"


async def test_when_everything_failed(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(
        gateway, {"x-litellm-num-retries": "0"}, model="fault-500", fallbacks="fault-hang", timeout="1"
    )
    headers = response.headers
    assert (response.status, response.error["code"]) == (502, "provider_unavailable")
    assert response.error["message"].endswith(" (2 attempts: openai fault-500 500, openai fault-hang timeout)")
    assert headers["x-portkey-retry-attempt-count"] == "-1"
    assert headers["x-litellm-model-group"] == "fault-hang"
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert headers["x-litellm-timeout"] == "1"
    assert headers["x-litellm-call-id"] == headers["x-portkey-trace-id"] == headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith("llm_provider")]  # the last one said nothing


async def test_before_anybody_was_asked(gateway: Gateway):
    unknown = await ask(gateway, model="nothing")
    assert unknown.status == 404
    assert unknown.headers["x-litellm-call-id"].startswith("req_")
    assert unknown.headers["x-litellm-attempted-retries"] == "0"
    assert "x-portkey-retry-attempt-count" not in unknown.headers
    stranger = await post(gateway.rest_port, PATH, b"", {"x-portkey-trace-id": "t"})
    assert stranger.status == 401
    assert stranger.headers["x-portkey-trace-id"] == "t"


@pytest.mark.parametrize("trace", ["ä" * 3, "x" * 257, ""])
async def test_a_trace_id_that_cannot_be_echoed(gateway: Gateway, trace: str):
    headers = (await ask(gateway, {"x-portkey-trace-id": trace})).headers
    assert headers["x-portkey-trace-id"] == headers["x-litellm-call-id"]


async def test_the_callers_own_id(gateway: Gateway):
    name = "A.b_c:d-0" + "x" * 119
    answer = await ask(gateway, {"x-litellm-call-id": name})
    assert answer.headers["x-litellm-call-id"] == answer.headers["x-voxgate-request-id"] == name
    refused = await ask(gateway, {"x-litellm-call-id": name}, temperature="9")
    assert (refused.status, refused.headers["x-request-id"]) == (400, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-litellm-call-id", "has space"),
        ("x-litellm-call-id", "x" * 129),
        ("x-litellm-call-id", ""),
        ("x-litellm-timeout", "soon"),
        ("x-litellm-timeout", "0"),
        ("x-litellm-timeout", "nan"),
        ("x-litellm-timeout", "1e9"),
        ("x-litellm-num-retries", "1.5"),
        ("x-litellm-num-retries", "-1"),
        ("x-litellm-num-retries", "11"),
        ("x-litellm-tags", "a," + "x" * 256),
        ("x-litellm-customer-id", "x" * 256),
        ("x-litellm-spend-logs-metadata", "{"),
        ("x-litellm-spend-logs-metadata", "[1]"),
        ("x-bf-send-back-raw-request", "perhaps"),
    ],
)
async def test_wrong_values(gateway: Gateway, emulator: OpenAIEmulator, name: str, value: str):
    response = await ask(gateway, {name: value})
    assert (response.status, response.error["param"]) == (400, name)
    assert name in response.error["message"]
    assert not emulator.records


@pytest.mark.parametrize("file_first", [False, True])
async def test_the_form_wins(gateway: Gateway, emulator: OpenAIEmulator, file_first: bool):
    response = await ask(
        gateway, {"x-litellm-num-retries": "3"}, model="fault-500", num_retries="0", file_first=file_first
    )
    assert (response.status, len(emulator.records)) == (502, 1)
    assert response.headers["x-litellm-max-retries"] == "0"


async def test_the_timeout(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(gateway, {"x-litellm-timeout": "0.25", "x-litellm-num-retries": "0"}, model="fault-hang")
    assert (response.status, response.error["code"]) == (504, "provider_timeout")
    assert response.headers["x-litellm-timeout"] == "0.25"
    assert len(emulator.records) == 1


def test_labels():
    options = header_options({
        "x-litellm-end-user-id": "ann", "x-litellm-tags": "a, b,a",
        "x-litellm-spend-logs-metadata": '{"team": "x", "cost": 3, "none": null}',
    })  # fmt: skip
    assert options is not None
    config = TranscriptionConfig()
    options.apply(config)
    assert config.labels.user == "ann"
    assert list(config.labels.tags) == ["a", "b"]
    assert dict(config.labels.metadata) == {"team": "x", "cost": "3"}
    own = TranscriptionConfig(labels={"user": "bob", "tags": ["c"], "metadata": {"team": "y"}})
    options.apply(own)
    assert (own.labels.user, list(own.labels.tags)) == ("bob", ["c"])
    assert dict(own.labels.metadata) == {"team": "y", "cost": "3"}
    full = TranscriptionConfig(labels={"metadata": {str(number): "" for number in range(63)}})
    with pytest.raises(InvalidRequest, match="64 keys"):
        options.apply(full)
    both = header_options({"x-litellm-customer-id": "first", "x-litellm-end-user-id": "second"})
    assert both is not None
    assert both.user == "first"
    assert header_options({"authorization": "x", "content-type": "y"}) is None


@pytest.mark.parametrize(
    ("model", "status", "code", "wait"),
    [
        ("nothing", 404, "model_not_found", None),
        ("fault-401", 502, "provider_credential_refused", None),
        ("fault-429", 429, "rate_limit_exceeded", "7"),
        ("fault-quota", 502, "provider_quota_exceeded", None),
        ("fault-500", 502, "provider_unavailable", None),
        ("fault-bad-json", 502, "provider_invalid_response", None),
    ],
)
async def test_statuses(gateway: Gateway, model: str, status: int, code: str, wait: str | None):
    response = await ask(gateway, model=model, num_retries="0")
    assert (response.status, response.error["code"], response.headers.get("retry-after")) == (status, code, wait)


@pytest.mark.parametrize("fault", ["cut-answer", "reset-answer", "reset-body"])
async def test_a_broken_connection_is_a_failing_provider(gateway: Gateway, emulator: OpenAIEmulator, fault: str):
    emulator.script(fault)
    response = await ask(gateway, num_retries="0")
    assert (response.status, response.error["code"]) == (502, "provider_unavailable")


async def test_a_request_the_provider_refuses_is_the_callers_fault(gateway: Gateway, emulator: OpenAIEmulator):
    emulator.script(failure(400, "this is no speech", kind="invalid_request_error"))
    response = await ask(gateway)
    assert (response.status, response.error["type"], len(emulator.records)) == (400, "invalid_request_error", 1)


async def test_everything_cools_down(emulator: OpenAIEmulator, tmp_path: Path):
    config = openai_config(emulator.url, models=("fault-401", "fault-429"))
    for model in ("fault-401", "fault-429"):
        config = config.replace(f"model_name: {model}", "model_name: pair")
    async with running(tmp_path, config) as gateway:
        # One retry: more would wait for the 429 to pass, and the 401 would have cooled down by then.
        assert (await ask(gateway, model="pair", num_retries="1")).status == 429
        asked = len(emulator.records)
        cooling = await ask(gateway, model="pair")
        assert (cooling.status, cooling.error["code"]) == (503, "no_deployment_available")
        assert int(cooling.headers["retry-after"]) >= 1
        assert "x-portkey-provider" not in cooling.headers
        assert len(emulator.records) == asked
        request = api.TranscribeRequest(config=TranscriptionConfig(model="pair"), audio=AudioSource(data=SPEECH))
        with pytest.raises(grpc.RpcError) as failed:
            await gateway.stub.Transcribe(request, metadata=METADATA)
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        assert details(failed.value)[error_details_pb2.RetryInfo].retry_delay.seconds >= 1


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [("fault-401", "fault-429", 429), ("fault-quota", "fault-500", 502), ("fault-500", "fault-401", 502)],
)
async def test_the_most_useful_cause(gateway: Gateway, first: str, second: str, status: int):
    response = await ask(gateway, model=first, fallbacks=second, num_retries="0")
    useful = second if first in ("fault-401", "fault-quota") else first
    assert response.status == status
    assert response.error["message"].startswith(f"openai ({useful})")
    assert f"openai {first} " in response.error["message"]
    assert f"openai {second} " in response.error["message"]
    assert "sk-" not in response.error["message"]


async def test_a_summary_is_bounded(gateway: Gateway, emulator: OpenAIEmulator):
    response = await ask(gateway, model="fault-500", fallbacks="fault-401,fault-quota,fault-bad-json", num_retries="2")
    message = response.error["message"]
    assert f"({len(emulator.records)} attempts: …, " in message
    assert message.count(", openai ") == 5
    assert message.endswith("openai fault-bad-json unusable answer)")


async def test_grpc_metadata_and_retry_info(gateway: Gateway, emulator: OpenAIEmulator):
    def call(model: str, **headers: str):
        metadata = (*METADATA, *((f"x-litellm-{name.replace('_', '-')}", value) for name, value in headers.items()))
        request = api.TranscribeRequest(config=TranscriptionConfig(model=model), audio=AudioSource(data=SPEECH))
        return gateway.stub.Transcribe(request, metadata=metadata)

    with pytest.raises(grpc.RpcError) as limited:
        await call("fault-429", num_retries="0")
    assert limited.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(limited.value)[error_details_pb2.RetryInfo].retry_delay.seconds == 7
    with pytest.raises(grpc.RpcError) as slow:
        await call("fault-hang", num_retries="0", timeout="0.25")
    assert slow.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(emulator.records) == 2
    with pytest.raises(grpc.RpcError) as wrong:
        await call("whisper-1", num_retries="many")
    violation = details(wrong.value)[error_details_pb2.BadRequest].field_violations[0]
    assert violation.field == "x-litellm-num-retries"


async def test_names_that_are_not_ascii(emulator: OpenAIEmulator, tmp_path: Path):
    config = openai_config(emulator.url).replace("model_name: whisper-1", "model_name: grün")
    async with running(tmp_path, config) as gateway:
        response = await ask(gateway, model="grün")
    assert (response.status, response.headers["x-litellm-model-group"]) == (200, "gr?n")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\x00b", "ä\u2028", "x" * 10_000])
async def test_nothing_from_a_provider_can_end_a_header(value: str):
    audio = AudioHeader()
    with contextlib.closing(SpoolStore()) as spools:
        call = Call("req_1", Caller(), audio, spools.open(max_bytes=1), deadline=1e9)
        deployment = Deployment("id\n", value, OpenAIProvider(model="m", api_key=None))
        call.served_by = Try(deployment, Hop(value, [deployment], call.config), 0, 0, 1e9)
        call.provider_headers = {"x-request-id": value}
        headers = call_headers(call)
        call.spool.close()
    await deployment.provider.aclose()
    assert {b"x-litellm-model-group", b"llm_provider-x-request-id"} <= {name for name, _ in headers}
    for name, sent in headers:
        assert (name + sent).decode("ascii").isprintable()
        assert len(sent) <= 256


async def test_no_secret_leaves(gateway: Gateway, emulator: OpenAIEmulator):
    for model in ("whisper-1", "fault-401"):
        response = await ask(gateway, model=model)
        told = str(response.headers) + response.body.decode()
        assert KEY not in told
        assert "canary" not in told
        assert "org-of-the-operator" not in told
