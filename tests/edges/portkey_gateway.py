"""A gateway that callers route by Portkey's headers, in front of the strict OpenAI emulator."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from voxgate_server.routing.portkey_plan import PortkeySettings

from tests.edges.rest.http_client import Response, form, post
from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import KEY, UPSTREAM_KEY, Gateway, openai_config, running

__all__ = ["PATH", "PORTKEY", "SPEECH", "address_of", "ask", "serving", "settings_for", "targets"]

SPEECH = recording("demo-thanks.wav").data
PATH = "/v1/audio/transcriptions"
PORTKEY = {"x-portkey-api-key": KEY}


def address_of(emulator: OpenAIEmulator) -> str:
    """Its `host:port`."""
    return emulator.url.removeprefix("http://").partition("/")[0]


def settings_for(emulator: OpenAIEmulator) -> PortkeySettings:
    """Stored configs and credentials that lead to the emulator, and everything permitted."""
    stored = {"api_key": UPSTREAM_KEY, "api_base": emulator.url, "custom_llm_provider": "openai"}
    return PortkeySettings(
        configs={
            "pc-two": {"strategy": {"mode": "fallback"}, "targets": [{"virtual_key": "gone"}, {"virtual_key": "main"}]},
            "pc-text": json.dumps({"virtual_key": "main", "override_params": {"language": "de"}}),
            "pc-own": {"provider": "openai", "api_key": UPSTREAM_KEY, "custom_host": emulator.url},
            "pc-wrong": {"retry": {"attempts": 9}},
            "pc-broken": "{",
        },
        allow_caller_credentials=True,
        custom_hosts={address_of(emulator): ()},
        credentials={
            "main": stored,
            "gone": {**stored, "api_key": "sk-revoked-upstream-1"},
            "bare": {"api_key": "sk-x"},
        },
    )


@contextlib.asynccontextmanager
async def serving(directory: Path, emulator: OpenAIEmulator, settings: PortkeySettings) -> AsyncIterator[Gateway]:
    """Runs the gateway until the block ends."""
    models = ("whisper-1", "gpt-4o-transcribe", "fault-500", "fault-hang")
    async with running(directory, openai_config(emulator.url, models=models), portkey=settings) as gateway:
        yield gateway


async def ask(gateway: Gateway, headers: dict[str, str], *, config: object = None, **fields: str) -> Response:
    """Sends the recording, with a config object if there is one."""
    if config is not None:
        headers = {**headers, "x-portkey-config": json.dumps(config)}
    return await post(gateway.rest_port, PATH, form(SPEECH, **{"model": "whisper-1", **fields}), {**PORTKEY, **headers})


def targets(mode: str, *entries: object, **strategy: object) -> dict[str, object]:
    """A config object with these targets."""
    return {"strategy": {"mode": mode, **strategy}, "targets": list(entries)}
