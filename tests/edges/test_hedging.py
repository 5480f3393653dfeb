"""A second attempt beside a slow one, through a real gateway with two strict emulators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.extra_fields_pb2 import ATTEMPT_OUTCOME_CANCELLED, ATTEMPT_OUTCOME_SUCCEEDED

from tests.providers.openai_emulator import OpenAIEmulator, failure, hang
from tests.recordings import recording
from tests.running import KEY, METADATA, Gateway, running

KEYS = "sk-upstream-canary-0001"
SHORT = recording("vm-goodbye.wav").data
CALL = api.TranscribeRequest(config=TranscriptionConfig(model="whisper"), audio=AudioSource(data=SHORT))


def config(first: OpenAIEmulator, second: OpenAIEmulator, *, hedging: str) -> str:
    return f"""
        model_list:
          - model_name: whisper
            litellm_params: {{model: openai/whisper-1, api_base: {first.url}, api_key: {KEYS}}}
            model_info: {{id: first}}
          - model_name: whisper
            litellm_params: {{model: openai/whisper-1, api_base: {second.url}, api_key: {KEYS}}}
            model_info: {{id: second}}
        router_settings: {{num_retries: 1}}
        general_settings: {{master_key: {KEY}}}
        voxgate: {{hedging: {hedging}}}
    """


@contextlib.asynccontextmanager
async def race(directory: Path, hedging: str) -> AsyncIterator[tuple[Gateway, OpenAIEmulator, OpenAIEmulator]]:
    async with (
        OpenAIEmulator(key=KEYS) as first,
        OpenAIEmulator(key=KEYS) as second,
        running(directory, config(first, second, hedging=hedging)) as gateway,
    ):
        yield gateway, first, second


async def warm_up(gateway: Gateway) -> None:
    """Enough calls to know how long they take."""
    for _ in range(20):
        await gateway.stub.Transcribe(CALL, metadata=METADATA)


async def test_the_faster_attempt_answers_and_the_slower_is_cancelled(tmp_path: Path):
    async with race(tmp_path, "{whisper: {}}") as (gateway, first, second):
        await warm_up(gateway)
        seen = {first: len(first.records), second: len(second.records)}
        first.script(hang())
        second.script(hang())
        # Whichever is asked first hangs; the other one is told to answer once it is known which that is.
        call = asyncio.ensure_future(gateway.stub.Transcribe(CALL, metadata=METADATA))
        slow, fast = await first_asked(first, second, seen)
        fast._script.clear()
        response = await call
        assert response.transcription.text == fast.text
        outcomes = [attempt.outcome for attempt in response.transcription.extra_fields.attempts]
        assert sorted(outcomes) == sorted([ATTEMPT_OUTCOME_CANCELLED, ATTEMPT_OUTCOME_SUCCEEDED])
        await asyncio.wait_for(slow.records[-1].peer_closed.wait(), 10)
        assert slow.records[-1].file_sha256 == fast.records[-1].file_sha256
        for deployment in gateway.app.gateway.router.table.deployments():
            assert deployment.health.in_flight == 0


async def first_asked(
    first: OpenAIEmulator, second: OpenAIEmulator, seen: dict[OpenAIEmulator, int]
) -> tuple[OpenAIEmulator, OpenAIEmulator]:
    waiting = {asyncio.ensure_future(emulator.record(count)): emulator for emulator, count in seen.items()}
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    slow = waiting[done.pop()]
    return slow, second if slow is first else first


async def test_when_both_fail_both_are_reported(tmp_path: Path):
    async with race(tmp_path, "{whisper: {}}") as (gateway, first, second):
        await warm_up(gateway)
        for emulator in (first, second):
            emulator.script(*[failure(400, "no")] * 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.stub.Transcribe(CALL, metadata=METADATA)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        for deployment in gateway.app.gateway.router.table.deployments():
            assert deployment.health.in_flight == 0


async def test_it_is_off_unless_the_group_is_named(tmp_path: Path):
    async with race(tmp_path, "{other: {}}") as (gateway, first, second):
        await warm_up(gateway)
        before = len(first.records) + len(second.records)
        first.script(hang())
        second.script(hang())
        call = asyncio.ensure_future(gateway.stub.Transcribe(CALL, metadata=METADATA))
        await asyncio.sleep(0.5)
        assert len(first.records) + len(second.records) == before + 1
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
