"""ElevenLabs: whatever is answered, refusals and broken connections among it."""

import json
import math
from typing import Any

import httpx
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.elevenlabs_answer import fill_from_elevenlabs, refusal
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.transcript.subtitles import srt

from tests.providers.calling import WAV, attempt_with
from tests.providers.elevenlabs_emulator import KEY, ElevenLabsEmulator, failure
from tests.providers.emulator import Behaviour, raw
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run

UPSTREAM = Upstream("elevenlabs", "scribe_v2")


def read(body: bytes | str | dict, *, diarized: bool = False, logprobs: bool = False) -> Transcription:
    data = json.dumps(body) if isinstance(body, dict) else body
    result = Transcription()
    fill_from_elevenlabs(
        result, data.encode() if isinstance(data, str) else data, UPSTREAM, diarized=diarized, logprobs=logprobs
    )
    return result


def is_golden(result: Transcription, expected: str) -> None:
    wanted = text_format.Parse(expected, Transcription())
    assert text_format.MessageToString(result) == text_format.MessageToString(wanted)


def words(*texts: str, start: float = 0.0, speaker: str = "", channel: int | None = None) -> str:
    more = f' speaker: "{speaker}"' if speaker else ""
    more += f" channel: {channel}" if channel is not None else ""
    return " ".join(
        f'words {{ word: "{text}" start: {start + i / 2} end: {start + i / 2 + 0.5} '
        f"confidence: {math.exp(-0.5)!r}{more} }}"
        for i, text in enumerate(texts)
    )


ONE = ("Hello", "from", "the", "emulator,", "dear", "friend.")
TWO = ("How", "are", "you?")
HEAD = """text: "Hello from the emulator, dear friend. How are you?" language: "eng" languages { code: "eng" }
    duration: 7.25 usage { duration { seconds: 7.25 } }"""


@pytest.mark.parametrize("wanted", ["JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT"])
async def test_every_format_is_made_of_the_same_answer(scribe: ProviderCalling, wanted: str):
    result = await scribe(f"response_format: RESPONSE_FORMAT_{wanted}")
    is_golden(result, f"{HEAD} {words(*ONE)} {words(*TWO, start=4)}")


async def test_speakers(scribe: ProviderCalling):
    is_golden(
        await scribe(DIARIZED),
        f"""{HEAD} {words(*ONE, speaker="A")} {words(*TWO, start=4, speaker="B")}
        diarized_segments {{ id: "seg_001" speaker: "A" start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        diarized_segments {{ id: "seg_002" speaker: "B" start: 4 end: 5.5 text: "How are you?" }}
        extra_fields {{ synthesized_fields: "diarized_segments" }}""",
    )


async def test_channels(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    elevenlabs.texts = ["One. Two.", "Three."]
    expected = f"""text: "One. Two.\\nThree." language: "eng" languages {{ code: "eng" }} duration: 7.25
        {words("One.", speaker="A", channel=0)} {words("Three.", speaker="B", channel=1)}
        {words("Two.", start=1.5, speaker="A", channel=0)}"""
    is_golden(await scribe(extras(use_multi_channel=True)), expected)
    result = await scribe(DIARIZED + extras(use_multi_channel=True))
    assert [(item.speaker, item.text) for item in result.diarized_segments] == [
        ("A", "One."), ("B", "Three."), ("A", "Two."),
    ]  # fmt: skip
    combined = await scribe(DIARIZED + extras(use_multi_channel=True, multichannel_output_style="combined"))
    assert [(word.word, word.speaker, word.channel) for word in combined.words] == [
        ("One.", "A", 0), ("Three.", "B", 1), ("Two.", "A", 0),
    ]  # fmt: skip


async def test_log_probabilities(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    elevenlabs.texts = ["Hi (laughter)"]
    result = await scribe("include: INCLUDE_LOGPROBS")
    assert [(token.token, token.logprob, token.token_bytes) for token in result.logprobs] == [
        ("Hi", -0.5, b"Hi"), (" ", 0.0, b" "), ("(laughter)", -0.5, b"(laughter)"),
    ]  # fmt: skip
    assert [word.word for word in result.words] == ["Hi", "(laughter)"]
    assert not (await scribe()).logprobs


async def test_silence(scribe: ProviderCalling):
    body = '{"text": "", "language_code": "eng", "words": [], "audio_duration_secs": 2}'
    for config in ("", DIARIZED):
        result = await scribe.answered(body, config)
        assert (result.text, len(result.words), result.duration) == ("", 0, 2)


GARBLED = [
    "",
    "nothing",
    "[]",
    "{}",
    '{"text": null}',
    '{"transcripts": []}',
    '{"transcripts": [{"words": []}]}',
    '{"message": "Request accepted", "request_id": "r"}',
    '{"text": "x", "words": 5}',
    '{"text": "x", "words": [{"text": "x", "start": "soon"}]}',
    "<html>",
    "[" * 100_000,
]


@pytest.mark.parametrize("body", GARBLED)
async def test_what_is_no_transcript(scribe: ProviderCalling, body: str):
    with pytest.raises(errors.ProviderGarbled, match=r"elevenlabs \(scribe_v2\)"):
        await scribe.answered(body)


def test_speakers_were_asked_for():
    body = {"text": "Hi", "words": [{"text": "Hi", "start": 0, "end": 1}]}
    with pytest.raises(errors.ProviderGarbled, match="speakers"):
        read(body, diarized=True)
    assert read(body).text == "Hi"


def test_a_word_without_a_speaker_is_its_neighbours():
    result = read(
        {"text": "(bell) Hi there", "words": [
            {"text": "(bell)", "start": 0, "end": 1, "type": "audio_event"},
            {"text": "Hi", "start": 1, "end": 2, "speaker_id": "speaker_3"},
            {"text": "there", "start": 2, "end": 3},
        ]}, diarized=True,
    )  # fmt: skip
    assert [(item.speaker, item.text) for item in result.diarized_segments] == [("A", "(bell)"), ("A", "Hi there")]


def test_times_are_never_before_their_start():
    result = read({"text": "a b c", "audio_duration_secs": -1, "words": [
        {"text": "a", "start": -3, "end": "1.5"}, {"text": "b", "end": None}, {"text": "c", "start": 9, "end": 2},
    ]})  # fmt: skip
    assert [(word.start, word.end) for word in result.words] == [(0, 1.5), (1.5, 1.5), (9, 9)]
    assert not result.HasField("duration")


_number = st.none() | st.floats() | st.integers() | st.text(max_size=3)
_anything = st.recursive(_number | st.booleans(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
_word = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=5) | _anything, "start": _number, "end": _number, "type": st.text(max_size=3),
        "speaker_id": st.none() | st.text(max_size=3) | st.integers(0, 40), "logprob": _number,
        "channel_index": st.none() | st.integers(), "characters": _anything,
    },
)  # fmt: skip
_transcript = st.fixed_dictionaries(
    {"text": st.text(max_size=20) | _anything},
    optional={
        "words": st.lists(_word, max_size=4) | _anything, "language_code": _anything, "channel_index": _anything,
        "audio_duration_secs": _number, "language_probability": _anything, "entities": _anything,
    },
)  # fmt: skip
_answers = _transcript | st.fixed_dictionaries({"transcripts": st.lists(_transcript, max_size=3)}) | _anything


@given(_answers.map(lambda answer: json.dumps(answer).encode()) | st.binary(max_size=60), st.booleans())
@example(b'{"text": "\\ud800"}', False)
@example(b'{"text": "x", "words": [{"text": "x", "channel_index": 99999999999}]}', False)
def test_any_answer_is_a_transcript_or_garbled(body: bytes, diarized: bool):
    try:
        result = read(body, diarized=diarized, logprobs=True)
    except errors.ProviderGarbled:
        return
    Transcription.FromString(result.SerializeToString())
    for word in result.words:
        assert 0 <= word.start <= word.end
        assert not word.HasField("confidence") or 0 <= word.confidence <= 1
    srt(result) if result.words or not result.text else None
    if diarized and result.text:
        assert result.diarized_segments


TABLE = [
    (400, "invalid_content", "File upload is corrupted.", errors.ProviderRejected, "corrupted"),
    (401, "invalid_api_key", "Invalid API key", errors.ProviderCredential, "api_key"),
    (401, "quota_exceeded", "You have 3 credits remaining.", errors.ProviderQuotaExceeded, "3 credits"),
    (402, "payment_required", "Pay first.", errors.ProviderQuotaExceeded, "Pay first"),
    (403, "missing_permissions", "Not for you.", errors.ProviderCredential, "403"),
    (404, "not_found", "No such route.", errors.ProviderUnavailable, "api_base"),
    (413, "file_too_large", "More than 3 GB", errors.AudioTooLarge, "3 GB"),
    (422, "invalid", "Wrong", errors.ProviderRejected, "Wrong"),
    (429, "too_many_concurrent_requests", "At most 4.", errors.ProviderRateLimited, "At most 4"),
    (429, "system_busy", "Heavy traffic.", errors.ProviderRateLimited, "Heavy traffic"),
    (500, "internal", "It broke.", errors.ProviderUnavailable, "It broke"),
    (503, "overloaded", "", errors.ProviderUnavailable, "overloaded"),
    (504, "timeout", "Too slow.", errors.ProviderTimeout, "Too slow"),
]


@pytest.mark.parametrize(("status", "code", "message", "kind", "said"), TABLE)
async def test_every_status(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, status: int, code: str, message: str,
    kind: type[errors.VoxgateError], said: str,
):  # fmt: skip
    elevenlabs.script(failure(status, code, message, headers={"retry-after": "7"}))
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await scribe()
    assert type(caught.value) is kind
    assert caught.value.retry_after == (7 if status in {429, 500, 503, 504} else None)
    assert caught.value.metadata["provider_status"] == str(status)
    assert caught.value.metadata["provider_code"] == code
    assert KEY not in caught.value.message
    assert scribe.attempt is not None
    assert scribe.attempt.response_headers["request-id"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"detail": [{"loc": ["body", "seed"], "msg": "Not a number", "type": "int"}]}', r"body\.seed: Not a number"),
        ('{"detail": []}', r"422"),
        ('{"detail": "Plain words"}', "Plain words"),
        ('{"detail": {"status": "odd_code"}}', "odd_code"),
        ('{"detail": {"code": "new_code", "message": "New words"}}', "New words"),
        ('{"error": {"message": "another shape"}}', "another shape"),
        ("", r"422\.$"),
        ("<html>", r"422\.$"),
    ],
)
async def test_other_shapes(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, body: str, said: str):
    elevenlabs.script(raw(body, status=422))
    with pytest.raises(errors.ProviderRejected, match=said):
        await scribe()


@given(st.integers(300, 599), st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | _anything.map(
    lambda detail: json.dumps({"detail": detail}).encode()
))  # fmt: skip
def test_any_refusal_has_a_class(status: int, body: bytes):
    error = refusal(UPSTREAM, status, httpx.Headers(), body)
    assert isinstance(error, (errors.ProviderError, errors.AudioTooLarge))
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("config", "data", "kwargs", "kind", "said"),
    [
        ("", b"RIFF but nothing else", {}, errors.ProviderRejected, "corrupted"),
        ("", WAV, {"model": "scribe_v9"}, errors.ProviderRejected, "scribe_v9"),
        ("", WAV, {"api_key": "fedcba9876543210"}, errors.ProviderCredential, "api_key"),
        (extras(num_speakers=33), WAV, {}, errors.ProviderRejected, "num_speakers"),
        (extras(use_multi_channel=True, diarize=True), WAV, {}, errors.ProviderRejected, "use_multi_channel"),
    ],
)
async def test_what_elevenlabs_itself_refuses(
    scribe: ProviderCalling, config: str, data: bytes, kwargs: dict[str, Any], kind, said: str
):
    with pytest.raises(kind, match=said):
        await scribe(config, data=data, **kwargs)


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        ("quota", errors.ProviderQuotaExceeded, "no credit"),
        ("early-401", errors.ProviderCredential, "api_key"),
        ("reset-body", errors.ProviderUnavailable, "broke the connection"),
        ("reset-answer", errors.ProviderUnavailable, "broke the connection"),
        ("cut-answer", errors.ProviderUnavailable, "broke the connection"),
        ("html", errors.ProviderUnavailable, r"status 502.$"),
        (failure(307, headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect"),
    ],
)
@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_broken_connections(
    scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, behaviour: str | Behaviour, kind, said: str, size: int
):
    elevenlabs.script(behaviour)
    with pytest.raises(kind, match=said):
        await scribe(data=WAV + bytes(size))
    assert len(elevenlabs.records) == 1


async def test_an_early_success_is_none(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator, store: SpoolStore):
    elevenlabs.script("early-200")
    async with store.open(max_bytes=1 << 30) as spool, scribe.provider() as provider:
        await spool.write(WAV)
        with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
            await run(provider, attempt_with(spool))


async def test_the_deadline_while_waiting_for_the_answer(scribe: ProviderCalling, elevenlabs: ElevenLabsEmulator):
    elevenlabs.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
        await scribe(seconds=0.2)
    await elevenlabs.records[0].peer_closed.wait()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/speech-to-text", {}, b"", 401),
        ("/v1/elsewhere", {"xi-api-key": KEY}, b"", 404),
        ("/v1/speech-to-text", {"xi-api-key": KEY}, b"model_id=scribe_v2", 400),
    ],
)
async def test_the_emulator_refuses(
    elevenlabs: ElevenLabsEmulator, path: str, headers: dict[str, str], body: bytes, status: int
):
    form = {"data": {"model_id": "scribe_v2"}, "files": {"file": ("a.wav", WAV)}}
    request: dict[str, Any] = form if not body else {"content": body}
    async with httpx.AsyncClient() as client:
        answer = await client.post(elevenlabs.origin + path, headers=headers, **request)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("fields", "files", "status", "said"),
    [
        ({"model_id": "scribe_v2", "webhook_metadata": "null", "entity_redaction": "null"}, True, 200, "Hello"),
        ({"model_id": "scribe_v2", "source_url": "https://x.example/a.wav"}, True, 400, "exactly one"),
        ({"model_id": "scribe_v2"}, False, 400, "exactly one"),
        ({}, True, 422, "model_id"),
        ({"model_id": "scribe_v2", "nobody": "1"}, True, 422, "nobody"),
        ({"model_id": "scribe_v2", "temperature": "3"}, True, 422, "temperature"),
        ({"model_id": "scribe_v2", "language_code": "de-AT"}, True, 422, "language_code"),
        ({"model_id": "scribe_v2", "entity_redaction": "{"}, True, 422, "JSON"),
    ],
)
async def test_the_emulators_rules(
    elevenlabs: ElevenLabsEmulator, fields: dict[str, str], files: bool, status: int, said: str
):
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
    parts += [("file", ("a.wav", WAV))] if files else []
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{elevenlabs.origin}/v1/speech-to-text", headers={"xi-api-key": KEY}, files=parts
        )  # fmt: skip
    assert (answer.status_code, said in answer.text) == (status, True)
