"""A provider that can think for as long as a test wants."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import openai_config
from tests.serve.processes import configured


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(key="sk-upstream-canary-0001") as emulator:
        yield emulator


@pytest.fixture
def config(tmp_path: Path, emulator: OpenAIEmulator) -> Path:
    """Leads whisper-1 to the emulator, with a master key; what the emulator answers is not asked for twice."""
    return configured(tmp_path, openai_config(emulator.url, extra="router_settings: {num_retries: 0}"))
