"""Recorded human speech through every door of a gateway without any configuration, with the clients its users have."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import jiwer
import openai
import pytest
from grpc import aio
from voxgate_client import AsyncClient, Client
from voxgate_server.app import App
from voxgate_server.config import default_config

from tests.providers.local.calling import plain_words
from tests.recordings import Recording, recording, recordings
from tests.running import Gateway
from tests.sdk.conftest import node, run

__all__ = ["node"]

SPEECH = [item for item in recordings() if item.path.name != "vm-goodbye.wav"]
ONE = recording("demo-abouttotry.wav")


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """What `voxgate serve` serves without a configuration and without any key in the environment."""
    loaded = default_config({})
    app = App(loaded.config, environ=loaded.environment)
    try:
        where = await app.start(host="127.0.0.1", grpc_port=0, rest_port=0)
        async with aio.insecure_channel(f"127.0.0.1:{where.grpc_port}") as channel:
            yield Gateway(app, where.rest_port, where.grpc_port, channel)
    finally:
        await app.stop(grace=0)


@pytest.mark.timeout(300)
async def test_the_same_words_through_every_door(gateway: Gateway, node):
    """The mean word error rate is at most 32 % (the bare engine reaches 28 % on these recordings)."""
    rates = []
    async with AsyncClient(gateway.target) as client, openai_client(gateway) as sdk:
        for item in SPEECH:
            transcription = await client.transcribe(item.path, timestamp_granularities=["word", "segment"])
            text = transcription.text
            rates.append(jiwer.wer(plain_words(item.transcript), plain_words(text)))
            check_times(item, transcription.duration, [(w.start, w.end) for w in transcription.words])
            check_times(item, transcription.duration, [(s.start, s.end) for s in transcription.segments])
            assert (await sdk.audio.transcriptions.create(model="whisper-1", file=item.path)).text == text
    assert sum(rates) / len(rates) <= 0.32, rates


async def test_one_recording_through_all_other_doors(gateway: Gateway, node):
    async with AsyncClient(gateway.target) as client:
        text = (await client.transcribe(ONE.path)).text
        assert (await client.transcribe(ONE.data[at : at + 3201] for at in range(0, len(ONE.data), 3201))).text == text
        events = [event async for event in client.events(ONE.path)]
        assert events[-1].done.transcription.text == text
        assert "".join(event.delta.delta for event in events) == text
    assert (await asyncio.to_thread(transcribe_synchronously, gateway)) == text
    url = f"{gateway.url}/v1"
    from_node = json.loads(await node("transcribe.mjs", url, "any", str(ONE.path), '{"model": "whisper-1"}'))
    assert from_node["answer"]["text"] == text
    form = ("-F", f"file=@{ONE.path}", "-F", "model=whisper-1")
    from_curl = await run("curl", "-sS", "--fail", f"{url}/audio/transcriptions", *form)
    assert json.loads(from_curl)["text"] == text
    plain = await run("curl", "-sS", "--fail", f"{url}/audio/transcriptions", *form, "-F", "response_format=text")
    assert plain == f"{text}\n"


async def test_words_and_subtitles_of_the_openai_sdk(gateway: Gateway):
    async with openai_client(gateway) as sdk:
        verbose = await sdk.audio.transcriptions.create(
            model="whisper-1",
            file=ONE.path,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert verbose.words
        assert verbose.segments
        assert " ".join(word.word for word in verbose.words) == verbose.text
        assert verbose.duration == pytest.approx(ONE.seconds, abs=0.01)
        srt = await sdk.audio.transcriptions.create(model="whisper-1", file=ONE.path, response_format="srt")
        assert isinstance(srt, str)
    spoken = re.sub(r"^\d+$|^[\d:,]+ --> [\d:,]+$", "", srt, flags=re.MULTILINE)
    assert spoken.split() == verbose.text.split()


def openai_client(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0)


def transcribe_synchronously(gateway: Gateway) -> str:
    with Client(gateway.target) as client:
        return client.transcribe(Path(ONE.path)).text


def check_times(item: Recording, duration: float, spans: list[tuple[float, float]]) -> None:
    assert duration == pytest.approx(item.seconds, abs=0.01)
    assert spans
    flat = [time for span in spans for time in span]
    assert flat == sorted(flat)
    assert flat[0] >= 0
    assert flat[-1] <= duration
