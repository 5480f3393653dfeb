"""Gemini: what an operator may configure, and what comes of it."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.gemini import GeminiProvider, build
from voxgate_server.providers.registry import build_for_caller

from tests.providers.calling import WAV, attempt_with
from tests.providers.gemini_calling import DEDICATED, GENERAL, run
from tests.providers.gemini_emulator import KEY, GeminiEmulator


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.mark.parametrize(
    "kwargs",
    [
        {"default_params": {"language": "de"}},
        {"default_params": {"response_schema": {}}},
        {"default_params": {"when": object()}},
        {"allowed_extra_params": ["contents"]},
        {"allowed_extra_params": ["temperature"]},
        {"extra_headers": {"Host": "elsewhere"}},
        {"extra_headers": {"x": "a\r\nb: c"}},
        {"model": "gemini-3.5-transcribe-live"},
    ],
)
def test_what_an_operator_may_not_configure(kwargs: dict):
    allowed = frozenset(kwargs.get("allowed_extra_params", ()))
    params = {"model": GENERAL, "values": {"api_key": "secret-key"}, **kwargs, "allowed_extra_params": allowed}
    with pytest.raises(ValueError) as caught:
        build(ProviderParams("gemini", **params))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "environ", "url", "key"),
    [
        (
            {"api_key": "k-1"},
            {"GEMINI_API_KEY": "k-2"},
            "https://generativelanguage.googleapis.com/v1beta/models/",
            "k-1",
        ),
        ({}, {"GEMINI_API_KEY": "k-2"}, "https://generativelanguage.googleapis.com/v1beta/models/", "k-2"),
        ({}, {"GEMINI_API_KEY": "k-2", "GOOGLE_API_KEY": "k-3"}, "https://generativelanguage", "k-3"),
        ({"api_key": "k"}, {"GEMINI_API_BASE": "http://proxy:1/g/"}, "http://proxy:1/g/v1beta/models/", "k"),
        ({"api_key": "k", "api_base": "http://here"}, {"GEMINI_API_BASE": "http://x"}, "http://here/v1beta/", "k"),
    ],
)
async def test_where_and_as_whom(values: dict, environ: dict, url: str, key: str, store: SpoolStore):
    provider = build(ProviderParams("gemini", GENERAL, values=values, environ=environ))
    assert str(provider._url).startswith(url)
    async with store.open(max_bytes=1) as spool:
        assert await provider._headers(attempt_with(spool)) == {"x-goog-api-key": key}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "GOOGLE_API_KEY or GEMINI_API_KEY"),
        ({"api_key": "ü"}, "printable"),
        ({"api_key": "k", "api_base": "https://user:pw@host"}, "api_base"),
    ],
)
def test_what_is_missing_is_said(values: dict, said: str):
    with pytest.raises(ValueError, match=said):
        build(ProviderParams("gemini", GENERAL, values=values, environ={"X": "y"}))


async def test_a_host_of_a_callers_choice_is_dialled_as_judged(emulator: GeminiEmulator, store: SpoolStore):
    values = {"api_key": KEY, "api_base": emulator.origin}
    for networks, permitted in (((), False), ((ip_network("127.0.0.0/8"),), True)):
        provider = build_for_caller("gemini", GENERAL, values, networks=networks)
        assert isinstance(provider, GeminiProvider)
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            if permitted:
                assert (await run(provider, attempt_with(spool))).text == emulator.text
            else:
                with pytest.raises(errors.PermissionDenied, match="does not permit"):
                    await run(provider, attempt_with(spool))
                assert not emulator.connections
        await provider.aclose()


def test_a_models_name_cannot_leave_its_place():
    provider = build(ProviderParams("gemini", "../../upload?x=gemini", values={"api_key": "k"}))
    assert str(provider._url).endswith("/v1beta/models/..%2F..%2Fupload%3Fx%3Dgemini:generateContent")


def test_capabilities():
    general = provider_for_nobody(GENERAL).capabilities
    assert (general.max_audio_bytes, general.max_audio_duration.seconds) == (2_000_000_000, 34_200)
    assert general.translation
    assert general.diarization
    assert general.needs_length
    assert not general.logprobs
    assert "audio/webm" not in general.media_types
    dedicated = provider_for_nobody(DEDICATED).capabilities
    assert dedicated.max_audio_duration.seconds == 3600
    assert list(dedicated.options) == [
        "chunking_strategy", "diarization", "keywords", "language", "languages", "mode", "timestamp_granularities",
        "wordTimestamp",
    ]  # fmt: skip


def provider_for_nobody(model: str):
    return build(ProviderParams("gemini", model, values={"api_key": "k"}))
