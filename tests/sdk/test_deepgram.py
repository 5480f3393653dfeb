"""Deepgram behind the gateway, asked by the OpenAI SDK with parameters spelled as callers of LiteLLM spell them."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose

from tests.providers.deepgram_emulator import KEY, DeepgramEmulator
from tests.recordings import recording
from tests.running import KEY as MASTER_KEY
from tests.running import running

SPEECH = recording("demo-thanks.wav")


@pytest.fixture
async def deepgram() -> AsyncIterator[DeepgramEmulator]:
    async with DeepgramEmulator() as emulator:
        yield emulator


@pytest.fixture
async def sdk(deepgram: DeepgramEmulator, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    config = f"""
        model_list:
          - model_name: nova-3
            litellm_params: {{model: deepgram/nova-3, numerals: true, replace: ["a:b", "c:d"], api_base: os.environ/BASE}}
        general_settings: {{master_key: {MASTER_KEY}}}
    """  # noqa: E501
    async with (
        running(tmp_path, config, {"DEEPGRAM_API_KEY": KEY, "BASE": deepgram.url}) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=MASTER_KEY, max_retries=0) as client,
    ):
        yield client


async def test_every_format(sdk: openai.AsyncOpenAI, deepgram: DeepgramEmulator):
    create = sdk.audio.transcriptions.create
    plain = await create(model="nova-3", file=SPEECH.path)
    assert type(plain) is Transcription
    assert plain.text == deepgram.text
    assert plain.usage is not None
    assert plain.usage.type == "duration"
    verbose = await create(
        model="nova-3", file=SPEECH.path, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert type(verbose) is TranscriptionVerbose
    assert (verbose.language, verbose.duration) == ("en", 7.25)
    assert verbose.words
    assert [segment.text for segment in verbose.segments or []] == [
        "Hello from the emulator, dear friend.",
        "How are you?",
    ]
    diarized = await create(model="nova-3", file=SPEECH.path, response_format="diarized_json", chunking_strategy="auto")
    assert type(diarized) is TranscriptionDiarized
    assert [(segment.id, segment.speaker) for segment in diarized.segments] == [("seg_001", "A"), ("seg_002", "B")]
    assert str(await create(model="nova-3", file=SPEECH.path, response_format="text")) == f"{deepgram.text}\n"
    assert str(await create(model="nova-3", file=SPEECH.path, response_format="srt")).startswith(
        "1\n00:00:00,000 --> 00:00:03,000\nHello from the emulator, dear friend.\n"
    )
    assert str(await create(model="nova-3", file=SPEECH.path, response_format="vtt")).startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n"
    )
    assert len({record.file_sha256 for record in deepgram.records}) == 1


async def test_deepgrams_own_parameters(sdk: openai.AsyncOpenAI, deepgram: DeepgramEmulator):
    await sdk.audio.transcriptions.create(
        model="nova-3",
        file=SPEECH.path,
        language="de",
        extra_body={"diarize": True, "keyterm": ["voxgate", "gRPC"], "utt_split": 0.5, "numerals": "false"},
    )
    assert sorted(deepgram.records[0].fields) == [
        ("diarize", "true"), ("keyterm", "gRPC"), ("keyterm", "voxgate"), ("language", "de"), ("model", "nova-3"),
        ("numerals", "false"), ("punctuate", "true"), ("replace", "a:b"), ("replace", "c:d"),
        ("smart_format", "true"), ("utt_split", "0.5"), ("utterances", "true"),
    ]  # fmt: skip


async def test_what_it_cannot_is_said_by_name(sdk: openai.AsyncOpenAI, deepgram: DeepgramEmulator):
    for name, options in (
        ("prompt", {"prompt": "x"}),
        ("temperature", {"temperature": 0.5}),
        ("callback", {"extra_body": {"callback": "https://elsewhere.example"}}),
    ):
        with pytest.raises(openai.BadRequestError, match=name) as caught:
            await sdk.audio.transcriptions.create(model="nova-3", file=SPEECH.path, **options)  # type: ignore[call-overload]
        assert caught.value.param == name
    assert not deepgram.connections
