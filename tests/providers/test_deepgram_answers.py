"""Deepgram: whatever is answered, and what of it is shown."""

import json
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.providers.deepgram_answer import fill_from_deepgram
from voxgate_server.providers.http_errors import Upstream

from tests.providers.calling import WAV
from tests.providers.deepgram_calling import DeepgramCalling
from tests.providers.deepgram_emulator import KEY, DeepgramEmulator
from tests.providers.emulator import raw

UPSTREAM = Upstream("deepgram", "nova-3")


def read(body: bytes | str | dict, *, diarized: bool = False, paragraphs: bool = False) -> Transcription:
    data = json.dumps(body) if isinstance(body, dict) else body
    result = Transcription()
    fill_from_deepgram(
        result, data.encode() if isinstance(data, str) else data, UPSTREAM, diarized=diarized, paragraphs=paragraphs
    )
    return result


def is_golden(result: Transcription, expected: str) -> None:
    wanted = text_format.Parse(expected, Transcription())
    assert text_format.MessageToString(result) == text_format.MessageToString(wanted)


def words(*texts: str, start: float = 0.0, speaker: str = "", channel: int | None = None) -> str:
    more = f' speaker: "{speaker}"' if speaker else ""
    more += f" channel: {channel}" if channel is not None else ""
    return " ".join(
        f'words {{ word: "{text}" start: {start + i / 2} end: {start + i / 2 + 0.5} confidence: 0.875{more} }}'
        for i, text in enumerate(texts)
    )


ONE = ("Hello", "from", "the", "emulator,", "dear", "friend.")
TWO = ("How", "are", "you?")


@pytest.mark.parametrize("wanted", ["JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT"])
async def test_every_format_is_made_of_the_same_answer(listen: DeepgramCalling, wanted: str):
    is_golden(
        await listen(f"response_format: RESPONSE_FORMAT_{wanted}"),
        f"""text: "Hello from the emulator, dear friend. How are you?" language: "en" languages {{ code: "en" }}
        duration: 7.25 usage {{ duration {{ seconds: 7.25 }} }} {words(*ONE)} {words(*TWO, start=3)}
        segments {{ id: 0 start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        segments {{ id: 1 start: 3 end: 4.5 text: "How are you?" }}""",
    )


async def test_speakers(listen: DeepgramCalling):
    is_golden(
        await listen('response_format: RESPONSE_FORMAT_DIARIZED_JSON language: "en"'),
        f"""text: "Hello from the emulator, dear friend. How are you?" duration: 7.25
        usage {{ duration {{ seconds: 7.25 }} }} {words(*ONE, speaker="A")} {words(*TWO, start=3, speaker="B")}
        segments {{ id: 0 start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        segments {{ id: 1 start: 3 end: 4.5 text: "How are you?" }}
        diarized_segments {{ id: "seg_001" speaker: "A" start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        diarized_segments {{ id: "seg_002" speaker: "B" start: 3 end: 4.5 text: "How are you?" }}""",
    )


async def test_channels(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    deepgram.texts = ["One. Two.", "Three. Four."]
    result = await listen(
        """response_format: RESPONSE_FORMAT_DIARIZED_JSON
        extra_params { fields { key: "multichannel" value { bool_value: true } } }"""
    )
    is_golden(
        result,
        """text: "One. Two.\\nThree. Four." language: "en" languages { code: "en" } duration: 7.25
        usage { duration { seconds: 14.5 } }
        words { word: "One." start: 0 end: 0.5 confidence: 0.875 speaker: "A" channel: 0 }
        words { word: "Three." start: 0.25 end: 0.75 confidence: 0.875 speaker: "B" channel: 1 }
        words { word: "Two." start: 0.5 end: 1 confidence: 0.875 speaker: "C" channel: 0 }
        words { word: "Four." start: 0.75 end: 1.25 confidence: 0.875 speaker: "D" channel: 1 }
        segments { id: 0 start: 0 end: 0.5 text: "One." }
        segments { id: 1 start: 0.25 end: 0.75 text: "Three." }
        segments { id: 2 start: 0.5 end: 1 text: "Two." }
        segments { id: 3 start: 0.75 end: 1.25 text: "Four." }
        diarized_segments { id: "seg_001" speaker: "A" start: 0 end: 0.5 text: "One." }
        diarized_segments { id: "seg_002" speaker: "B" start: 0.25 end: 0.75 text: "Three." }
        diarized_segments { id: "seg_003" speaker: "C" start: 0.5 end: 1 text: "Two." }
        diarized_segments { id: "seg_004" speaker: "D" start: 0.75 end: 1.25 text: "Four." }""",
    )


async def test_languages(listen: DeepgramCalling):
    assert (await listen('languages: ["de", "en"]')).language == "de"
    mixed = await listen('language: "multi"')
    assert not mixed.HasField("language")
    assert [item.code for item in mixed.languages] == ["en", "es"]


async def test_without_formatting_and_utterances(listen: DeepgramCalling):
    plain = {"smart_format": False, "punctuate": False, "utterances": False}
    result = await listen('language: "en"', default_params=plain)
    is_golden(
        result,
        f"""text: "hello from the emulator dear friend how are you" duration: 7.25
        usage {{ duration {{ seconds: 7.25 }} }}
        {words("hello", "from", "the", "emulator", "dear", "friend", "how", "are", "you")}""",
    )


async def test_paragraphs_where_they_are_asked_for(listen: DeepgramCalling):
    asked = 'extra_params { fields { key: "paragraphs" value { string_value: "true" } } }'
    assert (await listen(asked)).text == "Hello from the emulator, dear friend.\n\nHow are you?"
    assert (await listen(asked, default_params={"smart_format": "false"})).text.count("\n\n") == 1


@pytest.mark.parametrize("wanted", ["JSON", "DIARIZED_JSON"])
async def test_silence_is_an_answer(listen: DeepgramCalling, deepgram: DeepgramEmulator, wanted: str):
    deepgram.texts = [""]
    result = await listen(f"response_format: RESPONSE_FORMAT_{wanted}", data=WAV)
    assert (result.text, result.duration) == ("", 7.25)
    assert not [*result.words, *result.segments, *result.diarized_segments]


def test_more_speakers_than_letters():
    utterances = [{"transcript": str(n), "start": n, "end": n + 1, "speaker": 30 - n} for n in range(30)]
    result = read({"results": {"channels": [{"alternatives": [{"transcript": "x"}]}], "utterances": utterances}})
    assert [item.speaker for item in result.diarized_segments][24:] == ["Y", "Z", "AA", "AB", "AC", "AD"]


def test_somebody_without_a_number_is_somebody_else():
    utterances: list[dict[str, Any]] = [
        {"transcript": "a", "speaker": 0}, {"transcript": "b"}, {"transcript": "c", "speaker": 0},
    ]  # fmt: skip
    result = read({"results": {"channels": [{"alternatives": [{"transcript": "x"}]}], "utterances": utterances}})
    assert [item.speaker for item in result.diarized_segments] == ["A", "B", "A"]


def test_speakers_that_were_asked_for_and_did_not_come():
    answer = {
        "results": {"channels": [{"alternatives": [{"transcript": "x"}]}], "utterances": [{"transcript": "x"}]},
    }
    with pytest.raises(errors.ProviderGarbled, match="without speakers"):
        read(answer, diarized=True)
    assert len(read(answer).segments) == 1


def test_tolerance():
    """Numbers in strings, nulls, times that run backwards, and things nobody has heard of."""
    is_golden(
        read(
            r"""{"metadata": {"duration": "3.5", "new": [{}]}, "new": 1, "results": {"new": {},
            "channels": [{"detected_language": null, "language_confidence": "high", "alternatives": [
                {"transcript": " a b ", "languages": null, "confidence": null, "words": [
                    {"word": "a", "start": -1, "end": "0.5", "confidence": 1.5, "speaker": "3",
                     "punctuated_word": null},
                    {"word": "b", "start": 2, "end": 1, "confidence": null, "speaker": null}]},
                {"transcript": "another guess"}]}],
            "utterances": null}}"""
        ),
        """text: "a b" duration: 3.5 usage { duration { seconds: 3.5 } }
        words { word: "a" start: 0 end: 0.5 speaker: "A" } words { word: "b" start: 2 end: 2 }""",
    )


def test_an_empty_channel_beside_one_that_speaks():
    result = read({"results": {"channels": [{"alternatives": []}, {"alternatives": [{"transcript": "x"}]}]}})
    assert result.text == "x"
    assert not result.HasField("duration")
    assert not result.HasField("usage")


@pytest.mark.parametrize(
    "body",
    [
        "", "  \n", "null", "[]", '"text"', "{}", '{"request_id": "x"}', '{"results": null}', '{"results": {}}',
        '{"results": {"channels": []}}', '{"results": {"channels": [{}]}}',
        '{"results": {"channels": [{"alternatives": []}]}}',
        '{"results": {"channels": [{"alternatives": [{}]}]}}',
        '{"results": {"channels": [{"alternatives": [{"transcript": null}]}]}}',
        '{"results": {"channels": [{"alternatives": [{"transcript": "x", "words": [{"start": "soon"}]}]}]}}',
        '{"results": {"channels": [{"alternatives": [{"transcript": "x"}]}]', "[" * 100_000,
        '{"results": {"channels": [{"alternatives": [{"transcript": "\\ud800"}]}]}}',
        '{"err_code": "INTERNAL", "err_msg": "died"}', "<html>502</html>", "plain text",
    ],
)  # fmt: skip
async def test_answers_that_make_no_sense(listen: DeepgramCalling, body: str):
    with pytest.raises(errors.ProviderGarbled, match=r"deepgram \(nova-3\)") as caught:
        await listen.answered(body)
    assert len(caught.value.message) < 400


async def test_a_callback_answers_nothing_and_is_no_transcript(listen: DeepgramCalling):
    with pytest.raises(errors.ProviderGarbled):
        await listen.answered('{"request_id": "9b1e4d2c"}')


async def test_a_long_answer(listen: DeepgramCalling):
    spoken = [{"word": f"w{number}", "start": number, "end": number + 0.5} for number in range(30_000)]
    answer = {"results": {"channels": [{"alternatives": [{"transcript": "long", "words": spoken}]}]}}
    assert len((await listen.answered(json.dumps(answer))).words) == 30_000


@pytest.mark.parametrize("status", [200, 400, 401, 403, 413, 429, 500])
@pytest.mark.parametrize("name", ["err_msg", "message", "details", ""])
async def test_no_key_comes_back(listen: DeepgramCalling, status: int, name: str):
    text = f"bad key {KEY} Token {KEY[::-1]} hunter2hunter2\r\n" + "x" * 10_000
    listen.emulator.script(raw(json.dumps({name: text}) if name else text, status=status))
    with pytest.raises(errors.VoxgateError) as caught:
        await listen("debug { include_raw_response: true }", extra_headers={"x-secret": "hunter2hunter2"})
    assert listen.attempt is not None
    assert listen.attempt.raw_response is not None
    shown = f"{caught.value.message} {caught.value.metadata} {listen.attempt.raw_response.data.decode()}"
    for secret in (KEY, KEY[::-1], "hunter2hunter2"):
        assert secret not in shown
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
times = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5) | json_values
spoken = {"start": times, "end": times, "confidence": times, "speaker": st.integers() | st.none() | json_values}


def objects(**fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=fields)


def lists(items: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(items, max_size=4)


texts = st.text(max_size=8) | json_values
alternatives = st.fixed_dictionaries(
    {"transcript": st.text(max_size=8)},
    optional={
        "words": lists(objects(word=texts, punctuated_word=texts, **spoken)),
        "languages": lists(texts),
        "paragraphs": objects(paragraphs=lists(objects(sentences=lists(objects(text=texts))))),
    },
)
channels = st.fixed_dictionaries({"alternatives": lists(alternatives)}, optional={"detected_language": texts})
answers = st.fixed_dictionaries(
    {
        "results": st.fixed_dictionaries(
            {"channels": lists(channels)},
            optional={"utterances": lists(objects(transcript=texts, channel=st.integers() | json_values, **spoken))},
        )
    },
    optional={"metadata": objects(duration=times)},
)


@given(answers | json_values, st.booleans(), st.booleans())
@example(
    {
        "results": {
            "channels": [{"alternatives": [{"transcript": "x"}]}],
            "utterances": [{"channel": 10**30, "speaker": -(10**30)}],
        }
    },
    True,
    True,
)
@example(
    {"metadata": {"duration": "nan"}, "results": {"channels": [{"alternatives": [{"transcript": "x"}]}]}}, False, False
)
@example(
    {
        "metadata": {"duration": "inf"},
        "results": {
            "channels": [
                {"alternatives": [{"transcript": "x", "words": [{"start": "inf", "end": "nan", "confidence": "nan"}]}]}
            ]
        },
    },
    False,
    False,
)
def test_any_answer_is_a_transcript_or_garbled(answer: Any, diarized: bool, paragraphs: bool):
    try:
        result = read(json.dumps(answer), diarized=diarized, paragraphs=paragraphs)
    except errors.ProviderGarbled:
        return
    starts = [word.start for word in result.words]
    assert starts == sorted(starts)
    for item in [*result.words, *result.segments, *result.diarized_segments]:
        assert 0 <= item.start <= item.end < float("inf")
    assert [segment.id for segment in result.segments] == list(range(len(result.segments)))
    assert len(result.diarized_segments) in {0, len(result.segments)}
    assert not result.HasField("duration") or 0 <= result.duration < float("inf")
    result.SerializeToString()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_transcript_or_garbled(body: bytes):
    with pytest.raises(errors.ProviderGarbled):
        read(body)
