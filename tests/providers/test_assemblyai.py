"""AssemblyAI: what is sent for which option."""

import hashlib
import json

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.assemblyai import AssemblyAIProvider, build
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.registry import PROVIDERS, build_for_caller

from tests.providers.assemblyai_emulator import KEY, AssemblyAIEmulator
from tests.providers.calling import WAV, attempt_with
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run

PRO = "universal-3-5-pro"
DETECTED = {"language_detection": True}


async def test_a_plain_call(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    result = await order(extra_headers={"X-Team": "speech"})
    assert result.text == assemblyai.text
    upload, submit, *polls = assemblyai.records
    usual = {
        "host": assemblyai.origin.partition("//")[2],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "authorization": KEY,
        "x-team": "speech",
    }
    assert (upload.method, upload.path) == ("POST", "/v2/upload")
    assert upload.file_sha256 == hashlib.sha256(WAV).hexdigest()
    assert upload.headers == {
        **usual, "content-type": "application/octet-stream", "content-length": str(len(WAV)),
    }  # fmt: skip
    assert (submit.method, submit.path) == ("POST", "/v2/transcript")
    [url] = assemblyai.uploads
    assert json.loads(submit.body) == {"audio_url": url, "speech_models": [PRO], **DETECTED}
    assert submit.headers == {
        **usual, "content-type": "application/json", "content-length": str(len(submit.body)),
    }  # fmt: skip
    assert [(poll.method, poll.path) for poll in polls] == [("GET", "/v2/transcript/job_1")] * 3
    assert polls[0].headers == usual
    assert assemblyai.connections == 1
    assert not assemblyai.deleted
    assert order.attempt is not None
    assert order.attempt.report.http_status == 200


OPTIONS = [
    (PRO, 'language: "de"', {"language_code": "de"}),
    (PRO, 'language: "de-AT"', {"language_code": "de"}),
    (PRO, 'language: "en"', {"language_code": "en"}),
    (PRO, 'language: "en-US"', {"language_code": "en_us"}),
    (PRO, 'language: "en_GB"', {"language_code": "en_uk"}),
    (PRO, 'languages: "en-AU"', {"language_code": "en_au"}),
    (PRO, 'language: "de" languages: "de-CH"', {"language_code": "de"}),
    (PRO, 'languages: ["de", "en-US", "en-GB"]', {
        **DETECTED, "language_detection_options": {"expected_languages": ["de", "en"]},
    }),
    ("universal-2", 'language: "fr" languages: ["de", "fr"]', {
        **DETECTED, "language_detection_options": {"expected_languages": ["fr", "de"]},
    }),
    (PRO, 'prompt: "A call about Zürich."', {**DETECTED, "prompt": "A call about Zürich."}),
    ("best", 'prompt: "x" temperature: 1', {**DETECTED, "prompt": "x", "temperature": 1.0}),
    (PRO, "temperature: 0", {**DETECTED, "temperature": 0.0}),
    (PRO, 'keywords: ["voxgate", "ü"]', {**DETECTED, "keyterms_prompt": ["voxgate", "ü"]}),
    ("universal-2", 'keywords: "a" ' + extras(keyterms_prompt=["b"]), {**DETECTED, "keyterms_prompt": ["a", "b"]}),
    (PRO, 'keywords: "a" ' + extras(keyterms_prompt="b"), {**DETECTED, "keyterms_prompt": ["a", "b"]}),
    (PRO, "timestamp_granularities: [TIMESTAMP_GRANULARITY_WORD, TIMESTAMP_GRANULARITY_SEGMENT]", DETECTED),
    (PRO, "chunking_strategy { auto {} }", DETECTED),
    (PRO, DIARIZED, {**DETECTED, "speaker_labels": True}),
    (PRO, DIARIZED + extras(speaker_labels=False), {**DETECTED, "speaker_labels": True}),
    (PRO, DIARIZED + extras(multichannel=True), {**DETECTED, "multichannel": True}),
    (PRO, extras(speaker_labels=True, speakers_expected=2), {
        **DETECTED, "speaker_labels": True, "speakers_expected": 2,
    }),
    (PRO, extras(speaker_options={"min_speakers_expected": 2}), {
        **DETECTED, "speaker_options": {"min_speakers_expected": 2},
    }),
    (PRO, extras(punctuate=False, format_text=False, disfluencies=True, filter_profanity=True), {
        **DETECTED, "punctuate": False, "format_text": False, "disfluencies": True, "filter_profanity": True,
    }),
    (PRO, extras(custom_spelling=[{"from": ["a"], "to": "b"}], audio_start_from=500, audio_end_at=9000), {
        **DETECTED, "custom_spelling": [{"from": ["a"], "to": "b"}], "audio_start_from": 500, "audio_end_at": 9000,
    }),
    (PRO, extras(word_boost=["a"], boost_param="high", language_confidence_threshold=0.5), {
        **DETECTED, "word_boost": ["a"], "boost_param": "high", "language_confidence_threshold": 0.5,
    }),
    (PRO, extras(redact_pii=True, redact_pii_policies=["person_name"], redact_pii_sub="hash"), {
        **DETECTED, "redact_pii": True, "redact_pii_policies": ["person_name"], "redact_pii_sub": "hash",
    }),
    (PRO, extras(punctuate=None), DETECTED),
]  # fmt: skip


@pytest.mark.parametrize(("model", "config", "sent"), OPTIONS)
async def test_every_option(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, model: str, config: str, sent: dict
):
    await order(config, model=model)
    [ordered] = assemblyai.orders
    assert ordered.pop("audio_url")
    assert ordered.pop("speech_models") == ([PRO, "universal-2"] if model == "best" else [model])
    assert ordered == sent
    assert order.attempt is not None
    assert not order.attempt.dropped_params


REFUSED = [
    ("universal-2", 'prompt: "x"', "prompt"),
    ("universal-2", "temperature: 0", "temperature"),
    (PRO, "include: INCLUDE_LOGPROBS", "include"),
    (PRO, "chunking_strategy { server_vad { threshold: 0.5 } }", "chunking_strategy"),
    (PRO, 'known_speakers { name: "A" reference { data: "x" } }', "known_speaker_names"),
    (PRO, extras(summarization=True), "summarization"),
    (PRO, extras(language_code="de"), "language_code"),
    (PRO, extras(audio_url="https://elsewhere.example/"), "audio_url"),
    (PRO, extras(webhook_url="https://elsewhere.example/"), "webhook_url"),
    (PRO, extras(speech_models=["universal-2"]), "speech_models"),
]


@pytest.mark.parametrize(("model", "config", "option"), [*REFUSED, (PRO, "task: TRANSCRIPTION_TASK_TRANSLATE", "task")])
async def test_what_a_model_cannot_is_refused_by_name(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, model: str, config: str, option: str
):
    with pytest.raises(errors.UnsupportedParameter, match=f"'{option}'") as caught:
        await order(config, model=model)
    assert caught.value.param == option
    assert model in caught.value.message
    assert not assemblyai.connections


@pytest.mark.parametrize(("model", "config", "option"), REFUSED)
async def test_or_left_out_and_reported(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, model: str, config: str, option: str
):
    await order(config, model=model, drop_params=True)
    assert order.attempt is not None
    assert order.attempt.dropped_params == [option]
    assert assemblyai.orders[0].keys() == {"audio_url", "speech_models", "language_detection"}


@pytest.mark.parametrize("drop_params", [False, True])
async def test_an_extra_parameter_with_the_name_of_an_option(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, drop_params: bool
):
    with pytest.raises(errors.InvalidRequest) as caught:
        await order(extras(prompt="x"), drop_params=drop_params)
    assert caught.value.param == "prompt"
    assert not assemblyai.connections


async def test_what_the_operator_allows_besides(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    await order(extras(sentiment_analysis=True), allowed_extra_params=["sentiment_analysis"])
    assert assemblyai.orders[0]["sentiment_analysis"] is True


DEFAULTS = [
    ("", {"language_code": "de", "punctuate": False, "keyterms_prompt": ["a"], "temperature": None},
     {"language_code": "de", "punctuate": False, "keyterms_prompt": ["a"]}),
    ("", {"language_detection": False}, {"language_detection": False}),
    ('language: "fr"', {"language_code": "de"}, {"language_code": "fr"}),
    ('language: "fr"', {"language_detection": True, "language_detection_options": {}}, {"language_code": "fr"}),
    ('languages: ["fr", "de"]', {"language_code": "de"},
     {**DETECTED, "language_detection_options": {"expected_languages": ["fr", "de"]}}),
    ('prompt: "mine"', {"prompt": "theirs"}, {**DETECTED, "prompt": "mine"}),
    (DIARIZED, {"speaker_labels": False}, {**DETECTED, "speaker_labels": True}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "defaults", "sent"), DEFAULTS)
async def test_parameters_of_the_deployment_go_with_every_order_unless_the_caller_sets_them(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, config: str, defaults: dict, sent: dict
):
    await order(config, default_params=defaults)
    [ordered] = assemblyai.orders
    del ordered["audio_url"], ordered["speech_models"]
    assert ordered == sent


async def test_privacy_is_the_operators(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    with pytest.raises(errors.UnsupportedParameter, match="redact_pii"):
        await order(extras(redact_pii=False), default_params={"redact_pii": True})
    assert not assemblyai.connections
    await order(extras(redact_pii=False), default_params={"redact_pii": True}, drop_params=True)
    assert assemblyai.orders[0]["redact_pii"] is True


async def test_headerless_audio_is_refused(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    header = text_format.Parse(
        "raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 }", AudioHeader()
    )
    with pytest.raises(errors.UnsupportedAudio, match="container"):
        await order(audio=header)
    assert not assemblyai.connections


async def test_too_large_is_known_beforehand(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    with pytest.raises(errors.AudioTooLarge, match=r"assemblyai.*1000"):
        await order(max_audio_bytes=1000)
    with pytest.raises(errors.AudioTooLarge, match=r"assemblyai.*2200000000"):
        await order(audio=AudioHeader(size_bytes=2_200_000_001))
    assert not assemblyai.connections


async def test_capabilities():
    provider = AssemblyAIProvider(model=PRO, api_key=KEY)
    able = provider.capabilities
    assert (provider.name, provider.model) == ("assemblyai", PRO)
    assert len(able.response_formats) == 6
    assert len(able.timestamp_granularities) == 2
    assert able.diarization
    assert not any([able.logprobs, able.translation, able.streaming, able.live, able.needs_length])
    assert (able.max_audio_bytes, able.max_audio_duration.seconds) == (2_200_000_000, 36_000)
    assert {"audio/wav", "audio/webm", "audio/amr"} <= set(able.media_types)
    assert {"language", "languages", "keywords", "prompt", "temperature", "speaker_labels"} <= set(able.options)
    assert not {"include", "known_speaker_names", "webhook_url", "audio_url"} & set(able.options)
    await provider.aclose()
    older = AssemblyAIProvider(model="universal-2", api_key=KEY)
    assert set(able.options) - set(older.capabilities.options) == {"prompt", "temperature"}
    await older.aclose()


async def test_raw_payloads(order: ProviderCalling):
    await order('debug { include_raw_request: true include_raw_response: true } language: "de"')
    assert order.attempt is not None
    request, response = order.attempt.raw_request, order.attempt.raw_response
    assert request is not None
    assert json.loads(request.data) == {"speech_models": [PRO], "language_code": "de"}
    assert response is not None
    assert json.loads(response.data)["audio_duration"] == 8


class TestBuilding:
    def params(self, environ: dict | None = None, **kwargs) -> ProviderParams:
        return ProviderParams("assemblyai", PRO, environ=environ or {}, **kwargs)

    async def text(self, provider: AssemblyAIProvider, store: SpoolStore) -> str:
        async with store.open(max_bytes=1 << 30) as spool:
            await spool.write(WAV)
            spool.finish()
            try:
                return (await run(provider, attempt_with(spool))).text
            finally:
                await provider.aclose()

    async def test_from_the_environment(self, assemblyai: AssemblyAIEmulator, store: SpoolStore):
        assemblyai.steps = []
        environ = {"ASSEMBLYAI_API_KEY": KEY, "ASSEMBLYAI_API_BASE": f"{assemblyai.origin}/"}
        assert await self.text(build(self.params(environ)), store) == assemblyai.text

    async def test_what_is_written_comes_first(self, assemblyai: AssemblyAIEmulator, store: SpoolStore):
        assemblyai.steps = []
        environ = {"ASSEMBLYAI_API_KEY": "another", "ASSEMBLYAI_API_BASE": "http://127.0.0.1:1"}
        values = {"api_key": KEY, "api_base": assemblyai.origin}
        assert await self.text(build(self.params(environ, values=values)), store) == assemblyai.text

    def test_there_is_no_key(self):
        with pytest.raises(ValueError, match=r"api_key.*ASSEMBLYAI_API_KEY"):
            build(self.params({"HOME": "x"}))
        with pytest.raises(ValueError, match="api_key"):
            build_for_caller("assemblyai", PRO, {})

    async def test_a_host_of_a_callers_choice_is_dialled_as_judged(
        self, assemblyai: AssemblyAIEmulator, store: SpoolStore
    ):
        values = {"api_key": KEY, "api_base": assemblyai.origin}
        provider = build_for_caller("assemblyai", PRO, values, networks=())
        assert isinstance(provider, AssemblyAIProvider)
        with pytest.raises(errors.PermissionDenied, match="does not permit"):
            await self.text(provider, store)
        assert not assemblyai.connections

    def test_it_is_registered(self):
        assert PROVIDERS["assemblyai"] == "assemblyai:build"

    @pytest.mark.parametrize(
        ("kwargs", "said"),
        [
            ({"api_base": "file:///etc/passwd"}, "http"),
            ({"api_base": "https://user:secret@host"}, "user"),
            ({"extra_headers": {"Content-Type": "audio/wav"}}, "content-type"),
            ({"api_key": "k\r\nx: y"}, "authorization"),
            ({"allowed_extra_params": ["audio_url"]}, "audio_url"),
            ({"default_params": {"webhook_url": "https://x.example"}}, "webhook_url"),
            ({"default_params": {"prompt": object()}}, "."),
        ],
    )
    def test_what_an_operator_may_not_configure(self, kwargs: dict, said: str):
        with pytest.raises(ValueError, match=said) as caught:
            AssemblyAIProvider(**{"model": PRO, "api_key": KEY, **kwargs})
        assert "secret" not in str(caught.value)
