"""The dialects of OpenAI's API: whatever a caller combines, the server takes what is sent, and nothing is lost."""

import json
from collections.abc import Callable

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.openai_answer import fill_from_json
from voxgate_server.providers.openai_dialects import DIALECTS
from voxgate_server.providers.openai_form import build_form
from voxgate_server.providers.options import asked_options

from tests.providers import openai_rules
from tests.providers.dialect_emulator import EMULATORS, FireworksEmulator
from tests.providers.http_wire import Head
from tests.providers.record import Record

Judge = Callable[[Record], tuple[str, bytes]]


def openais(record: Record) -> tuple[str, bytes]:
    openai_rules.check_form(record, {"my-model"}, ())
    return openai_rules.answer(record, "Hello there.")


def judges() -> list[tuple[str, str, str, Judge]]:
    """Provider, model, path before the task, and who decides."""
    found: list[tuple[str, str, str, Judge]] = []
    for name, (kind, model) in EMULATORS.items():
        emulator = kind(text="Hello there.")
        emulator.ignores_unknown_fields = False
        found.append((name, model, emulator.prefix, emulator.judge))
    turbo = FireworksEmulator("turbo", text="Hello there.")
    turbo.ignores_unknown_fields = False
    found.append(("fireworks_ai", "whisper-v3-turbo", "/v1", turbo.judge))
    found += [("openai", model, "/v1", openais) for model in (*openai_rules.FORMATS, "my-model")]
    return found


KEY = (("authorization", "Bearer key-of-the-emulator"),)
PIECES = [
    'language: "de"', 'language: "pt-BR"', 'languages: "fr"', 'languages: ["fr", "es"]', 'prompt: "p"',
    'keywords: ["a", "b"]', "temperature: 0.5", "timestamp_granularities: TIMESTAMP_GRANULARITY_WORD",
    "timestamp_granularities: TIMESTAMP_GRANULARITY_SEGMENT", "include: INCLUDE_LOGPROBS",
    "chunking_strategy { auto {} }", "chunking_strategy { server_vad { threshold: 0.5 } }",
    'known_speakers { name: "A" reference { media_type: "audio/wav" data: "x" } }',
    'extra_params { fields { key: "diarize" value { bool_value: true } } }',
    'extra_params { fields { key: "diarize" value { bool_value: false } } }',
    'extra_params { fields { key: "seed" value { number_value: 5 } } }',
    "task: TRANSCRIPTION_TASK_TRANSLATE",
]  # fmt: skip
FORMATS = ["UNSPECIFIED", "JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT", "DIARIZED_JSON"]


def merged(pieces: list[str], wanted: str) -> TranscriptionConfig:
    config = TranscriptionConfig()
    for piece in [*pieces, f"response_format: RESPONSE_FORMAT_{wanted}"]:
        config.MergeFrom(text_format.Parse(piece, TranscriptionConfig()))
    return config


@pytest.mark.parametrize(("name", "model", "prefix", "judge"), judges())
@given(st.lists(st.sampled_from(PIECES), unique=True, max_size=6), st.sampled_from(FORMATS))
def test_whatever_is_combined(name: str, model: str, prefix: str, judge: Judge, pieces: list[str], wanted: str):
    dialect, config = DIALECTS[name], merged(pieces, wanted)
    family = dialect.family_of(model)
    dropped: list[str] = []
    task = "translations" if "TRANSLATE" in "".join(pieces) else "transcriptions"
    try:
        fields = build_form(config, model=model, dialect=dialect, family=family, dropped=dropped, who=name)
    except errors.UnsupportedParameter as error:
        assert error.param in {"response_format", "task"}  # noqa: PT017
        offered = family.formats
        impossible = task == "translations" and (not family.translation or wanted == "DIARIZED_JSON")
        assert impossible or config.response_format not in offered
        return
    record = Record(1, Head("POST", f"{prefix}/audio/{task}", KEY))
    record.fields, record.filename, record.file_size, record.complete = fields, "audio.wav", 5000, True
    media_type, body = judge(record)
    asked = asked_options(config, takes_several_languages="languages" in family.options)
    assert set(dropped) <= set(asked)
    assert len(set(dropped)) == len(dropped)
    assert media_type == "application/json"
    result = Transcription()
    are_words = dialect.granularities == "one" and ("timestamp_granularities", "word") in fields
    fill_from_json(result, body, Upstream(name, model), segments_are_words=are_words)
    assert result.text == json.loads(body)["text"]
    if wanted in {"SRT", "VTT", "VERBOSE_JSON", "DIARIZED_JSON"}:
        assert result.words or result.segments
    if wanted == "DIARIZED_JSON":
        assert result.diarized_segments
    if "timestamp_granularities" in asked and "timestamp_granularities" not in dropped:
        words_sent = any(field.startswith("timestamp_granularities") and "word" in value for field, value in fields)
        assert bool(result.words) == words_sent
