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


@pytest.mark.parametrize("marked", [False, True])
async def test_the_official_client_iterates_its_streams(
    client: sdk.AsyncOpenAI, emulator: OpenAIEmulator, marked: bool
):
    emulator.marks_the_end = marked
    create = client.audio.transcriptions.create
    events = [event async for event in await create(model="gpt-4o-transcribe", file=("x.wav", WAV), stream=True)]
    assert [event.delta for event in events if event.type == "transcript.text.delta"] == [
        "Hello", " from", " the", " emulator.",
    ]  # fmt: skip
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == emulator.text
    segments = [
        event
        async for event in await create(
            model="gpt-4o-transcribe-diarize",
            file=("x.wav", WAV),
            stream=True,
            response_format="diarized_json",
            chunking_strategy="auto",
        )
        if event.type == "transcript.text.segment"
    ]
    assert [segment.speaker for segment in segments] == ["A", "B"]
    # whisper-1 answers in JSON as if it had not been asked.
    raw = await client.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=("x.wav", WAV), extra_body={"stream": "true"}
    )
    assert raw.headers["content-type"] == "application/json"
    with pytest.raises(sdk.BadRequestError, match="neither true nor false"):
        await create(model="gpt-4o-transcribe", file=("x.wav", WAV), extra_body={"stream": "perhaps"})
