"""Gemini's streams."""

import contextlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import ProviderError, ProviderGarbled, ProviderRejected, ProviderUnavailable
from voxgate_server.providers.gemini_request import GeminiRequest
from voxgate_server.providers.gemini_stream import GeminiStream
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.sse_reader import SseReader

from tests.providers import gemini_rules
from tests.providers.calling import formatted
from tests.providers.gemini_calling import BOTH, DEDICATED, GENERAL, provider_for
from tests.providers.gemini_emulator import GeminiEmulator, raw, sse, stream
from tests.providers.streaming import Canned, Streaming, deltas, done

TEXT = "Hello from the emulator."


@pytest.fixture
def ask(store: SpoolStore) -> Streaming:
    return Streaming(store)


def chunk(text: str, reason: str = "", **more: object) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": [{"text": text}]}}
    return {"candidates": [{**candidate, **({"finishReason": reason} if reason else {})}], **more}


@pytest.mark.parametrize("vertex", [False, True])
@pytest.mark.parametrize("model", BOTH)
async def test_text_comes_as_it_is_said(ask: Streaming, model: str, vertex: bool):
    async with GeminiEmulator(vertex=vertex) as emulator:
        provider = provider_for(emulator, model)
        assert provider.capabilities.streaming
        events = await ask(provider)
        assert len(deltas(events)) >= 4
        assert "".join(deltas(events)) == done(events).text == TEXT
        assert done(events).usage.tokens.total_tokens == 140
        assert done(events).usage.tokens.input_token_details.audio_tokens == 104
        assert emulator.records[0].path.endswith(":streamGenerateContent?alt=sse")


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("wanted", ["verbose_json", "diarized_json", "srt"])
async def test_times_and_speakers_come_whole(ask: Streaming, model: str, wanted: str):
    async with GeminiEmulator() as emulator:
        events = await ask(provider_for(emulator, model), formatted(wanted))
        assert len(events) == 1
        assert done(events).text == TEXT
        assert emulator.records[0].path.endswith(":generateContent")


async def test_through_a_file(ask: Streaming):
    async with GeminiEmulator() as emulator:
        events = await ask(provider_for(emulator, GENERAL, max_inline_bytes=1000))
        assert "".join(deltas(events)) == done(events).text == TEXT
        assert next(record.path for record in emulator.records if "enerate" in record.path).endswith("alt=sse")
        assert len(emulator.deleted) == 1


@pytest.mark.parametrize("model", BOTH)
async def test_silence_is_never_said(ask: Streaming, model: str):
    async with GeminiEmulator(text="") as emulator:
        events = await ask(provider_for(emulator, model))
        assert (len(events), done(events).text) == (1, "")


async def test_a_server_that_answers_whole_all_the_same(ask: Streaming):
    async with GeminiEmulator() as emulator:
        emulator.script(raw('{"candidates": [{"content": {"parts": [{"text": "Whole."}]}, "finishReason": "STOP"}]}'))
        events = await ask(provider_for(emulator))
        assert (len(events), done(events).text) == (1, "Whole.")


async def test_languages(ask: Streaming):
    def said(text: str, code: str, reason: str = "") -> dict[str, object]:
        part = {"audioTranscription": {"text": text, "languageCode": code}}
        return {"candidates": [{"content": {"parts": [part]}, "finishReason": reason}]}

    async with GeminiEmulator() as emulator:
        emulator.script(stream(*sse(said("Hello, ", "en-US"), said("Welt.", "de-DE", "STOP"))))
        events = await ask(provider_for(emulator, DEDICATED))
        assert done(events).text == "".join(deltas(events)) == "Hello, Welt."
        assert done(events).language == "en-US"
        assert [language.code for language in done(events).languages] == ["en-US", "de-DE"]


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    ("frames", "error", "said"),
    [
        (sse(chunk("Hello")), ProviderGarbled, "before it was complete"),
        ([], ProviderGarbled, "before it was complete"),
        (sse(chunk("Hello"), chunk("", "SAFETY")), ProviderRejected, "SAFETY"),
        (sse(chunk("Hello"), chunk("", "MAX_TOKENS")), ProviderGarbled, "limit of output tokens"),
        (sse(chunk("Hello"), chunk("", "OTHER")), ProviderGarbled, "did not end its answer by itself"),
        (sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), ProviderRejected, "PROHIBITED_CONTENT"),
        (
            sse(chunk("Hello"), {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
            ProviderUnavailable,
            "overloaded",
        ),
        (sse(chunk("Hello"), '[{"error": {}}]'), ProviderGarbled, "not a GenerateContentResponse"),
        (sse(chunk("Hello"), '{"candidates": [{"con'), ProviderGarbled, "not a GenerateContentResponse"),
    ],
)
async def test_streams_that_are_none(ask: Streaming, model: str, frames: list[bytes], error: type, said: str):
    async with GeminiEmulator() as emulator:
        emulator.script(stream(*frames))
        with pytest.raises(error, match=said):
            await ask(provider_for(emulator, model))


_TEXT = st.text(st.sampled_from(" \nab.[]NOno speechSPEECH"), max_size=20) | st.sampled_from(
    ["[no speech]", " [No speech].", "[no speech] after all", "[no"]
)


@given(_TEXT.filter(str.strip), st.lists(st.integers(0, 20), max_size=6))
def test_deltas_are_the_text(text: str, cuts: list[int]):
    reader = GeminiStream(Upstream("gemini", GENERAL), GeminiRequest({}, "", "audio/wav", False, False, False))
    sse_reader = SseReader("gemini")
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [chunk(text[start:end]) for start, end in itertools.pairwise(places)]
    frames = b"".join(sse(*chunks, chunk("", "STOP")))
    events = [one for event in sse_reader.feed(frames) for one in reader.read(event)]
    transcription = reader.done().done.transcription
    silence = text.strip().rstrip(".").lower() == "[no speech]"
    assert transcription.text == "".join(deltas(events)) == ("" if silence else text.strip())


@pytest.mark.parametrize("model", BOTH)
async def test_cuts(ask: Streaming, model: str):
    """No beginning of a stream passes for the whole, wherever it ends and whether or not its framing tells."""
    body = {} if model == DEDICATED else {"generationConfig": {}}
    whole = b"".join(gemini_rules.chunks(gemini_rules.answer(body, model, TEXT)))
    draw = random.Random(model)
    successes = 0
    async with GeminiEmulator() as emulator:
        for _ in range(1000):
            cut = draw.randrange(len(whole))
            transport = Canned([whole[:cut]] if cut else [], broken=draw.random() < 0.5)
            with contextlib.suppress(ProviderError):
                done(await ask(provider_for(emulator, model, transport=transport)))
                successes += 1
        assert successes == 0
        events = await ask(provider_for(emulator, model, transport=Canned([whole], broken=False)))
        assert done(events).text == TEXT
