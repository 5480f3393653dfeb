"""Gemini: whatever it answers, and what of it is believed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import event, given, settings
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.gemini_answer import fill_from_answer, seconds_of
from voxgate_server.providers.gemini_request import GeminiRequest
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.transcript.subtitles import cues

from tests.providers.gemini_calling import BOTH, DEDICATED, GENERAL, Calling
from tests.providers.gemini_emulator import KEY, GeminiEmulator, cut_answer, raw

SRT = "response_format: RESPONSE_FORMAT_SRT"
DIARIZED = "response_format: RESPONSE_FORMAT_DIARIZED_JSON"


@pytest.fixture
async def call(store: SpoolStore) -> AsyncIterator[Calling]:
    async with GeminiEmulator() as emulator:
        yield Calling(emulator, store)


def candidate(*parts: Any, reason: str | None = "STOP", audio_tokens: int = 104) -> str:
    content = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    return json.dumps(
        {
            "candidates": [content | ({"finishReason": reason} if reason else {})],
            "usageMetadata": {
                "promptTokenCount": audio_tokens,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": audio_tokens}],
            },
        }
    )


def segments(*items: Any, **more: Any) -> str:
    listed = [
        item if isinstance(item, dict) else dict(zip(("start", "end", "text", "speaker"), item, strict=False))
        for item in items
    ]
    return candidate({"text": json.dumps({"language": "en", "segments": listed} | more)})


async def answered(call: Calling, body: bytes | str, config: str = "", model: str = GENERAL, **kwargs) -> Transcription:
    call.emulator.script(raw(body, **kwargs))
    return await call(config, model)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    "body",
    [
        "", "  \n", "null", "[]", '"text"', "{}", '{"candidates": []}', '{"candidates": [null]}', '{"candidates": 5}',
        '{"candidates": [{"content"', "[" * 100_000, "<html>502</html>", "plain text",
        '{"error": {"message": "backend died"}}', '{"candidates": [{}], "error": {}}',
        '{"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": 5}]}}]}',
        candidate({"text": "half of it"}, reason="OTHER"),
        candidate({"text": "half of it"}, reason="MALFORMED_RESPONSE"),
        candidate({"text": "half of it"}, reason="NEW_REASON\nX"),
        candidate({"text": "half of it"}, reason="FINISH_REASON_UNSPECIFIED"),
        candidate({"text": "half of it"}, reason="MAX_TOKENS"),
    ],
)  # fmt: skip
async def test_answers_that_make_no_sense_or_were_cut_off(call: Calling, body: str, model: str):
    with pytest.raises(errors.ProviderGarbled, match=rf"gemini \({model}\)") as caught:
        await answered(call, body, model=model)
    assert "\n" not in caught.value.message
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200


async def test_a_cut_answer(call: Calling):
    call.emulator.script(cut_answer(100))
    with pytest.raises(errors.ProviderUnavailable, match="broke the connection"):
        await call()


@pytest.mark.parametrize(
    "parts", [[], [{"text": ""}], [{"text": " \n"}], [{"text": "Let me think.", "thought": True}], [{"inlineData": {}}]]
)
async def test_a_general_model_that_says_nothing_has_failed(call: Calling, parts: list):
    """It was told what to answer to silence."""
    with pytest.raises(errors.ProviderGarbled, match="without a text"):
        await answered(call, candidate(*parts))


async def test_an_answer_that_does_not_say_that_it_ended(call: Calling):
    with pytest.raises(errors.ProviderGarbled, match="without a reason"):
        await answered(call, candidate({"text": "all of it"}, reason=None))
    assert (await answered(call, candidate({"text": "all of it"}, reason=None), model=DEDICATED)).text == "all of it"


@pytest.mark.parametrize("silence", ["[no speech]", "[No speech].", " [NO SPEECH]\n"])
async def test_silence(call: Calling, silence: str):
    assert (await answered(call, candidate({"text": silence}))).text == ""


WITHHELD = [
    candidate({"text": "half"}, reason="SAFETY"),
    candidate(reason="RECITATION"),
    candidate(reason="BLOCKLIST"),
    candidate(reason="PROHIBITED_CONTENT"),
    candidate(reason="SPII"),
    '{"candidates": [{"finishReason": "SAFETY", "safetyRatings": [], "index": 0}]}',
    '{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}',
    '{"promptFeedback": {"blockReason": "OTHER"}}',
]


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("body", WITHHELD)
async def test_what_google_withholds(call: Calling, body: str, model: str):
    with pytest.raises(errors.ProviderRejected, match="policy on content") as caught:
        await answered(call, body, model=model)
    assert caught.value.metadata["provider_code"] == "content_policy_violation"


async def test_a_language_it_does_not_know(call: Calling):
    with pytest.raises(errors.ProviderRejected, match="language") as caught:
        await answered(call, candidate(reason="LANGUAGE"))
    assert caught.value.metadata["provider_code"] != "content_policy_violation"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0), ("1.2s", 1.2), ("1.200s", 1.2), ("3600.5s", 3600.5), ("1.2", 1.2), ("12", 12), (1.5, 1.5), (7, 7),
        ("00:01.5", 1.5), ("00:01,5", 1.5), (" 01:02 ", 62), ("75:30", 4530), ("1:02:03.25", 3723.25),
        ("01:02:500", 62.5), ("00:00:05", 5), ("00:00.000", 0),
        ("", None), ("-1", None), ("-1s", None), ("1e3", None), ("nan", None), ("inf", None), ("1.2 s", None),
        ("soon", None), ("1:2", None), ("1:75", None), ("1:75:00", None), ("1:2:3:4", None), ("\u0661s", None),
        ("1_0", None), ("99999999", None), (-0.5, None), (float("nan"), None), (float("inf"), None), (1e300, None),
    ],
)  # fmt: skip
def test_times(text: str | float, seconds: float | None):
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


async def test_segments(call: Calling):
    result = await answered(
        call, segments(("00:00.100", "00:01.5", " One. "), (1.4, "2.25s", "Two."), ("00:02.25", "00:02.25", " ")), SRT
    )
    assert [(item.id, item.start, item.end, item.text) for item in result.segments] == [
        (0, 0.1, 1.5, "One."),
        (1, 1.4, 2.25, "Two."),
    ]
    assert (result.text, result.language) == ("One. Two.", "en")
    assert not result.HasField("duration")


async def test_a_start_a_little_too_early_is_moved(call: Calling):
    result = await answered(call, segments((1, 2, "a"), (0.5, 0.75, "b")), SRT)
    assert [(item.start, item.end) for item in result.segments] == [(1, 2), (1, 1)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (candidate({"text": "Hello there."}), "schema"),
        (candidate({"text": '```json\n{"segments": []}\n```'}), "schema"),
        (candidate({"text": '{"language": "en"}'}), "schema"),
        (segments({"start": "0s", "end": "1s"}), "schema"),
        (segments({"start": None, "end": "1s", "text": "x"}), "schema"),
        (segments(("soon", "1s", "x")), "a time that is none: soon"),
        (segments(("2s", "1s", "x")), "backwards"),
        (segments(("3s", "3.2s", "x"), ("0.5s", "1s", "y")), "backwards"),
        (segments(("0s", "1:00", "x")), "60.0 s in a recording of about 4 s"),
        (segments(("59:00", "59:01", "x")), "3540.0 s"),
    ],
)
async def test_times_that_cannot_be(call: Calling, body: str, said: str):
    with pytest.raises(errors.ProviderGarbled, match=said):
        await answered(call, body, SRT)


async def test_without_a_count_of_tokens_any_time_may_be(call: Calling):
    body = json.loads(segments(("59:00", "59:01", "x")))
    del body["usageMetadata"]
    result = await answered(call, json.dumps(body), SRT)
    assert result.segments[0].start == 3540
    assert not result.HasField("usage")


async def test_segments_without_the_speakers_that_were_asked_for(call: Calling):
    with pytest.raises(errors.ProviderGarbled, match="speakers"):
        await answered(call, segments((0, 1, "a")), DIARIZED)


def heard(text: str, *words: tuple[str, str | None, str | None], **more: Any) -> dict:
    listed = [
        {"word": word} | ({"startOffset": start} if start else {}) | ({"endOffset": end} if end else {})
        for word, start, end in words
    ]
    return {"text": text, "audioTranscription": {"text": text, "words": listed, **more}}


async def test_words(call: Calling):
    """The first start is 0, and absent, as proto JSON has it; two speak at once; the second language is German."""
    result = await answered(
        call,
        candidate(
            heard("One two.", ("One", None, "1s"), ("two.", "1s", "3s"), speakerLabel="spk:7", languageCode="en-US"),
            heard("Ja.", ("Ja.", "0.500s", "0.75s"), speakerLabel="spk:2", languageCode="de-DE"),
            heard("Three.", ("Three.", "3s", "3.25s"), speakerLabel="spk:7", languageCode="en-US"),
        ),
        DIARIZED, DEDICATED,
    )  # fmt: skip
    assert result == text_format.Parse(
        """text: "One two. Ja. Three." language: "en-US" languages { code: "en-US" } languages { code: "de-DE" }
        words { word: "One" start: 0 end: 1 speaker: "A" } words { word: "Ja." start: 0.5 end: 0.75 speaker: "B" }
        words { word: "two." start: 1 end: 3 speaker: "A" } words { word: "Three." start: 3 end: 3.25 speaker: "A" }
        diarized_segments { id: "seg_001" speaker: "A" start: 0 end: 3 text: "One two." }
        diarized_segments { id: "seg_002" speaker: "B" start: 0.5 end: 0.75 text: "Ja." }
        diarized_segments { id: "seg_003" speaker: "A" start: 3 end: 3.25 text: "Three." }
        usage { tokens { input_tokens: 104 total_tokens: 104 input_token_details { audio_tokens: 104 } } }""",
        Transcription(),
    )


@pytest.mark.parametrize(
    ("config", "parts", "said"),
    [
        (SRT, [{"text": "No times."}], "without the times"),
        (SRT, [heard("No times.")], "without the times"),
        (SRT, [heard("No words.", (" ", "0s", "1s"))], "without the times"),
        (DIARIZED, [heard("Who?", ("Who?", "0s", "1s"))], "without the speakers"),
        (SRT, [heard("Late.", ("Late.", "100s", "101s"))], "100.0 s in a recording"),
        (SRT, [heard("Odd.", ("Odd.", "later", "1s"))], "a time that is none"),
    ],
)
async def test_what_a_model_made_for_it_leaves_out(call: Calling, config: str, parts: list, said: str):
    with pytest.raises(errors.ProviderGarbled, match=said):
        await answered(call, candidate(*parts), config, DEDICATED)


async def test_speakers_beyond_the_alphabet(call: Calling):
    parts = [heard(f"w{n}", (f"w{n}", "1s", "2s"), speakerLabel=f"spk_{n}") for n in range(27)]
    result = await answered(call, candidate(*parts), DIARIZED, DEDICATED)
    assert [item.speaker for item in result.diarized_segments][-2:] == ["Z", "S27"]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, ""),
        ({}, ""),
        ({"promptTokenCount": 441, "totalTokenCount": 441},
         "tokens { input_tokens: 441 total_tokens: 441 }"),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "promptTokensDetails": None},
         "tokens { input_tokens: 5 output_tokens: 5 total_tokens: 10 }"),
        ({"promptTokenCount": 5, "candidatesTokenCount": 10**12, "totalTokenCount": -1, "promptTokensDetails": [
            None, {"modality": "VIDEO", "tokenCount": 1}, {"modality": "TEXT", "tokenCount": 2.5},
            {"modality": "AUDIO", "tokenCount": True}]},
         "tokens { input_tokens: 5 total_tokens: 5 input_token_details {} }"),
    ],
)  # fmt: skip
async def test_usage(call: Calling, usage: Any, expected: str):
    body = json.loads(candidate({"text": "x"})) | {"usageMetadata": usage}
    result = await answered(call, json.dumps(body))
    said = text_format.MessageToString(result.usage, as_one_line=True)
    wanted = text_format.Parse(f"usage {{ {expected} }}", Transcription()).usage
    assert said == text_format.MessageToString(wanted, as_one_line=True)
    assert result.HasField("usage") == bool(expected)


async def test_a_long_answer(call: Calling):
    words = [(f"w{number}", f"{number}s", f"{number}.5s") for number in range(9000)]
    result = await answered(call, candidate(heard("long", *words), audio_tokens=32 * 9000), SRT, DEDICATED)
    assert len(result.words) == 9000


async def test_no_key_comes_back(call: Calling):
    body = candidate({"text": "x"}, reason=f"{KEY}")
    with pytest.raises(errors.ProviderGarbled) as caught:
        await answered(call, body, "debug { include_raw_response: true }")
    assert call.attempt is not None
    assert call.attempt.raw_response is not None
    assert KEY not in caught.value.message + call.attempt.raw_response.data.decode()


UPSTREAM = Upstream("gemini", "x")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_seconds = st.floats(0, 6.5, allow_subnormal=False)
_sane_time = st.one_of(_seconds, _seconds.map(lambda value: f"{value:.3f}s"), _seconds.map(lambda v: f"00:{v:06.3f}"))
_time = st.integers(0, 30).flatmap(lambda number: _sane_time if number else st.text(max_size=5) | _json)
_said = st.sampled_from(["", " ", "a", "Hello there.", "b c", "東京。"])
_segment = st.fixed_dictionaries(
    {"start": _time, "end": _time, "text": _said}, optional={"speaker": st.sampled_from(["A", "B", "", " "])}
)
_offset = _time.map(lambda value: f"{value:.3f}s" if isinstance(value, float) else value)
_word = st.fixed_dictionaries({"word": _said}, optional={"startOffset": _offset, "endOffset": _offset})
_transcription = st.fixed_dictionaries(
    {"words": st.lists(_word, max_size=4)},
    optional={"text": _said, "speakerLabel": st.sampled_from(["x", "y", ""]), "startOffset": _offset},
)
_part = st.one_of(
    st.fixed_dictionaries({"text": st.lists(_segment, max_size=4).map(lambda found: json.dumps({"segments": found}))}),
    st.fixed_dictionaries({"text": st.text(max_size=5)}, optional={"thought": st.booleans()}),
    st.fixed_dictionaries({"audioTranscription": _transcription}),
    _json,
)
_answer = st.one_of(
    st.lists(_segment, max_size=4).map(lambda found: segments(*sorted(found, key=lambda item: str(item["start"])))),
    st.lists(st.builds(lambda said: {"audioTranscription": said}, _transcription), max_size=3).map(
        lambda parts: candidate(*parts)
    ),
    st.lists(_part, max_size=3).map(lambda parts: candidate(*parts)),
    st.dictionaries(st.sampled_from(["candidates", "usageMetadata", "promptFeedback"]), _json).map(json.dumps),
    st.text(max_size=20),
)


@settings(max_examples=500, deadline=None)
@given(body=_answer, dedicated=st.booleans(), timed=st.booleans(), diarized=st.booleans())
def test_whatever_comes_is_a_sound_transcript_or_a_provider_error(
    body: str, dedicated: bool, timed: bool, diarized: bool
):
    request = GeminiRequest({}, "", "audio/wav", dedicated, timed or diarized, diarized)
    target = Transcription()
    try:
        fill_from_answer(target, body.encode(errors="replace"), UPSTREAM, request)
    except (errors.ProviderGarbled, errors.ProviderRejected):
        return
    event("timed transcript" if target.segments or target.words or target.diarized_segments else "plain transcript")
    for items in (target.segments, target.words, target.diarized_segments):
        starts = [item.start for item in items]
        assert starts == sorted(starts)
        assert all(0 <= item.start <= item.end <= 1.1 * 104 / 25 + 2 for item in items)
    assert all(item.speaker for item in target.diarized_segments)
    if target.text and (timed or diarized):
        assert target.segments or target.words or target.diarized_segments
        assert cues(target)
