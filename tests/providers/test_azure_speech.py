"""Azure AI Speech: what is sent, what is answered, what is refused."""

import asyncio
import hashlib
import io
import json
import wave
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config.models import split_model
from voxgate_server.providers.azure_speech import AzureSpeechProvider, build
from voxgate_server.providers.azure_speech_answer import fill_from_azure_speech
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.registry import PROVIDERS, build_for_caller
from voxgate_server.transcript.subtitles import srt

from tests.providers.azure_speech_emulator import KEY, PATH, AzureSpeechEmulator, failure
from tests.providers.calling import WAV, attempt_with
from tests.providers.emulator import Behaviour
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run

UPSTREAM = Upstream("azure_speech", "standard")


@pytest.fixture
async def azure() -> AsyncIterator[AzureSpeechEmulator]:
    async with AzureSpeechEmulator() as emulator:
        yield emulator


@pytest.fixture
def listen(azure: AzureSpeechEmulator, store: SpoolStore) -> ProviderCalling:
    def make(**kwargs) -> AzureSpeechProvider:
        return AzureSpeechProvider(**{"model": "standard", "api_base": azure.origin, "api_key": KEY, **kwargs})

    return ProviderCalling(azure, store, make)


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
    async def test_a_plain_call(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        assert (await listen(extra_headers={"X-Team": "speech"})).text == azure.text
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
        assert listen.attempt is not None
        assert listen.attempt.report.http_status == 200

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
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, config: str, fields: dict[str, str]
    ):
        await listen(config)
        assert sent(azure) == fields
        assert listen.attempt is not None
        assert not listen.attempt.dropped_params

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
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, config: str, option: str
    ):
        with pytest.raises(errors.UnsupportedParameter, match=option) as caught:
            await listen(config)
        assert caught.value.param == option
        assert not azure.connections

    @pytest.mark.parametrize(("config", "option"), REFUSED)
    async def test_or_left_out_and_reported(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, config: str, option: str
    ):
        await listen(config, drop_params=True)
        assert listen.attempt is not None
        assert listen.attempt.dropped_params == [option]
        assert sent(azure) == {"language": "en-US"}

    async def test_parameters_of_the_deployment(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        defaults = {"language": "de-DE", "cid": "0f1c", "profanity": None}
        await listen(default_params=defaults)
        assert sent(azure) == {"language": "de-DE", "cid": "0f1c"}
        await listen('language: "fr"', default_params=defaults)
        assert sent(azure) == {"language": "fr-FR", "cid": "0f1c"}
        await listen(extras(cid="mine"), allowed_extra_params=["cid"])
        assert sent(azure) == {"language": "en-US", "cid": "mine"}

    async def test_ogg(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        await listen(data=b"OggS" + bytes(40))
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
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, data: bytes, header: str
    ):
        with pytest.raises(errors.UnsupportedAudio, match="WAV"):
            await listen(data=data, audio=text_format.Parse(header, AudioHeader()))
        assert not azure.connections

    async def test_more_than_a_minute_is_refused(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        await listen(data=silence(60.4))
        with pytest.raises(errors.AudioTooLarge, match=r"61 s.*azure_speech.*60 s") as caught:
            await listen(data=silence(61))
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

    async def test_raw_payloads(self, listen: ProviderCalling):
        await listen('debug { include_raw_request: true include_raw_response: true } language: "de"')
        assert listen.attempt is not None
        request, response = listen.attempt.raw_request, listen.attempt.raw_response
        assert request is not None
        assert json.loads(request.data)["language"] == "de-DE"
        assert response is not None
        assert json.loads(response.data)["RecognitionStatus"] == "Success"


class TestSending:
    async def test_azure_is_asked_once_the_recording_is_whole(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, listen.provider() as provider:
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            await spool.write(WAV[:50_000])
            await spool.write(WAV[50_000:])
            assert not azure.connections
            spool.finish()
            assert (await call).text == azure.text
        assert azure.records[0].head.framing == "length"
        assert azure.records[0].file_sha256 == hashlib.sha256(WAV).hexdigest()

    async def test_an_upload_that_breaks_off_never_gets_there(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, listen.provider() as provider:
            call = asyncio.create_task(run(provider, attempt_with(spool)))
            await spool.write(WAV)
            spool.fail(errors.UploadIncomplete("The upload broke off."))
            with pytest.raises(errors.UploadIncomplete):
                await call
        assert not azure.connections

    async def test_the_deadline_while_the_caller_sends(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        async with store.open(max_bytes=1 << 30) as spool, listen.provider() as provider:
            await spool.write(WAV)
            with pytest.raises(errors.DeadlineExceeded, match="once it is whole"):
                await run(provider, attempt_with(spool, seconds=0.2))
        assert not azure.connections

    async def test_cancelling_closes_the_connection(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        azure.script("hang")
        async with store.open(max_bytes=1 << 30) as spool, listen.provider() as provider:
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
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, store: SpoolStore
    ):
        azure.script(failure(503))
        async with store.open(max_bytes=1 << 30) as spool, listen.provider() as provider:
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


def read(body: bytes | str | dict) -> Transcription:
    data = json.dumps(body) if isinstance(body, dict) else body
    result = Transcription()
    fill_from_azure_speech(result, data.encode() if isinstance(data, str) else data, UPSTREAM)
    return result


class TestAnswers:
    @pytest.mark.parametrize("wanted", ["JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT"])
    async def test_every_format_is_made_of_the_same_answer(self, listen: ProviderCalling, wanted: str):
        words = " ".join(
            f'words {{ word: "{word}" start: {1 + i / 2} end: {1.5 + i / 2} }}'
            for i, word in enumerate(["remind", "me", "to", "buy", "5", "pencils"])
        )
        expected = f"""text: "Remind me to buy 5 pencils." {words}
            segments {{ id: 0 start: 1 end: 4 text: "Remind me to buy 5 pencils." }}"""
        result = await listen(f"response_format: RESPONSE_FORMAT_{wanted}")
        assert result == text_format.Parse(expected, Transcription())

    def test_a_simple_answer(self):
        result = read({"RecognitionStatus": "Success", "DisplayText": "Hi.", "Offset": "5000000", "Duration": "1e7"})
        assert result.text == "Hi."
        assert [(item.start, item.end, item.text) for item in result.segments] == [(0.5, 1.5, "Hi.")]

    @pytest.mark.parametrize("status", ["NoMatch", "InitialSilenceTimeout", "BabbleTimeout"])
    def test_silence(self, status: str):
        assert read({"RecognitionStatus": status, "Offset": 0, "Duration": 1}) == Transcription()

    async def test_silence_of_the_emulator(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        azure.text = ""
        assert not (await listen()).text

    @pytest.mark.parametrize(
        ("status", "kind", "said"),
        [
            ("Error", errors.ProviderUnavailable, "failed"),
            ("TooManyRequests", errors.ProviderRateLimited, "slow down"),
            ("BadRequest", errors.ProviderRejected, "refused"),
            ("Forbidden", errors.ProviderCredential, "api_key"),
            ("EndOfDays", errors.ProviderGarbled, "EndOfDays"),
            ("", errors.ProviderGarbled, "nobody knows"),
        ],
    )
    async def test_statuses(self, listen: ProviderCalling, status: str, kind: type[errors.VoxgateError], said: str):
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await listen.answered(json.dumps({"RecognitionStatus": status}))
        assert type(caught.value) is kind

    @pytest.mark.parametrize(
        "body",
        ["", "nothing", "[]", "{}", '{"RecognitionStatus": "Success"}', '{"RecognitionStatus": 5}',
         '{"RecognitionStatus": "Success", "NBest": []}', '{"RecognitionStatus": "Success", "NBest": 7}', "<html>",
         "[" * 100_000],
    )  # fmt: skip
    async def test_what_is_no_transcript(self, listen: ProviderCalling, body: str):
        with pytest.raises(errors.ProviderGarbled, match=r"azure_speech \(standard\)"):
            await listen.answered(body)

    _number = st.none() | st.floats() | st.integers() | st.text(max_size=3)
    _text = st.none() | st.text(max_size=9)
    _words = st.lists(
        st.fixed_dictionaries(
            {}, optional={"Word": _text, "Offset": _number, "Duration": _number, "Confidence": _number}
        ),
        max_size=3,
    )
    _answers = st.fixed_dictionaries(
        {"RecognitionStatus": st.just("Success") | st.text(max_size=9)},
        optional={
            "DisplayText": _text, "Offset": _number, "Duration": _number,
            "NBest": st.lists(st.fixed_dictionaries({}, optional={"Display": _text, "Words": _words}), max_size=2),
        },
    )  # fmt: skip

    @given(_answers.map(lambda answer: json.dumps(answer).encode()) | st.binary(max_size=60))
    @example(b'{"RecognitionStatus": "Success", "DisplayText": "\\ud800"}')
    def test_any_answer_is_a_transcript_or_an_error(self, body: bytes):
        try:
            result = read(body)
        except errors.ProviderError:
            return
        Transcription.FromString(result.SerializeToString())
        for item in (*result.words, *result.segments):
            assert 0 <= item.start <= item.end
        srt(result) if result.words or result.segments or not result.text else None


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "message", "kind", "said"),
        [
            (400, "Unsupported language", errors.ProviderRejected, "Unsupported language"),
            (401, "Access denied", errors.ProviderCredential, "api_key"),
            (403, "Out of call volume quota.", errors.ProviderCredential, "403"),
            (404, "Resource not found", errors.ProviderUnavailable, "api_base"),
            (408, "Timeout", errors.ProviderTimeout, "Timeout"),
            (413, "Too large", errors.AudioTooLarge, "Too large"),
            (429, "Rate limit is exceeded.", errors.ProviderRateLimited, "Rate limit"),
            (500, "Internal", errors.ProviderUnavailable, "Internal"),
            (503, "Busy", errors.ProviderUnavailable, "Busy"),
            (504, "Slow", errors.ProviderTimeout, "Slow"),
        ],
    )
    async def test_every_status(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, status: int, message: str,
        kind: type[errors.VoxgateError], said: str,
    ):  # fmt: skip
        azure.script(failure(status, message, headers={"retry-after": "7"}))
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await listen()
        assert type(caught.value) is kind
        assert caught.value.retry_after == (7 if status in {408, 429} or status >= 500 else None)
        assert KEY not in caught.value.message

    @pytest.mark.parametrize(
        ("config", "data", "kwargs", "kind", "said"),
        [
            ('language: "tlh"', WAV, {}, errors.ProviderRejected, "tlh"),
            ("", b"nothing known", {}, errors.ProviderRejected, "Unsupported audio"),
            (extras(profanity="loud"), WAV, {}, errors.ProviderRejected, "profanity"),
            ("", WAV, {"api_key": "fedcba9876543210"}, errors.ProviderCredential, "api_key"),
        ],
    )
    async def test_what_azure_itself_refuses(
        self, listen: ProviderCalling, config: str, data: bytes, kwargs: dict[str, Any], kind, said: str
    ):
        with pytest.raises(kind, match=said):
            await listen(config, data=data, **kwargs)

    @pytest.mark.parametrize(
        ("behaviour", "kind", "said"),
        [
            ("early-401", errors.ProviderCredential, "api_key"),
            ("reset-body", errors.ProviderUnavailable, "broke the connection"),
            ("reset-answer", errors.ProviderUnavailable, "broke the connection"),
            ("cut-answer", errors.ProviderUnavailable, "broke the connection"),
            ("html", errors.ProviderUnavailable, r"status 502.$"),
            (failure(307, headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect"),
        ],
    )
    async def test_broken_connections(
        self, listen: ProviderCalling, azure: AzureSpeechEmulator, behaviour: str | Behaviour, kind, said: str
    ):
        azure.script(behaviour)
        with pytest.raises(kind, match=said):
            await listen()
        assert len(azure.records) == 1

    async def test_the_deadline_while_waiting_for_the_answer(self, listen: ProviderCalling, azure: AzureSpeechEmulator):
        azure.script("hang")
        with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
            await listen(seconds=0.5)
        await azure.records[0].peer_closed.wait()

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            (PATH + "?language=en-US", {"ocp-apim-subscription-key": ""}, 401),
            (PATH + "?language=en-US", {}, 403),
            ("/elsewhere", {"ocp-apim-subscription-key": KEY}, 404),
            (PATH, {"ocp-apim-subscription-key": KEY}, 400),
            (PATH + "?language=en-US&nobody=1", {"ocp-apim-subscription-key": KEY}, 400),
            (PATH + "?language=en-US", {"ocp-apim-subscription-key": KEY, "content-type": "audio/mpeg"}, 400),
            (PATH + "?language=en-US", {"ocp-apim-subscription-key": KEY, "accept": "text/xml"}, 406),
            (PATH + "?language=en-US", {"ocp-apim-subscription-key": KEY, "transfer-encoding": "chunked"}, 400),
            (PATH + "?language=en-US", {"ocp-apim-subscription-key": KEY}, 200),
        ],
    )
    async def test_the_emulators_rules(
        self, azure: AzureSpeechEmulator, path: str, headers: dict[str, str], status: int
    ):
        async def pieces() -> AsyncIterator[bytes]:
            yield WAV

        usual = {"accept": "application/json", "content-type": "audio/wav"}
        content = pieces() if "transfer-encoding" in headers else WAV
        async with httpx.AsyncClient(headers={**usual, **headers}) as client:
            answer = await client.post(azure.origin + path, content=content)
        assert answer.status_code == status
