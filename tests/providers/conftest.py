"""Emulators of all providers, a spool store and somebody who calls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.assemblyai import AssemblyAIProvider
from voxgate_server.providers.azure_speech import AzureSpeechProvider
from voxgate_server.providers.elevenlabs import ElevenLabsProvider

from tests.providers.assemblyai_emulator import AssemblyAIEmulator
from tests.providers.azure_speech_emulator import AzureSpeechEmulator
from tests.providers.calling import Asking, Calling
from tests.providers.deepgram_calling import DeepgramCalling
from tests.providers.deepgram_emulator import DeepgramEmulator
from tests.providers.elevenlabs_emulator import ElevenLabsEmulator
from tests.providers.openai_emulator import OpenAIEmulator
from tests.providers.provider_calling import ProviderCalling


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
def ask(store: SpoolStore) -> Asking:
    return Asking(store)


@pytest.fixture
async def deepgram() -> AsyncIterator[DeepgramEmulator]:
    async with DeepgramEmulator() as emulator:
        yield emulator


@pytest.fixture
def listen(deepgram: DeepgramEmulator, store: SpoolStore) -> DeepgramCalling:
    return DeepgramCalling(deepgram, store)


@pytest.fixture
async def elevenlabs() -> AsyncIterator[ElevenLabsEmulator]:
    async with ElevenLabsEmulator() as emulator:
        yield emulator


@pytest.fixture
def scribe(elevenlabs: ElevenLabsEmulator, store: SpoolStore) -> ProviderCalling:
    def make(**kwargs) -> ElevenLabsProvider:
        usual = {"model": "scribe_v2", "api_base": elevenlabs.origin, "api_key": elevenlabs.key}
        return ElevenLabsProvider(**{**usual, **kwargs})

    return ProviderCalling(elevenlabs, store, make)


@pytest.fixture
async def assemblyai() -> AsyncIterator[AssemblyAIEmulator]:
    async with AssemblyAIEmulator() as emulator:
        yield emulator


@pytest.fixture
def order(assemblyai: AssemblyAIEmulator, store: SpoolStore) -> ProviderCalling:
    def make(**kwargs) -> AssemblyAIProvider:
        usual = {"model": "universal-3-5-pro", "api_base": assemblyai.origin, "api_key": assemblyai.key}
        return AssemblyAIProvider(**{**usual, "poll_seconds": (0.001, 0.002), **kwargs})

    return ProviderCalling(assemblyai, store, make)


@pytest.fixture
async def azure() -> AsyncIterator[AzureSpeechEmulator]:
    async with AzureSpeechEmulator() as emulator:
        yield emulator


@pytest.fixture
def dictate(azure: AzureSpeechEmulator, store: SpoolStore) -> ProviderCalling:
    def make(**kwargs) -> AzureSpeechProvider:
        usual = {"model": "standard", "api_base": azure.origin, "api_key": azure.key}
        return AzureSpeechProvider(**{**usual, **kwargs})

    return ProviderCalling(azure, store, make)
