"""ElevenLabs: what is sent for which option, and when."""

import asyncio
import hashlib
import json

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.elevenlabs import ElevenLabsProvider, build
from voxgate_server.providers.registry import PROVIDERS, build_for_caller

from tests.providers.calling import WAV, attempt_with
from tests.providers.elevenlabs_emulator import KEY, ElevenLabsEmulator, failure
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run


def sent(emulator: ElevenLabsEmulator) -> dict[str, list[str]]:
    """The fields of the last call, without those that every call has."""
    record = emulator.records[-1]
    values = {name: record.values(name) for name, _ in record.fields}
    assert len(values.pop("model_id")) == 1
    assert values.pop("timestamps_granularity") == ["word"]
    return values


async def test_a_plain_call(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    result = await scribe(extra_headers={"X-Team": "speech"})
    assert result.text == elevenlabs.text
    [record] = elevenlabs.records
    assert (record.method, record.path) == ("POST", "/v1/speech-to-text")
    assert record.fields == [("model_id", "scribe_v2"), ("timestamps_granularity", "word")]
    assert record.order[-1] == "file"
    assert (record.filename, record.file_type) == ("audio.wav", "audio/wav")
    assert record.file_sha256 == hashlib.sha256(WAV).hexdigest()
    assert record.complete
    headers = dict(record.headers)
    assert headers.pop("content-type").startswith("multipart/form-data; boundary=voxgate-")
    assert int(headers.pop("content-length")) > len(WAV)
    assert headers == {
        "host": elevenlabs.origin.partition("//")[2],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "xi-api-key": KEY,
        "x-team": "speech",
    }
    assert scribe.attempt is not None
    assert scribe.attempt.report.http_status == 200
    assert set(scribe.attempt.response_headers) == {"request-id", "x-trace-id"}


OPTIONS = [
    ('language: "de"', {"language_code": ["de"]}),
    ('language: "de-AT"', {"language_code": ["de"]}),
    ('language: "PT_br"', {"language_code": ["pt"]}),
    ('language: "deu"', {"language_code": ["deu"]}),
    ('languages: "de"', {"language_code": ["de"]}),
    ('languages: ["de", "en"]', {"language_code": ["de"], "secondary_language_codes": ["en"]}),
    ('language: "fr" languages: ["de", "fr", "en"]', {
        "language_code": ["fr"], "secondary_language_codes": ["de", "en"],
    }),
    ('keywords: ["voxgate", "A & B = ü"]', {"keyterms": ["voxgate", "A & B = ü"]}),
    ('keywords: "a" ' + extras(keyterms=["b"]), {"keyterms": ["a", "b"]}),
    ('keywords: "a" ' + extras(keyterms="b"), {"keyterms": ["a", "b"]}),
    ("temperature: 0", {"temperature": ["0.0"]}),
    ("temperature: 0.25", {"temperature": ["0.25"]}),
    ("timestamp_granularities: [TIMESTAMP_GRANULARITY_WORD, TIMESTAMP_GRANULARITY_SEGMENT]", {}),
    ("include: INCLUDE_LOGPROBS", {}),
    ("chunking_strategy { auto {} }", {}),
    (DIARIZED, {"diarize": ["true"]}),
    (DIARIZED + extras(diarize=False), {"diarize": ["true"]}),
    (DIARIZED + extras(use_multi_channel=True), {"use_multi_channel": ["true"]}),
    (DIARIZED + extras(use_multi_channel="false"), {"use_multi_channel": ["false"], "diarize": ["true"]}),
    (extras(diarize=True, num_speakers=3, diarization_threshold=0.25), {
        "diarize": ["true"], "num_speakers": ["3"], "diarization_threshold": ["0.25"],
    }),
    (extras(tag_audio_events=False, no_verbatim=True, numbers_format="digits", seed=7), {
        "tag_audio_events": ["false"], "no_verbatim": ["true"], "numbers_format": ["digits"], "seed": ["7"],
    }),
    (extras(use_multi_channel=True, multichannel_output_style="combined"), {
        "use_multi_channel": ["true"], "multichannel_output_style": ["combined"],
    }),
    ('language: "de" ' + extras(secondary_language_codes=["en"]), {
        "language_code": ["de"], "secondary_language_codes": ["en"],
    }),
    (extras(seed=None), {}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "fields"), OPTIONS)
async def test_every_option(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, config: str, fields: dict):
    await scribe(config)
    assert sent(elevenlabs) == fields
    assert scribe.attempt is not None
    assert not scribe.attempt.dropped_params


REFUSED = [
    ('prompt: "x"', "prompt"),
    ("chunking_strategy { server_vad { threshold: 0.5 } }", "chunking_strategy"),
    ('known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
    (extras(beam_size=5), "beam_size"),
    (extras(entity_detection="all"), "entity_detection"),
    (extras(enable_logging=False), "enable_logging"),
    (extras(source_url="https://elsewhere.example/"), "source_url"),
    (extras(webhook=True), "webhook"),
    (extras(model_id="scribe_v1"), "model_id"),
    (extras(timestamps_granularity="none"), "timestamps_granularity"),
]


@pytest.mark.parametrize(("config", "option"), [*REFUSED, ("task: TRANSCRIPTION_TASK_TRANSLATE", "task")])
async def test_what_it_cannot_is_refused_by_name(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, config: str, option: str
):
    with pytest.raises(errors.UnsupportedParameter, match=f"'{option}'") as caught:
        await scribe(config)
    assert caught.value.param == option
    assert "scribe_v2" in caught.value.message
    assert not elevenlabs.connections


@pytest.mark.parametrize(("config", "option"), REFUSED)
async def test_or_left_out_and_reported(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, config: str, option: str
):
    await scribe(config, drop_params=True)
    assert scribe.attempt is not None
    assert scribe.attempt.dropped_params == [option]
    assert not sent(elevenlabs)


@pytest.mark.parametrize("drop_params", [False, True])
async def test_an_extra_parameter_with_the_name_of_an_option(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, drop_params: bool
):
    with pytest.raises(errors.InvalidRequest) as caught:
        await scribe(extras(temperature=1), drop_params=drop_params)
    assert caught.value.param == "temperature"
    assert not elevenlabs.connections


async def test_what_the_operator_allows_besides(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    config = extras(entity_detection=["pii"], additional_formats=[{"format": "srt"}], enable_logging=False)
    await scribe(config, allowed_extra_params=["entity_detection", "additional_formats", "enable_logging"])
    assert sent(elevenlabs) == {"entity_detection": ['["pii"]'], "additional_formats": ['[{"format":"srt"}]']}
    assert elevenlabs.records[0].path == "/v1/speech-to-text?enable_logging=false"


DEFAULTS = [
    ("", {"language_code": "de", "seed": 7, "keyterms": ["a", "b"], "no_verbatim": True, "temperature": None},
     {"language_code": ["de"], "seed": ["7"], "keyterms": ["a", "b"], "no_verbatim": ["true"]}),
    ("", {"entity_redaction": ["pii"]}, {"entity_redaction": ['["pii"]']}),
    ('language: "fr"', {"language_code": "de", "secondary_language_codes": ["en"]}, {"language_code": ["fr"]}),
    ("temperature: 1", {"temperature": 0.5}, {"temperature": ["1.0"]}),
    (DIARIZED, {"diarize": False}, {"diarize": ["true"]}),
    (DIARIZED, {"use_multi_channel": True}, {"use_multi_channel": ["true"]}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "defaults", "fields"), DEFAULTS)
async def test_parameters_of_the_deployment_go_with_every_request_unless_the_caller_sets_them(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, config: str, defaults: dict, fields: dict
):
    await scribe(config, default_params=defaults)
    assert sent(elevenlabs) == fields


async def test_privacy_is_the_operators(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    kwargs = {"default_params": {"enable_logging": False}, "allowed_extra_params": ["enable_logging"]}
    with pytest.raises(errors.UnsupportedParameter, match="enable_logging"):
        await scribe(extras(enable_logging=True), **kwargs)
    assert not elevenlabs.connections
    await scribe(extras(enable_logging=True), drop_params=True, **kwargs)
    assert elevenlabs.records[0].path == "/v1/speech-to-text?enable_logging=false"


async def test_headerless_audio(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    header = text_format.Parse(
        "raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 }", AudioHeader()
    )
    assert (await scribe(data=WAV[44:], audio=header)).text == elevenlabs.text
    assert sent(elevenlabs) == {"file_format": ["pcm_s16le_16"]}
    assert elevenlabs.records[0].file_type == "application/octet-stream"


@pytest.mark.parametrize(
    "raw_format",
    ["PCM_S16LE sample_rate_hertz: 8000", "PCM_S16LE sample_rate_hertz: 16000 channel_count: 2",
     "MULAW sample_rate_hertz: 16000", "OPUS sample_rate_hertz: 48000"],
)  # fmt: skip
async def test_other_headerless_audio_is_refused(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, raw_format: str
):
    header = text_format.Parse(f"raw_format {{ encoding: AUDIO_ENCODING_{raw_format} }}", AudioHeader())
    with pytest.raises(errors.UnsupportedAudio, match="16000 Hz"):
        await scribe(audio=header)
    assert not elevenlabs.connections


@pytest.mark.parametrize(
    ("data", "name", "filename", "media_type"),
    [
        (b"fLaC" + bytes(20), "x.mp3", "audio.flac", "audio/flac"),
        (b"\x1aE\xdf\xa3" + bytes(20), "x.mkv", "audio.webm", "audio/webm"),
        (bytes(4) + b"ftypM4A " + bytes(20), "video.mp4", "audio.m4a", "audio/mp4"),
    ],
)
async def test_the_type_is_told_by_the_bytes(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, data: bytes, name: str, filename: str, media_type: str
):
    await scribe(data=data, audio=AudioHeader(filename=name, media_type="video/mp4"))
    assert (elevenlabs.records[0].filename, elevenlabs.records[0].file_type) == (filename, media_type)


async def test_too_large_is_known_beforehand(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    with pytest.raises(errors.AudioTooLarge, match=r"elevenlabs.*1000"):
        await scribe(max_audio_bytes=1000)
    with pytest.raises(errors.AudioTooLarge, match=r"elevenlabs.*3000000000"):
        await scribe(audio=AudioHeader(size_bytes=3_000_000_001))
    assert not elevenlabs.connections


async def test_capabilities():
    provider = ElevenLabsProvider(model="scribe_v2", api_key=KEY)
    able = provider.capabilities
    assert (provider.name, provider.model) == ("elevenlabs", "scribe_v2")
    assert len(able.response_formats) == 6
    assert len(able.timestamp_granularities) == 2
    assert able.diarization
    assert able.logprobs
    assert not any([able.translation, able.streaming, able.live, able.needs_length])
    assert (able.max_audio_bytes, able.max_audio_duration.seconds) == (3_000_000_000, 36_000)
    assert {"audio/wav", "audio/webm", "audio/aac"} <= set(able.media_types)
    assert {"language", "languages", "keywords", "include", "temperature", "diarize"} <= set(able.options)
    assert not {"prompt", "known_speaker_names", "webhook", "file", "enable_logging"} & set(able.options)
    await provider.aclose()


async def test_raw_payloads(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    await scribe('debug { include_raw_request: true include_raw_response: true } language: "de"')
    assert scribe.attempt is not None
    request, response = scribe.attempt.raw_request, scribe.attempt.raw_response
    assert request is not None
    assert json.loads(request.data) == {
        "query": "", "fields": [["model_id", "scribe_v2"], ["language_code", "de"], ["timestamps_granularity", "word"]],
        "file": {"filename": "audio.wav", "content_type": "audio/wav"},
    }  # fmt: skip
    assert response is not None
    assert json.loads(response.data)["language_code"] == "deu"


class TestBuilding:
    def params(self, environ: dict | None = None, **kwargs) -> ProviderParams:
        return ProviderParams("elevenlabs", "scribe_v2", environ=environ or {}, **kwargs)

    async def text(self, provider: ElevenLabsProvider, store: SpoolStore) -> str:
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            try:
                return (await run(provider, attempt_with(spool))).text
            finally:
                await provider.aclose()

    async def test_from_the_environment(self, elevenlabs: ElevenLabsEmulator, store: SpoolStore):
        environ = {"ELEVENLABS_API_KEY": KEY, "ELEVENLABS_API_BASE": f"{elevenlabs.origin}/"}
        assert await self.text(build(self.params(environ)), store) == elevenlabs.text

    async def test_what_is_written_comes_first(self, elevenlabs: ElevenLabsEmulator, store: SpoolStore):
        environ = {"ELEVENLABS_API_KEY": "another", "ELEVENLABS_API_BASE": "http://127.0.0.1:1"}
        values = {"api_key": KEY, "api_base": elevenlabs.origin}
        assert await self.text(build(self.params(environ, values=values)), store) == elevenlabs.text

    def test_there_is_no_key(self):
        with pytest.raises(ValueError, match=r"api_key.*ELEVENLABS_API_KEY"):
            build(self.params({"HOME": "x"}))
        with pytest.raises(ValueError, match="api_key"):
            build_for_caller("elevenlabs", "scribe_v2", {})

    async def test_a_host_of_a_callers_choice_is_dialled_as_judged(
        self, elevenlabs: ElevenLabsEmulator, store: SpoolStore
    ):
        values = {"api_key": KEY, "api_base": elevenlabs.origin}
        provider = build_for_caller("elevenlabs", "scribe_v2", values, networks=())
        assert isinstance(provider, ElevenLabsProvider)
        with pytest.raises(errors.PermissionDenied, match="does not permit"):
            await self.text(provider, store)
        assert not elevenlabs.connections

    def test_it_is_registered(self):
        assert PROVIDERS["elevenlabs"] == "elevenlabs:build"

    @pytest.mark.parametrize(
        ("kwargs", "said"),
        [
            ({"api_base": "file:///etc/passwd"}, "http"),
            ({"api_base": "https://user:secret@host"}, "user"),
            ({"extra_headers": {"Content-Type": "audio/wav"}}, "content-type"),
            ({"api_key": "k\r\nx: y"}, "xi-api-key"),
            ({"allowed_extra_params": ["source_url"]}, "source_url"),
            ({"default_params": {"webhook": True}}, "webhook"),
            ({"default_params": {"seed": object()}}, "."),
        ],
    )
    def test_what_an_operator_may_not_configure(self, kwargs: dict, said: str):
        with pytest.raises(ValueError, match=said) as caught:
            ElevenLabsProvider(**{"model": "scribe_v2", "api_key": KEY, **kwargs})
        assert "secret" not in str(caught.value)


async def test_elevenlabs_reads_while_the_caller_sends(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, store: SpoolStore
):
    data = WAV * 20
    async with store.open(max_bytes=1 << 30) as spool, scribe.provider() as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(data[:100_000])
        record = await elevenlabs.record()
        await record.first_file_byte.wait()
        assert not spool.finished
        await spool.write(data[100_000:])
        assert not record.body_ended.is_set()
        spool.finish()
        assert (await call).text == elevenlabs.text
    assert record.head.framing == "chunked"
    assert record.complete
    assert record.file_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [5000, 100_000])
async def test_an_upload_that_breaks_off_is_never_completed(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, store: SpoolStore, size: int
):
    async with store.open(max_bytes=1 << 30) as spool, scribe.provider() as provider:
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        await spool.write(WAV[:size])
        record = await elevenlabs.record()
        await record.first_file_byte.wait()
        spool.fail(errors.UploadIncomplete("The upload broke off."))
        with pytest.raises(errors.UploadIncomplete):
            await call
        await record.body_ended.wait()
    assert not record.complete
    assert record.status is None


@pytest.mark.parametrize("finished", [False, True])
async def test_cancelling_closes_the_connection(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, store: SpoolStore, finished: bool
):
    elevenlabs.script("hang")
    async with store.open(max_bytes=1 << 30) as spool, scribe.provider() as provider:
        await spool.write(WAV)
        if finished:
            spool.finish()
        call = asyncio.create_task(run(provider, attempt_with(spool)))
        record = await elevenlabs.record()
        await (record.body_ended if finished else record.first_file_byte).wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await record.peer_closed.wait()
    assert record.complete == finished


async def test_a_fallback_gets_the_same_bytes(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, store: SpoolStore
):
    elevenlabs.script(failure(503))
    async with store.open(max_bytes=1 << 30) as spool, scribe.provider() as provider:
        await spool.write(WAV)
        spool.finish()
        with pytest.raises(errors.ProviderUnavailable):
            await run(provider, attempt_with(spool))
        await run(provider, attempt_with(spool))
    assert {record.file_sha256 for record in elevenlabs.records} == {hashlib.sha256(WAV).hexdigest()}
    assert elevenlabs.connections == 1
