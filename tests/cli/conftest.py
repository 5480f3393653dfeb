"""A provider, and the two ways to it: a gateway inside the command, a running one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.commands import FAULTS, TEXT, config_file
from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import KEY, Gateway, openai_config, running


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(text=TEXT, key="sk-upstream-canary-0001", models=FAULTS) as emulator:
        yield emulator


@pytest.fixture
def config(emulator: OpenAIEmulator, tmp_path: Path) -> Path:
    return config_file(tmp_path, emulator)


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    directory = tmp_path / "gateway"
    directory.mkdir()
    async with running(directory, openai_config(emulator.url, models=("whisper-1", *FAULTS))) as gateway:
        yield gateway


@pytest.fixture(params=["in-process", "server"])
def where(request: pytest.FixtureRequest) -> list[str]:
    """The options for either way."""
    if request.param == "in-process":
        return ["--config", str(request.getfixturevalue("config"))]
    return ["--server", request.getfixturevalue("gateway").target, "--api-key", KEY]
