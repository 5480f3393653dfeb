"""Streamed answers, as the OpenAI SDKs iterate them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.edges.rest.http_client import FORM, form, post
from tests.everyone.sides import SIDES, TEXT, House, house
from tests.recordings import recording
from tests.running import AUTH, KEY

SPEECH = recording("vm-goodbye.wav").data
FILE = ("speech.wav", SPEECH)
PATH = "/v1/audio/transcriptions"


@pytest.fixture
async def everyone(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, timeout=5) as found:
        yield found


def client_of(house: House) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{house.gateway.url}/v1", api_key=KEY, max_retries=0)


@pytest.mark.parametrize("name", SIDES)
async def test_every_provider(everyone: House, name: str):
    async with client_of(everyone) as client:
        stream = await client.audio.transcriptions.create(model=name, file=FILE, stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events if event.type != "transcript.text.delta"] == ["transcript.text.done"]
    done = events[-1]
    assert done.type == "transcript.text.done"
    assert done.text.split() == TEXT.split()


@pytest.mark.parametrize("name", SIDES)
async def test_segments(everyone: House, name: str):
    async with client_of(everyone) as client:
        stream = await client.audio.transcriptions.create(
            model=name, file=FILE, stream=True, response_format="verbose_json"
        )
        events = [event async for event in stream]
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert segments
    assert [event.type for event in events[-1:]] == ["transcript.text.done"]
    assert " ".join(segment.text for segment in segments).split() == TEXT.split()


async def test_the_synchronous_client(everyone: House):
    def run() -> list[str]:
        with openai.OpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = client.audio.transcriptions.create(model="openai", file=FILE, stream=True)
            return [event.type for event in stream]

    assert (await asyncio.to_thread(run))[-1] == "transcript.text.done"


async def test_the_bytes(everyone: House):
    async with httpx.AsyncClient() as client:
        files, data = {"file": FILE}, {"model": "openai", "stream": "true"}
        async with client.stream("POST", everyone.gateway.url + PATH, files=files, data=data, headers=AUTH) as answer:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["x-litellm-model-group"] == "openai"
            body = (await answer.aread()).decode()
    frames = body.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames[:-1])


async def test_a_failure_before_the_first_event_has_a_status(everyone: House):
    everyone.emulators["openai"].script("401")
    response = await post(everyone.gateway.rest_port, PATH, form(SPEECH, model="openai", stream="true"), AUTH)
    assert (response.status, response.error["code"]) == (502, "provider_credential_refused")


@pytest.mark.parametrize("wanted", ["srt", "vtt"])
async def test_subtitles_are_no_stream(everyone: House, wanted: str):
    body = form(SPEECH, model="openai", stream="true", response_format=wanted)
    response = await post(everyone.gateway.rest_port, PATH, body, AUTH)
    assert (response.status, response.error["param"]) == (400, "response_format")


async def test_stream_behind_the_file(everyone: House):
    async with httpx.AsyncClient() as client:
        for stream, media_type in (("true", "text/event-stream"), ("false", "application/json")):
            body = form(SPEECH, file_first=True, model="openai", stream=stream)
            answer = await client.post(
                everyone.gateway.url + PATH,
                content=body,
                headers={**AUTH, "content-type": FORM},
            )
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(media_type)


async def test_bifrosts_chunks(everyone: House):
    async with httpx.AsyncClient() as client:
        files, data = {"file": FILE}, {"model": "openai", "stream": "true", "response_format": "verbose_json"}
        url = everyone.gateway.url + "/litellm/v1/audio/transcriptions"
        answer = await client.post(url, files=files, data=data, headers=AUTH)
    objects = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    extra = [one["extra_fields"] for one in objects]
    assert [one["chunk_index"] for one in extra] == list(range(len(objects)))
    assert extra[-1]["request_type"] == "transcription_stream"
    assert extra[-1]["latency"] >= 0
    assert "events" in extra[-1]["synthesized_fields"]


async def test_what_was_left_out_is_told(tmp_path: Path):
    async with house(tmp_path, drop_params=True) as everyone, httpx.AsyncClient() as client:
        for model in ("openai", "openai-streaming"):
            files, data = {"file": FILE}, {"model": model, "stream": "true", "keywords[]": "voxgate"}
            answer = await client.post(everyone.gateway.url + PATH, files=files, data=data, headers=AUTH)
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-voxgate-dropped-params"] == "keywords"


async def test_a_client_that_leaves(everyone: House):
    emulator = everyone.emulators["openai"]
    emulator.script("hang")
    async with client_of(everyone) as client:
        with contextlib.suppress(openai.APITimeoutError):
            await client.with_options(timeout=0.3).audio.transcriptions.create(model="openai", file=FILE, stream=True)
    await asyncio.wait_for((await emulator.record(0)).peer_closed.wait(), 10)
