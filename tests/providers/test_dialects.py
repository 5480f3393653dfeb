"""The dialects of OpenAI's API: what each server is sent for which option, and what becomes of its answer."""

import json

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig
from voxgate_server import errors
from voxgate_server.providers.openai_dialects import DIALECTS
from voxgate_server.providers.openai_form import build_form

from tests.providers.calling import Asking, built, formatted
from tests.providers.dialect_emulator import (
    EMULATORS,
    DialectEmulator,
    FireworksEmulator,
    GroqEmulator,
    MistralEmulator,
    OvhcloudEmulator,
    VllmEmulator,
)
from tests.providers.emulator import raw

WORD = "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD"
SEGMENT = "timestamp_granularities: TIMESTAMP_GRANULARITY_SEGMENT"
EXTRA = 'extra_params {{ fields {{ key: "{}" value {{ {} }} }} }}'
DIARIZE = EXTRA.format("diarize", "bool_value: true")


@pytest.mark.parametrize("name", EMULATORS)
async def test_a_plain_call(ask: Asking, name: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        result = await ask(built(emulator, model))
    assert result.text == emulator.text
    [record] = emulator.records
    assert (record.method, record.path) == ("POST", f"{emulator.prefix}/audio/transcriptions")
    assert record.headers["authorization"] == f"Bearer {emulator.key}"
    assert record.order[0] == "model"
    assert record.order[-1] == "file"
    assert (record.filename, record.file_type) == ("audio.wav", "audio/wav")
    assert (ask.attempt and ask.attempt.response_headers["x-request-id"]) == "req-1"


# What the caller wants, and the fields after `model` for it.
SENT = [
    ("groq", 'language: "de-AT" prompt: "p" temperature: 0.5', [
        ("response_format", "verbose_json"), ("language", "de"), ("prompt", "p"), ("temperature", "0.5")]),
    ("groq", f"{WORD} {SEGMENT}", [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")]),
    ("groq", formatted("srt"), [("response_format", "verbose_json")]),
    ("fireworks_ai", 'language: "de" prompt: "p" temperature: 0', [
        ("response_format", "verbose_json"), ("language", "de"), ("prompt", "p"), ("temperature", "0")]),
    ("fireworks_ai", f"{WORD} {SEGMENT}", [
        ("response_format", "verbose_json"), ("timestamp_granularities", "word,segment")]),
    ("fireworks_ai", formatted("diarized_json"), [
        ("response_format", "verbose_json"), ("timestamp_granularities", "word,segment"), ("diarize", "true")]),
    ("fireworks_ai", f"{DIARIZE} {SEGMENT}", [
        ("response_format", "verbose_json"), ("timestamp_granularities", "segment,word"), ("diarize", "true")]),
    ("fireworks_ai", EXTRA.format("vad_model", 'string_value: "silero"'), [
        ("response_format", "verbose_json"), ("vad_model", "silero")]),
    ("fireworks_ai", EXTRA.format("max_speakers", "number_value: 3"), [
        ("response_format", "verbose_json"), ("max_speakers", "3")]),
    ("ovhcloud", 'languages: "de" prompt: "p" temperature: 1 chunking_strategy { auto {} }', [
        ("response_format", "verbose_json"), ("language", "de"), ("prompt", "p"), ("temperature", "1"),
        ("chunking_strategy", "auto")]),
    ("ovhcloud", f"{WORD} chunking_strategy {{ server_vad {{}} }}", [
        ("response_format", "verbose_json"), ("timestamp_granularities[]", "word"),
        ("chunking_strategy", "server_vad")]),
    ("ovhcloud", formatted("diarized_json"), [("response_format", "verbose_json"), ("diarize", "true")]),
    ("ovhcloud", EXTRA.format("diarize", "bool_value: false"), [
        ("response_format", "verbose_json"), ("diarize", "false")]),
    ("mistral", 'language: "de" temperature: 0.25 keywords: ["voxgate", "gRPC"]', [
        ("language", "de"), ("context_bias", "voxgate"), ("context_bias", "gRPC"), ("temperature", "0.25")]),
    ("mistral", formatted("text"), []),
    ("mistral", formatted("vtt"), [("timestamp_granularities", "segment")]),
    ("mistral", f"{WORD} {SEGMENT}", [("timestamp_granularities", "word")]),
    ("mistral", formatted("diarized_json"), [("timestamp_granularities", "segment"), ("diarize", "true")]),
    ("mistral", EXTRA.format("diarize", 'string_value: "true"'), [
        ("timestamp_granularities", "segment"), ("diarize", "true")]),
    ("mistral", EXTRA.format("context_bias", 'list_value { values { string_value: "a" } }'), [("context_bias", "a")]),
    ("hosted_vllm", "", [("response_format", "json")]),
    ("hosted_vllm", f'{formatted("verbose_json")} language: "de-AT" prompt: "p"', [
        ("response_format", "verbose_json"), ("language", "de"), ("prompt", "p")]),
    ("hosted_vllm", EXTRA.format("hotwords", 'string_value: "voxgate"'), [
        ("response_format", "json"), ("hotwords", "voxgate")]),
    ("hosted_vllm", EXTRA.format("top_p", "number_value: 0.5"), [("response_format", "json"), ("top_p", "0.5")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "fields"), SENT)
async def test_options_under_the_servers_own_names(ask: Asking, name: str, config: str, fields: list[tuple[str, str]]):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        assert (await ask(built(emulator, model), config)).text == emulator.text
    assert emulator.records[0].fields == [("model", model), *fields]


SPEAKERS = 'known_speakers { name: "A" reference { media_type: "audio/wav" data: "x" } }'
VAD = "chunking_strategy { server_vad { threshold: 0.5 } }"
REFUSED = [
    ("groq", 'language: "tlh"', "language", "tlh.*yue"),
    ("groq", 'languages: ["de", "en"]', "languages", "groq"),
    ("groq", 'keywords: "x"', "keywords", "groq"),
    ("groq", "include: INCLUDE_LOGPROBS", "include", "groq"),
    ("groq", "chunking_strategy { auto {} }", "chunking_strategy", "groq"),
    ("groq", SPEAKERS, "known_speaker_names", "groq"),
    ("groq", DIARIZE, "diarize", "not configured"),
    ("fireworks_ai", 'keywords: "x"', "keywords", "fireworks_ai"),
    ("fireworks_ai", "include: INCLUDE_LOGPROBS", "include", "fireworks_ai"),
    ("fireworks_ai", "chunking_strategy { auto {} }", "chunking_strategy", "fireworks_ai"),
    ("fireworks_ai", SPEAKERS, "known_speaker_names", "fireworks_ai"),
    ("ovhcloud", 'keywords: "x"', "keywords", "ovhcloud"),
    ("ovhcloud", "include: INCLUDE_LOGPROBS", "include", "ovhcloud"),
    ("ovhcloud", VAD, "chunking_strategy", "without settings"),
    ("ovhcloud", SPEAKERS, "known_speaker_names", "ovhcloud"),
    ("mistral", 'prompt: "x"', "prompt", "mistral"),
    ("mistral", "include: INCLUDE_LOGPROBS", "include", "mistral"),
    ("mistral", "chunking_strategy { auto {} }", "chunking_strategy", "mistral"),
    ("mistral", SPEAKERS, "known_speaker_names", "mistral"),
    ("mistral", 'languages: ["de", "en"]', "languages", "mistral"),
    ("mistral", f'language: "de" {WORD}', "language", "times"),
    ("mistral", f'language: "de" {formatted("srt")}', "language", "times"),
    ("mistral", f"{formatted('diarized_json')} {WORD}", "timestamp_granularities", "segment only"),
    ("mistral", " ".join(f'keywords: "{number}"' for number in range(101)), "keywords", "at most 100, not 101"),
    ("hosted_vllm", 'keywords: "x"', "keywords", "hosted_vllm"),
    ("hosted_vllm", VAD, "chunking_strategy", "hosted_vllm"),
    ("hosted_vllm", "include: INCLUDE_LOGPROBS", "include", "hosted_vllm"),
]


@pytest.mark.parametrize(("name", "config", "option", "said"), REFUSED)
async def test_what_a_server_cannot_is_refused_by_name(ask: Asking, name: str, config: str, option: str, said: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        with pytest.raises(errors.UnsupportedParameter, match=said) as caught:
            await ask(built(emulator, model), config)
        assert not emulator.connections
    assert caught.value.param == option
    assert name in caught.value.message


@pytest.mark.parametrize(("name", "config", "option", "said"), REFUSED)
async def test_or_left_out_and_reported(ask: Asking, name: str, config: str, option: str, said: str):
    del said
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        # A server that does not take the field refuses the call, so that it was answered says that it was left out.
        emulator.ignores_unknown_fields = False
        assert (await ask(built(emulator, model, drop_params=True), config)).text == emulator.text
    assert ask.attempt is not None
    assert ask.attempt.dropped_params == [option]


@pytest.mark.parametrize(
    ("name", "config", "param"),
    [
        ("groq", formatted("diarized_json"), "response_format"),
        ("hosted_vllm", formatted("diarized_json"), "response_format"),
        ("ovhcloud", "task: TRANSCRIPTION_TASK_TRANSLATE", "task"),
        ("mistral", "task: TRANSCRIPTION_TASK_TRANSLATE", "task"),
        ("fireworks_ai", f"task: TRANSCRIPTION_TASK_TRANSLATE {formatted('diarized_json')}", "response_format"),
    ],
)
async def test_the_format_and_the_task_are_never_left_out(ask: Asking, name: str, config: str, param: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        with pytest.raises(errors.UnsupportedParameter, match=name) as caught:
            await ask(built(emulator, model, drop_params=True), config)
        assert not emulator.connections
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["groq", "fireworks_ai", "hosted_vllm"])
async def test_translation(ask: Asking, name: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        provider = built(emulator, model)
        assert provider.capabilities.translation
        result = await ask(provider, f'task: TRANSCRIPTION_TASK_TRANSLATE prompt: "x" {formatted("verbose_json")}')
        assert emulator.records[0].path == f"{emulator.prefix}/audio/translations"
    assert result.task == "translate"


@pytest.mark.parametrize(("kind", "model"), [(GroqEmulator, "whisper-large-v3-turbo"), (FireworksEmulator, "turbo")])
async def test_turbo_does_not_translate(ask: Asking, kind: type[DialectEmulator], model: str):
    async with kind() as emulator:
        provider = built(emulator, model)
        assert not provider.capabilities.translation
        with pytest.raises(errors.UnsupportedParameter, match="translate"):
            await ask(provider, "task: TRANSCRIPTION_TASK_TRANSLATE")


@pytest.mark.parametrize("wanted", ["json", "text", "srt", "verbose_json", "vtt", "diarized_json"])
@pytest.mark.parametrize("name", EMULATORS)
async def test_every_format_has_what_it_is_made_of(ask: Asking, name: str, wanted: str):
    kind, model = EMULATORS[name]
    async with kind() as emulator:
        provider = built(emulator, model)
        if ResponseFormat.Value(f"RESPONSE_FORMAT_{wanted.upper()}") not in provider.capabilities.response_formats:
            assert (wanted, provider.capabilities.diarization) == ("diarized_json", False)
            return
        result = await ask(provider, formatted(wanted))
    assert result.text == emulator.text
    if wanted not in {"json", "text"}:
        assert " ".join(segment.text for segment in result.segments) == emulator.text
        assert [segment.start for segment in result.segments] == [0.0, 1.5]
    if wanted == "diarized_json":
        assert " ".join(segment.text for segment in result.diarized_segments) == emulator.text
        assert all(segment.speaker for segment in result.diarized_segments)
    if name != "mistral" and (wanted not in {"json", "text"} or name != "hosted_vllm"):
        assert result.duration == 3.25
        assert result.language in {"en", "English"}


async def test_fireworks_words(ask: Asking):
    async with FireworksEmulator() as emulator:
        result = await ask(built(emulator, "whisper-v3"), formatted("diarized_json"))
    assert [word.word for word in result.words] == emulator.text.split()
    assert {(word.confidence, word.speaker) for word in result.words} == {(0.75, "0")}
    assert [(item.id, item.speaker) for item in result.diarized_segments] == [("seg_001", "0"), ("seg_002", "0")]


async def test_ovhclouds_speakers_and_usage(ask: Asking):
    async with OvhcloudEmulator() as emulator:
        result = await ask(built(emulator, "whisper-large-v3"), formatted("diarized_json"))
    assert [(item.speaker, item.start, item.end) for item in result.diarized_segments] == [
        ("0", 0.0, 1.5),
        ("1", 1.5, 3.25),
    ]
    assert result.usage.duration.seconds == 4
    assert [segment.id for segment in result.segments] == [1, 2]


async def test_mistrals_segments_are_words_where_words_were_asked_for(ask: Asking):
    async with MistralEmulator() as emulator:
        result = await ask(built(emulator, "voxtral-mini-2602"), WORD)
        assert [word.word for word in result.words] == emulator.text.split()
        assert [word.confidence for word in result.words] == [0.5] * len(result.words)
        assert not result.segments
        result = await ask(built(emulator, "voxtral-mini-2602"), DIARIZE)
    assert not result.words
    assert {segment.speaker for segment in result.diarized_segments} == {"speaker_1"}
    assert result.usage.duration.seconds == 4


async def test_vllms_duration_is_a_string(ask: Asking):
    async with VllmEmulator() as emulator:
        result = await ask(built(emulator, "openai/whisper-large-v3"), f"{formatted('verbose_json')} {WORD}")
    assert result.duration == 3.25
    assert result.words


async def test_a_diarize_of_the_operator(ask: Asking):
    async with FireworksEmulator() as emulator:
        provider = built(emulator, "whisper-v3", default_params={"diarize": True, "min_speakers": 2})
        assert (await ask(provider)).diarized_segments
        assert set(emulator.records[0].fields) >= {("diarize", "true"), ("min_speakers", "2")}
        assert emulator.records[0].field("timestamp_granularities") == "word,segment"
        provider = built(emulator, "whisper-v3", default_params={"diarize": True})
        assert not (await ask(provider, EXTRA.format("diarize", "bool_value: false"))).diarized_segments
        assert emulator.records[1].values("diarize") == ["false"]


async def test_the_operators_usual_language_gives_way_to_times(ask: Asking):
    async with MistralEmulator() as emulator:
        for config, language in (("", "de"), (formatted("srt"), None), ('language: "en"', "en")):
            provider = built(emulator, "voxtral-mini-latest", default_params={"language": "de"})
            await ask(provider, config)
            assert emulator.records[-1].field("language") == language


async def test_raw_requests_show_lists_without_brackets(ask: Asking):
    async with MistralEmulator() as emulator:
        provider = built(emulator, "voxtral-mini-latest")
        await ask(provider, 'keywords: ["a", "b", "c"] debug { include_raw_request: true }')
    assert ask.attempt is not None
    assert ask.attempt.raw_request is not None
    assert json.loads(ask.attempt.raw_request.data)["context_bias"] == ["a", "b", "c"]


OPTIONS = {
    "language": 'language: "de"',
    "languages": 'languages: ["fr", "es"]',
    "prompt": 'prompt: "marker-p"',
    "keywords": 'keywords: "marker-k"',
    "temperature": "temperature: 0.125",
    "timestamp_granularities": WORD,
    "include": "include: INCLUDE_LOGPROBS",
    "chunking_strategy": "chunking_strategy { server_vad {} }",
    "known_speaker_names": 'known_speakers { name: "marker-s" reference { media_type: "audio/wav" data: "x" } }',
}
MARKS = {
    "language": "de", "languages": "es", "prompt": "marker-p", "keywords": "marker-k", "temperature": "0.125",
    "timestamp_granularities": "word", "include": "logprobs", "chunking_strategy": "server_vad",
    "known_speaker_names": "marker-s",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", DIALECTS)
def test_no_option_is_lost(name: str, option: str):
    """For every model of every server: sent, or refused by name, or reported, as its capabilities say."""
    dialect = DIALECTS[name]
    config = text_format.Parse(OPTIONS[option], TranscriptionConfig())
    for family in dialect.families:
        known = family.capabilities(dialect, max_audio_bytes=0, own_server=True).options
        dropped: list[str] = []
        fields = build_form(config, model="m", dialect=dialect, family=family, dropped=dropped, who=name)
        assert (MARKS[option] in [value for _, value in fields]) == (option in known)
        assert dropped == ([] if option in known else [option])
        if option not in known:
            with pytest.raises(errors.UnsupportedParameter, match=option) as caught:
                build_form(config, model="m", dialect=dialect, family=family, dropped=None, who=name)
            assert caught.value.param == option


@pytest.mark.parametrize("name", DIALECTS)
def test_no_extra_option_is_lost(name: str):
    dialect = DIALECTS[name]
    for family in dialect.families:
        for option in family.extra_options:
            config = text_format.Parse(EXTRA.format(option, 'string_value: "marker"'), TranscriptionConfig())
            fields = build_form(config, model="m", dialect=dialect, family=family, dropped=None, who=name)
            assert (option, "marker") in fields


async def test_an_answer_with_none_of_the_fields_is_read(ask: Asking):
    async with MistralEmulator() as emulator:
        emulator.script(raw('{"text": "x", "segments": null, "usage": {}, "language": null}'))
        result = await ask(built(emulator, "voxtral-mini-latest"), WORD)
    assert result.text == "x"
    assert not result.HasField("usage")
