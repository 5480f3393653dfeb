"""Gemini behind the gateway, asked by the OpenAI SDK; with the embedded recogniser's place taken by a second model."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose

from tests.providers.gemini_calling import BOTH, DEDICATED, GENERAL
from tests.providers.gemini_emulator import KEY, GeminiEmulator, failure, raw
from tests.recordings import recording
from tests.running import KEY as MASTER_KEY
from tests.running import running

SPEECH = recording("demo-thanks.wav")


@pytest.fixture
async def gemini() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
async def sdk(gemini: GeminiEmulator, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    config = f"""
        model_list:
          - model_name: {GENERAL}
            litellm_params: {{model: gemini/{GENERAL}, temperature: 0, max_tokens: 9000}}
          - model_name: {DEDICATED}
            litellm_params: {{model: gemini/{DEDICATED}, api_base: os.environ/GEMINI_API_BASE}}
        litellm_settings: {{content_policy_fallbacks: [{{{GENERAL}: [{DEDICATED}]}}], num_retries: 0}}
        general_settings: {{master_key: {MASTER_KEY}}}
    """
    environ = {"GEMINI_API_KEY": KEY, "GEMINI_API_BASE": gemini.origin}
    async with (
        running(tmp_path, config, environ) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=MASTER_KEY, max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("model", BOTH)
async def test_every_format(sdk: openai.AsyncOpenAI, gemini: GeminiEmulator, model: str):
    create = sdk.audio.transcriptions.create
    plain = await create(model=model, file=SPEECH.path, language="en")
    assert type(plain) is Transcription
    assert plain.text == gemini.text
    assert plain.usage is not None
    assert plain.usage.type == "tokens"
    assert plain.usage.input_token_details is not None
    assert plain.usage.input_token_details.audio_tokens == 104
    verbose = await create(
        model=model, file=SPEECH.path, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert type(verbose) is TranscriptionVerbose
    assert verbose.segments
    assert " ".join(segment.text for segment in verbose.segments) == gemini.text
    diarized = await create(model=model, file=SPEECH.path, response_format="diarized_json", chunking_strategy="auto")
    assert type(diarized) is TranscriptionDiarized
    assert [(item.id, item.speaker, item.end) for item in diarized.segments] == [
        ("seg_001", "A", 1.5),
        ("seg_002", "B", 3.25),
    ]
    assert str(await create(model=model, file=SPEECH.path, response_format="text")) == f"{gemini.text}\n"
    assert str(await create(model=model, file=SPEECH.path, response_format="srt")).startswith("1\n00:00:00,000 --> ")
    assert str(await create(model=model, file=SPEECH.path, response_format="vtt")).startswith("WEBVTT\n\n00:00:00.000")
    assert len({audio.sha256 for audio in gemini.audio}) == 1
    if model == GENERAL:
        assert all(item["generationConfig"]["maxOutputTokens"] == 9000 for item in gemini.requests)


async def test_words(sdk: openai.AsyncOpenAI, gemini: GeminiEmulator):
    verbose = await sdk.audio.transcriptions.create(
        model=DEDICATED, file=SPEECH.path, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [word.word for word in verbose.words or []] == gemini.text.split()
    with pytest.raises(openai.BadRequestError, match="'word'"):
        await sdk.audio.transcriptions.create(
            model=GENERAL, file=SPEECH.path, response_format="verbose_json", timestamp_granularities=["word"]
        )


async def test_what_one_withholds_another_may_give(sdk: openai.AsyncOpenAI, gemini: GeminiEmulator):
    gemini.script(raw('{"promptFeedback": {"blockReason": "SAFETY"}}'))
    answer = await sdk.audio.transcriptions.create(model=GENERAL, file=SPEECH.path)
    assert answer.text == gemini.text
    assert [record.path.rpartition("/")[2] for record in gemini.records] == [
        f"{GENERAL}:generateContent",
        f"{DEDICATED}:generateContent",
    ]


async def test_the_operators_wrong_key_is_not_the_callers(sdk: openai.AsyncOpenAI, gemini: GeminiEmulator):
    gemini.script(failure(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."))
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.audio.transcriptions.create(model=DEDICATED, file=SPEECH.path)
    assert caught.value.status_code == 502
    assert KEY not in str(caught.value)
