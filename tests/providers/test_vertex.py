"""Which deployments of `vertex_ai` there can be, where they ask, and what they do about tokens."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.gemini import GeminiProvider
from voxgate_server.providers.http import AiohttpTransport
from voxgate_server.providers.registry import build_for_caller, provider_names
from voxgate_server.providers.speech_v2 import SpeechV2Provider
from voxgate_server.providers.vertex import VertexProvider, build

from tests.providers.gemini_emulator import GeminiEmulator
from tests.providers.google_token_emulator import PROJECT
from tests.providers.vertex_calling import THANKS, VertexCalling, attempt_at, params_for, provider_for, run
from tests.providers.vertex_emulator import VertexEmulator


@pytest.fixture
async def emulator() -> AsyncIterator[VertexEmulator]:
    async with VertexEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: VertexEmulator, store: SpoolStore) -> VertexCalling:
    return VertexCalling(emulator, store)


@pytest.fixture
async def place(emulator: VertexEmulator):
    """Builds a deployment and tells where it asks."""
    built = []

    async def _place(model: str, environ: dict[str, str] | None = None, **values: str) -> httpx.URL:
        given = {"vertex_credentials": json.dumps(emulator.tokens.account), **values}
        provider = build(ProviderParams("vertex_ai", model, given, environ=environ or {}))
        built.append(provider)
        assert isinstance(provider, VertexProvider)
        inner: Any = provider._provider
        assert isinstance(inner, GeminiProvider if model.startswith("gemini") else SpeechV2Provider)
        return inner._url

    yield _place
    for provider in built:
        await provider.aclose()


@pytest.mark.parametrize(
    ("model", "location", "url"),
    [
        ("chirp_3", "", f"https://us-speech.googleapis.com/v2/projects/{PROJECT}/locations/us/recognizers/_:recognize"),
        ("chirp_3", "global",
         f"https://speech.googleapis.com/v2/projects/{PROJECT}/locations/global/recognizers/_:recognize"),
        ("chirp_2", "",
         f"https://us-central1-speech.googleapis.com/v2/projects/{PROJECT}/locations/us-central1/recognizers/_:recognize"),
        ("long", "", f"https://speech.googleapis.com/v2/projects/{PROJECT}/locations/global/recognizers/_:recognize"),
        ("gemini-3.5-transcribe", "",
         (f"https://aiplatform.googleapis.com/v1/projects/{PROJECT}/locations/global/publishers/google/models/"
         "gemini-3.5-transcribe:generateContent")),
        ("gemini-2.5-flash", "europe-west4",
         (f"https://europe-west4-aiplatform.googleapis.com/v1/projects/{PROJECT}/locations/europe-west4/publishers/"
         "google/models/gemini-2.5-flash:generateContent")),
        ("gemini-2.5-flash", "eu",
         (f"https://aiplatform.eu.rep.googleapis.com/v1/projects/{PROJECT}/locations/eu/publishers/google/models/"
         "gemini-2.5-flash:generateContent")),
    ],
)  # fmt: skip
async def test_where_they_ask(place, model: str, location: str, url: str):
    assert str(await place(model, vertex_location=location)) == url
    assert str(await place(model, {"VERTEXAI_LOCATION": location})) == url
    assert str(await place(model, {"VERTEX_LOCATION": location})) == url


async def test_where_the_project_comes_from(place):
    for environ, values, project in (
        ({"VERTEXAI_PROJECT": "from-variable"}, {"vertex_project": "from-parameter"}, "from-parameter"),
        ({"VERTEXAI_PROJECT": "from-variable", "GOOGLE_CLOUD_PROJECT": "googles"}, {}, "from-variable"),
        ({"GOOGLE_CLOUD_PROJECT": "googles"}, {}, "googles"),
        ({}, {"vertex_project": "example.com:old-1"}, "example.com:old-1"),
        ({}, {}, PROJECT),
    ):
        assert f"/projects/{project}/" in str(await place("chirp_3", environ, **values))


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        ("chirp_3", {"vertex_credentials": ""}, "vertex_credentials"),
        ("chirp_3", {"vertex_credentials": "{}"}, "Google credentials"),
        ("chirp_3", {"vertex_project": "a/../b"}, "vertex_project"),
        ("chirp_3", {"vertex_project": "evil.example.com/x"}, "vertex_project"),
        ("chirp_3", {"vertex_location": "us/../x"}, "vertex_location"),
        ("chirp_3", {"vertex_location": "evil.example.com#"}, "vertex_location"),
        ("chirp_3", {"vertex_location": "US"}, "vertex_location"),
        ("chirp_3", {"api_base": "ftp://x"}, "api_base"),
        ("chirp 3", {}, "no name of a model"),
        ("gemini-2.5/../x", {}, "no name of a model"),
        ("gemini-3.5-transcribe-live", {}, "live speech only"),
        ("chirp_3", {"api_key": "nul\0", "vertex_project": "p-1"}, "printable"),
    ],
)
async def test_what_cannot_be_built(emulator: VertexEmulator, model: str, values: dict[str, str], words: str):
    with pytest.raises(ValueError, match=words):
        build(params_for(emulator, model, values=values))


async def test_what_cannot_be_built_of_parameters(emulator: VertexEmulator):
    without_project = {**emulator.tokens.account, "project_id": None}
    with pytest.raises(ValueError, match="there is no vertex_project"):
        build(params_for(emulator, values={"vertex_credentials": json.dumps(without_project)}))
    with pytest.raises(ValueError, match="has no parameter smartFormat; it has adaptation"):
        build(params_for(emulator, default_params={"smartFormat": True}))
    with pytest.raises(ValueError, match="cannot be allowed features"):
        build(params_for(emulator, allowed_extra_params=frozenset({"features"})))
    with pytest.raises(ValueError, match="content-type"):
        build(params_for(emulator, extra_headers={"Content-Type": "x"}))


def test_it_is_in_the_registry():
    assert "vertex_ai" in provider_names()
    with pytest.raises(ValueError, match="there is no vertex_project"):
        build_for_caller("vertex_ai", "chirp_3", {"api_key": "the-callers-own"})
    with pytest.raises(ValueError, match=r"there is no vertex_credentials$"):
        build_for_caller("vertex_ai", "chirp_3", {})


async def test_one_token_for_many_calls(emulator: VertexEmulator, store: SpoolStore):
    async with provider_for(params_for(emulator)) as provider, store.open(max_bytes=1 << 40) as spool:
        await spool.write(THANKS)
        spool.finish()
        for _ in range(3):
            assert (await run(provider, attempt_at(spool))).text == emulator.text
        assert len(emulator.tokens.records) == 1
        assert len(emulator.records) == 3
        # It is revoked: that call fails, and the next one asks for another.
        emulator.tokens.good.clear()
        with pytest.raises(errors.ProviderCredential, match="vertex_credentials"):
            await run(provider, attempt_at(spool))
        assert (await run(provider, attempt_at(spool))).text == emulator.text
        assert emulator.tokens.issued == ["ya29.emulated-token-1", "ya29.emulated-token-2"]


async def test_tokens_that_end_at_once(emulator: VertexEmulator, call: VertexCalling):
    emulator.tokens.expires_in = 1
    assert (await call()).text == emulator.text


async def test_no_token_no_call(emulator: VertexEmulator, call: VertexCalling):
    emulator.tokens.email = "somebody@else.example"
    account = {**emulator.tokens.account, "client_email": "voxgate@gone.example"}
    with pytest.raises(errors.ProviderCredential, match="account not found"):
        await call(values={"vertex_credentials": json.dumps(account)})
    assert not emulator.records


async def test_credentials_in_a_file(emulator: VertexEmulator, call: VertexCalling, tmp_path: Path):
    file = tmp_path / "account.json"
    file.write_text(json.dumps(emulator.tokens.account))
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "VERTEXAI_LOCATION": "us"}
    values = {"vertex_credentials": "", "vertex_location": ""}
    assert (await call(values=values, environ=environ)).text == emulator.text


async def test_gemini_on_vertex(emulator: VertexEmulator, store: SpoolStore):
    async with GeminiEmulator(vertex=True) as gemini:
        gemini.key = "ya29.emulated-token-1"
        params = params_for(emulator, "gemini-2.5-flash", values={"api_base": gemini.origin, "vertex_location": ""})
        async with provider_for(params) as provider, store.open(max_bytes=1 << 40) as spool:
            await spool.write(THANKS)
            spool.finish()
            assert (await run(provider, attempt_at(spool))).text == gemini.text
            [record] = gemini.records
            assert record.path == (
                f"/v1/projects/{PROJECT}/locations/global/publishers/google/models/gemini-2.5-flash:generateContent"
            )
            assert gemini.audio[0].sha256 == hashlib.sha256(THANKS).hexdigest()
            assert "x-goog-user-project" not in record.headers
            # Another token: the one it has is refused once, and then replaced.
            gemini.key = "ya29.emulated-token-2"
            with pytest.raises(errors.ProviderCredential, match="vertex_credentials"):
                await run(provider, attempt_at(spool))
            assert (await run(provider, attempt_at(spool))).text == gemini.text


async def test_gemini_for_transcription_takes_less_on_vertex(emulator: VertexEmulator):
    async with provider_for(params_for(emulator, "gemini-3.5-transcribe")) as provider:
        assert provider.capabilities.max_audio_duration.seconds == 900


async def test_a_host_of_a_callers_choice(emulator: VertexEmulator):
    made: list[AiohttpTransport] = []

    def pinned() -> AiohttpTransport:
        made.append(AiohttpTransport())
        return made[-1]

    with pytest.raises(ValueError, match="there has to be an api_key"):
        build(params_for(emulator, pinned=pinned))
    for model in ("chirp_3", "gemini-2.5-flash"):
        values = {"api_key": "key-1", "vertex_project": "p-1"}
        async with provider_for(params_for(emulator, model, values=values, pinned=pinned)):
            pass
    assert len(made) == 2
