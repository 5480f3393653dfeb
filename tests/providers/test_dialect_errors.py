"""The dialects of OpenAI's API: what each server's refusals mean."""

import json

import pytest
from voxgate_server import errors

from tests.providers.azure_emulator import AzureEmulator
from tests.providers.calling import Asking, azure, built, formatted
from tests.providers.dialect_emulator import EMULATORS, DialectEmulator, GroqEmulator, MistralEmulator, OvhcloudEmulator
from tests.providers.emulator import Behaviour, raw

CREDENTIAL, REJECTED, LIMITED = errors.ProviderCredential, errors.ProviderRejected, errors.ProviderRateLimited
UNAVAILABLE, QUOTA, LARGE = errors.ProviderUnavailable, errors.ProviderQuotaExceeded, errors.AudioTooLarge


def openai_error(status: int, message: str, kind: str = "invalid_request_error", code: str | None = None, **more):
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return raw(json.dumps(body), status=status, **more)


def error(status: int, body: object, **headers: str) -> Behaviour:
    return raw(
        json.dumps(body), status=status, headers={name.replace("_", "-"): item for name, item in headers.items()}
    )


def groq_error(status: int, code: str, kind: str = "invalid_request_error", **headers: str) -> Behaviour:
    return error(status, {"error": {"message": "groq says", "type": kind, "code": code}}, **headers)


def mistral_error(status: int, kind: str) -> Behaviour:
    body = {
        "object": "error",
        "message": "mistral says",
        "type": kind,
        "param": None,
        "code": "1500",
        "raw_status_code": 1,
    }
    return error(status, body)


SHAPES = [
    ("groq", groq_error(400, "invalid_request"), REJECTED, "groq says", None),
    ("groq", groq_error(401, "invalid_api_key"), CREDENTIAL, "api_key", None),
    ("groq", groq_error(404, "model_not_found"), UNAVAILABLE, "model and api_base", None),
    ("groq", groq_error(413, "request_too_large"), LARGE, "groq", None),
    ("groq", groq_error(422, "unprocessable"), REJECTED, "422", None),
    ("groq", groq_error(424, "failed_dependency"), UNAVAILABLE, "424", None),
    ("groq", groq_error(429, "rate_limit_exceeded", "tokens", retry_after="7"), LIMITED, "slow down", 7),
    ("groq", groq_error(498, "capacity_exceeded", "capacity"), UNAVAILABLE, "498", None),
    ("groq", groq_error(499, "cancelled"), UNAVAILABLE, "499", None),
    ("groq", groq_error(500, "internal", "server_error"), UNAVAILABLE, "500", None),
    ("groq", groq_error(502, "bad_gateway"), UNAVAILABLE, "502", None),
    ("groq", groq_error(503, "unavailable", retry_after="3"), UNAVAILABLE, "503", 3),
    (
        "groq",
        groq_error(429, "x", x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m2.5s"),
        LIMITED, "slow down", 62.5,
    ),
    (
        "groq",
        groq_error(429, "x", x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="20ms",
                   x_ratelimit_reset_requests="9h"),
        LIMITED, "slow down", 0.02,
    ),
    ("groq", groq_error(429, "x"), LIMITED, "slow", None),
    (
        "groq",
        groq_error(429, "x", x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="soon"),
        LIMITED, "slow", None,
    ),
    (
        "groq",
        groq_error(429, "x", x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="8h"),
        LIMITED, "slow", 300,
    ),
    (
        "fireworks_ai",
        error(400, {"error": {"object": "error", "type": "invalid_request_error", "message": "fireworks says"}}),
        REJECTED, "fireworks says", None,
    ),
    ("fireworks_ai", error(401, {"error": {"object": "error", "message": "no"}}), CREDENTIAL, "api_key", None),
    ("ovhcloud", error(401, {"message": "bad token"}), CREDENTIAL, "api_key", None),
    ("ovhcloud", error(403, {"message": "Resource tag 'discovery' is forbidden"}), CREDENTIAL, "api_key", None),
    ("ovhcloud", error(404, {"message": "no such model"}), UNAVAILABLE, "no such model", None),
    ("ovhcloud", error(429, {"message": "slow"}), LIMITED, "slow", None),
    (
        "mistral",
        error(422, {"detail": [{"loc": ["body", "language"], "msg": "mistral says", "type": "value_error"}]}),
        REJECTED, "mistral says", None,
    ),
    ("mistral", mistral_error(400, "invalid_request"), REJECTED, "mistral says", None),
    ("mistral", mistral_error(400, "invalid_model"), UNAVAILABLE, "model and api_base.*mistral says", None),
    ("mistral", mistral_error(401, "unauthorized"), CREDENTIAL, "api_key", None),
    ("mistral", mistral_error(429, "rate_limited"), LIMITED, "mistral says", None),
    (
        "hosted_vllm",
        error(400, {"error": {"message": "vllm says", "type": "BadRequestError", "param": None, "code": 400}}),
        REJECTED, "vllm says", None,
    ),
    (
        "hosted_vllm",
        error(400, {"object": "error", "message": "old vllm", "type": "BadRequestError", "param": None, "code": 400}),
        REJECTED, "old vllm", None,
    ),
    (
        "hosted_vllm",
        error(404, {"error": {"message": "The model does not exist.", "type": "NotFoundError", "code": 404}}),
        UNAVAILABLE, "model and api_base", None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "behaviour", "kind", "said", "wait"), SHAPES)
async def test_shapes(
    ask: Asking, name: str, behaviour: Behaviour, kind: type[errors.VoxgateError], said: str, wait: float | None
):
    emulator_of, model = EMULATORS[name]
    async with emulator_of() as emulator:
        emulator.script(behaviour)
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await ask(built(emulator, model))
    assert type(caught.value) is kind
    assert caught.value.retry_after == wait
    assert caught.value.metadata["provider"] == name
    assert name in caught.value.message


AZURE = [
    (error(404, {"error": {"code": "DeploymentNotFound", "message": "none"}}), UNAVAILABLE, "model and api_base", None),
    (error(401, {"error": {"code": "401", "message": "Access denied"}}), CREDENTIAL, "api_key", None),
    (error(401, {"statusCode": 401, "message": "Access denied"}), CREDENTIAL, "api_key", None),
    (error(404, {"error": {"code": "404", "message": "Resource not found"}}), UNAVAILABLE, "Resource not found", None),
    (error(404, {"statusCode": 404, "message": "Resource not found"}), UNAVAILABLE, "Resource not found", None),
    (
        error(429, {"error": {"code": "429", "message": "slow"}}, retry_after_ms="1500", retry_after="2"),
        LIMITED, "slow", 1.5,
    ),
    (error(429, {"error": {"code": "RateLimitReached", "message": "slow"}}, retry_after="2"), LIMITED, "slow", 2),
    (error(500, {"error": {"code": 500, "message": "number"}}), UNAVAILABLE, "number", None),
    (error(503, {}), UNAVAILABLE, "503", None),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "kind", "said", "wait"), AZURE)
async def test_azures_shapes(
    ask: Asking, behaviour: Behaviour, kind: type[errors.VoxgateError], said: str, wait: float | None
):
    async with AzureEmulator() as emulator:
        emulator.script(behaviour)
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await ask(azure(emulator))
    assert type(caught.value) is kind
    assert caught.value.retry_after == wait


async def test_azures_content_filter_has_fallbacks_of_its_own(ask: Asking):
    async with AzureEmulator() as emulator:
        emulator.script(error(400, {"error": {"code": "content_filter", "message": "filtered", "status": 400}}))
        with pytest.raises(errors.ProviderRejected, match="filtered") as caught:
            await ask(azure(emulator))
    assert caught.value.metadata["provider_code"] == "content_filter"


OPENAI = [
    (
        openai_error(400, "audio duration 1600.5 seconds is longer than 1400 seconds which is the maximum"),
        LARGE, "longer than 1400 seconds",
    ),
    (openai_error(400, "The prompt is too long."), REJECTED, "prompt"),
    (openai_error(400, "The audio file could not be decoded or its format is not supported."), REJECTED, "decoded"),
    (openai_error(400, "This model does not support the format.", code="unsupported_format"), REJECTED, "support"),
    (openai_error(400, "Audio file is too short.", code="audio_too_short"), REJECTED, "too short"),
    (openai_error(413, "413: Maximum content size limit (26214400) exceeded", "server_error"), LARGE, "26214400"),
    (raw("<html>413 Request Entity Too Large</html>", status=413, media_type="text/html"), LARGE, "larger than"),
    (openai_error(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota"), QUOTA, "quota"),
    (openai_error(404, "The model does not exist", code="model_not_found"), UNAVAILABLE, "model"),
    (openai_error(503, "overloaded", "server_error"), UNAVAILABLE, "overloaded"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "kind", "said"), OPENAI)
async def test_openais_shapes(ask: Asking, behaviour: Behaviour, kind: type[errors.VoxgateError], said: str):
    # Anybody's emulator does: what is answered is scripted.
    async with GroqEmulator() as emulator:
        emulator.script(behaviour)
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await ask(built(emulator, "whisper-large-v3"))
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", EMULATORS)
async def test_the_emulators_own_refusals(ask: Asking, name: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        emulator.max_body = 1000
        with pytest.raises(errors.AudioTooLarge, match=name):
            await ask(built(emulator, model))
        emulator.max_body = None
        with pytest.raises(errors.ProviderUnavailable, match="does not know the model"):
            await ask(built(emulator, "another-model"))
        emulator.key = "another-key"
        provider = built(emulator, model)
        emulator.key = "changed"
        with pytest.raises(errors.ProviderCredential, match="credential") as caught:
            await ask(provider)
        assert "another-key" not in caught.value.message


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"text": null}', "<html></html>", '{"error": {"message": "died"}}'])
@pytest.mark.parametrize("kind", [GroqEmulator, MistralEmulator, OvhcloudEmulator])
async def test_garbage(ask: Asking, kind: type[DialectEmulator], body: str):
    async with kind() as emulator:
        emulator.script(raw(body))
        with pytest.raises(errors.ProviderGarbled, match=emulator.provider):
            await ask(built(emulator, EMULATORS[emulator.provider][1]), formatted("srt"))


async def test_ovhclouds_anonymous_limit(ask: Asking):
    async with OvhcloudEmulator(key=None) as emulator:
        for _ in range(2):
            await ask(built(emulator, "whisper-large-v3"))
        with pytest.raises(errors.ProviderRateLimited, match="Rate limit"):
            await ask(built(emulator, "whisper-large-v3"))
