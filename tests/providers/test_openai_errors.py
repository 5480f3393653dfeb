"""The OpenAI dialect: refusals, broken connections and limits."""

import asyncio
import socket

import pytest
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.openai import OpenAIProvider

from tests.providers import openai_emulator as emulation
from tests.providers.calling import WAV, Calling, attempt_with, provider_at, run
from tests.providers.openai_emulator import OpenAIEmulator


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("401", errors.ProviderCredential, "api_key"),
        (emulation.failure(403), errors.ProviderCredential, "api_key"),
        (emulation.failure(402, "pay"), errors.ProviderQuotaExceeded, "pay"),
        ("429", errors.ProviderRateLimited, "Rate limit reached"),
        ("quota", errors.ProviderQuotaExceeded, "current quota"),
        (emulation.failure(400, "Audio file might be corrupted"), errors.ProviderRejected, "might be corrupted"),
        (emulation.failure(415), errors.ProviderRejected, "415"),
        (emulation.failure(422), errors.ProviderRejected, "422"),
        (emulation.failure(404, code="model_not_found"), errors.ProviderUnavailable, "api_base"),
        (emulation.failure(413, "Maximum content size"), errors.AudioTooLarge, "openai.*Maximum content size"),
        (emulation.raw("<html>413</html>", status=413), errors.AudioTooLarge, "openai"),
        (emulation.failure(408), errors.ProviderTimeout, "408"),
        (emulation.failure(409), errors.ProviderUnavailable, "409"),
        ("500", errors.ProviderUnavailable, "The server had an error"),
        ("503", errors.ProviderUnavailable, "Overloaded"),
        (emulation.failure(504), errors.ProviderTimeout, "504"),
        ("html", errors.ProviderUnavailable, "status 502.$"),
        (emulation.failure(307, headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect"),
        (emulation.raw('{"detail": [{"msg": "bad"}]}', status=422), errors.ProviderRejected, "bad"),
        (
            emulation.raw('{"object": "error", "message": "old", "code": 400}', status=400),
            errors.ProviderRejected,
            "old",
        ),
        (emulation.raw('{"error": "short"}', status=400), errors.ProviderRejected, "short"),
        (emulation.raw("plain", status=500), errors.ProviderUnavailable, "plain"),
        (emulation.failure(500, cut=3, then="reset"), errors.ProviderUnavailable, "500"),
        ("early-401", errors.ProviderCredential, "api_key"),
        ("early-413", errors.AudioTooLarge, "Maximum content size"),
        ("reset-answer", errors.ProviderUnavailable, "broke the connection"),
        ("cut-answer", errors.ProviderUnavailable, "broke the connection"),
        ("reset-body", errors.ProviderUnavailable, "broke the connection"),
        ("bad-json", errors.ProviderGarbled, "JSON"),
        ("error-200", errors.ProviderGarbled, "backend died"),
    ],
)
@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_errors(
    call: Calling, emulator: OpenAIEmulator, behaviour: str | emulation.Behaviour, kind: type[errors.VoxgateError],
    said: str, size: int,
):  # fmt: skip
    emulator.script(behaviour)
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await call(data=WAV + bytes(size))
    assert type(caught.value) is kind
    assert len(emulator.records) == 1
    assert caught.value.message.startswith(("openai (whisper-1)", "The "))
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("code", "passed_on"),
    [
        ("content_policy_violation", "content_policy_violation"), ("Bad Code", None), ("sk-abcdef123456", None),
        ("sk_abcdef123456", None), ("x" * 65, None), (None, None),
    ],
)  # fmt: skip
async def test_the_providers_code(call: Calling, emulator: OpenAIEmulator, code: str | None, passed_on: str | None):
    emulator.script(emulation.failure(400, code=code))
    with pytest.raises(errors.ProviderRejected) as caught:
        await call()
    assert caught.value.metadata.get("provider_code") == passed_on


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_early_success_is_none(emulator: OpenAIEmulator, store: SpoolStore, size: int):
    emulator.script("early-200")
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV[:size])
        with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
            await run(provider, attempt_with(spool))


@pytest.mark.parametrize("name", ["early-401", "early-413"])
async def test_an_early_refusal_does_not_wait_for_the_caller(emulator: OpenAIEmulator, store: SpoolStore, name: str):
    emulator.script(name)
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        with pytest.raises((errors.ProviderCredential, errors.AudioTooLarge)):
            await run(provider, attempt_with(spool))


async def test_a_fault_chosen_by_the_models_name(call: Calling):
    with pytest.raises(errors.ProviderUnavailable, match="Overloaded"):
        await call(model="fault-503")


async def test_too_large_for_the_provider_while_the_size_is_unknown(emulator: OpenAIEmulator, store: SpoolStore):
    emulator.max_body = 200_000
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV)
        await spool.write(bytes(200_000))
        with pytest.raises(errors.AudioTooLarge, match=r"openai.*200000"):
            await call
        assert not spool.finished


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7.5"}, 7.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "100000"}, 300),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "99999999999999999999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 300),
        ({"retry-after": "Wed, 99 Oct 2099 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
async def test_when_to_come_back(call: Calling, emulator: OpenAIEmulator, headers: dict, seconds: float | None):
    emulator.script(emulation.failure(429, headers=headers), emulation.failure(503, headers=headers))
    for kind in (errors.ProviderRateLimited, errors.ProviderUnavailable):
        with pytest.raises(kind) as caught:
            await call()
        assert caught.value.retry_after == seconds


async def test_nobody_there(store: SpoolStore):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = OpenAIProvider(model="whisper-1", api_base=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            attempt = attempt_with(spool)
            with pytest.raises(errors.ProviderUnavailable, match="could not be connected to"):
                await run(provider, attempt)
            assert not attempt.report.HasField("http_status")
        await provider.aclose()


async def test_the_deadline_while_waiting_for_the_answer(call: Calling, emulator: OpenAIEmulator):
    emulator.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
        await call(seconds=0.2)
    await emulator.records[0].peer_closed.wait()


async def test_the_deployments_own_timeout(call: Calling, emulator: OpenAIEmulator):
    emulator.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in time"):
        await call(timeout=0.2)
    await emulator.records[0].peer_closed.wait()


async def test_the_deadline_while_the_provider_takes_nothing(call: Calling, emulator: OpenAIEmulator):
    emulator.script("stall")
    with pytest.raises(errors.ProviderTimeout, match="bytes of the recording"):
        await call(data=WAV + bytes(30_000_000), seconds=0.5)


async def test_the_deadline_while_the_caller_sends(emulator: OpenAIEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        with pytest.raises(errors.DeadlineExceeded, match="still coming in"):
            await run(provider, attempt_with(spool, seconds=0.2))
        record = await emulator.record()
        await record.body_ended.wait()
        assert not record.complete


async def test_a_deadline_that_has_passed(call: Calling, emulator: OpenAIEmulator):
    with pytest.raises(errors.DeadlineExceeded, match="before openai"):
        await call(seconds=-1)
    assert not emulator.connections
