"""The OpenAI dialect against a strict emulator: options, answers, refusals, broken connections, limits."""

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import openai as sdk
import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.providers.base import Attempt, Provider
from voxgate_server.providers.openai import OpenAIProvider

from tests.providers import openai_emulator as emulation
from tests.providers.openai_emulator import OpenAIEmulator

WAV = (Path(__file__).parent.parent / "speech" / "demo-congrats.wav").read_bytes()
KEY = "sk-emulator-0123456789"


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(models={"my-model"}) as emulator:
        yield emulator


@pytest.fixture
def store(tmp_path: Path):
    store = SpoolStore(directory=tmp_path)
    yield store
    store.close()


@asynccontextmanager
async def provider_at(emulator: OpenAIEmulator, model: str = "whisper-1", **kwargs) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(model=model, **{"api_base": emulator.url, "api_key": KEY, **kwargs})
    checked: Provider = provider
    assert checked.name == "openai"
    assert checked.model == model
    try:
        yield provider
    finally:
        await provider.aclose()


def attempt_with(spool: Spool, config: str = "", *, seconds: float = 30, audio: AudioHeader | None = None) -> Attempt:
    message = text_format.Parse(config, TranscriptionConfig(model="anything"))
    return Attempt("req_1", message, audio or AudioHeader(), spool, time.monotonic() + seconds)


async def run(provider: OpenAIProvider, attempt: Attempt) -> Transcription:
    events = [event async for event in provider.transcribe(attempt)]
    assert [event.WhichOneof("event") for event in events] == ["done"]
    assert events[0].sequence == 0
    return events[0].done.transcription


class Calling:
    """Sends the recording with some options and remembers the attempt."""

    def __init__(self, emulator: OpenAIEmulator, store: SpoolStore) -> None:
        self.emulator, self.store = emulator, store
        self.attempt: Attempt | None = None

    async def __call__(
        self, config: str = "", model: str = "whisper-1", *, data: bytes = WAV, seconds: float = 30,
        audio: AudioHeader | None = None, **kwargs,
    ) -> Transcription:  # fmt: skip
        async with (
            self.store.open(max_bytes=1 << 40) as spool,
            provider_at(self.emulator, model, **kwargs) as provider,
        ):
            await spool.write(data)
            spool.finish()
            self.attempt = attempt_with(spool, config, seconds=seconds, audio=audio)
            return await run(provider, self.attempt)


@pytest.fixture
def call(emulator: OpenAIEmulator, store: SpoolStore) -> Calling:
    return Calling(emulator, store)


# What is sent


async def test_a_plain_call(call: Calling, emulator: OpenAIEmulator):
    result = await call(organization="org-1", extra_headers={"X-Team": "speech"})
    assert result.text == emulator.text
    assert result.usage.duration.seconds == 4
    [record] = emulator.records
    assert (record.method, record.path) == ("POST", "/v1/audio/transcriptions")
    assert record.order == ["model", "response_format", "file"]
    assert record.fields == [("model", "whisper-1"), ("response_format", "json")]
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
    ("wanted", "sent"),
    [
        ("UNSPECIFIED", "json"),
        ("JSON", "json"),
        ("TEXT", "json"),
        ("SRT", "verbose_json"),
        ("VTT", "verbose_json"),
        ("VERBOSE_JSON", "verbose_json"),
    ],
)
async def test_formats(call: Calling, emulator: OpenAIEmulator, wanted: str, sent: str):
    result = await call(f"response_format: RESPONSE_FORMAT_{wanted}")
    assert emulator.records[0].field("response_format") == sent
    assert bool(result.segments) == (sent == "verbose_json")


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
    assert not result.segments


async def test_hints_for_gpt_transcribe(call: Calling, emulator: OpenAIEmulator):
    result = await call('languages: ["de", "en"] keywords: ["voxgate", "gRPC"]', "gpt-transcribe")
    assert emulator.records[0].values("languages[]") == ["de", "en"]
    assert emulator.records[0].values("keywords[]") == ["voxgate", "gRPC"]
    assert [item.code for item in result.languages] == ["de", "en"]


async def test_one_language_is_one_language(call: Calling, emulator: OpenAIEmulator):
    await call('languages: "de"')
    assert emulator.records[0].field("language") == "de"


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
    sent = set(emulator.records[0].fields) - {("model", "whisper-1"), ("response_format", "json")}
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
    ("whisper-1", 'extra_params { fields { key: "seed" value { number_value: 1 } } }', "extra_params.seed"),
]


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_what_a_model_cannot_is_refused_by_name(
    call: Calling, emulator: OpenAIEmulator, model: str, config: str, option: str
):
    with pytest.raises(
        errors.UnsupportedParameter, match=option.removeprefix("extra_params.").rstrip("s")[:9]
    ) as caught:
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
    assert set(emulator.records[0].order) == {"model", "response_format", "file"}


@pytest.mark.parametrize(
    ("data", "name", "filename", "media_type"),
    [
        (b"fLaC" + bytes(20), "x.mp3", "audio.flac", "audio/flac"),
        (b"ID3\x04" + bytes(20), "", "audio.mp3", "audio/mpeg"),
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
    assert list(elsewhere.response_formats) == list(at_openai.response_formats)
    diarizing = OpenAIProvider(model="gpt-4o-transcribe-diarize").capabilities
    assert diarizing.diarization
    assert diarizing.max_audio_duration.seconds == 1400
    assert OpenAIProvider(model="gpt-4o-mini-transcribe-2025-12-15").capabilities.logprobs


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


# Cut-through


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


@pytest.mark.parametrize("size", [100, 100_000])
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


async def test_an_upload_that_breaks_off_before_its_kind_is_known(emulator: OpenAIEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(b"RI")
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await asyncio.sleep(0)
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
    assert not emulator.connections


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


# Answers that are not as they should be


async def answered(call: Calling, body: bytes | str, config: str = "", **kwargs) -> Transcription:
    call.emulator.script(emulation.raw(body, **kwargs))
    return await call(config)


@pytest.mark.parametrize(
    "body",
    [
        "", "  \n", "null", "[]", '"text"', "{}", '{"text": null}', '{"text": 5}', '{"text": "cut', "[" * 100_000,
        "<html>502</html>", '{"error": {"message": "backend died"}}', '{"error": "backend died"}',
        '{"text": "fine", "error": {"message": "not fine"}}', "plain text",
    ],
)  # fmt: skip
async def test_answers_that_make_no_sense(call: Calling, body: str):
    with pytest.raises(errors.ProviderGarbled, match=r"openai \(whisper-1\)"):
        await answered(call, body)
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200


async def test_a_compressed_answer_nobody_asked_for(call: Calling):
    with pytest.raises(errors.ProviderGarbled, match="compressed"):
        await answered(call, b"\x1f\x8b" + bytes(20), headers={"content-encoding": "gzip"})


async def test_an_answer_without_end(call: Calling):
    with pytest.raises(errors.ProviderGarbled, match="16777216"):
        await answered(call, '{"text": "' + "x" * (16 << 20) + '"}')


async def test_a_long_answer(call: Calling):
    words = [{"word": f"w{number}", "start": number, "end": number + 0.5} for number in range(30_000)]
    result = await answered(call, json.dumps({"text": "long", "words": words}))
    assert len(result.words) == 30_000


async def test_plain_text_where_text_was_asked_for(call: Calling):
    result = await answered(
        call, "Guten Tag.\n", "response_format: RESPONSE_FORMAT_TEXT", media_type="text/plain; charset=utf-8"
    )
    assert result.text == "Guten Tag."


async def test_silence_is_an_answer(call: Calling):
    assert (await answered(call, '{"text": ""}')).text == ""


async def test_tolerance(call: Calling):
    """vLLM's numbers in strings, faster-whisper's NaN, nulls and things nobody has heard of."""
    result = await answered(
        call,
        rb"""{"text": "a \ud800 b", "duration": "3.5", "language": null, "task": "transcribe", "new": {"x": [1]},
        "languages": [{"code": "de"}, null, "en"],
        "usage": {"type": "tokens", "input_tokens": 5.0, "output_tokens": "7",
        "input_token_details": null},
        "segments": [{"id": "0", "start": "0.5", "end": 1e999, "text": " x", "avg_logprob": NaN, "seek": null,
                      "tokens": [1, "2", null, 99999999999]},
                     {"id": 99999999999999, "start": 2, "end": 1, "text": "y", "temperature": true,
                      "no_speech_prob": "0.5"},
                     17, {"id": "seg_009", "speaker": "A", "start": null, "end": null, "text": "z"}],
        "words": [{"word": "x", "start": -1, "end": 1, "probability": 0.5, "speaker": 3}, {"text": "y", "end": 2}],
        "logprobs": [{"token": "x", "logprob": -0.5, "bytes": [300]}, {"token": "y", "logprob": null}]}""",
    )
    assert result == text_format.Parse(
        """text: "a \ufffd b" task: "transcribe" duration: 3.5 languages { code: "de" }
        segments { id: 0 start: 0.5 end: 0.5 text: " x" tokens: [1, 2] }
        segments { id: 1 start: 2 end: 2 text: "y" no_speech_prob: 0.5 }
        diarized_segments { id: "seg_009" speaker: "A" start: 2 end: 2 text: "z" }
        words { word: "x" start: 0 end: 1 confidence: 0.5 speaker: "3" } words { word: "y" start: 1 end: 2 }
        logprobs { token: "x" logprob: -0.5 }
        usage { tokens { input_tokens: 5 output_tokens: 7 total_tokens: 12 } }""",
        Transcription(),
    )


# Errors


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("401", errors.ProviderCredential, "api_key"),
        (emulation.failure(403), errors.ProviderCredential, "api_key"),
        (emulation.failure(402, "pay"), errors.ProviderQuotaExceeded, "pay"),
        ("429", errors.ProviderRateLimited, "Rate limit reached"),
        ("quota", errors.ProviderQuotaExceeded, "current quota"),
        (emulation.failure(400, "Audio file might be corrupted"), errors.ProviderRejected, "might be corrupted"),
        (emulation.failure(415), errors.ProviderRejected, "415"),
        (emulation.failure(422), errors.ProviderRejected, "422"),
        (emulation.failure(404, code="model_not_found"), errors.ProviderUnavailable, "api_base"),
        (emulation.failure(413, "Maximum content size"), errors.AudioTooLarge, "openai.*Maximum content size"),
        (emulation.raw("<html>413</html>", status=413), errors.AudioTooLarge, "openai"),
        (emulation.failure(408), errors.ProviderTimeout, "408"),
        (emulation.failure(409), errors.ProviderUnavailable, "409"),
        ("500", errors.ProviderUnavailable, "The server had an error"),
        ("503", errors.ProviderUnavailable, "Overloaded"),
        (emulation.failure(504), errors.ProviderTimeout, "504"),
        ("html", errors.ProviderUnavailable, "status 502.$"),
        (emulation.failure(307, headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect"),
        (emulation.raw('{"detail": [{"msg": "bad"}]}', status=422), errors.ProviderRejected, "bad"),
        (
            emulation.raw('{"object": "error", "message": "old", "code": 400}', status=400),
            errors.ProviderRejected,
            "old",
        ),
        (emulation.raw('{"error": "short"}', status=400), errors.ProviderRejected, "short"),
        (emulation.raw("plain", status=500), errors.ProviderUnavailable, "plain"),
        (emulation.failure(500, cut=3, then="reset"), errors.ProviderUnavailable, "500"),
        ("early-401", errors.ProviderCredential, "api_key"),
        ("early-413", errors.AudioTooLarge, "Maximum content size"),
        ("reset-answer", errors.ProviderUnavailable, "broke the connection"),
        ("cut-answer", errors.ProviderUnavailable, "broke the connection"),
        ("reset-body", errors.ProviderUnavailable, "broke the connection"),
        ("bad-json", errors.ProviderGarbled, "JSON"),
        ("error-200", errors.ProviderGarbled, "backend died"),
    ],
)
@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_errors(
    call: Calling, emulator: OpenAIEmulator, behaviour: str | emulation.Behaviour, kind: type[errors.VoxgateError],
    said: str, size: int,
):  # fmt: skip
    emulator.script(behaviour)
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await call(data=WAV + bytes(size))
    assert type(caught.value) is kind
    assert len(emulator.records) == 1
    assert caught.value.message.startswith(("openai (whisper-1)", "The "))
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("size", [1000, 300_000])
async def test_an_early_success_is_none(emulator: OpenAIEmulator, store: SpoolStore, size: int):
    emulator.script("early-200")
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV[:size])
        with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
            await run(provider, attempt_with(spool))


@pytest.mark.parametrize("name", ["early-401", "early-413"])
async def test_an_early_refusal_does_not_wait_for_the_caller(emulator: OpenAIEmulator, store: SpoolStore, name: str):
    emulator.script(name)
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        with pytest.raises((errors.ProviderCredential, errors.AudioTooLarge)):
            await run(provider, attempt_with(spool))


async def test_a_fault_chosen_by_the_models_name(call: Calling):
    with pytest.raises(errors.ProviderUnavailable, match="Overloaded"):
        await call(model="fault-503")


async def test_too_large_for_the_provider_while_the_size_is_unknown(emulator: OpenAIEmulator, store: SpoolStore):
    emulator.max_body = 200_000
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV)
        await spool.write(bytes(200_000))
        with pytest.raises(errors.AudioTooLarge, match=r"openai.*200000"):
            await call
        assert not spool.finished


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7.5"}, 7.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "100000"}, 300),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "99999999999999999999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 300),
        ({"retry-after": "Wed, 99 Oct 2099 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
async def test_when_to_come_back(call: Calling, emulator: OpenAIEmulator, headers: dict, seconds: float | None):
    emulator.script(emulation.failure(429, headers=headers), emulation.failure(503, headers=headers))
    for kind in (errors.ProviderRateLimited, errors.ProviderUnavailable):
        with pytest.raises(kind) as caught:
            await call()
        assert caught.value.retry_after == seconds


async def test_nobody_there(store: SpoolStore):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        provider = OpenAIProvider(model="whisper-1", api_base=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            attempt = attempt_with(spool)
            with pytest.raises(errors.ProviderUnavailable, match="could not be connected to"):
                await run(provider, attempt)
            assert not attempt.report.HasField("http_status")
        await provider.aclose()


# Limits


async def test_the_deadline_while_waiting_for_the_answer(call: Calling, emulator: OpenAIEmulator):
    emulator.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="had the whole recording"):
        await call(seconds=0.2)
    await emulator.records[0].peer_closed.wait()


async def test_the_deployments_own_timeout(call: Calling, emulator: OpenAIEmulator):
    emulator.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in time"):
        await call(timeout=0.2)
    await emulator.records[0].peer_closed.wait()


async def test_the_deadline_while_the_provider_takes_nothing(call: Calling, emulator: OpenAIEmulator):
    emulator.script("stall")
    with pytest.raises(errors.ProviderTimeout, match="bytes of the recording"):
        await call(data=WAV + bytes(30_000_000), seconds=0.5)


async def test_the_deadline_while_the_caller_sends(emulator: OpenAIEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as spool, provider_at(emulator) as provider:
        await spool.write(WAV)
        with pytest.raises(errors.DeadlineExceeded, match="still sending"):
            await run(provider, attempt_with(spool, seconds=0.2))
        record = await emulator.record()
        await record.body_ended.wait()
        assert not record.complete


async def test_a_deadline_that_has_passed(call: Calling, emulator: OpenAIEmulator):
    with pytest.raises(errors.VoxgateError) as caught:
        await call(seconds=-1)
    assert caught.value.http_status == 504
    assert not emulator.records


# Secrets and payloads


SECRETS = [
    KEY,
    "sk-proj-AbCdEf123456",
    "hunter2hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "gsk_1234567890abcdef",
]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 429, 500])
@pytest.mark.parametrize("shape", [lambda text: json.dumps({"error": {"message": text}}), lambda text: text])
async def test_no_key_comes_back(call: Calling, status: int, shape: Callable[[str], str]):
    text = "bad key " + " ".join(SECRETS) + " Authorization: Bearer abcdefghijk\r\n" + "x" * 10_000
    call.emulator.script(emulation.raw(shape(text), status=status))
    with pytest.raises(errors.VoxgateError) as caught:
        await call("debug { include_raw_response: true }", extra_headers={"x-secret": "hunter2hunter2"})
    assert call.attempt is not None
    assert call.attempt.raw_response is not None
    shown = f"{caught.value.message} {caught.value.metadata} {call.attempt.raw_response.data.decode()}"
    for secret in [*SECRETS, "abcdefghijk"]:
        assert secret not in shown
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


async def test_raw_payloads(call: Calling, emulator: OpenAIEmulator):
    await call('debug { include_raw_request: true include_raw_response: true } prompt: "hello" language: "de"')
    assert call.attempt is not None
    request, response = call.attempt.raw_request, call.attempt.raw_response
    assert request is not None
    assert json.loads(request.data) == {
        "model": "whisper-1", "response_format": "json", "language": "de", "prompt": "hello",
        "file": {"filename": "audio.wav", "content_type": "audio/wav"},
    }  # fmt: skip
    assert response is not None
    assert json.loads(response.data)["text"] == emulator.text
    assert response.media_type == "application/json"
    assert not request.truncated
    assert not response.truncated


async def test_raw_payloads_are_bounded(call: Calling):
    await answered(call, json.dumps({"text": "ü" * 100_000}), "debug { include_raw_response: true }")
    assert call.attempt is not None
    assert call.attempt.raw_response is not None
    assert call.attempt.raw_response.truncated
    assert len(call.attempt.raw_response.data) == 64 * 1024


# The emulator itself, judged by the official client


@pytest.fixture
async def client(emulator: OpenAIEmulator) -> AsyncIterator[sdk.AsyncOpenAI]:
    async with sdk.AsyncOpenAI(base_url=emulator.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_the_official_client_reads_the_emulator(client: sdk.AsyncOpenAI, emulator: OpenAIEmulator):
    create = client.audio.transcriptions.create
    file = ("x.wav", WAV)
    plain = await create(model="gpt-4o-transcribe", file=file, include=["logprobs"])
    assert plain.text == emulator.text
    assert plain.logprobs
    assert plain.usage is not None
    assert plain.usage.type == "tokens"
    verbose = await create(
        model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert verbose.duration == 3.25
    assert verbose.segments
    assert verbose.words
    diarized = await create(
        model="gpt-4o-transcribe-diarize", file=file, response_format="diarized_json",
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
    )  # fmt: skip
    assert [segment.speaker for segment in diarized.segments] == ["A", "B"]
    assert emulator.records[-1].field("chunking_strategy[threshold]") == "0.5"
    for response_format, start in (
        ("text", "Hello"),
        ("srt", "1\n00:00:00,000 --> "),
        ("vtt", "WEBVTT\n\n00:00:00.000"),
    ):
        assert str(await create(model="whisper-1", file=file, response_format=response_format)).startswith(start)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        translated = await client.audio.translations.create(model="whisper-1", file=file)
    assert translated.text == emulator.text
    assert all(record.complete for record in emulator.records)


async def test_the_official_client_understands_its_refusals(client: sdk.AsyncOpenAI, emulator: OpenAIEmulator):
    create = client.audio.transcriptions.create
    with pytest.raises(sdk.BadRequestError, match="Invalid file format"):
        await create(model="whisper-1", file=("x", WAV))
    with pytest.raises(sdk.BadRequestError) as caught:
        await create(model="gpt-4o-transcribe", file=("x.wav", WAV), response_format="srt")
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_value")
    with pytest.raises(sdk.NotFoundError):
        await create(model="whisper-9", file=("x.wav", WAV))
    with pytest.raises(sdk.BadRequestError, match="Unknown field"):
        await create(model="whisper-1", file=("x.wav", WAV), extra_body={"beam_size": 5})
    emulator.key = "another"
    with pytest.raises(sdk.AuthenticationError):
        await create(model="whisper-1", file=("x.wav", WAV))
    emulator.script("429")
    with pytest.raises(sdk.RateLimitError):
        await create(model="whisper-1", file=("x.wav", WAV))
