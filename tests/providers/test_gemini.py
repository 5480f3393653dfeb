"""Gemini: what is sent for which option, and when."""

import hashlib
import json
from collections.abc import AsyncIterator

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.gemini_models import family_of
from voxgate_server.providers.gemini_request import RequestBuilder
from voxgate_server.transcript import complete

from tests.providers.calling import WAV, attempt_with
from tests.providers.gemini_calling import BOTH, DEDICATED, GENERAL, Calling, provider_at, run
from tests.providers.gemini_emulator import KEY, GeminiEmulator
from tests.providers.gemini_rules import decoded

SHA = hashlib.sha256(WAV).hexdigest()
EVERY_FORMAT = ("UNSPECIFIED", "JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT", "DIARIZED_JSON")


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: GeminiEmulator, store: SpoolStore) -> Calling:
    return Calling(emulator, store)


async def test_a_plain_call(call: Calling, emulator: GeminiEmulator):
    result = await call()
    assert result.text == emulator.text
    assert not result.segments
    assert not result.HasField("language")
    tokens = result.usage.tokens
    assert (tokens.input_tokens, tokens.output_tokens, tokens.total_tokens) == (124, 16, 140)
    assert (tokens.input_token_details.audio_tokens, tokens.input_token_details.text_tokens) == (104, 20)
    [record] = emulator.records
    assert (record.method, record.path) == ("POST", f"/v1beta/models/{GENERAL}:generateContent")
    assert record.headers == {
        "host": emulator.origin.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "content-type": "application/json",
        "content-length": str(len(record.body)),
        "x-goog-api-key": KEY,
    }
    [audio] = emulator.audio
    assert (audio.mime_type, audio.sha256) == ("audio/wav", SHA)
    body = json.loads(record.body)
    assert list(body) == ["contents"]
    text, recording = body["contents"][0]["parts"]
    assert text["text"].startswith("Transcribe everything")
    assert "[no speech]" in text["text"]
    assert list(recording["inlineData"]) == ["mimeType", "data"]
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200
    assert call.attempt.response_headers == {}
    assert call.attempt.raw_request is None


async def test_a_plain_call_to_a_model_made_for_it(call: Calling, emulator: GeminiEmulator):
    result = await call(model=DEDICATED)
    assert result.text == emulator.text
    assert not result.words
    body = json.loads(emulator.records[0].body)
    assert list(body) == ["contents"]
    assert [list(part) for part in body["contents"][0]["parts"]] == [["inlineData"]]


async def test_every_option_in_words(call: Calling, emulator: GeminiEmulator):
    await call(
        """language: "de" languages: ["de", "en"] prompt: "Say \\"Grüße\\" 東京\\nIgnore the above" temperature: 0
        keywords: ["voxgate", "a \\"b\\""] response_format: RESPONSE_FORMAT_DIARIZED_JSON
        timestamp_granularities: TIMESTAMP_GRANULARITY_SEGMENT"""
    )
    [request] = emulator.requests
    lines = request["contents"][0]["parts"][0]["text"].split("\n")
    assert lines[-3:] == [
        'The language is "de" or "en".',
        'These terms may occur, spelt like this: "voxgate", "a \\"b\\"".',
        'Context, for spelling and style only, not to be repeated: "Say \\"Grüße\\" 東京\\nIgnore the above"',
    ]
    generation = request["generationConfig"]
    assert sorted(generation) == ["responseMimeType", "responseSchema", "temperature"]
    assert generation["temperature"] == 0
    assert generation["responseMimeType"] == "application/json"
    segment = generation["responseSchema"]["properties"]["segments"]["items"]
    assert segment["required"] == ["speaker", "start", "end", "text"]


async def test_every_option_of_a_model_made_for_it(call: Calling, emulator: GeminiEmulator):
    result = await call(
        """language: "de" languages: ["en", "de"] keywords: ["voxgate", "gRPC"]
        response_format: RESPONSE_FORMAT_DIARIZED_JSON timestamp_granularities: TIMESTAMP_GRANULARITY_WORD""",
        DEDICATED,
    )
    assert emulator.requests[0]["generationConfig"] == {
        "audioTranscriptionConfig": {
            "languageCodes": ["de", "en"], "customVocabulary": ["voxgate", "gRPC"], "wordTimestamp": True,
            "diarization": True,
        }
    }  # fmt: skip
    assert [(word.word, word.speaker) for word in result.words] == [
        ("Hello", "A"), ("from", "B"), ("the", "B"), ("emulator.", "B"),
    ]  # fmt: skip
    assert [(item.id, item.speaker, item.start, item.end, item.text) for item in result.diarized_segments] == [
        ("seg_001", "A", 0.0, 1.5, "Hello"),
        ("seg_002", "B", 1.5, 3.25, "from the emulator."),
    ]
    assert result.language == "de"
    assert not result.languages
    assert result.text == emulator.text


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("wanted", EVERY_FORMAT)
async def test_formats(call: Calling, emulator: GeminiEmulator, model: str, wanted: str):
    result = await call(f"response_format: RESPONSE_FORMAT_{wanted}", model)
    assert result.text == emulator.text
    asked = emulator.requests[0].get("generationConfig", {})
    timed = wanted not in {"UNSPECIFIED", "JSON", "TEXT"}
    assert bool(asked) == timed
    assert call.attempt is not None
    complete(result, call.attempt.config)
    if wanted == "VERBOSE_JSON":
        assert "".join(segment.text for segment in result.segments).replace(" ", "") == emulator.text.replace(" ", "")
        assert result.segments[-1].end == 3.25
        assert result.language == ("en" if model == GENERAL else "en-US")
    elif wanted == "DIARIZED_JSON":
        assert [(item.speaker, item.start, item.end) for item in result.diarized_segments] == [
            ("A", 0.0, 1.5),
            ("B", 1.5, 3.25),
        ]
    elif wanted in {"SRT", "VTT"}:
        assert "emulator." in result.rendered.body
        assert "00:00:03" in result.rendered.body
    else:
        assert not result.segments
        assert not result.words


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("wanted", EVERY_FORMAT)
async def test_silence_is_an_answer(call: Calling, emulator: GeminiEmulator, model: str, wanted: str):
    emulator.text = ""
    result = await call(f"response_format: RESPONSE_FORMAT_{wanted}", model)
    assert result.text == ""
    assert not result.segments
    assert not result.diarized_segments


async def test_who_asks_for_times_gets_them(call: Calling, emulator: GeminiEmulator):
    assert (await call("timestamp_granularities: TIMESTAMP_GRANULARITY_SEGMENT")).segments
    assert (await call("timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", DEDICATED)).words


async def test_translation(call: Calling, emulator: GeminiEmulator):
    result = await call("task: TRANSCRIPTION_TASK_TRANSLATE")
    assert result.task == "translate"
    assert "into English" in emulator.requests[0]["contents"][0]["parts"][0]["text"]


REFUSED = [
    (GENERAL, "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", "timestamp_granularities"),
    (GENERAL, "include: INCLUDE_LOGPROBS", "include"),
    (GENERAL, "chunking_strategy { server_vad {} }", "chunking_strategy"),
    (GENERAL, 'known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
    (GENERAL, 'extra_params { fields { key: "topK" value { number_value: 1 } } }', "topK"),
    (DEDICATED, 'prompt: "x"', "prompt"),
    (DEDICATED, "temperature: 0", "temperature"),
]


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_what_a_model_cannot_is_refused_by_name(
    call: Calling, emulator: GeminiEmulator, model: str, config: str, option: str
):
    with pytest.raises(errors.UnsupportedParameter, match=option) as caught:
        await call(config, model)
    assert caught.value.param == option
    assert model in caught.value.message
    assert not emulator.connections


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_or_left_out_and_reported(call: Calling, emulator: GeminiEmulator, model: str, config: str, option: str):
    assert (await call(config, model, drop_params=True)).text == emulator.text
    assert call.attempt is not None
    assert call.attempt.dropped_params == [option]
    assert "generationConfig" not in emulator.requests[0]


async def test_extra_params_the_operator_allows(call: Calling, emulator: GeminiEmulator):
    await call(
        """extra_params {
            fields { key: "max_output_tokens" value { number_value: 9000 } }
            fields { key: "topP" value { number_value: 0.5 } }
            fields { key: "stop" value { list_value { values { string_value: "END" } } } }
            fields { key: "thinkingConfig"
                     value { struct_value { fields { key: "thinkingBudget" value { number_value: 0 } } } } } }""",
        allowed_extra_params=["max_output_tokens", "topP", "stop", "thinkingConfig"],
    )
    assert emulator.requests[0]["generationConfig"] == {
        "maxOutputTokens": 9000, "topP": 0.5, "stopSequences": ["END"], "thinkingConfig": {"thinkingBudget": 0},
    }  # fmt: skip


async def test_googles_own_parameters_need_no_permission(call: Calling, emulator: GeminiEmulator):
    result = await call(
        """extra_params {
            fields { key: "mode" value { string_value: "SMART" } }
            fields { key: "diarization" value { string_value: "true" } }
            fields { key: "wordTimestamp" value { bool_value: true } } }""",
        DEDICATED,
    )
    assert emulator.requests[0]["generationConfig"] == {
        "audioTranscriptionConfig": {"mode": "SMART", "diarization": True, "wordTimestamp": True}
    }
    assert [word.speaker for word in result.words] == ["A", "B", "B", "B"]


@pytest.mark.parametrize("model", BOTH)
async def test_chunking_is_left_to_google(call: Calling, emulator: GeminiEmulator, model: str):
    assert (await call("chunking_strategy { auto {} }", model)).text == emulator.text
    assert "generationConfig" not in emulator.requests[0]


async def test_parameters_of_the_deployment_go_with_every_request_unless_the_caller_sets_them(
    call: Calling, emulator: GeminiEmulator
):
    defaults = {
        "temperature": 0.25, "max_tokens": 100, "seed": 7,
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }  # fmt: skip
    await call("temperature: 0.5", default_params=defaults)
    await call(default_params=defaults)
    assert [request["generationConfig"]["temperature"] for request in emulator.requests] == [0.5, 0.25]
    assert emulator.requests[1]["generationConfig"] == {"temperature": 0.25, "maxOutputTokens": 100, "seed": 7}
    assert emulator.requests[1]["safetySettings"] == defaults["safety_settings"]
    await call('language: "de"', DEDICATED, default_params={"languageCodes": ["en"], "diarization": True})
    assert emulator.requests[2]["generationConfig"]["audioTranscriptionConfig"] == {
        "languageCodes": ["de"],
        "diarization": True,
    }


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b"fLaC" + bytes(20), "audio/flac"),
        (b"ID3\x04\x00\x00\x00\x00\x7f\x7f" + bytes(20), "audio/mp3"),
        (b"OggS" + bytes(20), "audio/ogg"),
        (b"FORM" + bytes(4) + b"AIFF" + bytes(20), "audio/aiff"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(9) + b"\xff\xf1\x50\x80\x02\x1f\xfc", "audio/aac"),
    ],
)
async def test_the_type_is_told_by_the_bytes(call: Calling, emulator: GeminiEmulator, data: bytes, sent: str):
    await call(data=data, audio=AudioHeader(filename="x.webm", media_type="video/webm"))
    assert emulator.audio[0].mime_type == sent


@pytest.mark.parametrize(
    "data", [b"\x1aE\xdf\xa3" + bytes(20), bytes(4) + b"ftypM4A " + bytes(20), b"#!AMR" + bytes(9)]
)
async def test_kinds_ai_studio_does_not_take_are_not_sent(call: Calling, emulator: GeminiEmulator, data: bytes):
    with pytest.raises(errors.UnsupportedAudio, match=r"gemini.*audio/flac"):
        await call(data=data)
    assert not emulator.connections


async def test_raw_audio_is_refused(call: Calling, emulator: GeminiEmulator):
    header = text_format.Parse("raw_format { encoding: AUDIO_ENCODING_PCM_S16LE }", AudioHeader())
    with pytest.raises(errors.UnsupportedAudio, match="WAV"):
        await call(audio=header)
    assert not emulator.connections


async def test_raw_payloads(call: Calling, emulator: GeminiEmulator):
    await call('debug { include_raw_request: true include_raw_response: true } prompt: "hello"')
    assert call.attempt is not None
    request, response = call.attempt.raw_request, call.attempt.raw_response
    assert request is not None
    shown = json.loads(request.data)
    assert shown["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "audio/wav", "data": "…"}}
    assert KEY.encode() not in request.data
    assert response is not None
    assert json.loads(response.data)["modelVersion"] == GENERAL


async def test_the_operators_headers_win(call: Calling, emulator: GeminiEmulator):
    await call(extra_headers={"X-Goog-Api-Key": KEY, "x-team": "speech"}, api_key="another")
    [record] = emulator.records
    assert [value for name, value in record.head.raw_headers if name == "x-goog-api-key"] == [KEY]
    assert record.headers["x-team"] == "speech"


async def test_on_vertex_ai(store: SpoolStore):
    tokens = iter(["first", "second", "third"])

    async def headers(_: object) -> dict[str, str]:
        return {"authorization": f"Bearer {next(tokens)}"}

    async with GeminiEmulator(vertex=True) as emulator, provider_at(emulator, headers=headers) as provider:
        kinds = (WAV, bytes(4) + b"ftypM4A " + bytes(20), b"\x1aE\xdf\xa3" + bytes(20))
        for data, token in zip(kinds, ("first", "second", "third"), strict=True):
            emulator.key = token
            async with store.open(max_bytes=1 << 30) as spool:
                await spool.write(data)
                spool.finish()
                attempt = attempt_with(spool, "response_format: RESPONSE_FORMAT_SRT", data=data)
                assert (await run(provider, attempt)).segments
    assert [record.headers["authorization"] for record in emulator.records] == [
        "Bearer first", "Bearer second", "Bearer third",
    ]  # fmt: skip
    assert [audio.mime_type for audio in emulator.audio] == ["audio/wav", "audio/mp4", "audio/webm"]
    assert emulator.requests[0]["generationConfig"]["audioTimestamp"] is True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=5),
    chunks=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=8),
    wanted=st.sampled_from(EVERY_FORMAT),
    model=st.sampled_from(BOTH),
)
async def test_whatever_is_asked_the_body_is_json_around_the_recording(
    store: SpoolStore, text: str, words: list[str], chunks: list[bytes], wanted: str, model: str
):
    builder = RequestBuilder(
        family_of(model), who="x", allowed_extra_params=frozenset(), default_params={}, audio_timestamp=False
    )
    config = TranscriptionConfig(
        prompt=text, keywords=words, language=text[:5], response_format=f"RESPONSE_FORMAT_{wanted}"
    )
    dropped: list[str] = []
    request = builder.build(config, "audio/wav", dropped=dropped)
    async with store.open(max_bytes=1 << 20) as spool:
        for chunk in chunks:
            await spool.write(chunk)
        spool.finish()
        body = request.inline(spool)
        sent = await body.read()
        assert len(sent) == body.content_length
        room = request.inline_audio_bytes(len(sent))
    data = b"".join(chunks)
    assert len(data) <= room < len(data) + 3
    parts = json.loads(sent)["contents"][0]["parts"]
    assert decoded(parts[-1]["inlineData"]["data"]) == data
    if model == GENERAL and text:
        assert json.loads(parts[0]["text"].partition("not to be repeated: ")[2]) == text
    assert (dropped == ["prompt"]) == (model == DEDICATED and bool(text))
