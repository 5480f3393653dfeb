"""Deepgram: refusals, broken connections and limits."""

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.deepgram_answer import refusal
from voxgate_server.providers.http_errors import Upstream

from tests.providers.calling import WAV, attempt_with
from tests.providers.deepgram_calling import DeepgramCalling, deepgram_at, run
from tests.providers.deepgram_emulator import DeepgramEmulator, failure
from tests.providers.emulator import Behaviour, raw

CORRUPT = "Bad Request: failed to process audio: corrupt or unsupported data"
TABLE = [
    (400, "Bad Request", CORRUPT, errors.ProviderRejected, "corrupt or unsupported data"),
    (400, "INVALID_QUERY_PARAMETER", "Failed to deserialize", errors.ProviderRejected, "Failed to deserialize"),
    (401, "INVALID_AUTH", "Invalid credentials.", errors.ProviderCredential, "api_key"),
    (402, "ASR_PAYMENT_REQUIRED", "Project does not have enough credits", errors.ProviderQuotaExceeded, "credits"),
    (403, "INSUFFICIENT_PERMISSIONS", "No access to the model.", errors.ProviderCredential, "403"),
    (404, "NOT_FOUND", "No such route.", errors.ProviderUnavailable, "api_base"),
    (408, "SLOW_UPLOAD", "The upload was too slow", errors.ProviderTimeout, "too slow"),
    (411, "LENGTH_REQUIRED", "Length required", errors.ProviderUnavailable, "length"),
    (413, "PAYLOAD_TOO_LARGE", "More than 2 GB", errors.AudioTooLarge, "2 GB"),
    (414, "URI_TOO_LONG", "URL too long", errors.ProviderRejected, "414: URL too long"),
    (429, "TOO_MANY_REQUESTS", "Too many requests.", errors.ProviderRateLimited, "Too many requests"),
    (499, "CLIENT_CLOSED", "closed", errors.ProviderUnavailable, "499"),
    (500, "INTERNAL", "It broke.", errors.ProviderUnavailable, "It broke"),
    (502, "BAD_GATEWAY", "It broke.", errors.ProviderUnavailable, "It broke"),
    (503, "OVERLOADED", "It broke.", errors.ProviderUnavailable, "It broke"),
    (504, "TIMEOUT", "Over 10 minutes", errors.ProviderTimeout, "Over 10 minutes"),
]


@pytest.mark.parametrize(("status", "code", "message", "kind", "said"), TABLE)
@pytest.mark.parametrize("shape", ["legacy", "modern", "text"])
async def test_every_status_in_every_shape(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, status: int, code: str, message: str,
    kind: type[errors.VoxgateError], said: str, shape,
):  # fmt: skip
    deepgram.script(failure(status, message, code=code, shape=shape))
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await listen()
    assert type(caught.value) is kind
    assert caught.value.retry_after is None
    assert caught.value.metadata["provider_status"] == str(status)
    assert caught.value.message.startswith(("deepgram (nova-3)", "The recording is larger than deepgram (nova-3)"))
    assert listen.attempt is not None
    assert listen.attempt.response_headers["dg-request-id"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"err_code": "SOMETHING"}', "SOMETHING"),
        ('{"category": "INVALID_JSON", "message": "Broken.", "details": "At 3."}', r"Broken\. At 3\."),
        ('{"category": "INVALID_JSON", "message": "Broken.", "details": {"at": 3}}', "Broken"),
        ('{"error": {"message": "another shape"}}', "another shape"),
        ('"a string"', "a string"),
        ("", r"400\.$"),
        ("<html>", r"400\.$"),
        ("{}", r"400\.$"),
    ],
)
async def test_other_shapes(listen: DeepgramCalling, deepgram: DeepgramEmulator, body: str, said: str):
    deepgram.script(raw(body, status=400))
    with pytest.raises(errors.ProviderRejected, match=said):
        await listen()


@given(st.integers(300, 599), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_refusal_has_a_class(status: int, body: bytes):
    error = refusal(Upstream("deepgram", "nova-3"), status, httpx.Headers(), body)
    assert isinstance(error, (errors.ProviderError, errors.AudioTooLarge))
    assert len(error.message) < 400


@pytest.mark.parametrize("shape", ["legacy", "modern", "text"])
@pytest.mark.parametrize(
    ("model", "config", "data", "kind", "said"),
    [
        ("nova-3", "", b"RIFF but nothing else", errors.ProviderRejected, "corrupt or unsupported data"),
        ("nova-3", 'language: "tlh"', WAV, errors.ProviderRejected, "No such model/language/tier combination"),
        ("nova-9", "", WAV, errors.ProviderRejected, "No such model/language/tier combination"),
    ],
)
async def test_what_deepgram_itself_refuses(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, shape, model: str, config: str, data: bytes, kind, said: str
):
    deepgram.shape = shape
    with pytest.raises(kind, match=said):
        await listen(config, model, data=data)


async def test_a_wrong_key(listen: DeepgramCalling):
    with pytest.raises(errors.ProviderCredential, match="api_key"):
        await listen(api_key="fedcba9876543210")


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("early-401", errors.ProviderCredential, "api_key"),
        ("reset-body", errors.ProviderUnavailable, "broke the connection"),
        ("reset-answer", errors.ProviderUnavailable, "broke the connection"),
        ("cut-answer", errors.ProviderUnavailable, "broke the connection"),
        ("html", errors.ProviderUnavailable, r"status 502.$"),
        (failure(307, headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect"),
    ],
)
@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_broken_connections(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, behaviour: str | Behaviour, kind: type[errors.VoxgateError],
    said: str, size: int,
):  # fmt: skip
    deepgram.script(behaviour)
    with pytest.raises(kind, match=said):
        await listen(data=WAV + bytes(size))
    assert len(deepgram.records) == 1


async def test_an_early_success_is_none(deepgram: DeepgramEmulator, store: SpoolStore):
    deepgram.script("early-200")
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        await spool.write(WAV)
        with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
            await run(provider, attempt_with(spool))


async def test_too_large_for_deepgram_while_the_size_is_unknown(deepgram: DeepgramEmulator, store: SpoolStore):
    deepgram.max_body = 200_000
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV)
        await spool.write(bytes(200_000))
        with pytest.raises(errors.AudioTooLarge, match=r"deepgram.*200000"):
            await call
        assert not spool.finished


async def test_the_deadline_while_waiting_for_the_answer(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    deepgram.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
        await listen(seconds=0.2)
    await deepgram.records[0].peer_closed.wait()


async def test_the_deployments_own_timeout(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    deepgram.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in time"):
        await listen(timeout=0.2)
    await deepgram.records[0].peer_closed.wait()
