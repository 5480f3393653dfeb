"""Google Cloud behind the gateway, asked by the OpenAI SDK."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import yaml
from openai.types.audio import TranscriptionVerbose

from tests.providers.beeps import RATE, hears, spoken, wav
from tests.providers.vertex_emulator import VertexEmulator
from tests.running import KEY, running

LONG, SAID = spoken(200)


@pytest.fixture
async def vertex() -> AsyncIterator[VertexEmulator]:
    async with VertexEmulator(hears=hears) as emulator:
        yield emulator


@pytest.fixture
async def sdk(vertex: VertexEmulator, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    account = tmp_path / "account.json"
    account.write_text(json.dumps(vertex.tokens.account))
    place = {"api_base": vertex.origin, "vertex_location": "us"}
    config = {
        "model_list": [
            {"model_name": "chirp", "litellm_params": {"model": "vertex_ai/chirp_3", **place}},
            {
                "model_name": "mapped",
                "litellm_params": {
                    "model": "vertex_ai/chirp_3", "vertex_credentials": vertex.tokens.account, "profanityFilter": False,
                    **place,
                },
            },
            {
                "model_name": "hopeless",
                "litellm_params": {"model": "vertex_ai/chirp_3", "vertex_credentials": "nowhere.json", **place},
            },
        ],
        "general_settings": {"master_key": KEY},
    }  # fmt: skip
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(account)}
    async with (
        running(tmp_path, yaml.safe_dump(config), environ) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield client


async def test_two_minutes(sdk: openai.AsyncOpenAI, vertex: VertexEmulator):
    create = sdk.audio.transcriptions.create
    file = ("speech.wav", io.BytesIO(wav(LONG)))
    verbose = await create(
        model="chirp", file=file, response_format="verbose_json", timestamp_granularities=["word"], language="en",
        prompt="About Asterisk.",
    )  # fmt: skip
    assert type(verbose) is TranscriptionVerbose
    assert verbose.duration == len(LONG) / 2 / RATE
    assert [word.word for word in verbose.words or ()] == [word for word, _, _ in SAID]
    assert verbose.usage is not None
    assert verbose.usage.seconds == pytest.approx(verbose.duration, abs=4)
    assert len(vertex.requests) == 3
    assert vertex.requests[0]["config"]["languageCodes"] == ["en-US"]
    subtitles = str(await create(model="mapped", file=("speech.wav", wav(LONG)), response_format="srt"))
    assert subtitles.count(" --> ") > 10
    assert vertex.requests[-1]["config"]["features"]["profanityFilter"] is False


async def test_a_deployment_without_credentials_leaves_the_others_alone(sdk: openai.AsyncOpenAI):
    file = ("speech.wav", wav(LONG[: 2 * RATE * 5]))
    assert (await sdk.audio.transcriptions.create(model="chirp", file=file)).text
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.audio.transcriptions.create(model="hopeless", file=file)
    assert caught.value.status_code >= 400
    assert "nowhere.json" not in str(caught.value)
