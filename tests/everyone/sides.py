"""All providers behind one face: how each is configured, its emulator, and which recordings that took."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from voxgate_server.providers import assemblyai

from tests.providers import (
    assemblyai_emulator,
    azure_emulator,
    azure_speech_emulator,
    deepgram_emulator,
    elevenlabs_emulator,
    gemini_emulator,
    openai_emulator,
    vertex_emulator,
)
from tests.providers.dialect_emulator import EMULATORS
from tests.providers.emulator import Emulator
from tests.running import KEY, Gateway, running

__all__ = ["SIDES", "Side", "house"]

TEXT = "Hello from the emulator, dear friend. How are you?"


@dataclass(frozen=True)
class Side:
    """One provider."""

    model: str
    """`provider/model`, as it stands in a configuration."""
    make: Callable[[], Emulator]
    params: Callable[[Any], dict[str, object]]
    """Parameters of its deployment besides the model."""
    taken: Callable[[Any], list[str]]
    """SHA-256 of the recordings that came whole."""
    speakers: str | None = None
    """The model that tells speakers apart, where it is another one."""
    streaming: str | None = None
    """A model that streams; None: the provider's answers come whole."""

    @property
    def name(self) -> str:
        """The provider."""
        return self.model.partition("/")[0]


def _files(emulator: Emulator) -> list[str]:
    return [record.file_sha256 for record in emulator.records if record.complete and record.file_size]


SIDES = {
    side.name: side
    for side in (
        Side(
            "openai/whisper-1",
            lambda: openai_emulator.OpenAIEmulator(text=TEXT),
            lambda emulator: {"api_base": emulator.url, "api_key": emulator.key},
            _files,
            speakers="openai/gpt-4o-transcribe-diarize",
            streaming="openai/gpt-4o-transcribe",
        ),
        Side(
            "deepgram/nova-3",
            lambda: deepgram_emulator.DeepgramEmulator(texts=(TEXT,)),
            lambda emulator: {"api_base": emulator.url, "api_key": emulator.key},
            _files,
        ),
        Side(
            "vertex_ai/chirp_3",
            lambda: vertex_emulator.VertexEmulator(text=TEXT),
            lambda emulator: {"api_base": emulator.origin, "vertex_credentials": emulator.tokens.account},
            lambda emulator: emulator.taken,
        ),
        Side(
            "gemini/gemini-3.5-transcribe",
            lambda: gemini_emulator.GeminiEmulator(text=TEXT),
            lambda emulator: {"api_base": emulator.origin, "api_key": emulator.key},
            lambda emulator: [audio.sha256 for audio in emulator.audio],
            speakers="gemini/gemini-2.5-flash",
            streaming="gemini/gemini-2.5-flash",
        ),
        Side(
            "elevenlabs/scribe_v2",
            lambda: elevenlabs_emulator.ElevenLabsEmulator(texts=(TEXT,)),
            lambda emulator: {"api_base": emulator.origin, "api_key": emulator.key},
            _files,
        ),
        Side(
            "assemblyai/universal-3-5-pro",
            lambda: assemblyai_emulator.AssemblyAIEmulator(texts=(TEXT,)),
            lambda emulator: {"api_base": emulator.origin, "api_key": emulator.key},
            lambda emulator: [digest(data) for data in emulator.uploads.values()],
        ),
        Side(
            "azure_speech/standard",
            lambda: azure_speech_emulator.AzureSpeechEmulator(text=TEXT),
            lambda emulator: {"api_base": emulator.origin, "api_key": emulator.key},
            _files,
        ),
        Side(
            "azure/whisper",
            lambda: azure_emulator.AzureEmulator(text=TEXT),
            lambda emulator: {"api_base": emulator.url, "api_key": emulator.key, "api_version": "2025-04-01-preview"},
            _files,
            speakers="azure/gpt-4o-transcribe-diarize",
            streaming="azure/gpt-4o-transcribe",
        ),
        *(
            Side(
                f"{name}/{model}",
                lambda kind=kind: kind(text=TEXT),
                lambda emulator: {"api_base": emulator.url, "api_key": emulator.key},
                _files,
                streaming=f"{name}/{model}" if name in {"mistral", "hosted_vllm"} else None,
            )
            for name, (kind, model) in EMULATORS.items()
        ),
    )
}


@dataclass
class House:
    """A gateway with a group for every provider, each at an emulator of its own."""

    gateway: Gateway
    emulators: dict[str, Any]

    def taken(self, name: str) -> list[str]:
        """SHA-256 of the recordings a provider took whole."""
        return SIDES[name].taken(self.emulators[name])


@contextlib.asynccontextmanager
async def house(directory: Path, *, drop_params: bool = False, **more: object) -> AsyncIterator[House]:
    """Runs a gateway whose groups are named like the providers.

    `NAME-speakers` tells speakers apart, `NAME-streaming` streams.

    Args:
        directory: For the configuration.
        drop_params: Options that a model cannot take are left out and reported.
        more: Further parameters of every deployment.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Emulators need no time.
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(assemblyai, "POLL_SECONDS", (0.005, 0.02))
        emulators = {name: await stack.enter_async_context(side.make()) for name, side in SIDES.items()}
        entries = []
        for name, side in SIDES.items():
            params = {**side.params(emulators[name]), "drop_params": drop_params, **more}
            groups = {name: side.model, f"{name}-speakers": side.speakers or side.model}
            if side.streaming:
                groups[f"{name}-streaming"] = side.streaming
            for group, model in groups.items():
                entries.append({"model_name": group, "litellm_params": {"model": model, **params}})
        config = {"model_list": entries, "general_settings": {"master_key": KEY}}
        config["router_settings"] = {"disable_cooldowns": True}
        gateway = await stack.enter_async_context(running(directory, yaml.safe_dump(config)))
        yield House(gateway, emulators)


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def pretty(body: bytes) -> str:
    """JSON laid out for people; keys in their order."""
    return json.dumps(json.loads(body), indent=1, ensure_ascii=False) + "\n"
