"""Azure AI Speech: what is sent for which option, and when."""

import asyncio
import hashlib
import io
import json
import wave

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config.models import split_model
from voxgate_server.providers.azure_speech import AzureSpeechProvider, build
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.registry import PROVIDERS, build_for_caller

from tests.providers.azure_speech_emulator import KEY, PATH, AzureSpeechEmulator, failure
from tests.providers.calling import WAV, attempt_with
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run


def sent(emulator: AzureSpeechEmulator) -> dict[str, str]:
    """The parameters of the last call, without those that every call has."""
    fields = dict(emulator.records[-1].fields)
    assert fields.pop("format") == "detailed"
    assert fields.pop("wordLevelTimestamps") == "true"
    return fields


def silence(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(int(seconds * 16_000)))
    return file.getvalue()


class TestAsking:
    async def test_a_plain_call(self, dictate: ProviderCalling, azure: AzureSpeechEmulator):
        assert (await dictate(extra_headers={"X-Team": "speech"})).text == azure.text
        [record] = azure.records
        assert (record.method, record.path) == (
            "POST", f"{PATH}?language=en-US&format=detailed&wordLevelTimestamps=true",
        )  # fmt: skip
        assert record.file_sha256 == hashlib.sha256(WAV).hexdigest()
        assert record.complete
        assert record.headers == {
            "host": azure.origin.partition("//")[2],
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "voxgate",
            "ocp-apim-subscription-key": KEY,
            "content-type": "audio/wav",
            "content-length": str(len(WAV)),
            "x-team": "speech",
        }
        assert dictate.attempt is not None
        assert dictate.attempt.report.http_status == 200

    @pytest.mark.parametrize(
        ("config", "fields"),
        [
            ('language: "de"', {"language": "de-DE"}),
            ('language: "de-AT"', {"language": "de-AT"}),
            ('language: "DE_at"', {"language": "de-AT"}),
            ('languages: "fr"', {"language": "fr-FR"}),
            ('language: "no"', {"language": "nb-NO"}),
            ('language: "zh"', {"language": "zh-CN"}),
            ('language: "es-419"', {"language": "es-419"}),
            ('language: "sr-latn-rs"', {"language": "sr-Latn-RS"}),
            ("timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", {"language": "en-US"}),
            ("chunking_strategy { auto {} }", {"language": "en-US"}),
            (extras(profanity="raw"), {"language": "en-US", "profanity": "raw"}),
        ],
    )
    async def test_every_option(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, config: str, fields: dict[str, str]
    ):
        await dictate(config)
        assert sent(azure) == fields
        assert dictate.attempt is not None
        assert not dictate.attempt.dropped_params

    REFUSED = (
        ('languages: ["de", "en"]', "languages"),
        ('prompt: "x"', "prompt"),
        ('keywords: "x"', "keywords"),
        ("temperature: 0", "temperature"),
        ("include: INCLUDE_LOGPROBS", "include"),
        ("chunking_strategy { server_vad { threshold: 0.5 } }", "chunking_strategy"),
        ('known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
        (extras(cid="x"), "cid"),
        (extras(format="simple"), "format"),
    )

    @pytest.mark.parametrize(
        ("config", "option"),
        [*REFUSED, ("task: TRANSCRIPTION_TASK_TRANSLATE", "task"), (DIARIZED, "response_format")],
    )
    async def test_what_it_cannot_is_refused_by_name(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, config: str, option: str
    ):
        with pytest.raises(errors.UnsupportedParameter, match=option) as caught:
            await dictate(config)
        assert caught.value.param == option
        assert not azure.connections

    @pytest.mark.parametrize(("config", "option"), REFUSED)
    async def test_or_left_out_and_reported(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, config: str, option: str
    ):
        await dictate(config, drop_params=True)
        assert dictate.attempt is not None
        assert dictate.attempt.dropped_params == [option]
        assert sent(azure) == {"language": "en-US"}

    async def test_parameters_of_the_deployment(self, dictate: ProviderCalling, azure: AzureSpeechEmulator):
        defaults = {"language": "de-DE", "cid": "0f1c", "profanity": None}
        await dictate(default_params=defaults)
        assert sent(azure) == {"language": "de-DE", "cid": "0f1c"}
        await dictate('language: "fr"', default_params=defaults)
        assert sent(azure) == {"language": "fr-FR", "cid": "0f1c"}
        await dictate(extras(cid="mine"), allowed_extra_params=["cid"])
        assert sent(azure) == {"language": "en-US", "cid": "mine"}

    async def test_ogg(self, dictate: ProviderCalling, azure: AzureSpeechEmulator):
        await dictate(data=b"OggS" + bytes(40))
        assert azure.records[0].headers["content-type"] == "audio/ogg; codecs=opus"

    @pytest.mark.parametrize(
        ("data", "header"),
        [
            (b"fLaC" + bytes(40), ""),
            (b"ID3" + bytes(40), ""),
            (bytes(100), "raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 }"),
        ],
    )
    async def test_other_audio_is_refused(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, data: bytes, header: str
    ):
        with pytest.raises(errors.UnsupportedAudio, match="WAV"):
            await dictate(data=data, audio=text_format.Parse(header, AudioHeader()))
        assert not azure.connections

    async def test_more_than_a_minute_is_refused(self, dictate: ProviderCalling, azure: AzureSpeechEmulator):
        await dictate(data=silence(60.4))
        with pytest.raises(errors.AudioTooLarge, match=r"61 s.*azure_speech.*60 s") as caught:
            await dictate(data=silence(61))
        assert caught.value.metadata["limit_seconds"] == "60"
        assert len(azure.records) == 1

    async def test_capabilities(self):
        provider = AzureSpeechProvider(model="standard", api_key=KEY, api_base="https://x.example")
        able = provider.capabilities
        assert (provider.name, provider.model) == ("azure_speech", "standard")
        assert len(able.response_formats) == 5
        assert len(able.timestamp_granularities) == 2
        assert able.needs_length
        assert not any([able.diarization, able.logprobs, able.translation, able.streaming, able.live])
        assert (able.max_audio_bytes, able.max_audio_duration.seconds) == (0, 60)
        assert list(able.media_types) == ["audio/ogg", "audio/wav"]
        assert set(able.options) == {"chunking_strategy", "language", "profanity", "timestamp_granularities"}
        await provider.aclose()

    async def test_raw_payloads(self, dictate: ProviderCalling):
        await dictate('debug { include_raw_request: true include_raw_response: true } language: "de"')
        assert dictate.attempt is not None
        request, response = dictate.attempt.raw_request, dictate.attempt.raw_response
        assert request is not None
        assert json.loads(request.data)["language"] == "de-DE"
        assert response is not None
        assert json.loads(response.data)["RecognitionStatus"] == "Success"


class TestSending:
    async def test_azure_is_asked_once_the_recording_is_whole(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, dictate.provider() as provider:
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            await spool.write(WAV[:50_000])
            await spool.write(WAV[50_000:])
            assert not azure.connections
            spool.finish()
            assert (await call).text == azure.text
        assert azure.records[0].head.framing == "length"
        assert azure.records[0].file_sha256 == hashlib.sha256(WAV).hexdigest()

    async def test_an_upload_that_breaks_off_never_gets_there(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, dictate.provider() as provider:
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            await spool.write(WAV)
            spool.fail(errors.UploadIncomplete("The upload broke off."))
            with pytest.raises(errors.UploadIncomplete):
                await call
        assert not azure.connections

    async def test_the_deadline_while_the_caller_sends(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, dictate.provider() as provider:
            await spool.write(WAV)
            with pytest.raises(errors.DeadlineExceeded, match="once it is whole"):
                await run(provider, attempt_with(spool, seconds=0.2))
        assert not azure.connections

    async def test_cancelling_closes_the_connection(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        azure.script("hang")
        async with store.open(max_bytes=1 << 30) as spool, dictate.provider() as provider:
            await spool.write(WAV)
            spool.finish()
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            record = await azure.record()
            await record.body_ended.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await record.peer_closed.wait()

    async def test_a_fallback_gets_the_same_bytes(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        azure.script(failure(503))
        async with store.open(max_bytes=1 << 30) as spool, dictate.provider() as provider:
            await spool.write(WAV)
            spool.finish()
            with pytest.raises(errors.ProviderUnavailable):
                await run(provider, attempt_with(spool))
            await run(provider, attempt_with(spool))
        assert {record.file_sha256 for record in azure.records} == {hashlib.sha256(WAV).hexdigest()}


class TestBuilding:
    def params(self, environ: dict | None = None, **kwargs) -> ProviderParams:
        return ProviderParams("azure_speech", "standard", environ=environ or {}, **kwargs)

    async def text(self, provider: AzureSpeechProvider, store: SpoolStore) -> str:
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            try:
                return (await run(provider, attempt_with(spool))).text
            finally:
                await provider.aclose()

    @pytest.mark.parametrize("tail", ["", "/", PATH])
    async def test_from_the_environment(self, azure: AzureSpeechEmulator, store: SpoolStore, tail: str):
        environ = {"AZURE_SPEECH_API_KEY": KEY, "AZURE_SPEECH_API_BASE": azure.origin + tail}
        assert await self.text(build(self.params(environ)), store) == azure.text

    async def test_what_is_written_comes_first(self, azure: AzureSpeechEmulator, store: SpoolStore):
        environ = {"AZURE_SPEECH_API_KEY": "another", "AZURE_SPEECH_API_BASE": "http://127.0.0.1:1"}
        values = {"api_key": KEY, "api_base": azure.origin, "region_name": "westeurope"}
        assert await self.text(build(self.params(environ, values=values)), store) == azure.text

    @pytest.mark.parametrize(
        "values",
        [
            {"region_name": "westeurope"},
            {"api_base": "https://westeurope.api.cognitive.microsoft.com/"},
            {"api_base": "https://westeurope.stt.speech.microsoft.com"},
        ],
    )
    async def test_regions(self, values: dict[str, str]):
        environ = {"AZURE_SPEECH_API_BASE": "http://127.0.0.1:1"}
        provider = build(self.params(environ, values={"api_key": KEY, **values}))
        assert provider._url == f"https://westeurope.stt.speech.microsoft.com{PATH}"
        await provider.aclose()

    @pytest.mark.parametrize("region", ["evil.example/", "West Europe", "a@b", ""])
    def test_no_region(self, region: str):
        with pytest.raises(ValueError, match=r"region_name|api_base"):
            build(self.params(values={"api_key": KEY, "region_name": region}))

    def test_something_is_missing(self):
        with pytest.raises(ValueError, match=r"api_key.*AZURE_SPEECH_API_KEY"):
            build(self.params({"HOME": "x"}))
        with pytest.raises(ValueError, match=r"api_base.*AZURE_SPEECH_API_BASE"):
            build(self.params({"AZURE_SPEECH_API_KEY": KEY}))
        with pytest.raises(ValueError, match="api_key"):
            build_for_caller("azure_speech", "standard", {})

    async def test_a_host_of_a_callers_choice_is_dialled_as_judged(self, azure: AzureSpeechEmulator, store: SpoolStore):
        values = {"api_key": KEY, "api_base": azure.origin}
        provider = build_for_caller("azure_speech", "standard", values, networks=())
        assert isinstance(provider, AzureSpeechProvider)
        with pytest.raises(errors.PermissionDenied, match="does not permit"):
            await self.text(provider, store)
        assert not azure.connections

    def test_its_names(self):
        assert PROVIDERS["azure_speech"] == "azure_speech:build"
        assert split_model("azure_speech/standard") == ("azure_speech", "standard")
        assert split_model("azure/speech/azure-stt") == ("azure_speech", "azure-stt")
        assert split_model("speech/azure-stt", "azure") == ("azure_speech", "azure-stt")
        assert split_model("azure/speech") == ("azure", "speech")
        assert split_model("azure/speech/") == ("azure", "speech/")
        assert split_model("azure/my-speech/x") == ("azure", "my-speech/x")

    @pytest.mark.parametrize(
        ("kwargs", "said"),
        [
            ({"api_base": "file:///etc/passwd"}, "http"),
            ({"api_base": "https://user:secret@host"}, "user"),
            ({"extra_headers": {"Content-Type": "audio/wav"}}, "content-type"),
            ({"api_key": "k\r\nx: y"}, "subscription-key"),
            ({"allowed_extra_params": ["format"]}, "format"),
            ({"default_params": {"wordLevelTimestamps": False}}, "wordLevelTimestamps"),
        ],
    )
    def test_what_an_operator_may_not_configure(self, kwargs: dict, said: str):
        with pytest.raises(ValueError, match=said) as caught:
            AzureSpeechProvider(**{"model": "x", "api_key": KEY, "api_base": "https://x.example", **kwargs})
        assert "secret" not in str(caught.value)
