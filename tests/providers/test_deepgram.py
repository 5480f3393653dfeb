"""Deepgram: what is sent for which option, and when."""

import asyncio
import hashlib
import json

import pytest
from google.protobuf import text_format
from google.protobuf.struct_pb2 import Struct
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.deepgram import DeepgramProvider, build
from voxgate_server.providers.registry import PROVIDERS, build_for_caller

from tests.providers.calling import WAV, attempt_with
from tests.providers.deepgram_calling import DeepgramCalling, deepgram_at, run
from tests.providers.deepgram_emulator import KEY, DeepgramEmulator, failure

DIARIZED = "response_format: RESPONSE_FORMAT_DIARIZED_JSON "


def extras(**values: object) -> str:
    """A configuration with `extra_params`."""
    struct = Struct()
    struct.update(values)  # type: ignore[arg-type]
    return f"extra_params {{ {text_format.MessageToString(struct, as_one_line=True)} }}"


async def test_a_plain_call(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    result = await listen(extra_headers={"X-Team": "speech"})
    assert result.text == deepgram.text
    [record] = deepgram.records
    assert (record.method, record.path) == (
        "POST", "/v1/listen?model=nova-3&punctuate=true&smart_format=true&utterances=true&detect_language=true",
    )  # fmt: skip
    assert record.file_sha256 == hashlib.sha256(WAV).hexdigest()
    assert record.complete
    assert record.headers == {
        "host": deepgram.origin.partition("//")[2],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "authorization": f"Token {KEY}",
        "content-type": "audio/wav",
        "content-length": str(len(WAV)),
        "x-team": "speech",
    }
    assert listen.attempt is not None
    assert listen.attempt.report.http_status == 200
    assert set(listen.attempt.response_headers) == {"dg-request-id"}


OPTIONS = [
    ("nova-3", 'language: "de"', {"language": ["de"]}),
    ("nova-3", 'language: "de-AT"', {"language": ["de"]}),
    ("nova-3", 'language: "PT_br"', {"language": ["pt-BR"]}),
    ("nova-3", 'language: "es-419"', {"language": ["es-419"]}),
    ("nova-3", 'language: "hi-latn"', {"language": ["hi-Latn"]}),
    ("nova-3", 'language: "multi"', {"language": ["multi"]}),
    ("nova-3", 'languages: "de"', {"language": ["de"]}),
    ("nova-3", 'language: "de" languages: "de"', {"language": ["de"]}),
    ("nova-3", 'languages: ["de", "en"]', {"detect_language": ["de", "en"]}),
    ("nova-2", 'language: "fr" languages: ["de", "fr"]', {"detect_language": ["fr", "de"]}),
    ("nova-3", 'language: "multi" languages: ["de", "da"]', {"language": ["multi"], "language_hint": ["de", "da"]}),
    ("nova-3-medical", 'languages: "en"', {"language": ["en"]}),
    ("nova-3", 'keywords: ["voxgate", "A & B = ü"]', {"keyterm": ["voxgate", "A & B = ü"]}),
    ("nova-2", 'keywords: ["voxgate", "gRPC:2"]', {"keywords": ["voxgate", "gRPC:2"]}),
    ("nova-3", 'keywords: "a" ' + extras(keyterm=["b"]), {"keyterm": ["a", "b"]}),
    ("nova-3", "timestamp_granularities: [TIMESTAMP_GRANULARITY_WORD, TIMESTAMP_GRANULARITY_SEGMENT]", {}),
    ("nova-3", "chunking_strategy { auto {} }", {}),
    ("nova-3", DIARIZED, {"diarize_model": ["latest"]}),
    ("whisper-large", DIARIZED, {"diarize": ["true"]}),
    (
        "nova-3", DIARIZED + extras(diarize=True, utterances=False),
        {"diarize": ["true"]},
    ),
    ("nova-3", DIARIZED + extras(diarize=False), {"diarize_model": ["latest"]}),
    ("nova-3", DIARIZED + extras(diarize_model="v1"), {"diarize_model": ["v1"]}),
    ("nova-3", extras(diarize="true", utt_split="0.5"), {"diarize": ["true"], "utt_split": ["0.5"]}),
    ("nova-3", extras(smart_format=False, punctuate="false"), {"smart_format": ["false"], "punctuate": ["false"]}),
    ("nova-3", extras(detect_language=["en", "es"]), {"detect_language": ["en", "es"]}),
    ("nova-3", 'language: "multi" ' + extras(language_hint=["en"]), {"language": ["multi"], "language_hint": ["en"]}),
    ("nova-3", extras(numerals=True, measurements=True, dictation=True, filler_words=True, profanity_filter=True), {
        name: ["true"] for name in ("numerals", "measurements", "dictation", "filler_words", "profanity_filter")
    }),
    ("nova-3", extras(redact=["pci", "ssn"], replace="a:b", tag=["x"], version="latest", mip_opt_out=True), {
        "redact": ["pci", "ssn"], "replace": ["a:b"], "tag": ["x"], "version": ["latest"], "mip_opt_out": ["true"],
    }),
    ("nova-3", extras(multichannel=True, paragraphs=True), {"multichannel": ["true"], "paragraphs": ["true"]}),
    ("nova-3", extras(tag=None), {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "config", "sent"), OPTIONS)
async def test_every_option(listen: DeepgramCalling, model: str, config: str, sent: dict):
    await listen(config, model)
    assert listen.query == sent
    assert listen.attempt is not None
    assert not listen.attempt.dropped_params


@pytest.mark.parametrize(
    ("model", "detected"),
    [("nova-3", True), ("nova-3-general", True), ("nova-2", True), ("whisper-large", True), ("base", True),
     ("nova-3-medical", False), ("nova-2-phonecall", False)],
)  # fmt: skip
async def test_the_language_is_found_out_where_nobody_says_it(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, model: str, detected: bool
):
    result = await listen("", model)
    assert deepgram.records[0].values("detect_language") == ["true"] * detected
    # What Deepgram did not say is not made up.
    assert result.HasField("language") == detected


async def test_a_custom_model_is_asked_for_nothing_it_may_not_know():
    provider = DeepgramProvider(model="0f1c3e7a-0000-4000-8000-000000000000", api_key=KEY)
    assert {"keywords", "diarize"} <= set(provider.capabilities.options)
    assert not {"languages", "detect_language"} & set(provider.capabilities.options)
    await provider.aclose()


REFUSED = [
    ("nova-3", 'prompt: "x"', "prompt"),
    ("nova-3", "temperature: 0", "temperature"),
    ("nova-3", "include: INCLUDE_LOGPROBS", "include"),
    ("nova-3", "chunking_strategy { server_vad { threshold: 0.5 } }", "chunking_strategy"),
    ("nova-3", 'known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
    ("nova-3-medical", 'languages: ["de", "en"]', "languages"),
    ("nova-2", 'language: "multi" languages: ["es", "en"]', "languages"),
    ("whisper-large", 'keywords: "x"', "keywords"),
    ("nova-2", extras(keyterm="x"), "keyterm"),
    ("nova-2", extras(language_hint="x"), "language_hint"),
    ("nova-3", extras(beam_size=5), "beam_size"),
    ("nova-3", extras(topics=True), "topics"),
    ("nova-3", extras(search="x"), "search"),
    ("nova-3", extras(callback="https://elsewhere.example/"), "callback"),
    ("nova-3", extras(callback_method="PUT"), "callback_method"),
    ("nova-3", extras(model="base"), "model"),
    ("nova-3", extras(encoding="linear16"), "encoding"),
]


@pytest.mark.parametrize(
    ("model", "config", "option"), [*REFUSED, ("nova-3", "task: TRANSCRIPTION_TASK_TRANSLATE", "task")]
)
async def test_what_a_model_cannot_is_refused_by_name(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, model: str, config: str, option: str
):
    with pytest.raises(errors.UnsupportedParameter, match=f"'{option}'") as caught:
        await listen(config, model)
    assert caught.value.param == option
    assert model in caught.value.message
    assert not deepgram.connections


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_or_left_out_and_reported(listen: DeepgramCalling, model: str, config: str, option: str):
    await listen(config, model, drop_params=True)
    assert listen.attempt is not None
    assert listen.attempt.dropped_params == [option]
    assert option not in listen.query


@pytest.mark.parametrize(
    ("config", "param"),
    [(extras(language="de"), "language"), (extras(temperature=1), "temperature"), (extras(tag={"a": 1}), "tag")],
)
@pytest.mark.parametrize("drop_params", [False, True])
async def test_extra_parameters_that_make_no_sense(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, config: str, param: str, drop_params: bool
):
    with pytest.raises(errors.InvalidRequest) as caught:
        await listen(config, drop_params=drop_params)
    assert caught.value.param == param
    assert not deepgram.connections


async def test_what_the_operator_allows_besides(listen: DeepgramCalling):
    await listen(extras(search=["a", "b"], topics=True), allowed_extra_params=["search", "topics"])
    assert listen.query == {"search": ["a", "b"], "topics": ["true"]}


DEFAULTS = [
    ("", {"language": "de", "numerals": True, "utt_split": 1.5, "search": ["a", "b"], "tag": None},
     {"language": ["de"], "numerals": ["true"], "utt_split": ["1.5"], "search": ["a", "b"]}),
    ("", {"smart_format": False, "utterances": "false"}, {"smart_format": ["false"], "utterances": ["false"]}),
    ("", {"detect_language": ["en", "es"]}, {"detect_language": ["en", "es"]}),
    ('language: "fr"', {"language": "multi", "language_hint": ["de"]}, {"language": ["fr"]}),
    ('languages: ["fr", "de"]', {"language": "de"}, {"detect_language": ["fr", "de"]}),
    (extras(language_hint="fr"), {"language": "multi", "language_hint": ["de"]},
     {"language": ["multi"], "language_hint": ["fr"]}),
    (extras(diarize_model="v1"), {"diarize": True}, {"diarize_model": ["v1"]}),
    (DIARIZED, {"diarize": False, "utterances": False},
     {"diarize_model": ["latest"]}),
    (DIARIZED, {"diarize": True}, {"diarize": ["true"]}),
    ('keywords: "mine"', {"keyterm": "theirs"}, {"keyterm": ["mine"]}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "defaults", "sent"), DEFAULTS)
async def test_parameters_of_the_deployment_go_with_every_request_unless_the_caller_sets_them(
    listen: DeepgramCalling, config: str, defaults: dict, sent: dict
):
    await listen(config, default_params=defaults)
    assert listen.query == sent


@pytest.mark.parametrize(
    ("name", "theirs", "mine"), [("redact", "pci", "numbers"), ("mip_opt_out", True, False), ("tag", "a", "b")]
)
async def test_privacy_and_accounts_are_the_operators(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, name: str, theirs: object, mine: object
):
    with pytest.raises(errors.UnsupportedParameter, match=name):
        await listen(extras(**{name: mine}), default_params={name: theirs})
    assert not deepgram.connections
    await listen(extras(**{name: mine}), default_params={name: theirs}, drop_params=True)
    assert listen.query == {name: ["true" if theirs is True else theirs]}


RAW = [
    ("PCM_S16LE sample_rate_hertz: 16000", {"encoding": ["linear16"], "sample_rate": ["16000"]}),
    ("PCM_S16LE sample_rate_hertz: 44100 channel_count: 1", {"encoding": ["linear16"], "sample_rate": ["44100"]}),
    (
        "MULAW sample_rate_hertz: 8000 channel_count: 2",
        {"encoding": ["mulaw"], "sample_rate": ["8000"], "channels": ["2"]},
    ),
    ("ALAW sample_rate_hertz: 8000", {"encoding": ["alaw"], "sample_rate": ["8000"]}),
]


@pytest.mark.parametrize(("raw_format", "sent"), RAW)
async def test_headerless_audio(listen: DeepgramCalling, deepgram: DeepgramEmulator, raw_format: str, sent: dict):
    header = text_format.Parse(f"raw_format {{ encoding: AUDIO_ENCODING_{raw_format} }}", AudioHeader())
    result = await listen(data=WAV[44:], audio=header)
    assert result.text == deepgram.text
    assert listen.query == sent
    assert deepgram.records[0].headers["content-type"] == "application/octet-stream"
    assert deepgram.records[0].file_sha256 == hashlib.sha256(WAV[44:]).hexdigest()


async def test_packets_of_opus_are_refused(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    header = text_format.Parse("raw_format { encoding: AUDIO_ENCODING_OPUS sample_rate_hertz: 48000 }", AudioHeader())
    with pytest.raises(errors.UnsupportedAudio, match="Ogg"):
        await listen(audio=header)
    assert not deepgram.connections


@pytest.mark.parametrize(
    ("data", "name", "media_type"),
    [
        (b"fLaC" + bytes(20), "x.mp3", "audio/flac"),
        (b"OggS" + bytes(20), "x.wav", "audio/ogg"),
        (b"\x1aE\xdf\xa3" + bytes(20), "x.mkv", "audio/webm"),
        (bytes(4) + b"ftypM4A " + bytes(20), "video.mp4", "audio/mp4"),
        (b"FORM\0\0\0\0AIFF" + bytes(20), "", "audio/aiff"),
    ],
)
async def test_the_type_is_told_by_the_bytes(
    listen: DeepgramCalling, deepgram: DeepgramEmulator, data: bytes, name: str, media_type: str
):
    await listen(data=data, audio=AudioHeader(filename=name, media_type="video/mp4"))
    assert deepgram.records[0].headers["content-type"] == media_type


async def test_too_large_is_known_beforehand(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    with pytest.raises(errors.AudioTooLarge, match=r"deepgram.*1000"):
        await listen(max_audio_bytes=1000)
    with pytest.raises(errors.AudioTooLarge, match=r"deepgram.*2000000000"):
        await listen(audio=AudioHeader(size_bytes=2_000_000_001))
    assert not deepgram.connections


async def test_capabilities():
    provider = DeepgramProvider(model="nova-3", api_key=KEY)
    able = provider.capabilities
    assert (provider.name, provider.model) == ("deepgram", "nova-3")
    assert len(able.response_formats) == 6
    assert len(able.timestamp_granularities) == 2
    assert able.diarization
    assert not any([able.logprobs, able.translation, able.streaming, able.live, able.needs_length])
    assert able.max_audio_bytes == 2_000_000_000
    assert {"audio/wav", "audio/webm", "audio/amr"} <= set(able.media_types)
    assert {"language", "languages", "keywords", "keyterm", "diarize", "multichannel"} <= set(able.options)
    assert not {"prompt", "temperature", "callback", "topics"} & set(able.options)
    await provider.aclose()


async def test_raw_payloads(listen: DeepgramCalling, deepgram: DeepgramEmulator):
    await listen('debug { include_raw_request: true include_raw_response: true } language: "de"')
    assert listen.attempt is not None
    request, response = listen.attempt.raw_request, listen.attempt.raw_response
    assert request is not None
    assert json.loads(request.data) == {
        "model": ["nova-3"], "language": ["de"], "punctuate": ["true"], "smart_format": ["true"],
        "utterances": ["true"], "body": {"content_type": "audio/wav"},
    }  # fmt: skip
    assert response is not None
    assert json.loads(response.data)["metadata"]["duration"] == 7.25


class TestBuilding:
    def params(self, environ: dict | None = None, **kwargs) -> ProviderParams:
        return ProviderParams("deepgram", "nova-3", environ=environ or {}, **kwargs)

    async def test_from_the_environment(self, deepgram: DeepgramEmulator, store: SpoolStore):
        provider = build(self.params({"DEEPGRAM_API_KEY": KEY, "DEEPGRAM_API_BASE": f"{deepgram.url}/"}))
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            assert (await run(provider, attempt_with(spool))).text == deepgram.text
        await provider.aclose()

    async def test_what_is_written_comes_first(self, deepgram: DeepgramEmulator, store: SpoolStore):
        environ = {"DEEPGRAM_API_KEY": "another", "DEEPGRAM_API_BASE": "http://127.0.0.1:1/v1"}
        provider = build(self.params(environ, values={"api_key": KEY, "api_base": deepgram.url}))
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            assert (await run(provider, attempt_with(spool))).text == deepgram.text
        await provider.aclose()

    def test_there_is_no_key(self):
        with pytest.raises(ValueError, match=r"api_key.*DEEPGRAM_API_KEY"):
            build(self.params({"HOME": "x"}))
        with pytest.raises(ValueError, match="api_key"):
            build_for_caller("deepgram", "nova-3", {})

    async def test_a_host_of_a_callers_choice_is_dialled_as_judged(self, deepgram: DeepgramEmulator, store: SpoolStore):
        values = {"api_key": KEY, "api_base": deepgram.url}
        provider = build_for_caller("deepgram", "nova-3", values, networks=())
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            with pytest.raises(errors.PermissionDenied, match="does not permit"):
                await run(provider, attempt_with(spool))
        await provider.aclose()
        assert not deepgram.connections

    def test_it_is_registered(self):
        assert PROVIDERS["deepgram"] == "deepgram:build"

    @pytest.mark.parametrize(
        ("kwargs", "said"),
        [
            ({"api_base": "file:///etc/passwd"}, "http"),
            ({"api_base": "https://user:secret@host/v1"}, "user"),
            ({"extra_headers": {"Content-Type": "audio/wav"}}, "content-type"),
            ({"api_key": "k\r\nx: y"}, "authorization"),
            ({"allowed_extra_params": ["callback"]}, "callback"),
            ({"allowed_extra_params": ["model", "topics"]}, "model"),
            ({"default_params": {"callback": "https://elsewhere.example"}}, "callback"),
            ({"default_params": {"encoding": "linear16"}}, "encoding"),
            ({"default_params": {"tag": {"a": 1}}}, "tag"),
            ({"default_params": {"tag": object()}}, "."),
            ({"model": "flux-general-en"}, "live"),
        ],
    )
    def test_what_an_operator_may_not_configure(self, kwargs: dict, said: str):
        with pytest.raises(ValueError, match=said) as caught:
            DeepgramProvider(**{"model": "nova-3", "api_key": KEY, **kwargs})
        assert "secret" not in str(caught.value)


async def test_deepgram_reads_while_the_caller_sends(deepgram: DeepgramEmulator, store: SpoolStore):
    data = WAV * 20
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(data[:100_000])
        record = await deepgram.record()
        await record.first_file_byte.wait()
        assert not spool.finished
        await spool.write(data[100_000:])
        assert not record.body_ended.is_set()
        spool.finish()
        assert (await call).text == deepgram.text
    assert record.head.framing == "chunked"
    assert record.complete
    assert record.file_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_upload_that_breaks_off_is_never_completed(deepgram: DeepgramEmulator, store: SpoolStore, size: int):
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV[:size])
        record = await deepgram.record()
        await record.first_file_byte.wait()
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
        await record.body_ended.wait()
    assert not record.complete
    assert record.status is None


@pytest.mark.parametrize("finished", [False, True])
async def test_cancelling_closes_the_connection(deepgram: DeepgramEmulator, store: SpoolStore, finished: bool):
    deepgram.script("hang")
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        await spool.write(WAV)
        if finished:
            spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        record = await deepgram.record()
        await (record.body_ended if finished else record.first_file_byte).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert record.complete == finished


async def test_a_fallback_gets_the_same_bytes(deepgram: DeepgramEmulator, store: SpoolStore):
    deepgram.script(failure(503))
    async with store.open(max_bytes=1 << 30) as spool, deepgram_at(deepgram) as provider:
        await spool.write(WAV)
        spool.finish()
        with pytest.raises(errors.ProviderUnavailable):
            await run(provider, attempt_with(spool))
        await run(provider, attempt_with(spool))
    assert {record.file_sha256 for record in deepgram.records} == {hashlib.sha256(WAV).hexdigest()}
    assert deepgram.connections == 1
