"""Providers that stream, through the OpenAI SDKs: what is said arrives while the provider still has more to say."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import openai
import pytest

from tests.everyone.sides import SIDES, TEXT, House, house
from tests.providers.emulator import ok
from tests.recordings import recording
from tests.running import AUTH, KEY
from tests.sdk.conftest import NODE

SPEECH = recording("vm-goodbye.wav")
STREAMING = [name for name, side in SIDES.items() if side.streaming]
SILENT = {"mistral": 1, "gemini": 1}
"""Frames a provider sends before its first word: the language, and a thought."""
WORDS = len(TEXT.split())


@pytest.fixture
async def everyone(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, timeout=30) as found:
        yield found


class Pace:
    """Holds back each word of a provider until the client has seen the one before."""

    def __init__(self, everyone: House, name: str) -> None:
        gates = [asyncio.Event() for _ in range(SILENT.get(name, 0) + WORDS)]
        self._held = iter(gates)
        for _ in range(SILENT.get(name, 0) + 1):
            next(self._held).set()
        everyone.emulators[name].script(ok(paces=gates))

    def seen(self) -> None:
        """The client has seen a word."""
        if gate := next(self._held, None):
            gate.set()


def checked(events: list[tuple[str, str]]) -> None:
    """Events are a type and a text: words one by one, then the whole."""
    kinds = [kind for kind, _ in events]
    assert kinds == ["transcript.text.delta"] * (len(events) - 1) + ["transcript.text.done"]
    assert len(events) > WORDS
    *deltas, whole = [text for _, text in events]
    assert "".join(deltas) == whole == TEXT


@pytest.mark.parametrize("name", STREAMING)
async def test_the_asynchronous_client(everyone: House, name: str):
    pace = Pace(everyone, name)
    events = []
    async with openai.AsyncOpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = await client.audio.transcriptions.create(model=f"{name}-streaming", file=SPEECH.path, stream=True)
        async for event in stream:
            pace.seen()
            events.append((event.type, event.text if event.type == "transcript.text.done" else event.delta))
    checked(events)
    usage = event.usage
    assert usage is not None
    if name != "mistral":  # bills by the second, for which OpenAI's event has no field
        assert usage.total_tokens > 0


@pytest.mark.parametrize("name", STREAMING)
async def test_the_synchronous_client(everyone: House, name: str):
    pace = Pace(everyone, name)
    loop = asyncio.get_running_loop()

    def run() -> list[tuple[str, str]]:
        events = []
        with openai.OpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = client.audio.transcriptions.create(model=f"{name}-streaming", file=SPEECH.path, stream=True)
            for event in stream:
                loop.call_soon_threadsafe(pace.seen)
                events.append((event.type, event.text if event.type == "transcript.text.done" else event.delta))
        return events

    checked(await asyncio.to_thread(run))


@contextlib.asynccontextmanager
async def node_stream(everyone: House, **options: object) -> AsyncIterator[AsyncIterator[dict[str, object]]]:
    """The events that Node's SDK gives, as they come."""
    arguments = (f"{everyone.gateway.url}/v1", KEY, str(SPEECH.path), json.dumps(options))
    process = await asyncio.create_subprocess_exec(
        "node", "stream.mjs", *arguments, cwd=NODE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = process.stdout

    async def events() -> AsyncIterator[dict[str, object]]:
        while line := await asyncio.wait_for(lines.readline(), 60):
            yield json.loads(line)

    try:
        yield events()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await process.wait()


@pytest.mark.parametrize("name", STREAMING)
async def test_node(everyone: House, node: Callable[..., object], name: str):
    pace = Pace(everyone, name)
    events = []
    async with node_stream(everyone, model=f"{name}-streaming") as stream:
        async for event in stream:
            pace.seen()
            events.append((str(event["type"]), str(event.get("text", event.get("delta")))))
    checked(events)


async def test_node_sees_that_a_stream_was_cut(everyone: House, node: Callable[..., object]):
    everyone.emulators["openai"].script(ok(cut=200, then="reset"))
    async with node_stream(everyone, model="openai-streaming") as stream:
        events = [event async for event in stream]
    assert events[0]["type"] == "transcript.text.delta"
    assert "transcript.text.done" not in [event.get("type") for event in events]
    assert events[-1]["error"] == "APIError"


async def test_python_sees_that_a_stream_was_cut(everyone: House):
    everyone.emulators["openai"].script(ok(cut=200, then="reset"))
    kinds: set[str] = set()

    async def read() -> None:
        async with openai.AsyncOpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.audio.transcriptions.create(model="openai-streaming", file=SPEECH.path, stream=True)
            async for event in stream:
                kinds.add(event.type)

    with pytest.raises(openai.APIError, match="broke the connection before its answer was complete"):
        await read()
    assert kinds == {"transcript.text.delta"}


@pytest.mark.parametrize("name", ["openai", "azure"])
async def test_speakers(everyone: House, name: str):
    async with openai.AsyncOpenAI(base_url=f"{everyone.gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = await client.audio.transcriptions.create(
            model=f"{name}-speakers", file=SPEECH.path, stream=True, response_format="diarized_json"
        )
        events = [event async for event in stream]
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [segment.speaker for segment in segments] == ["A", "B"]
    deltas = [event for event in events if event.type == "transcript.text.delta"]
    assert {delta.segment_id for delta in deltas} == {segment.id for segment in segments}
    assert events[-1].type == "transcript.text.done"


async def test_bifrosts_chunks(everyone: House):
    pace = Pace(everyone, "openai")
    url = everyone.gateway.url + "/litellm/v1/audio/transcriptions"
    objects = []
    async with httpx.AsyncClient() as client:
        files, data = {"file": ("speech.wav", SPEECH.data)}, {"model": "openai-streaming", "stream": "true"}
        async with client.stream("POST", url, files=files, data=data, headers=AUTH) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    objects.append(json.loads(line[6:]))
                    await asyncio.sleep(0.02)
                    pace.seen()
    extra = [one["extra_fields"] for one in objects]
    assert [one["chunk_index"] for one in extra] == list(range(len(objects)))
    assert {one["request_type"] for one in extra} == {"transcription_stream"}
    assert {one["model_deployment"] for one in extra} == {"gpt-4o-transcribe"}
    # Since the one before, and in the last one the whole: these are at least 20 ms apart.
    assert all(isinstance(one["latency"], int) for one in extra)
    assert all(one["latency"] >= 15 for one in extra[1:-1])
    assert extra[-1]["latency"] + len(extra) >= sum(one["latency"] for one in extra[1:-1])
