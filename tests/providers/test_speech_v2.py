"""Google's Speech-to-Text v2: what is sent for which option, and for which audio."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.speech_v2_languages import LANGUAGES, google_tag

from tests.providers.vertex_calling import THANKS, VertexCalling, attempt_at, params_for, provider_for, run
from tests.providers.vertex_emulator import VertexEmulator
from tests.recordings import convert


@pytest.fixture
async def emulator() -> AsyncIterator[VertexEmulator]:
    async with VertexEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: VertexEmulator, store: SpoolStore) -> VertexCalling:
    return VertexCalling(emulator, store)


async def test_a_plain_call(call: VertexCalling, emulator: VertexEmulator):
    result = await call(extra_headers={"X-Team": "speech"})
    assert result.text == emulator.text
    assert (result.task, result.language) == ("transcribe", "en-us")
    assert [language.code for language in result.languages] == ["en-us"]
    assert result.usage.duration.seconds == 6
    assert result.duration == pytest.approx(5.5175)
    assert not result.words
    [record] = emulator.records
    assert record.path == "/v2/projects/voice-project-1/locations/us/recognizers/_:recognize"
    body = json.loads(record.body)
    assert base64.b64decode(body.pop("content")) == THANKS
    assert body == {
        "config": {
            "model": "chirp_3",
            "languageCodes": ["auto"],
            "autoDecodingConfig": {},
            "features": {"enableAutomaticPunctuation": True},
        }
    }
    headers = {name: value for name, value in record.headers.items() if name != "content-length"}
    assert headers == {
        "host": emulator.origin.split("/")[2],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "voxgate",
        "content-type": "application/json",
        "authorization": "Bearer ya29.emulated-token-1",
        "x-goog-user-project": "voice-project-1",
        "x-team": "speech",
    }
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200


@pytest.mark.parametrize(
    ("config", "model", "sent"),
    [
        ('language: "de"', "chirp_3", {"languageCodes": ["de-DE"]}),
        ('language: "de_at"', "chirp_3", {"languageCodes": ["de-AT"]}),
        ('language: "zh-TW"', "chirp_3", {"languageCodes": ["cmn-Hant-TW"]}),
        ('language: "auto"', "chirp_3", {"languageCodes": ["auto"]}),
        ('languages: ["en", "fr", "en-US"]', "chirp_3", {"languageCodes": ["en-US", "fr-FR"]}),
        ('language: "it" languages: ["en"]', "chirp_3", {"languageCodes": ["it-IT", "en-US"]}),
        ("chunking_strategy { auto {} }", "chirp_3", {}),
        ("timestamp_granularities: TIMESTAMP_GRANULARITY_WORD", "chirp_3", {"enableWordTimeOffsets": True}),
        (
            'timestamp_granularities: TIMESTAMP_GRANULARITY_WORD language: "en"', "long",
            {"enableWordTimeOffsets": True, "enableWordConfidence": True, "languageCodes": ["en-US"]},
        ),
        ("response_format: RESPONSE_FORMAT_SRT", "chirp_3", {"enableWordTimeOffsets": True}),
        ("response_format: RESPONSE_FORMAT_VTT", "chirp_3", {"enableWordTimeOffsets": True}),
        ("response_format: RESPONSE_FORMAT_TEXT", "chirp_3", {}),
        ("response_format: RESPONSE_FORMAT_VERBOSE_JSON", "chirp_3", {"enableWordTimeOffsets": True}),
        (
            "response_format: RESPONSE_FORMAT_DIARIZED_JSON", "chirp_3",
            {"enableWordTimeOffsets": True, "diarizationConfig": {}},
        ),
        (
            'response_format: RESPONSE_FORMAT_DIARIZED_JSON language: "en"', "telephony",
            {
                "enableWordTimeOffsets": True, "diarizationConfig": {"minSpeakerCount": 1, "maxSpeakerCount": 6},
                "languageCodes": ["en-US"],
            },
        ),
        (
            """extra_params { fields { key: "profanityFilter" value { bool_value: true } }
            fields { key: "maxAlternatives" value { number_value: 3 } }
            fields { key: "enableAutomaticPunctuation" value { bool_value: false } } }""",
            "chirp_2", {"profanityFilter": True, "maxAlternatives": 3, "enableAutomaticPunctuation": False},
        ),
        (
            """extra_params { fields { key: "denoiserConfig" value { struct_value {
            fields { key: "denoiseAudio" value { bool_value: true } }
            fields { key: "snrThreshold" value { number_value: 0.5 } } } } } }""",
            "chirp_3", {"denoiserConfig": {"denoiseAudio": True, "snrThreshold": 0.5}},
        ),
        (
            'keywords: ["Asterisk", " PBX ", "Asterisk"]', "chirp_3",
            {"adaptation": {"phraseSets": [{"inlinePhraseSet": {"phrases": [
                {"value": "Asterisk"}, {"value": "PBX"},
            ]}}]}},
        ),
        (
            'prompt: "A call about Asterisk. Names: Digium, PBX 3.5\\nGrüße" keywords: ["PBX"]', "chirp_2",
            {"adaptation": {"phraseSets": [{"inlinePhraseSet": {"phrases": [
                {"value": "PBX"}, {"value": "A call about Asterisk"}, {"value": "Names"}, {"value": "Digium"},
                {"value": "PBX 3.5"}, {"value": "Grüße"},
            ]}}]}},
        ),
        ("task: TRANSCRIPTION_TASK_TRANSLATE", "chirp_2", {"translationConfig": {"targetLanguage": "en-US"}}),
    ],
)  # fmt: skip
async def test_options(emulator: VertexEmulator, call: VertexCalling, config: str, model: str, sent: dict):
    emulator.location = "us-central1" if model == "chirp_2" else "us"
    result = await call(config, model)
    plain = {
        "model": model, "languageCodes": ["auto"], "autoDecodingConfig": {}, "enableAutomaticPunctuation": True,
    }  # fmt: skip
    got = dict(call.sent)
    assert {**got.pop("features"), **got} == {**plain, **sent}
    assert result.text == emulator.text
    assert result.task == ("translate" if "TRANSLATE" in config else "transcribe")


@pytest.mark.parametrize(
    ("config", "model", "param"),
    [
        ("temperature: 0.5", "chirp_3", "temperature"),
        ("include: INCLUDE_LOGPROBS", "chirp_3", "include"),
        ('known_speakers { name: "Ann" reference { data: "x" } }', "chirp_3", "known_speaker_names"),
        ("chunking_strategy { server_vad {} }", "chirp_3", "chunking_strategy"),
        ('keywords: ["x"]', "chirp", "keywords"),
        ('prompt: "x"', "chirp", "prompt"),
        ('extra_params { fields { key: "uri" value { string_value: "gs://x" } } }', "chirp_3", "uri"),
        ('extra_params { fields { key: "adaptation" value { struct_value {} } } }', "chirp_3", "adaptation"),
    ],
)  # fmt: skip
async def test_what_a_model_cannot_take(
    emulator: VertexEmulator, call: VertexCalling, config: str, model: str, param: str
):
    emulator.location = "us" if model == "chirp_3" else "us-central1"
    with pytest.raises(errors.UnsupportedParameter) as caught:
        await call(config, model)
    assert caught.value.param == param
    assert not emulator.records
    await call(config, model, drop_params=True)
    assert call.attempt is not None
    assert call.attempt.dropped_params == [param]


@pytest.mark.parametrize(
    ("config", "model", "param"),
    [
        ('language: "klingon"', "chirp_3", "language"),
        ('language: "xx"', "chirp_3", "language"),
        ('languages: ["en", "tlh"]', "chirp_3", "language"),
        ("", "long", "language"),
        ('language: "auto"', "long", "language"),
        ("task: TRANSCRIPTION_TASK_TRANSLATE", "chirp_3", "task"),
        (f'keywords: ["{"x" * 101}"]', "chirp_3", "keywords"),
        (f'prompt: "{" ".join(f"w{number}." for number in range(1001))}"', "chirp_3", "prompt"),
    ],
)
async def test_what_cannot_be_left_out(
    emulator: VertexEmulator, call: VertexCalling, config: str, model: str, param: str
):
    with pytest.raises(errors.UnsupportedParameter) as caught:
        await call(config, model, drop_params=True)
    assert caught.value.param == param
    assert not emulator.records
    assert not emulator.tokens.records


async def test_the_operators_parameters(emulator: VertexEmulator, call: VertexCalling):
    adaptation = {"phraseSets": [{"phraseSet": "projects/p/locations/us/phraseSets/ours"}]}
    emulator.location = "us-central1"
    await call(
        'keywords: ["PBX"] extra_params { fields { key: "translationConfig" value { struct_value { '
        'fields { key: "targetLanguage" value { string_value: "de-DE" } } } } } }',
        "chirp_2",
        default_params={"adaptation": adaptation, "profanityFilter": True, "languageCodes": ["de-DE"]},
        allowed_extra_params=frozenset({"translationConfig"}),
    )
    assert call.sent["languageCodes"] == ["de-DE"]
    assert call.sent["features"]["profanityFilter"] is True
    assert call.sent["translationConfig"] == {"targetLanguage": "de-DE"}
    assert call.sent["adaptation"]["phraseSets"] == [
        adaptation["phraseSets"][0], {"inlinePhraseSet": {"phrases": [{"value": "PBX"}]}},
    ]  # fmt: skip
    await call('language: "fr"', "chirp_2", default_params={"languageCodes": ["de-DE"]})
    assert call.sent["languageCodes"] == ["fr-FR"]


@pytest.mark.parametrize(
    ("encoding", "sent", "width"),
    [("PCM_S16LE", "LINEAR16", 2), ("MULAW", "MULAW", 1), ("ALAW", "ALAW", 1)],
)
async def test_headerless_audio(emulator: VertexEmulator, call: VertexCalling, encoding: str, sent: str, width: int):
    raw = RawAudioFormat(encoding=f"AUDIO_ENCODING_{encoding}", sample_rate_hertz=8000)
    result = await call(data=bytes(8000 * width * 3), audio=AudioHeader(raw_format=raw))
    assert call.sent["explicitDecodingConfig"] == {
        "encoding": sent, "sampleRateHertz": 8000, "audioChannelCount": 1,
    }  # fmt: skip
    assert "autoDecodingConfig" not in call.sent
    assert result.duration == 3


async def test_bare_opus(emulator: VertexEmulator, call: VertexCalling):
    raw = RawAudioFormat(encoding="AUDIO_ENCODING_OPUS", sample_rate_hertz=48_000)
    with pytest.raises(errors.UnsupportedAudio, match="Ogg or WebM"):
        await call(audio=AudioHeader(raw_format=raw))
    assert not emulator.records


@pytest.mark.parametrize(
    ("container", "codec", "rate"), [("flac", "flac", 16_000), ("mp3", "mp3", 16_000), ("ogg", "libopus", 48_000)]
)
async def test_what_google_hears_all_of_goes_as_it_is(
    emulator: VertexEmulator, call: VertexCalling, container: str, codec: str, rate: int
):
    data = convert(THANKS, container, codec, rate=rate)
    result = await call(data=data)
    assert emulator.requests[0]["content"] == len(data)
    assert "autoDecodingConfig" in call.sent
    assert result.text == emulator.text
    assert result.duration == pytest.approx(5.5175, abs=0.05)


async def test_who_pays(emulator: VertexEmulator, call: VertexCalling):
    await call(extra_headers={"X-Goog-User-Project": "quota-project-1"})
    assert emulator.records[0].headers["x-goog-user-project"] == "quota-project-1"


async def test_a_key_in_place_of_a_token(emulator: VertexEmulator, call: VertexCalling):
    emulator.key = "AIza-key-of-the-operator"
    values = {"api_key": emulator.key, "vertex_credentials": "", "vertex_project": "voice-project-1"}
    await call(values=values)
    assert not emulator.tokens.records
    assert "x-goog-user-project" not in emulator.records[0].headers


async def test_a_live_upload_is_sent_once_it_is_whole(emulator: VertexEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        task = asyncio.create_task(run(provider, attempt_at(spool)))
        await spool.write(THANKS[:20_000])
        await asyncio.sleep(0)
        await spool.write(THANKS[20_000:])
        spool.finish()
        assert (await task).text == emulator.text
    [record] = emulator.records
    assert record.head.framing == "length"
    digest = hashlib.sha256(base64.b64decode(json.loads(record.body)["content"])).hexdigest()
    assert digest == hashlib.sha256(THANKS).hexdigest()


async def test_an_upload_that_breaks_off_is_not_sent(emulator: VertexEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        task = asyncio.create_task(run(provider, attempt_at(spool)))
        await spool.write(THANKS[:20_000])
        spool.fail(errors.UploadIncomplete("it broke off"))
        with pytest.raises(errors.UploadIncomplete):
            await task
    assert not emulator.records


async def test_an_upload_that_never_ends(emulator: VertexEmulator, store: SpoolStore):
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        await spool.write(THANKS[:20_000])
        with pytest.raises(errors.DeadlineExceeded, match="still coming in"):
            await run(provider, attempt_at(spool, seconds=0.05))
    assert not emulator.records


async def test_what_was_sent_can_be_seen(call: VertexCalling):
    await call("debug { include_raw_request: true include_raw_response: true }")
    assert call.attempt is not None
    assert call.attempt.raw_request is not None
    assert set(json.loads(call.attempt.raw_request.data)) == {"config"}
    assert call.attempt.raw_response is not None
    assert b"totalBilledDuration" in call.attempt.raw_response.data


def test_every_tag_of_the_table_is_one():
    for code, tag in LANGUAGES.items():
        assert google_tag(code) == google_tag(code.upper()) == google_tag(tag) == tag


@pytest.mark.parametrize(
    ("language", "tag"),
    [
        ("en-us", "en-US"), ("es-419", "es-419"), ("ar-x-gulf", "ar-x-gulf"), ("sr-cyrl-rs", "sr-Cyrl-RS"),
        ("he-IL", "iw-IL"), ("english", None), ("", None), ("de-", None), ("en-US/../x", None), ("en\nUS", None),
    ],
)  # fmt: skip
def test_tags(language: str, tag: str | None):
    assert google_tag(language) == tag


async def test_capabilities(emulator: VertexEmulator):
    async with provider_for(params_for(emulator)) as provider:
        capabilities = provider.capabilities
    assert ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON in capabilities.response_formats
    assert capabilities.diarization
    assert capabilities.needs_length
    assert "de" in capabilities.languages
    assert {"language", "prompt", "keywords", "profanityFilter", "chunking_strategy"} <= set(capabilities.options)
    assert "temperature" not in capabilities.options
    emulator.location = "us-central1"
    async with provider_for(params_for(emulator, "chirp_2")) as provider:
        assert not provider.capabilities.diarization
        assert provider.capabilities.translation
        # Google's table for it is another one.
        assert not provider.capabilities.languages
