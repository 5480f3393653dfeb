"""A gateway whose models stream, and its two doors for streams."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import AUTH, KEY, METADATA, Gateway, running

__all__ = ["FIRST", "PATH", "SECOND", "SPEECH", "Rest", "Streams", "events_of", "grpc_events", "rest", "streams"]

SPEECH = recording("vm-goodbye.wav").data
PATH = "/v1/audio/transcriptions"
FIRST, SECOND = "One two three four.", "Five six seven."
UPSTREAM_KEY = "sk-upstream-canary-0001"
CONFIG = """
model_list:
  - model_name: first
    litellm_params: &first {{model: openai/gpt-4o-transcribe, api_base: {first}, api_key: {key}}}
  - model_name: alone
    litellm_params: *first
  - model_name: second
    litellm_params: {{model: openai/gpt-4o-transcribe, api_base: {second}, api_key: {key}}}
router_settings:
  num_retries: 0
  disable_cooldowns: true
  fallbacks:
    - first: [second]
general_settings:
  master_key: {master}
voxgate:
  streaming: {{sse_restart: {restart}}}
"""


Seen = Callable[[int], None]


@dataclass
class Streams:
    """A gateway and its two providers."""

    gateway: Gateway
    first: OpenAIEmulator
    """Serves the groups `first`, whose fallback is the second, and `alone`, which has none."""
    second: OpenAIEmulator

    def limit(self, **limits: Any) -> None:
        """Changes limits of the gateway's."""
        gateway = self.gateway.app.gateway
        gateway.limits = dataclasses.replace(gateway.limits, **limits)

    async def at_rest(self) -> None:
        """Waits until no call is in progress, and each has its line in the log."""
        async with asyncio.timeout(30):
            while self.gateway.app.gateway.calls_in_progress:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def streams(directory: Path, *, restart: bool = False) -> AsyncIterator[Streams]:
    """Runs one."""
    async with (
        OpenAIEmulator(key=UPSTREAM_KEY, text=FIRST) as first,
        OpenAIEmulator(key=UPSTREAM_KEY, text=SECOND) as second,
    ):
        config = CONFIG.format(
            first=first.url, second=second.url, key=UPSTREAM_KEY, master=KEY, restart=str(restart).lower()
        )
        async with running(directory, config) as gateway:
            yield Streams(gateway, first, second)


@dataclass
class Rest:
    """What came of a stream over REST."""

    status: int = 0
    objects: list[dict[str, Any]] = field(default_factory=list)
    marked: bool = False
    """`[DONE]` came."""
    comments: list[str] = field(default_factory=list)

    @property
    def deltas(self) -> list[str]:
        return [one["delta"] for one in self.objects if one.get("type") == "transcript.text.delta"]

    @property
    def done(self) -> dict[str, Any] | None:
        found = [one for one in self.objects if one.get("type") == "transcript.text.done"]
        assert len(found) <= 1
        assert bool(found) == self.marked, "done and [DONE] come together or not at all"
        return found[0] if found else None

    @property
    def error(self) -> dict[str, Any] | None:
        return next((one["error"] for one in self.objects if "error" in one), None)


async def rest(
    client: httpx.AsyncClient, streams: Streams, model: str, path: str = PATH, *, seen: Seen | None = None
) -> Rest:
    """Asks for a stream and reads it to its end; `seen` is told how many deltas there were so far."""
    found = Rest()
    files, data = {"file": ("speech.wav", SPEECH)}, {"model": model, "stream": "true"}
    async with client.stream("POST", streams.gateway.url + path, files=files, data=data, headers=AUTH) as answer:
        found.status = answer.status_code
        if answer.status_code != 200:
            found.objects.append(json.loads(await answer.aread()))
            return found
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                found.marked = True
            elif line.startswith("data: "):
                assert not found.marked
                found.objects.append(json.loads(line[6:]))
                if seen:
                    seen(len(found.deltas))
            elif line.startswith(":"):
                found.comments.append(line)
    return found


def events_of(streams: Streams, model: str) -> Any:
    """The RPC of a stream over gRPC."""
    message = api.TranscribeEventsRequest(config=TranscriptionConfig(model=model), audio=AudioSource(data=SPEECH))
    return streams.gateway.stub.TranscribeEvents(message, metadata=METADATA)


async def grpc_events(
    streams: Streams, model: str, *, seen: Seen | None = None
) -> tuple[list[TranscriptionEvent], grpc.StatusCode]:
    """Asks for a stream over gRPC and reads it to its end; `seen` is told how many events there were so far."""
    call = events_of(streams, model)
    events: list[TranscriptionEvent] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for response in call:
            events.append(response.event)
            if seen:
                seen(len(events))
    return events, await call.code()
