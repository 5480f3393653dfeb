"""Azure OpenAI: its paths, its versions, its keys and its tokens."""

import asyncio
import contextlib
from urllib.parse import urlsplit

import pytest
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers import azure as module
from voxgate_server.providers.azure_token import Application, EntraToken
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.http_errors import Upstream

from tests.providers.azure_emulator import AzureEmulator, EntraEmulator
from tests.providers.calling import WAV, Asking, attempt_with, azure, run
from tests.providers.emulator import raw

FAR = 1e12
"""A deadline that does not come."""


@pytest.mark.parametrize(
    ("model", "version", "place", "query"),
    [
        ("whisper", None, "deployments/whisper", "?api-version=2024-10-21"),
        ("whisper", "2024-02-15-preview", "deployments/whisper", "?api-version=2024-02-15-preview"),
        ("my whisper/eu", "2024-06-01", "deployments/my%20whisper%2Feu", "?api-version=2024-06-01"),
        ("gpt-4o-transcribe", None, "v1", ""),
        ("gpt-4o-transcribe", "v1", "v1", "?api-version=v1"),
        ("gpt-4o-transcribe", "preview", "v1", "?api-version=preview"),
        ("gpt-4o-transcribe", "latest", "v1", "?api-version=latest"),
        ("gpt-4o-transcribe", "2025-04-01-preview", "deployments/gpt-4o-transcribe", "?api-version=2025-04-01-preview"),
    ],
)  # fmt: skip
async def test_paths(ask: Asking, model: str, version: str | None, place: str, query: str):
    async with AzureEmulator() as emulator:
        result = await ask(azure(emulator, model, api_version=version))
    assert result.text == emulator.text
    [record] = emulator.records
    assert record.path == f"/openai/{place}/audio/transcriptions{query}"
    assert record.field("model") == model
    assert record.headers["api-key"] == emulator.key
    assert "authorization" not in record.headers
    assert ask.attempt is not None
    assert ask.attempt.response_headers["apim-request-id"] == "apim-1"


async def test_the_version_of_the_environment(ask: Asking):
    async with AzureEmulator() as emulator:
        environ = {"AZURE_API_VERSION": "2024-02-01", "AZURE_API_KEY": emulator.key, "AZURE_API_BASE": emulator.url}
        await ask(module.build(ProviderParams(provider="azure", model="whisper", environ=environ)))
    assert emulator.records[0].path.endswith("?api-version=2024-02-01")


@pytest.mark.parametrize("suffix", ["/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
async def test_an_address_copied_with_the_beginning_of_the_path(ask: Asking, suffix: str):
    async with AzureEmulator() as emulator:
        assert (await ask(azure(emulator, "gpt-transcribe", api_base=emulator.url + suffix))).text == emulator.text


async def test_translation(ask: Asking):
    async with AzureEmulator() as emulator:
        result = await ask(azure(emulator), "task: TRANSCRIPTION_TASK_TRANSLATE response_format: RESPONSE_FORMAT_SRT")
    path = urlsplit(emulator.records[0].path).path
    assert path == "/openai/deployments/whisper/audio/translations"
    assert result.task == "translate"


@pytest.mark.parametrize(
    ("model", "base_model", "config", "fields"),
    [
        ("whisper", None, 'language: "de-AT" prompt: "p" temperature: 0.5',
         [("response_format", "verbose_json"), ("language", "de"), ("prompt", "p"), ("temperature", "0.5")]),
        ("whisper", None, "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD",
         [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")]),
        ("gpt-4o-transcribe", None, "include: INCLUDE_LOGPROBS chunking_strategy { auto {} }",
         [("response_format", "json"), ("include[]", "logprobs"), ("chunking_strategy", "auto")]),
        ("gpt-transcribe", None, 'language: "de" keywords: ["a", "b"]',
         [("response_format", "json"), ("languages[]", "de"), ("keywords[]", "a"), ("keywords[]", "b")]),
        ("diarizing", "gpt-4o-transcribe-diarize", "response_format: RESPONSE_FORMAT_DIARIZED_JSON",
         [("response_format", "diarized_json"), ("chunking_strategy", "auto")]),
    ],
)  # fmt: skip
async def test_options(ask: Asking, model: str, base_model: str | None, config: str, fields: list):
    async with AzureEmulator() as emulator:
        result = await ask(azure(emulator, model, base_model=base_model), config)
    assert result.text == emulator.text
    assert emulator.records[0].fields == [("model", model), *fields]


@pytest.mark.parametrize(
    ("model", "base_model", "formats", "plain"),
    [
        ("whisper", None, 5, "verbose_json"),
        ("our-Whisper-1", None, 5, "verbose_json"),
        ("prod", "whisper-1", 5, "verbose_json"),
        ("prod", "gpt-4o-mini-transcribe", 2, "json"),
        ("our-gpt-4o-transcribe", None, 2, "json"),
        ("whisper", "gpt-4o-transcribe-diarize", 6, "json"),
        # Nobody says what it is: nearly all are whispers, and json is understood by the others too.
        ("prod", None, 5, "json"),
    ],
)
def test_what_a_deployment_is(model: str, base_model: str | None, formats: int, plain: str):
    provider = module.build(
        ProviderParams(
            provider="azure", model=model, base_model=base_model, values={"api_base": "http://h", "api_key": "k"}
        )
    )
    assert len(provider.capabilities.response_formats) == formats
    assert provider.capabilities.max_audio_bytes == 26_214_400
    assert provider._family.plain_format == plain


BASE = {"api_base": "https://res.openai.azure.com"}
TRIPLE = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}


@pytest.mark.parametrize(
    ("values", "environ", "said"),
    [
        ({"api_key": "k"}, {"X": "1"}, "there is no api_base, and AZURE_API_BASE is not set"),
        (BASE, {"X": "1"}, "there is no api_key, and AZURE_API_KEY or AZURE_AD_TOKEN is not set"),
        ({**BASE, "client_id": "c"}, {"X": "1"}, "there is no tenant_id, and AZURE_TENANT_ID is not set"),
        ({**BASE, **TRIPLE, "tenant_id": "../x"}, {}, "tenant_id is neither"),
        ({**BASE, **TRIPLE}, {"AZURE_AUTHORITY_HOST": "http://login.example"}, "AZURE_AUTHORITY_HOST is not an https"),
        ({**BASE, "azure_ad_token": "oidc/google/x"}, {}, "oidc"),
        ({**BASE, "api_key": "k", "api_version": "preview"}, {}, "whisper is not served with api_version 'preview'"),
        ({"api_base": "https://h/openai/deployments/x?api-version=1", "api_key": "k"}, {}, "query"),
    ],
)
def test_what_a_deployment_needs(values: dict, environ: dict, said: str):
    with pytest.raises(ValueError, match=said):
        module.build(ProviderParams(provider="azure", model="whisper", values=values, environ=environ))


@pytest.mark.parametrize(
    ("values", "environ"),
    [
        ({"azure_ad_token": "eyJ.token"}, {}),
        ({"azure_ad_token": "eyJ.token", "api_key": "wrong-key"}, {}),
        ({}, {"AZURE_AD_TOKEN": "eyJ.token"}),
        ({}, {"AZURE_AD_TOKEN": "eyJ.token", "AZURE_API_KEY": "wrong-key"}),
        ({"azure_ad_token": "eyJ.token"}, {"AZURE_AD_TOKEN": "wrong"}),
    ],
)
async def test_a_token_the_operator_has(ask: Asking, values: dict, environ: dict):
    async with AzureEmulator(tokens=["eyJ.token"]) as emulator:
        params = ProviderParams(
            provider="azure", model="whisper", values={"api_base": emulator.url, **values}, environ=environ
        )
        assert (await ask(module.build(params))).text == emulator.text
    assert emulator.records[0].headers["authorization"] == "Bearer eyJ.token"
    assert "api-key" not in emulator.records[0].headers


@pytest.mark.parametrize(
    ("values", "environ"),
    [
        ({"api_key": "key-of-the-resource"}, {"AZURE_AD_TOKEN": "eyJ.other"}),
        ({}, {"AZURE_API_KEY": "key-of-the-resource", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c",
              "AZURE_CLIENT_SECRET": "of-something-else"}),
        ({}, {"AZURE_API_KEY": "key-of-the-resource", "AZURE_CLIENT_ID": "of-something-else"}),
    ],
)  # fmt: skip
async def test_a_key_that_comes_first(ask: Asking, values: dict, environ: dict):
    async with AzureEmulator() as emulator:
        params = ProviderParams(
            provider="azure", model="whisper", values={"api_base": emulator.url, **values}, environ=environ
        )
        assert (await ask(module.build(params))).text == emulator.text


def application(entra: EntraEmulator, **changes: str) -> Application:
    return Application(
        **{
            "tenant_id": entra.tenant, "client_id": entra.client, "client_secret": entra.secret,
            "authority": entra.origin, **changes,
        }
    )  # fmt: skip


@contextlib.asynccontextmanager
async def tokens_of(entra: EntraEmulator, **changes: str):
    token = EntraToken(application(entra, **changes), Upstream("azure", "whisper"))
    try:
        yield token
    finally:
        await token.aclose()


@pytest.mark.parametrize("where", ["values", "environ"])
async def test_an_application_of_entra(store: SpoolStore, where: str):
    async with EntraEmulator() as entra, AzureEmulator(tokens=entra.tokens) as emulator:
        triple = {"tenant_id": entra.tenant, "client_id": entra.client, "client_secret": entra.secret}
        environ = {"AZURE_AUTHORITY_HOST": entra.origin}
        if where == "environ":
            environ |= {f"AZURE_{name.upper()}": value for name, value in triple.items()}
            triple = {}
        params = ProviderParams(
            provider="azure", model="whisper", values={"api_base": emulator.url, **triple}, environ=environ
        )
        provider = module.build(params)
        for _ in range(3):
            async with store.open(max_bytes=1 << 30) as spool:
                await spool.write(WAV)
                spool.finish()
                assert (await run(provider, attempt_with(spool))).text == emulator.text
        await provider.aclose()
    assert len(entra.records) == 1
    assert {record.headers["authorization"] for record in emulator.records} == {f"Bearer {entra.tokens[0]}"}


async def test_a_token_the_service_does_not_accept_is_fetched_anew(store: SpoolStore):
    async with EntraEmulator() as entra, AzureEmulator(tokens=["none yet"]) as emulator:
        values = {
            "api_base": emulator.url,
            "tenant_id": entra.tenant,
            "client_id": entra.client,
            "client_secret": entra.secret,
        }
        params = ProviderParams(
            provider="azure", model="whisper", values=values, environ={"AZURE_AUTHORITY_HOST": entra.origin}
        )
        provider = module.build(params)
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            with pytest.raises(errors.ProviderCredential):
                await run(provider, attempt_with(spool))
            emulator.tokens = entra.tokens
            assert (await run(provider, attempt_with(spool))).text == emulator.text
        await provider.aclose()
    assert len(entra.tokens) == 2


async def test_many_calls_fetch_one_token():
    async with EntraEmulator() as entra, tokens_of(entra) as token:
        assert len(set(await asyncio.gather(*(token.get(FAR) for _ in range(50))))) == 1
        assert len(entra.records) == 1


async def test_who_gives_up_takes_nothing_from_the_others():
    go_on = asyncio.Event()
    async with EntraEmulator() as entra, tokens_of(entra) as token:
        entra.script(raw('{"access_token": "eyJ.x", "expires_in": 3599}', until=go_on))
        first, second = (asyncio.create_task(token.get(FAR)) for _ in range(2))
        await entra.record()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert await second == "eyJ.x"
        assert len(entra.records) == 1


async def test_a_token_is_renewed_while_the_old_one_still_goes_out():
    async with EntraEmulator() as entra, tokens_of(entra) as token:
        old = await token.get(FAR)
        token._fresh_until = 0.0
        go_on = asyncio.Event()
        entra.script(raw('{"access_token": "eyJ.new", "expires_in": "3599"}', until=go_on))
        assert [await token.get(FAR) for _ in range(3)] == [old] * 3
        renewal = token._renewal
        assert renewal is not None
        go_on.set()
        await renewal
        assert await token.get(FAR) == "eyJ.new"
        assert len(entra.records) == 2


async def test_a_renewal_that_fails_costs_nothing_while_the_old_token_holds():
    async with EntraEmulator() as entra, tokens_of(entra) as token:
        old = await token.get(FAR)
        token._fresh_until = 0.0
        entra.script(raw("{}", status=503))
        assert await token.get(FAR) == old
        renewal = token._renewal
        assert renewal is not None
        with pytest.raises(errors.ProviderUnavailable):
            await renewal
        assert [await token.get(FAR) for _ in range(3)] == [old] * 3
        assert len(entra.records) == 2
        token._fresh_until = token._valid_until = 0.0
        assert await token.get(FAR) == "eyJ.token-2"


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        (raw("{}", status=429, headers={"retry-after": "4"}), errors.ProviderRateLimited, "slow down"),
        (raw("{}", status=503), errors.ProviderUnavailable, "503"),
        (raw("<html>", status=302), errors.ProviderGarbled, "redirect"),
        (raw("{}"), errors.ProviderGarbled, "no token"),
        (raw("not json"), errors.ProviderGarbled, "no token"),
        (raw('{"access_token": "x", "expires_in": "soon"}'), errors.ProviderGarbled, "no token"),
        (raw('{"access_token": "x", "expires_in": -5}'), errors.ProviderGarbled, "no token"),
        (raw('{"access_token": "a\\r\\nb: c", "expires_in": 5}'), errors.ProviderGarbled, "no token"),
        (raw("", then="reset", cut=-1), errors.ProviderUnavailable, "broke the connection"),
    ],
)
async def test_when_there_is_no_token(behaviour, kind: type[errors.VoxgateError], said: str):
    async with EntraEmulator() as entra, tokens_of(entra) as token:
        entra.script(behaviour)
        with pytest.raises(errors.ProviderError, match=said) as caught:
            await token.get(FAR)
        assert type(caught.value) is kind
        assert "token of 127.0.0.1" in caught.value.message
        # The next call has its own chance.
        assert await token.get(FAR) == "eyJ.token-1"


async def test_an_application_entra_does_not_know():
    async with EntraEmulator() as entra, tokens_of(entra, client_secret="another-secret") as token:
        with pytest.raises(errors.ProviderCredential, match=r"\(AADSTS7000215\).*client_secret") as caught:
            await token.get(FAR)
    assert "another-secret" not in caught.value.message
    assert "client-1" not in caught.value.message


async def test_a_token_that_does_not_come_in_time(store: SpoolStore):
    async with EntraEmulator() as entra, AzureEmulator() as emulator:
        entra.script(raw("", cut=-1, then="hang"))
        values = {
            "api_base": emulator.url,
            "tenant_id": entra.tenant,
            "client_id": entra.client,
            "client_secret": entra.secret,
        }
        params = ProviderParams(
            provider="azure", model="whisper", values=values, environ={"AZURE_AUTHORITY_HOST": entra.origin}
        )
        provider = module.build(params)
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            with pytest.raises(errors.ProviderTimeout, match="handed out in time"):
                await run(provider, attempt_with(spool, seconds=0.2))
        await provider.aclose()
        assert not emulator.connections


def test_secrets_are_not_shown():
    shown = Application(tenant_id="t", client_id="c", client_secret="hunter2hunter2")
    assert "hunter2" not in repr(shown)
