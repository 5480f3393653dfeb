"""Google's Speech-to-Text v2: what becomes of its answers and its failures."""

import contextlib
import json
import math
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1.audio_pb2 import AudioHeader, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.speech_v2_answer import fill_from_results, name_speakers
from voxgate_server.transcript.complete import complete

from tests.providers.emulator import raw, reset_mid_body
from tests.providers.vertex_calling import VertexCalling
from tests.providers.vertex_emulator import VertexEmulator, failure
from tests.recordings import convert, recording

UPSTREAM = Upstream("vertex_ai", "chirp_3")


@pytest.fixture
async def emulator() -> AsyncIterator[VertexEmulator]:
    async with VertexEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: VertexEmulator, store: SpoolStore) -> VertexCalling:
    return VertexCalling(emulator, store)


def read(answer: Any, *, offset: float = 0.0) -> Transcription:
    target = Transcription()
    fill_from_results(target, msgspec.json.encode(answer), UPSTREAM, offset=offset)
    return target


async def test_times(call: VertexCalling, emulator: VertexEmulator):
    result = await call("response_format: RESPONSE_FORMAT_VERBOSE_JSON")
    assert [word.word for word in result.words] == emulator.text.split()
    assert result.words[0].start == 0
    assert result.words[-1].end == pytest.approx(5.5175, abs=0.001)
    assert [segment.text for segment in result.segments] == ["Hello from", "the emulator."]
    assert [segment.id for segment in result.segments] == [0, 1]
    assert result.segments[0].end == result.words[1].end
    assert not any(word.HasField("confidence") for word in result.words)


async def test_confidence_where_it_means_something(call: VertexCalling):
    words = 'timestamp_granularities: TIMESTAMP_GRANULARITY_WORD language: "en"'
    assert [word.confidence for word in (await call(words, "long")).words] == [0.75] * 4


async def test_speakers(call: VertexCalling):
    config = "response_format: RESPONSE_FORMAT_DIARIZED_JSON"
    result = await call(config)
    assert [word.speaker for word in result.words] == ["A", "A", "B", "B"]
    complete(result, text_format.Parse(config, TranscriptionConfig()))
    assert [(part.id, part.speaker, part.text) for part in result.diarized_segments] == [
        ("seg_001", "A", "Hello from"), ("seg_002", "B", "the emulator."),
    ]  # fmt: skip
    assert result.diarized_segments[1].start == result.words[2].start


async def test_channels(call: VertexCalling):
    stereo = convert(recording("demo-thanks.wav").data, "wav", "pcm_s16le", layout="stereo")
    result = await call(
        """timestamp_granularities: TIMESTAMP_GRANULARITY_WORD extra_params { fields { key: "multiChannelMode"
        value { string_value: "SEPARATE_RECOGNITION_PER_CHANNEL" } } }""",
        data=stereo,
    )
    assert [word.channel for word in result.words] == [0] * 4 + [1] * 4
    assert result.usage.duration.seconds == 12
    assert result.duration == pytest.approx(5.5175, abs=0.001)


def test_silence():
    result = read({"metadata": {"totalBilledDuration": "15s"}})
    assert (result.text, result.usage.duration.seconds) == ("", 15)
    assert not result.segments
    result = read({"results": [], "metadata": {}})
    assert result.text == ""
    assert not result.HasField("usage")


def test_results_without_times():
    result = read(
        {
            "results": [
                {"alternatives": [{"transcript": "one "}], "resultEndOffset": "2.5s", "languageCode": "en-us"},
                {"alternatives": [], "resultEndOffset": "4s"},
                {"alternatives": [{"transcript": " two"}, {"transcript": "too"}], "resultEndOffset": "6s",
                 "languageCode": "de-de"},
                {"resultEndOffset": "7s"},
                {"alternatives": [{"transcript": "東京"}]},
            ],
            "metadata": {"totalBilledDuration": "7.5s"},
        },
        offset=10,
    )  # fmt: skip
    assert result.text == "one two 東京"
    assert [(segment.start, segment.end, segment.text) for segment in result.segments] == [
        (10, 12.5, "one"), (14, 16, "two"), (17, 17, "東京"),
    ]  # fmt: skip
    assert (result.language, [language.code for language in result.languages]) == ("en-us", ["en-us", "de-de"])
    assert result.usage.duration.seconds == 7.5


def test_words_that_lack_something():
    words = [
        {"word": "a", "endOffset": "0.400s"},
        {"word": "b", "startOffset": "0.400s"},
        {"word": "c"},
        {"word": "", "startOffset": "1s"},
        {"startOffset": "1s"},
        {"word": "d", "startOffset": "2s", "endOffset": "1s", "confidence": 0},
        {"word": "e", "startOffset": "-1s", "endOffset": "3.0000s", "confidence": 1.5},
        {"word": "f", "startOffset": "1e3s", "endOffset": "x", "confidence": "0.5", "speakerLabel": "9"},
        "g",
    ]
    result = read({"results": [{"alternatives": [{"transcript": "a b d e f", "words": words}]}]}, offset=5)
    assert [(word.word, word.start, round(word.end, 6)) for word in result.words] == [
        ("a", 5, 5.4), ("b", 5.4, 5.4), ("d", 7, 7), ("e", 7, 8), ("f", 8, 8),
    ]  # fmt: skip
    assert not any(word.HasField("confidence") for word in result.words)


def test_speakers_are_named_in_order_of_appearance():
    result = Transcription()
    for speaker in ("7", "", "2", "7", *map(str, range(100, 150))):
        result.words.add(word="x", speaker=speaker)
    name_speakers(result)
    names = [word.speaker for word in result.words]
    assert names[:4] == ["A", "", "B", "A"]
    assert names[26:31] == ["Y", "Z", "AA", "AB", "AC"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"text"', b"{}", b'{"text": "hello"}', b'{"results": {}}', b'{"results": [1]}', b"{" * 9999,
     b'{"results": [{"alternatives"', b"\xff\xfe", b'{"error": {"code": 503, "message": "backend died"}}'],
)  # fmt: skip
def test_what_is_no_answer(body: bytes):
    with pytest.raises(errors.ProviderGarbled):
        fill_from_results(Transcription(), body, UPSTREAM)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["1.5s", "0s", "-1s", "99999999999s", "1e9s"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["results", "alternatives", "transcript", "words", "word", "startOffset", "endOffset", "confidence",
             "speakerLabel", "channelTag", "resultEndOffset", "languageCode", "metadata", "totalBilledDuration"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=40,
)  # fmt: skip


@given(results=st.lists(_JSON, max_size=4), metadata=_JSON, offset=st.floats(0, 1e5))
def test_whatever_google_says(results: list[Any], metadata: Any, offset: float):
    target = Transcription()
    try:
        body = json.dumps({"results": results, "metadata": metadata}).encode()
        fill_from_results(target, body, UPSTREAM, offset=offset)
    except errors.ProviderGarbled:
        return
    name_speakers(target)
    for part in (*target.words, *target.segments):
        assert math.isfinite(part.end)
        assert 0 <= part.start <= part.end
    target.SerializeToString()


@given(seed=st.integers(0, 2**32), text=st.text(max_size=200))
def test_a_damaged_answer(seed: int, text: str):
    answer = {
        "results": [
            {
                "alternatives": [
                    {"transcript": text, "words": [{"word": text, "startOffset": "1s", "endOffset": "2s"}]}
                ],
                "resultEndOffset": "2s",
            }
        ],
        "metadata": {"totalBilledDuration": "2s"},
    }
    try:
        body = bytearray(msgspec.json.encode(answer))
    except UnicodeEncodeError:
        return
    chance = random.Random(seed)
    for _ in range(chance.randint(0, 3)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    with contextlib.suppress(errors.ProviderGarbled):
        fill_from_results(Transcription(), bytes(body), UPSTREAM)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("400", errors.ProviderRejected), ("401", errors.ProviderCredential), ("403", errors.ProviderCredential),
        ("404", errors.ProviderUnavailable), ("429", errors.ProviderRateLimited), ("500", errors.ProviderUnavailable),
        ("503", errors.ProviderUnavailable), ("504", errors.ProviderTimeout),
        ("reset-answer", errors.ProviderUnavailable),
        ("cut-answer", errors.ProviderUnavailable), ("html", errors.ProviderUnavailable),
        ("html-413", errors.AudioTooLarge), ("bad-json", errors.ProviderGarbled), ("error-200", errors.ProviderGarbled),
    ],
)  # fmt: skip
async def test_failures(call: VertexCalling, emulator: VertexEmulator, fault: str, expected: type):
    emulator.script(fault)
    with pytest.raises(errors.VoxgateError) as caught:
        await call()
    assert type(caught.value) is expected
    assert "127.0.0.1" not in caught.value.message
    assert "ya29" not in caught.value.message
    if fault == "429":
        assert caught.value.retry_after == 12
    if fault in {"401", "403"}:
        assert "vertex_credentials" in caught.value.message


async def test_a_connection_that_breaks(call: VertexCalling, emulator: VertexEmulator):
    emulator.script(reset_mid_body())
    with pytest.raises(errors.ProviderUnavailable):
        await call()


async def test_an_answer_that_never_comes(call: VertexCalling, emulator: VertexEmulator):
    emulator.script("hang")
    with pytest.raises(errors.ProviderTimeout):
        await call(seconds=0.5)


async def test_a_token_in_an_error_is_not_shown(call: VertexCalling, emulator: VertexEmulator):
    emulator.script(failure(400, "INVALID_ARGUMENT", "what is ya29.a0AfH6SMBx-secret"))
    with pytest.raises(errors.ProviderRejected) as caught:
        await call()
    assert "a0AfH6SMBx" not in caught.value.message


async def test_an_early_success_is_none(call: VertexCalling, emulator: VertexEmulator):
    emulator.script(raw('{"metadata": {}}', at="first_file_byte", then="close"))
    header = AudioHeader(raw_format=RawAudioFormat(encoding="AUDIO_ENCODING_PCM_S16LE", sample_rate_hertz=48_000))
    with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
        await call(data=bytes(5_000_000), audio=header)


async def test_the_emulator_refuses_what_is_wrong(call: VertexCalling, emulator: VertexEmulator):
    with pytest.raises(errors.ProviderRejected, match="does not exist in the location"):
        await call(values={"vertex_location": "us"}, model="chirp_2")
    with pytest.raises(errors.ProviderRejected, match="Expected resource location"):
        await call(values={"vertex_location": "eu"})
    with pytest.raises(errors.ProviderCredential):
        await call(values={"vertex_project": "another-project"})
