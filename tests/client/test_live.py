"""Live sessions of the Python client against a real gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate.transcription.v1.transcription_service_pb2 import (
    CommitAudio,
    ManualTurns,
    TranscribeLiveRequest,
    TurnDetection,
)
from voxgate_client import AsyncClient, InvalidRequestError, UnknownModelError

from tests.live.listening_emulator import ListeningEmulator, samples_of
from tests.providers import beeps
from tests.running import KEY, UPSTREAM_KEY, Gateway, openai_config, running

PCM, HEARD = beeps.spoken(12)
TEXT = [word for word, _, _ in HEARD]


@pytest.fixture
async def emulator() -> AsyncIterator[ListeningEmulator]:
    async with ListeningEmulator(key=UPSTREAM_KEY) as emulator:
        yield emulator


@pytest.fixture
async def gateway(emulator: ListeningEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, openai_config(emulator.url)) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        yield client


async def speech(*between: bytes | TranscribeLiveRequest) -> AsyncIterator[bytes | TranscribeLiveRequest]:
    for at in range(0, len(PCM), 3200):
        yield PCM[at : at + 3200]
    for piece in between:
        yield piece


async def test_speech_in_turns_out(client: AsyncClient):
    events = [event async for event in client.live(speech(), sample_rate=16_000)]
    assert events[0].HasField("session_started")
    assert events[-1].done.transcription.text.split() == TEXT
    assert len([event for event in events if event.HasField("turn_completed")]) == 2


async def test_messages_among_the_audio(client: AsyncClient, emulator: ListeningEmulator):
    commit = TranscribeLiveRequest(commit=CommitAudio())
    detection = TurnDetection(manual=ManualTurns())
    async for _ in client.live(speech(commit, PCM, commit), sample_rate=16_000, turn_detection=detection):
        pass
    assert [samples_of(record) for record in emulator.records] == [PCM, PCM]


async def test_refusals_are_the_client_s_own_errors(client: AsyncClient):
    with pytest.raises(UnknownModelError):
        [event async for event in client.live(speech(), sample_rate=16_000, model="nobody-knows-me")]
    with pytest.raises(InvalidRequestError, match="7000 Hz"):
        [event async for event in client.live(speech(), sample_rate=7000)]
    with pytest.raises(ValueError, match="encoding has no 'mp3'"):
        [event async for event in client.live(speech(), sample_rate=16_000, encoding="mp3")]


async def test_an_error_of_the_audio_is_raised_as_it_is(client: AsyncClient, gateway: Gateway):
    async def broken() -> AsyncIterator[bytes]:
        yield PCM
        raise KeyError("microphone")

    with pytest.raises(KeyError, match="microphone"):
        [event async for event in client.live(broken(), sample_rate=16_000)]
    async with asyncio.timeout(30):
        while gateway.app.live.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_leaving_early_ends_the_session(client: AsyncClient, gateway: Gateway):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(3200)
            await asyncio.sleep(0.01)

    events = client.live(endless(), sample_rate=16_000)
    await anext(events)
    await events.aclose()
    async with asyncio.timeout(30):
        while gateway.app.live.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
