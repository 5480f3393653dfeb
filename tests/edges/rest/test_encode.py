"""Answers byte by byte: key lists, key order, numbers, and what the OpenAI SDK makes of them."""

import json
import math
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Model as OpenAIModel
from openai.types.audio import Transcription as OpenAITranscription
from openai.types.audio import TranscriptionCreateResponse, TranscriptionDiarized, TranscriptionVerbose
from pydantic import TypeAdapter
from voxgate.transcription.v1 import config_pb2 as pb
from voxgate.transcription.v1.extra_fields_pb2 import RawPayload
from voxgate.transcription.v1.model_service_pb2 import Model
from voxgate.transcription.v1.transcription_pb2 import TokenUsage, Transcription, TranscriptionSegment
from voxgate_server import errors
from voxgate_server.edges.rest.encode import encode_transcription, error_body
from voxgate_server.edges.rest.model_list import model_body, models_body
from voxgate_server.errors import InvalidRequest, UnsupportedParameter, VoxgateError

GOLDEN = Path(__file__).parent / "golden"
BOTH = (pb.TIMESTAMP_GRANULARITY_WORD, pb.TIMESTAMP_GRANULARITY_SEGMENT)
JSON, VERBOSE, DIARIZED = pb.RESPONSE_FORMAT_JSON, pb.RESPONSE_FORMAT_VERBOSE_JSON, pb.RESPONSE_FORMAT_DIARIZED_JSON


def transcription(name: str) -> Transcription:
    return text_format.Parse((GOLDEN / f"{name}.txtpb").read_text(), Transcription())


@pytest.mark.parametrize("name", ["rich", "bare", "speakers", "silence"])
@pytest.mark.parametrize(
    ("suffix", "response_format", "extra"),
    [("json", JSON, False), ("verbose", VERBOSE, False), ("diarized", DIARIZED, False), ("extra", VERBOSE, True)],
)
def test_golden_files(name: str, suffix: str, response_format: "pb.ResponseFormat.ValueType", extra: bool) -> None:
    given_message = transcription(name)
    before = given_message.SerializeToString(deterministic=True)
    answer = encode_transcription(given_message, response_format, granularities=BOTH, with_extra_fields=extra)
    golden = (GOLDEN / f"{name}.{suffix}.json").read_text()
    # Laid out for people; keys in order, numbers digit by digit.
    assert json.dumps(json.loads(answer.body), indent=1, ensure_ascii=False) + "\n" == golden
    assert answer.media_type == "application/json"
    assert b"\n" not in answer.body  # an event of a stream has to stay on one line
    assert given_message.SerializeToString(deterministic=True) == before


def test_an_unspecified_format_is_json() -> None:
    rich = transcription("rich")
    assert encode_transcription(rich, pb.RESPONSE_FORMAT_UNSPECIFIED) == encode_transcription(rich, JSON)


@pytest.mark.parametrize("name", ["rich", "bare", "speakers", "silence"])
def test_the_openai_types_accept_every_answer(name: str) -> None:
    message = transcription(name)
    plain = encode_transcription(message, JSON).body
    parsed = OpenAITranscription.model_validate_json(plain)
    assert not parsed.model_extra
    # The SDK takes the member of its union that fits best: extra keys would make it the wrong one.
    assert isinstance(TypeAdapter(TranscriptionCreateResponse).validate_json(plain), OpenAITranscription)
    assert get_args(TranscriptionCreateResponse)[0] is OpenAITranscription
    verbose = TranscriptionVerbose.model_validate_json(encode_transcription(message, VERBOSE, granularities=BOTH).body)
    assert set(verbose.model_extra or {}) <= {"task"}
    diarized = TranscriptionDiarized.model_validate_json(encode_transcription(message, DIARIZED).body)
    assert not diarized.model_extra
    for text in (parsed.text, verbose.text, diarized.text):
        assert text == message.text


def test_granularities_decide_what_a_verbose_answer_shows() -> None:
    def keys(*granularities: "pb.TimestampGranularity.ValueType") -> set[str]:
        body = encode_transcription(transcription("rich"), VERBOSE, granularities=granularities).body
        return {"segments", "words"} & set(json.loads(body))

    word, segment = BOTH
    assert keys() == keys(segment) == {"segments"}
    assert keys(word) == {"words"}
    assert keys(word, segment) == {"segments", "words"}


def test_made_up_fields_are_named() -> None:
    bare = transcription("bare")
    numbers = ["avg_logprob", "compression_ratio", "no_speech_prob", "seek", "temperature", "tokens"]
    segments = [f"segments[].{name}" for name in numbers]
    # No length was given, so none is billed: no `usage` is made of the tokens.
    assert encode_transcription(bare, VERBOSE).synthesized_fields == ("task", "language", "duration", *segments)
    bare.duration = 1.2
    answer = encode_transcription(bare, VERBOSE)
    assert answer.synthesized_fields == ("task", "language", *segments, "usage")
    assert json.loads(answer.body)["usage"] == {"type": "duration", "seconds": 2}
    assert encode_transcription(bare, JSON).synthesized_fields == ()
    assert encode_transcription(transcription("rich"), VERBOSE, granularities=BOTH).synthesized_fields == ()


def test_made_up_fields_join_those_of_the_gateway() -> None:
    message = transcription("bare")
    message.extra_fields.synthesized_fields.extend(["duration", "segments[].seek"])
    body = json.loads(encode_transcription(message, JSON, with_extra_fields=True).body)
    names = body["extra_fields"]["synthesized_fields"]
    assert names[:2] == ["duration", "segments[].seek"]
    assert len(names) == len(set(names)) == 7
    assert "duration" not in body  # Bifrost leaves out what the provider left out


@pytest.mark.parametrize(
    ("response_format", "media_type", "document"),
    [
        (pb.RESPONSE_FORMAT_TEXT, "text/plain; charset=utf-8", "Hello.\n"),
        (pb.RESPONSE_FORMAT_SRT, "application/x-subrip; charset=utf-8", "1\n00:00:00,000 --> 00:00:01,500\nHello.\n"),
        (pb.RESPONSE_FORMAT_VTT, "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello.\n"),
    ],
)
def test_documents(response_format: "pb.ResponseFormat.ValueType", media_type: str, document: str) -> None:
    message = transcription("bare")
    assert encode_transcription(message, response_format) == (document.encode(), media_type, ())
    body = json.loads(encode_transcription(message, response_format, with_extra_fields=True).body)
    assert body["text"] == document
    message.rendered.media_type = "text/x"
    message.rendered.body = "rendered before"
    assert encode_transcription(message, response_format)[:2] == (b"rendered before", "text/x")
    assert json.loads(encode_transcription(message, JSON).body)["text"] == "Hello."


def test_subtitles_without_times_are_refused() -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        encode_transcription(Transcription(text="x", duration=3), pb.RESPONSE_FORMAT_SRT)
    assert raised.value.param == "response_format"


@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=8, max_size=8),
    text=st.text(),
)
def test_every_finite_double_and_every_text_reads_back(numbers: list[float], text: str) -> None:
    duration, start, end, avg_logprob, temperature, logprob, billed, confidence = numbers
    message = Transcription(text=text, duration=duration, language=text)
    message.words.add(word=text, start=start, end=end, speaker="A", confidence=confidence)
    message.segments.add(start=start, end=end, avg_logprob=avg_logprob, temperature=temperature, text=text)
    message.diarized_segments.add(id="s", speaker=text, start=start, end=end)
    message.logprobs.add(token=text, logprob=logprob, token_bytes=text.encode())
    message.usage.duration.seconds = billed
    plain = json.loads(encode_transcription(message, JSON).body)
    verbose = json.loads(encode_transcription(message, VERBOSE, granularities=BOTH).body)
    diarized = json.loads(encode_transcription(message, DIARIZED).body)
    everything = json.loads(encode_transcription(message, JSON, with_extra_fields=True).body)
    assert plain["usage"] == verbose["usage"] == {"type": "duration", "seconds": billed}
    assert plain["logprobs"] == [{"token": text, "logprob": logprob, "bytes": list(text.encode())}]
    assert [verbose["duration"], *verbose["words"][0].values()] == [duration, text, start, end, "A"]
    (segment,) = verbose["segments"]
    assert [segment[key] for key in ("start", "end", "avg_logprob", "temperature")] == [
        start, end, avg_logprob, temperature,
    ]  # fmt: skip
    assert [diarized["segments"][0][key] for key in ("start", "end", "speaker")] == [start, end, text]
    assert everything["words"][0]["confidence"] == confidence
    assert plain["text"] == verbose["text"] == diarized["text"] == everything["text"] == text
    assert repr(verbose["duration"]) == repr(duration)  # the sign of zero, too


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_never_written(value: float) -> None:
    message = Transcription(duration=1, words=[{"start": value}], segments=[{"end": value, "avg_logprob": value}])
    body = encode_transcription(message, VERBOSE, granularities=BOTH).body
    assert msgspec.json.decode(body)  # takes neither NaN nor Infinity, unlike json
    assert b"NaN" not in body


def test_seconds_billed_are_whole_where_they_can_be() -> None:
    for seconds, written in ((9.0, b"9"), (8.47, b"8.47"), (0.0, b"0"), (1e300, b"1e300")):
        message = Transcription()
        message.usage.duration.seconds = seconds
        assert encode_transcription(message, JSON).body.endswith(b'"seconds":' + written + b"}}")
    message = Transcription(duration=8)
    assert b'"duration":8.0' in encode_transcription(message, VERBOSE).body


def test_token_details_are_absent_rather_than_null() -> None:
    message = Transcription()
    message.usage.tokens.CopyFrom(TokenUsage(input_tokens=1))
    assert "input_token_details" not in json.loads(encode_transcription(message, JSON).body)["usage"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": [1.50, null, "\\u00e4"]}', {"a": [1.5, None, "ä"]}),
        (b" 7 ", 7),
        (b"plain text", "plain text"),
        (b"", ""),
        (b"\xff", "�"),
        (b"[" * 100_000, "[" * 100_000),
        (b'{"a": NaN}', '{"a": NaN}'),
        (b'{"a": 1e999}', '{"a": 1e999}'),
        (b'"\\ud800"', '"\\ud800"'),
    ],
)
def test_raw_payloads(data: bytes, expected: object) -> None:
    message = Transcription()
    message.extra_fields.raw_response.CopyFrom(RawPayload(data=data))
    body = encode_transcription(message, JSON, with_extra_fields=True).body
    assert json.loads(body)["extra_fields"]["raw_response"] == expected


def test_error_bodies() -> None:
    error = InvalidRequest("`x` is wrong.", param="x")
    assert error_body(error) == (
        b'{"error":{"message":"`x` is wrong.","type":"invalid_request_error","param":"x","code":null}}'
    )
    body = json.loads(error_body(errors.ProviderRateLimited("slow \ud800 down")))
    assert body == {
        "error": {"message": "slow ? down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    }


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_the_four_keys(name: str) -> None:
    error: VoxgateError = getattr(errors, name)("message")
    assert list(json.loads(error_body(error))["error"]) == ["message", "type", "param", "code"]


def test_models() -> None:
    model = Model(id="whisper-1", owned_by="openai", provider="openai")
    model.create_time.seconds = 1_700_000_000
    body = model_body(model)
    assert body.startswith(b'{"id":"whisper-1","object":"model","created":1700000000,"owned_by":"openai",')
    assert OpenAIModel.model_validate_json(body).id == "whisper-1"
    assert models_body([model]) == b'{"object":"list","data":[' + body + b"]}"
    model.aliases.append("also")
    assert b'{"id":"also","object":"model",' in models_body([model])
    assert models_body([]) == b'{"object":"list","data":[]}'


def test_what_a_model_can_do() -> None:
    model = Model(id="m")
    can = model.capabilities
    can.response_formats.extend([JSON, VERBOSE])
    can.timestamp_granularities.extend(BOTH)
    can.options.append("language")
    can.max_audio_duration.seconds = 60
    can.max_audio_bytes = 1000
    shown = json.loads(model_body(model))["capabilities"]
    assert shown["response_formats"] == ["json", "verbose_json"]
    assert sorted(shown["timestamp_granularities"]) == ["segment", "word"]
    assert (shown["options"], shown["max_audio_seconds"], shown["max_audio_bytes"]) == (["language"], 60.0, 1000)
    assert json.loads(model_body(Model(id="n")))["capabilities"]["max_audio_seconds"] is None


def test_languages_of_plain_json_stand_where_there_is_no_language() -> None:
    message = Transcription(text="hi", languages=[{"code": "en"}])
    assert json.loads(encode_transcription(message, JSON).body) == {"text": "hi", "languages": [{"code": "en"}]}
    message.language = "en"
    assert json.loads(encode_transcription(message, JSON).body) == {"text": "hi"}


def test_a_long_transcript_is_whole() -> None:
    message = Transcription(text="word " * 10_000)
    for index in range(10_000):
        message.words.add(word="word", start=index * 0.4, end=index * 0.4 + 0.3)
    message.segments.append(TranscriptionSegment(text="x"))
    body = encode_transcription(message, VERBOSE, granularities=BOTH).body
    assert len(json.loads(body)["words"]) == 10_000
