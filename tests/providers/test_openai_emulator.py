"""The OpenAI emulator, judged by the official client."""

from collections.abc import AsyncIterator

import openai as sdk
import pytest

from tests.providers.calling import KEY, WAV
from tests.providers.openai_emulator import OpenAIEmulator


@pytest.fixture
async def client(emulator: OpenAIEmulator) -> AsyncIterator[sdk.AsyncOpenAI]:
    async with sdk.AsyncOpenAI(base_url=emulator.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_the_official_client_reads_the_emulator(client: sdk.AsyncOpenAI, emulator: OpenAIEmulator):
    create = client.audio.transcriptions.create
    file = ("x.wav", WAV)
    plain = await create(model="gpt-4o-transcribe", file=file, include=["logprobs"])
    assert plain.text == emulator.text
    assert plain.logprobs
    assert plain.usage is not None
    assert plain.usage.type == "tokens"
    verbose = await create(
        model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert verbose.duration == 3.25
    assert verbose.segments
    assert verbose.words
    diarized = await create(
        model="gpt-4o-transcribe-diarize", file=file, response_format="diarized_json",
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
    )  # fmt: skip
    assert [segment.speaker for segment in diarized.segments] == ["A", "B"]
    assert emulator.records[-1].field("chunking_strategy[threshold]") == "0.5"
    for response_format, start in (
        ("text", "Hello"),
        ("srt", "1\n00:00:00,000 --> "),
        ("vtt", "WEBVTT\n\n00:00:00.000"),
    ):
        assert str(await create(model="whisper-1", file=file, response_format=response_format)).startswith(start)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        translated = await client.audio.translations.create(model="whisper-1", file=file)
    assert translated.text == emulator.text
    assert all(record.complete for record in emulator.records)


async def test_the_official_client_understands_its_refusals(client: sdk.AsyncOpenAI, emulator: OpenAIEmulator):
    create = client.audio.transcriptions.create
    with pytest.raises(sdk.BadRequestError, match="Invalid file format"):
        await create(model="whisper-1", file=("x", WAV))
    with pytest.raises(sdk.BadRequestError) as caught:
        await create(model="gpt-4o-transcribe", file=("x.wav", WAV), response_format="srt")
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_value")
    with pytest.raises(sdk.NotFoundError):
        await create(model="whisper-9", file=("x.wav", WAV))
    with pytest.raises(sdk.BadRequestError, match="Unknown field"):
        await create(model="whisper-1", file=("x.wav", WAV), extra_body={"beam_size": 5})
    emulator.key = "another"
    with pytest.raises(sdk.AuthenticationError):
        await create(model="whisper-1", file=("x.wav", WAV))
    emulator.script("429")
    with pytest.raises(sdk.RateLimitError):
        await create(model="whisper-1", file=("x.wav", WAV))
