"""A gateway in front of the strict OpenAI emulator."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edges.portkey_gateway import serving, settings_for
from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import UPSTREAM_KEY, Gateway, openai_config, running

MODELS = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-transcribe-diarize", "fault-hang", "fault-500", "fault-early-401")


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(key=UPSTREAM_KEY) as emulator:
        yield emulator


@pytest.fixture
async def gateway(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    limits = """
        voxgate:
          limits: {max_audio_bytes: 2MiB, upload_idle_seconds: 0.5, max_concurrent_calls: 4, spool_window_bytes: 64KiB}
          debug: {allow_raw_payloads: true}
    """
    async with running(tmp_path, openai_config(emulator.url, models=MODELS, extra=limits)) as gateway:
        yield gateway


@pytest.fixture
async def portkey(emulator: OpenAIEmulator, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(tmp_path, emulator, settings_for(emulator)) as gateway:
        yield gateway
