"""A gateway in front of an emulator that hears what it is sent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.live.listening_emulator import ListeningEmulator
from tests.running import UPSTREAM_KEY, Gateway, openai_config, running


@pytest.fixture
async def emulator() -> AsyncIterator[ListeningEmulator]:
    async with ListeningEmulator(key=UPSTREAM_KEY) as emulator:
        yield emulator


@pytest.fixture
async def gateway(emulator: ListeningEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, openai_config(emulator.url)) as gateway:
        yield gateway
