"""Streams of servers of OpenAI's dialect."""

import asyncio
import contextlib
import json
import random

import pytest
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import AnswerTooLarge, ProviderError, ProviderGarbled, ProviderTimeout, ProviderUnavailable
from voxgate_server.providers.openai import OpenAIProvider
from voxgate_server.providers.openai_dialects import DIALECTS

from tests.providers import stream_rules
from tests.providers.azure_emulator import AzureEmulator
from tests.providers.calling import KEY, azure, built, formatted
from tests.providers.dialect_emulator import MistralEmulator, VllmEmulator
from tests.providers.emulator import raw, sse, stream
from tests.providers.openai_emulator import OpenAIEmulator
from tests.providers.streaming import Canned, Streaming, deltas, done

TEXT = "Hello from the emulator."
DELTA = {"type": "transcript.text.delta", "delta": "Hello"}
DONE = {"type": "transcript.text.done", "text": "Hello"}
CHUNK = {"object": "transcription.chunk", "choices": [{"delta": {"content": "Hello"}}]}


@pytest.fixture
def ask(store: SpoolStore) -> Streaming:
    return Streaming(store)


def provider_at(emulator: OpenAIEmulator, model: str = "gpt-4o-transcribe", **kwargs) -> OpenAIProvider:
    return OpenAIProvider(model=model, api_base=emulator.url, api_key=KEY, **kwargs)


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe"])
@pytest.mark.parametrize("marked", [False, True])
async def test_openai(emulator: OpenAIEmulator, ask: Streaming, model: str, marked: bool):
    emulator.marks_the_end = marked
    provider = provider_at(emulator, model)
    assert provider.capabilities.streaming
    events = await ask(provider)
    assert deltas(events) == ["Hello", " from", " the", " emulator."]
    transcription = done(events)
    assert transcription.text == TEXT
    if model == "gpt-transcribe":
        assert [language.code for language in transcription.languages] == ["en"]
    else:
        assert transcription.usage.tokens.total_tokens == 45
        assert transcription.usage.tokens.input_token_details.audio_tokens == 33
    assert emulator.records[0].field("stream") == "true"
    assert ask.attempt.report.http_status == 200


async def test_who_is_not_asked_for_events_does_not_ask_for_any(emulator: OpenAIEmulator, call):
    transcription = await call(model="gpt-4o-transcribe")
    assert transcription.text == TEXT
    assert emulator.records[0].field("stream") is None


async def test_logprobs(emulator: OpenAIEmulator, ask: Streaming):
    events = await ask(provider_at(emulator), "include: INCLUDE_LOGPROBS")
    assert [[one.token for one in event.delta.logprobs] for event in events[:2]] == [["Hello"], [" from"]]
    assert len(done(events).logprobs) == 4


async def test_speakers(emulator: OpenAIEmulator, ask: Streaming):
    events = await ask(provider_at(emulator, "gpt-4o-transcribe-diarize"), formatted("diarized_json"))
    assert [event.WhichOneof("event") for event in events] == [
        *["delta", "segment", "delta", "delta", "delta", "segment", "done"]
    ]
    assert events[0].delta.segment_id == events[1].segment.id == "seg_001"
    assert (events[1].segment.speaker, events[1].segment.end) == ("A", 1.5)
    assert [one.speaker for one in done(events).diarized_segments] == ["A", "B"]


async def test_whisper_ignores_it(emulator: OpenAIEmulator, ask: Streaming):
    assert not provider_at(emulator, "whisper-1").capabilities.streaming
    events = await ask(provider_at(emulator, "whisper-1"))
    assert done(events).text == TEXT
    assert len(events) == 1
    assert emulator.records[0].field("stream") is None


async def test_a_server_that_answers_whole_all_the_same(emulator: OpenAIEmulator, ask: Streaming):
    emulator.script(raw('{"text": "Hello again"}'))
    events = await ask(provider_at(emulator))
    assert (len(events), done(events).text) == (1, "Hello again")


@pytest.mark.parametrize("end", ["\n\n", ""])
async def test_a_stream_inside_a_whole_answer(emulator: OpenAIEmulator, ask: Streaming, end: str):
    """As LiteLLM's proxy gives it."""
    usage = {"usage": {"input_tokens": 3, "output_tokens": 1}}
    inside = b"".join(sse(DELTA, {**DONE, **usage})).decode().removesuffix("\n\n") + end
    emulator.script(raw(json.dumps({"text": inside})))
    events = await ask(provider_at(emulator))
    assert (len(events), done(events).text, done(events).usage.tokens.input_tokens) == (1, "Hello", 3)
    emulator.script(raw(json.dumps({"text": inside[:60]})))
    with pytest.raises(ProviderGarbled):
        await ask(provider_at(emulator))
    emulator.script(raw(json.dumps({"text": "data: is what they said"})))
    assert done(await ask(provider_at(emulator))).text == "data: is what they said"


async def test_azure(ask: Streaming):
    async with AzureEmulator() as emulator:
        events = await ask(azure(emulator, "gpt-4o-transcribe", api_version="2025-04-01-preview"))
        assert len(deltas(events)) == 4
        assert done(events).usage.tokens.input_tokens == 33
        events = await ask(azure(emulator, "whisper"))
        assert len(events) == 1


async def test_mistral(ask: Streaming):
    async with MistralEmulator() as emulator:
        events = await ask(built(emulator, "voxtral-mini-latest"))
        assert deltas(events) == ["Hello", " from", " the", " emulator."]
        assert (done(events).text, done(events).language) == (TEXT, "en")
        assert done(events).usage.duration.seconds == 4
        events = await ask(built(emulator, "voxtral-mini-latest"), formatted("verbose_json"))
        assert [event.segment.text for event in events if event.HasField("segment")] == ["Hello", "from the emulator."]
        assert len(done(events).segments) == 2
        events = await ask(
            built(emulator, "voxtral-mini-latest"), "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD"
        )
        assert not any(event.HasField("segment") for event in events)
        assert [word.word for word in done(events).words] == TEXT.split()


async def test_vllm(ask: Streaming):
    async with VllmEmulator() as emulator:
        model = "openai/whisper-large-v3"
        events = await ask(built(emulator, model))
        assert deltas(events) == ["Hello", " from", " the", " emulator."]
        assert done(events).text == TEXT
        assert done(events).usage.tokens.input_tokens == 7
        # It streams no times, and refuses to.
        events = await ask(built(emulator, model), formatted("verbose_json"))
        assert len(events) == 1
        events = await ask(built(emulator, model), "task: TRANSCRIPTION_TASK_TRANSLATE")
        assert len(events) == 1


def test_who_streams():
    streaming = {
        f"{name}/{family.part or '*'}"
        for name, dialect in DIALECTS.items()
        for family in dialect.families
        if family.stream_fields
    }
    models = ("gpt-4o-transcribe-diarize", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe")
    assert {name for name in streaming if name.startswith(("openai/", "azure/"))} == {
        f"{name}/{model}" for name in ("openai", "azure") for model in models
    }
    assert {"mistral/*", "hosted_vllm/*"} <= streaming
    assert not {name for name in streaming if name.startswith(("groq/", "fireworks_ai/", "ovhcloud/"))}


@pytest.mark.parametrize(
    ("frames", "error", "said"),
    [
        (sse(DELTA), ProviderGarbled, "before it was complete"),
        (sse(DELTA, "[DONE]"), ProviderGarbled, "before it was complete"),
        (sse("[DONE]"), ProviderGarbled, "before it was complete"),
        ([], ProviderGarbled, "before it was complete"),
        (sse(CHUNK), ProviderGarbled, "before it was complete"),
        (sse(DELTA, {"error": {"message": "backend died"}}), ProviderUnavailable, "backend died"),
        (sse(DELTA, {"error": "backend died"}, DONE), ProviderUnavailable, "backend died"),
        (sse(DELTA, DONE, {"error": {"message": "too late"}}), ProviderUnavailable, "too late"),
        (sse(DELTA, {"type": "error", "message": "it broke"}), ProviderUnavailable, "it broke"),
        (sse(CHUNK, {"object": "error", "message": "died", "code": 500}, "[DONE]"), ProviderUnavailable, "died"),
        (sse(DELTA, {"error": {"message": "died", "type": "x", "code": 400}}, "[DONE]"), ProviderUnavailable, "died"),
        ([b"event: error\ndata: {}\n\n"], ProviderUnavailable, "in the middle"),
        (sse(DELTA, '{"type": "transcript.te', DONE), ProviderGarbled, "not a JSON object"),
        (sse(DELTA, "hello", DONE), ProviderGarbled, "not a JSON object"),
        (sse("[1]", DONE), ProviderGarbled, "not a JSON object"),
        (sse({**DELTA, "delta": None}, DONE), ProviderGarbled, "without a text"),
        (sse(DELTA, {"type": "transcript.text.done"}), ProviderGarbled, "without a text"),
        (sse({"type": "transcript.text.segment", "id": "a"}, DONE), ProviderGarbled, "segment without a text"),
        (sse({**CHUNK, "choices": None}, "[DONE]"), ProviderGarbled, "without choices"),
        (sse({**CHUNK, "choices": [1]}, "[DONE]"), ProviderGarbled, "without a text"),
        (sse({**CHUNK, "choices": [{"delta": {"content": 1}}]}, "[DONE]"), ProviderGarbled, "without a text"),
        (
            sse({**CHUNK, "choices": [{"delta": {"content": ""}, "finish_reason": "length"}]}, "[DONE]"),
            ProviderGarbled,
            "limit of output tokens",
        ),
    ],
)
async def test_streams_that_are_none(emulator, ask: Streaming, frames: list[bytes], error: type, said: str):
    emulator.script(stream(*frames))
    with pytest.raises(error, match=said):
        await ask(provider_at(emulator))


async def test_what_nobody_knows_is_passed_over(emulator: OpenAIEmulator, ask: Streaming):
    later = {"type": "transcript.text.delta", "delta": "after the end"}
    emulator.script(stream(b": comment\n\n", *sse({"type": "ping"}, DELTA, {"a": 1}, DONE, "[DONE]", later)))
    events = await ask(provider_at(emulator))
    assert deltas(events) == ["Hello"]
    assert done(events).text == "Hello"


async def test_a_server_that_does_not_close(emulator: OpenAIEmulator, ask: Streaming):
    emulator.script(stream(*sse(DELTA, DONE), b": never\n\n", paces=[_set(), _set(), asyncio.Event()]))
    assert done(await ask(provider_at(emulator))).text == "Hello"
    await asyncio.wait_for(emulator.records[0].peer_closed.wait(), 10)


async def test_a_pause_in_the_middle(emulator: OpenAIEmulator, ask: Streaming):
    emulator.script(stream(*sse(DELTA, DONE), paces=[_set(), asyncio.Event()]))
    provider = provider_at(emulator)
    provider._http._idle_seconds = 0.2
    with pytest.raises(ProviderTimeout, match=r"sent nothing for 0\.2 s in the middle of its answer"):
        await ask(provider)
    await asyncio.wait_for(emulator.records[0].peer_closed.wait(), 10)


async def test_the_first_event_may_take_its_time(emulator: OpenAIEmulator, ask: Streaming):
    gate = asyncio.Event()
    emulator.script(stream(*sse(DELTA, DONE), paces=[gate]))
    provider = provider_at(emulator)
    provider._http._idle_seconds = 0.05
    asyncio.get_running_loop().call_later(0.5, gate.set)
    assert done(await ask(provider)).text == "Hello"


async def test_the_deadline(emulator: OpenAIEmulator, ask: Streaming):
    emulator.script(stream(*sse(DELTA, DONE), paces=[_set(), asyncio.Event()]))
    with pytest.raises(ProviderTimeout, match="in the time that was left"):
        await ask(provider_at(emulator), seconds=0.4)


async def test_leaving_early_cuts_the_connection(emulator: OpenAIEmulator, ask: Streaming):
    emulator.script(stream(*sse(DELTA, DONE), paces=[_set(), asyncio.Event()]))
    provider = provider_at(emulator)
    async with contextlib.aclosing(ask.begun(provider)) as events:
        assert (await anext(events)).delta.delta == "Hello"
    await asyncio.wait_for(emulator.records[0].peer_closed.wait(), 10)
    await provider.aclose()


async def test_an_endless_stream(emulator: OpenAIEmulator, ask: Streaming):
    frame = sse({"type": "transcript.text.delta", "delta": "x" * 60_000})[0]
    emulator.script(stream(*[frame] * 400))
    with pytest.raises(AnswerTooLarge):
        await ask(provider_at(emulator))
    emulator.script(stream(b"data: ", *[b"x" * 65_536] * 200))
    with pytest.raises(AnswerTooLarge, match="an event of more than"):
        await ask(provider_at(emulator))


async def test_the_raw_answer_is_the_stream(emulator: OpenAIEmulator, ask: Streaming):
    await ask(provider_at(emulator), "debug: {include_raw_response: true}")
    shown = ask.attempt.raw_response
    assert shown is not None
    assert shown.media_type == "text/event-stream"
    assert shown.data.startswith(b'data: {"type": "transcript.text.delta"')
    assert shown.data.endswith(b"\n\n")
    assert ask.attempt.response_headers["x-request-id"] == "req-1"


async def test_a_large_last_event(emulator: OpenAIEmulator, ask: Streaming):
    text = "word " * 200_000
    emulator.script(stream(*sse(DELTA, {**DONE, "text": text})))
    assert done(await ask(provider_at(emulator))).text == text


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


STREAMS = {
    "openai": stream_rules.sse(
        *({"type": "transcript.text.delta", "delta": part} for part in ("Grüße", " aus", "\ndem Emulator")),
        {"type": "transcript.text.done", "text": "Grüße aus\ndem Emulator", "usage": {"input_tokens": 3}},
    ),
    "mistral": stream_rules.mistral({"text": "Hello from there.", "segments": [], "usage": {}}),
    "vllm": stream_rules.vllm("Hello from there.", "voxtral", with_usage=True),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_ten_thousand_cuts(ask: Streaming, name: str):
    """No beginning of a stream passes for the whole, wherever it ends and whether or not its framing tells."""
    whole = b"".join(STREAMS[name])
    draw = random.Random(name)
    successes = 0
    for _ in range(3400):
        cut = draw.randrange(len(whole))
        middle = draw.randrange(cut + 1)
        pieces = [piece for piece in (whole[:middle], whole[middle:cut]) if piece]
        provider = OpenAIProvider(
            model="gpt-4o-transcribe", api_key=KEY, transport=Canned(pieces, broken=draw.random() < 0.5)
        )
        with contextlib.suppress(ProviderError):
            done(await ask(provider))
            successes += 1
    assert successes == 0
    provider = OpenAIProvider(model="gpt-4o-transcribe", api_key=KEY, transport=Canned([whole], broken=False))
    transcription = done(await ask(provider))
    assert transcription.text in {"Grüße aus\ndem Emulator", "Hello from there."}


async def test_a_body_cut_behind_the_last_event_is_cut(ask: Streaming):
    whole = b"".join(sse(DELTA, DONE))
    provider = OpenAIProvider(model="gpt-4o-transcribe", api_key=KEY, transport=Canned([whole], broken=True))
    with pytest.raises(ProviderUnavailable, match="broke the connection before its answer was complete"):
        await ask(provider)


def test_emulators_frames_are_json():
    assert all(json.loads(frame.split(b"data: ")[1]) for frame in STREAMS["mistral"])
