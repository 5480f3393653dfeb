"""Emulators of OpenAI and Deepgram, a spool store and somebody who calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate_server.audio.spool import SpoolStore

from tests.providers.calling import Calling
from tests.providers.deepgram_calling import DeepgramCalling
from tests.providers.deepgram_emulator import DeepgramEmulator
from tests.providers.openai_emulator import OpenAIEmulator


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(models={"my-model"}) as emulator:
        yield emulator


@pytest.fixture
def store(tmp_path: Path):
    store = SpoolStore(directory=tmp_path)
    yield store
    store.close()


@pytest.fixture
def call(emulator: OpenAIEmulator, store: SpoolStore) -> Calling:
    return Calling(emulator, store)


@pytest.fixture
async def deepgram() -> AsyncIterator[DeepgramEmulator]:
    async with DeepgramEmulator() as emulator:
        yield emulator


@pytest.fixture
def listen(deepgram: DeepgramEmulator, store: SpoolStore) -> DeepgramCalling:
    return DeepgramCalling(deepgram, store)
