"""Both clients against the real gateway, with the strict OpenAI emulator behind it."""

import asyncio
import hashlib

import pytest
from voxgate_client import (
    AsyncClient,
    AudioTooLargeError,
    AuthenticationError,
    Client,
    InvalidRequestError,
    UnavailableError,
    UnknownModelError,
)

from tests.edges.conftest import emulator, gateway
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import KEY, Gateway

__all__ = ["emulator", "gateway"]

SPEECH = recording("demo-thanks.wav")
SHA256 = hashlib.sha256(SPEECH.data).hexdigest()


async def test_async(gateway: Gateway, emulator: OpenAIEmulator):
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        transcription = await client.transcribe(SPEECH.path, response_format="srt")
        assert transcription.text == emulator.text
        assert transcription.rendered.body.startswith("1\n")
        events = [event async for event in client.events(SPEECH.path, model="whisper-1")]
        assert events[-1].done.transcription.text == emulator.text
        assert "whisper-1" in [model.id for model in await client.models()]
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


async def test_sync(gateway: Gateway, emulator: OpenAIEmulator):
    def call() -> str:
        with Client(gateway.target, api_key=KEY) as client:
            return client.transcribe(SPEECH.path, model="fault-500", fallbacks=["whisper-1"]).text

    assert await asyncio.to_thread(call) == emulator.text
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


async def test_errors_arrive_as_themselves(gateway: Gateway):
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        with pytest.raises(UnknownModelError) as unknown:
            await client.transcribe(SPEECH.path, model="wisper-1")
        assert unknown.value.metadata["nearest"].startswith("whisper-1")
        assert unknown.value.request_id
        with pytest.raises(InvalidRequestError):
            await client.transcribe(b"%PDF-1.7", model="whisper-1")
        with pytest.raises(UnavailableError) as failed:
            await client.transcribe(SPEECH.path, model="fault-500")
        assert {attempt.http_status for attempt in failed.value.attempts} == {500}
    async with AsyncClient(gateway.target, api_key="sk-wrong") as client:
        with pytest.raises(AuthenticationError):
            await client.transcribe(SPEECH.path, model="whisper-1")


async def test_a_refusal_in_the_middle_of_an_upload_arrives_as_itself(gateway: Gateway):
    """grpc.aio replaces a status that comes in the middle of a write by its own (grpc/grpc#36066)."""
    async with AsyncClient(gateway.target, api_key=KEY) as client:
        for _ in range(10):
            with pytest.raises(AudioTooLargeError):
                await client.transcribe((SPEECH.data for _ in range(100)), model="whisper-1")
