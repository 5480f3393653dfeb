"""The OpenAI dialect: what is sent for which option, and when."""

import asyncio
import hashlib

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.openai import OpenAIProvider

from tests.providers import openai_emulator as emulation
from tests.providers.calling import KEY, WAV, Calling, attempt_with, provider_at, run
from tests.providers.openai_emulator import OpenAIEmulator


async def test_a_plain_call(call: Calling, emulator: OpenAIEmulator):
    result = await call(organization="org-1", extra_headers={"X-Team": "speech"})
    assert result.text == emulator.text
    assert result.usage.duration.seconds == 4
    [record] = emulator.records
    assert (record.method, record.path) == ("POST", "/v1/audio/transcriptions")
    assert record.order == ["model", "response_format", "file"]
    assert record.fields == [("model", "whisper-1"), ("response_format", "verbose_json")]
    assert record.file_sha256 == hashlib.sha256(WAV).hexdigest()
    assert (record.filename, record.file_type) == ("audio.wav", "audio/wav")
    assert record.complete
    boundary = record.headers.pop("content-type")
    assert boundary.startswith("multipart/form-data; boundary=")
    assert int(record.headers["content-length"]) == record.body_size
    assert {
        name: value for name, value in record.headers.items() if name not in ("content-type", "content-length")
    } == {
        "host": emulator.url.split("/")[2],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "authorization": f"Bearer {KEY}",
        "openai-organization": "org-1",
        "x-team": "speech",
    }
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200
    assert set(call.attempt.response_headers) == {"x-request-id", "openai-processing-ms"}
    assert call.attempt.raw_request is None
    assert call.attempt.raw_response is None


async def test_no_key_no_header(call: Calling, emulator: OpenAIEmulator):
    emulator.key = None
    await call(api_key=None)
    assert "authorization" not in emulator.records[0].headers


async def test_a_large_recording_is_sent_with_its_length(call: Calling, emulator: OpenAIEmulator):
    data = WAV + bytes(3_000_000)
    await call(data=data)
    [record] = emulator.records
    assert record.head.framing == "length"
    assert record.file_sha256 == hashlib.sha256(data).hexdigest()


async def test_every_option(call: Calling, emulator: OpenAIEmulator):
    result = await call(
        """language: "de" prompt: "Grüße, 東京 ☎" temperature: 0.25 response_format: RESPONSE_FORMAT_VERBOSE_JSON
        timestamp_granularities: [TIMESTAMP_GRANULARITY_WORD, TIMESTAMP_GRANULARITY_SEGMENT]
        chunking_strategy { server_vad { threshold: 0.75 silence_duration_ms: 500 prefix_padding_ms: 100 } }"""
    )
    assert emulator.records[0].fields == [
        ("model", "whisper-1"),
        ("response_format", "verbose_json"),
        ("language", "de"),
        ("prompt", "Grüße, 東京 ☎"),
        ("temperature", "0.25"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[prefix_padding_ms]", "100"),
        ("chunking_strategy[silence_duration_ms]", "500"),
        ("chunking_strategy[threshold]", "0.75"),
    ]
    assert (result.task, result.language, result.duration) == ("transcribe", "english", 3.25)
    assert [word.word for word in result.words] == emulator.text.split()
    assert [segment.id for segment in result.segments] == [0, 1]
    segment = result.segments[0]
    assert (segment.start, segment.end, segment.text) == (0.0, 1.5, "Hello")
    assert (segment.avg_logprob, segment.compression_ratio, segment.no_speech_prob) == (-0.25, 1.125, 0.0625)
    assert list(segment.tokens) == [50364, 220]


@pytest.mark.parametrize(
    ("model", "wanted", "sent"),
    [
        ("whisper-1", "UNSPECIFIED", "verbose_json"),
        ("whisper-1", "JSON", "verbose_json"),
        ("whisper-1", "TEXT", "verbose_json"),
        ("whisper-1", "SRT", "verbose_json"),
        ("whisper-1", "VTT", "verbose_json"),
        ("whisper-1", "VERBOSE_JSON", "verbose_json"),
        ("my-model", "JSON", "json"),
        ("my-model", "TEXT", "json"),
        ("my-model", "SRT", "verbose_json"),
        ("gpt-4o-transcribe", "JSON", "json"),
        ("gpt-4o-mini-transcribe-2025-12-15", "TEXT", "json"),
        ("gpt-transcribe", "JSON", "json"),
        ("gpt-transcribe", "TEXT", "json"),
        ("gpt-4o-transcribe-diarize", "JSON", "json"),
        ("gpt-4o-transcribe-diarize", "TEXT", "json"),
        ("gpt-4o-transcribe-diarize", "SRT", "diarized_json"),
        ("gpt-4o-transcribe-diarize", "VTT", "diarized_json"),
        ("gpt-4o-transcribe-diarize", "VERBOSE_JSON", "diarized_json"),
        ("gpt-4o-transcribe-diarize", "DIARIZED_JSON", "diarized_json"),
    ],
)
async def test_formats(call: Calling, emulator: OpenAIEmulator, model: str, wanted: str, sent: str):
    result = await call(f"response_format: RESPONSE_FORMAT_{wanted}", model)
    assert result.text == emulator.text
    assert emulator.records[0].field("response_format") == sent
    assert bool(result.segments) == (sent != "json")
    assert bool(result.diarized_segments) == (sent == "diarized_json")


async def test_the_diarizing_model_is_told_to_cut_long_recordings(call: Calling, emulator: OpenAIEmulator):
    data = WAV + bytes(3_000_000)
    await call("", "gpt-4o-transcribe-diarize", data=data)
    assert emulator.records[0].field("chunking_strategy") == "auto"
    await call("chunking_strategy { server_vad { threshold: 0.5 } }", "gpt-4o-transcribe-diarize", data=data)
    assert emulator.records[1].field("chunking_strategy") is None
    assert emulator.records[1].field("chunking_strategy[type]") == "server_vad"


async def test_who_asks_for_times_gets_them(call: Calling, emulator: OpenAIEmulator):
    result = await call("timestamp_granularities: TIMESTAMP_GRANULARITY_WORD")
    assert emulator.records[0].field("response_format") == "verbose_json"
    assert result.words
    assert not result.segments


async def test_logprobs(call: Calling, emulator: OpenAIEmulator):
    result = await call("include: INCLUDE_LOGPROBS temperature: 0", "gpt-4o-transcribe")
    assert emulator.records[0].values("include[]") == ["logprobs"]
    assert emulator.records[0].field("temperature") == "0"
    assert [(item.token, item.logprob, item.token_bytes) for item in result.logprobs] == [
        (word, -0.125, word.encode()) for word in emulator.text.split(" ")
    ]
    assert result.usage.tokens.input_token_details.audio_tokens == 33
    assert result.usage.tokens.total_tokens == 45


async def test_speakers(call: Calling, emulator: OpenAIEmulator):
    result = await call(
        """response_format: RESPONSE_FORMAT_DIARIZED_JSON chunking_strategy { auto {} }
        known_speakers { name: "Anna" reference { media_type: "audio/wav" data: "RIFF" } }
        known_speakers { name: "Ben" reference { media_type: "audio/mpeg" data: "ID3" } }""",
        "gpt-4o-transcribe-diarize",
    )
    record = emulator.records[0]
    assert record.field("response_format") == "diarized_json"
    assert record.field("chunking_strategy") == "auto"
    assert record.values("known_speaker_names[]") == ["Anna", "Ben"]
    assert record.values("known_speaker_references[]") == [
        "data:audio/wav;base64,UklGRg==",
        "data:audio/mpeg;base64,SUQz",
    ]
    assert [(item.id, item.speaker, item.start, item.end) for item in result.diarized_segments] == [
        ("seg_001", "Anna", 0.0, 1.5),
        ("seg_002", "Ben", 1.5, 3.25),
    ]
    assert [(item.start, item.end) for item in result.segments] == [(0.0, 1.5), (1.5, 3.25)]


async def test_hints_for_gpt_transcribe(call: Calling, emulator: OpenAIEmulator):
    result = await call('languages: ["de", "en"] keywords: ["voxgate", "gRPC"]', "gpt-transcribe")
    assert emulator.records[0].values("languages[]") == ["de", "en"]
    assert emulator.records[0].values("keywords[]") == ["voxgate", "gRPC"]
    assert [item.code for item in result.languages] == ["de", "en"]


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ('language: "de"', ["de"]),
        ('languages: "de-AT"', ["de"]),
        ('language: "de-AT" languages: ["en", "de"]', ["de", "en"]),
    ],
)
async def test_gpt_transcribe_has_a_list_of_languages_only(
    call: Calling, emulator: OpenAIEmulator, config: str, sent: list[str]
):
    await call(config, "gpt-transcribe")
    assert emulator.records[0].values("languages[]") == sent
    assert emulator.records[0].field("language") is None


async def test_one_language_is_one_language(call: Calling, emulator: OpenAIEmulator):
    await call('languages: "de"')
    assert emulator.records[0].field("language") == "de"


@pytest.mark.parametrize(
    ("tag", "sent"), [("de-AT", "de"), ("zh_Hant-TW", "zh"), ("PT-br", "pt"), ("yue", "yue"), ("english", "english")]
)
async def test_the_language_of_a_tag(call: Calling, emulator: OpenAIEmulator, tag: str, sent: str):
    await call(f'language: "{tag}"')
    assert emulator.records[0].field("language") == sent


async def test_translation(call: Calling, emulator: OpenAIEmulator):
    result = await call("task: TRANSCRIPTION_TASK_TRANSLATE response_format: RESPONSE_FORMAT_VERBOSE_JSON")
    assert emulator.records[0].path == "/v1/audio/translations"
    assert result.task == "translate"


async def test_extra_params_the_operator_allows(call: Calling, emulator: OpenAIEmulator):
    emulator.extra_fields = {"beam_size", "vad_filter", "hotwords[]", "vad[threshold]", "top_p"}
    await call(
        """extra_params {
            fields { key: "beam_size" value { number_value: 5 } } fields { key: "top_p" value { number_value: 0.5 } }
            fields { key: "vad_filter" value { bool_value: true } }
            fields { key: "gone" value { null_value: NULL_VALUE } }
            fields { key: "hotwords"
                     value { list_value { values { string_value: "a" } values { string_value: "b" } } } }
            fields { key: "vad"
                     value { struct_value { fields { key: "threshold" value { number_value: 0.5 } } } } } }""",
        allowed_extra_params=["beam_size", "vad_filter", "hotwords", "vad", "gone", "top_p"],
    )
    sent = set(emulator.records[0].fields) - {("model", "whisper-1"), ("response_format", "verbose_json")}
    assert sent == {
        ("beam_size", "5"), ("top_p", "0.5"), ("vad_filter", "true"), ("hotwords[]", "a"), ("hotwords[]", "b"),
        ("vad[threshold]", "0.5"),
    }  # fmt: skip


REFUSED = [
    ("gpt-4o-transcribe", "response_format: RESPONSE_FORMAT_SRT", "response_format"),
    ("gpt-transcribe", "response_format: RESPONSE_FORMAT_VERBOSE_JSON", "response_format"),
    ("whisper-1", "response_format: RESPONSE_FORMAT_DIARIZED_JSON", "response_format"),
    ("whisper-1", "response_format: 99", "response_format"),
    ("gpt-4o-transcribe", "task: TRANSCRIPTION_TASK_TRANSLATE", "task"),
    ("gpt-4o-transcribe", "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", "timestamp_granularities"),
    ("whisper-1", "include: INCLUDE_LOGPROBS", "include"),
    ("gpt-4o-transcribe-diarize", 'prompt: "x"', "prompt"),
    ("whisper-1", 'keywords: "x"', "keywords"),
    ("whisper-1", 'languages: ["de", "en"]', "languages"),
    ("whisper-1", 'known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
    ("whisper-1", 'task: TRANSCRIPTION_TASK_TRANSLATE language: "de"', "language"),
    ("gpt-4o-transcribe-diarize", "timestamp_granularities: TIMESTAMP_GRANULARITY_SEGMENT", "timestamp_granularities"),
    ("gpt-4o-transcribe-diarize", "include: INCLUDE_LOGPROBS", "include"),
    ("gpt-transcribe", "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", "timestamp_granularities"),
    ("gpt-transcribe", "include: INCLUDE_LOGPROBS", "include"),
    ("whisper-1", 'extra_params { fields { key: "seed" value { number_value: 1 } } }', "seed"),
]


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_what_a_model_cannot_is_refused_by_name(
    call: Calling, emulator: OpenAIEmulator, model: str, config: str, option: str
):
    with pytest.raises(errors.UnsupportedParameter, match=option.rstrip("s")[:9]) as caught:
        await call(config, model)
    assert caught.value.param == option
    assert model in caught.value.message
    assert not emulator.connections


@pytest.mark.parametrize(
    ("model", "config", "option"), [item for item in REFUSED if item[2] not in ("response_format", "task")]
)
async def test_or_left_out_and_reported(call: Calling, emulator: OpenAIEmulator, model: str, config: str, option: str):
    assert (await call(config, model, drop_params=True)).text == emulator.text
    assert call.attempt is not None
    assert call.attempt.dropped_params == [option]
    assert set(emulator.records[0].order) - {"chunking_strategy"} == {"model", "response_format", "file"}


@pytest.mark.parametrize(
    ("data", "name", "filename", "media_type"),
    [
        (b"fLaC" + bytes(20), "x.mp3", "audio.flac", "audio/flac"),
        (b"ID3\x04\x00\x00\x00\x00\x7f\x7f" + bytes(20), "", "audio.mp3", "audio/mpeg"),
        (b"OggS" + bytes(20), "x.wav", "audio.ogg", "audio/ogg"),
        (b"\x1aE\xdf\xa3" + bytes(20), "x", "audio.webm", "audio/webm"),
        (bytes(4) + b"ftypM4A " + bytes(20), "", "audio.m4a", "audio/mp4"),
        (b"unknown", "song.MPGA", "audio.mpga", "audio/mpeg"),
        (b"unknown", '../../e"vil\r\nX-Header: 1.exe', "audio.wav", "audio/wav"),
        (b"u", "", "audio.wav", "audio/wav"),
    ],
)
async def test_the_name_of_the_file_is_ours(
    call: Calling, emulator: OpenAIEmulator, data: bytes, name: str, filename: str, media_type: str
):
    await call(data=data, audio=AudioHeader(filename=name))
    assert (emulator.records[0].filename, emulator.records[0].file_type) == (filename, media_type)


async def test_raw_audio_is_refused(call: Calling, emulator: OpenAIEmulator):
    header = text_format.Parse("raw_format { encoding: AUDIO_ENCODING_PCM_S16LE }", AudioHeader())
    with pytest.raises(errors.UnsupportedAudio, match="WAV"):
        await call(audio=header)
    assert not emulator.connections


async def test_too_large_is_known_beforehand(call: Calling, emulator: OpenAIEmulator):
    with pytest.raises(errors.AudioTooLarge, match=r"openai.*1000"):
        await call(max_audio_bytes=1000)
    assert not emulator.connections


def test_capabilities():
    at_openai = OpenAIProvider(model="whisper-1").capabilities
    assert at_openai.max_audio_bytes == 26_214_400
    assert "audio/flac" in at_openai.media_types
    assert at_openai.translation
    assert not at_openai.streaming
    elsewhere = OpenAIProvider(model="Systran/faster-whisper", api_base="http://127.0.0.1:1/v1").capabilities
    assert elsewhere.max_audio_bytes == 0
    assert not elsewhere.media_types
    assert list(elsewhere.response_formats) == list(at_openai.response_formats)
    diarizing = OpenAIProvider(model="gpt-4o-transcribe-diarize").capabilities
    assert diarizing.diarization
    assert diarizing.max_audio_duration.seconds == 1400
    assert OpenAIProvider(model="gpt-4o-mini-transcribe-2025-12-15").capabilities.logprobs


@pytest.mark.parametrize(
    ("api_base", "limit"),
    [
        (None, 26_214_400),
        ("https://eu.api.openai.com/v1", 26_214_400),
        ("https://api.openai.com.example/v1", 0),
        ("https://notapi.openai.com/v1", 0),
    ],
)
def test_limits_hold_at_openai_itself(api_base: str | None, limit: int):
    assert OpenAIProvider(model="whisper-1", api_base=api_base).capabilities.max_audio_bytes == limit


@pytest.mark.parametrize(
    "kwargs",
    [
        {"api_base": "file:///etc/passwd"},
        {"api_base": "api.openai.com/v1"},
        {"api_base": "https://user:secret@host/v1"},
        {"api_base": "https://host/v1?key=secret"},
        {"extra_headers": {"Host": "elsewhere"}},
        {"extra_headers": {"x": "a\r\nb: c"}},
        {"api_key": "sk-ü"},
        {"allowed_extra_params": ["model"]},
    ],
)
def test_what_an_operator_may_not_configure(kwargs: dict):
    with pytest.raises(ValueError) as caught:
        OpenAIProvider(model="whisper-1", **kwargs)
    assert "secret" not in str(caught.value)


async def test_the_provider_reads_while_the_caller_sends(emulator: OpenAIEmulator, store: SpoolStore):
    data = WAV * 20
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(data[:100_000])
        record = await emulator.record()
        await record.first_file_byte.wait()
        assert not spool.finished
        await spool.write(data[100_000:])
        await asyncio.sleep(0.05)
        assert not record.body_ended.is_set()
        spool.finish()
        assert (await call).text == emulator.text
    assert record.head.framing == "chunked"
    assert record.complete
    assert record.file_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_upload_that_breaks_off_is_never_completed(emulator: OpenAIEmulator, store: SpoolStore, size: int):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV[:size])
        record = await emulator.record()
        await record.first_file_byte.wait()
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
        await record.body_ended.wait()
    assert not record.complete
    assert record.status is None


@pytest.mark.parametrize("finished", [False, True])
async def test_cancelling_closes_the_connection(emulator: OpenAIEmulator, store: SpoolStore, finished: bool):
    emulator.script("hang")
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        if finished:
            spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        record = await emulator.record()
        await (record.body_ended if finished else record.first_file_byte).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert record.complete == finished


async def test_connections_are_kept_but_not_after_a_cut_body(emulator: OpenAIEmulator, store: SpoolStore):
    async with provider_at(emulator) as provider:

        async def whole() -> None:
            async with store.open(max_bytes=1 << 30) as spool:
                await spool.write(WAV)
                spool.finish()
                await run(provider, attempt_with(spool))

        await whole()
        await whole()
        assert emulator.connections == 1
        async with store.open(max_bytes=1 << 30) as spool:
            emulator.script(emulation.failure(401, at="first_file_byte"))
            await spool.write(WAV)
            with pytest.raises(errors.ProviderCredential):
                await run(provider, attempt_with(spool))
        await whole()
        assert emulator.connections == 2


async def test_parameters_of_the_deployment_go_with_every_request_unless_the_caller_sets_them(
    call: Calling, emulator: OpenAIEmulator
):
    emulator.extra_fields = {"hotwords", "seed", "flags[]", "shape[a]", "strict"}
    defaults = {
        "language": "de",
        "temperature": 0,
        "hotwords": "voxgate",
        "seed": 7,
        "strict": True,
        "flags": ["x", "y"],
        "shape": {"a": 0.5},
    }
    await call("temperature: 0.5 timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", default_params=defaults)
    fields = emulator.records[0].fields
    assert ("language", "de") in fields
    assert [value for name, value in fields if name == "temperature"] == ["0.5"]
    assert {("hotwords", "voxgate"), ("seed", "7"), ("strict", "true"), ("shape[a]", "0.5")} <= set(fields)
    assert [value for name, value in fields if name == "flags[]"] == ["x", "y"]


def test_a_parameter_that_no_form_can_carry_is_refused():
    with pytest.raises(ValueError, match=r".+"):
        OpenAIProvider(model="whisper-1", default_params={"when": object()})
