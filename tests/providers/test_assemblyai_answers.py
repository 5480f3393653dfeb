"""AssemblyAI: whatever is answered, failed jobs, refusals and broken connections among it."""

import json
from typing import Any

import httpx
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.assemblyai_answer import (
    Job,
    fill_from_assemblyai,
    job_failure,
    read_job,
    read_upload_url,
    refusal,
)
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.transcript.subtitles import srt

from tests.providers.assemblyai_emulator import KEY, AssemblyAIEmulator, failure
from tests.providers.calling import WAV, attempt_with
from tests.providers.emulator import Behaviour, ok, raw
from tests.providers.provider_calling import DIARIZED, ProviderCalling, extras, run

UPSTREAM = Upstream("assemblyai", "universal-3-5-pro")


def read(body: bytes | str | dict, *, diarized: bool = False) -> Transcription:
    data = json.dumps(body) if isinstance(body, dict) else body
    result = Transcription()
    fill_from_assemblyai(result, data.encode() if isinstance(data, str) else data, UPSTREAM, diarized=diarized)
    return result


def is_golden(result: Transcription, expected: str) -> None:
    wanted = text_format.Parse(expected, Transcription())
    assert text_format.MessageToString(result) == text_format.MessageToString(wanted)


def words(*texts: str, start: float = 0.0, speaker: str = "", channel: int | None = None) -> str:
    more = f' speaker: "{speaker}"' if speaker else ""
    more += f" channel: {channel}" if channel is not None else ""
    return " ".join(
        f'words {{ word: "{text}" start: {start + i / 2} end: {start + i / 2 + 0.5} confidence: 0.875{more} }}'
        for i, text in enumerate(texts)
    )


ONE = ("Hello", "from", "the", "emulator,", "dear", "friend.")
TWO = ("How", "are", "you?")
HEAD = """text: "Hello from the emulator, dear friend. How are you?" language: "en" languages { code: "en" }
    duration: 8 usage { duration { seconds: 8 } }"""


@pytest.mark.parametrize("wanted", ["JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT"])
async def test_every_format_is_made_of_the_same_answer(order: ProviderCalling, wanted: str):
    result = await order(f"response_format: RESPONSE_FORMAT_{wanted}")
    is_golden(result, f"{HEAD} {words(*ONE)} {words(*TWO, start=4)}")


@pytest.mark.parametrize("config", [DIARIZED, extras(speaker_labels=True)])
async def test_speakers(order: ProviderCalling, config: str):
    is_golden(
        await order(config),
        f"""{HEAD} {words(*ONE, speaker="A")} {words(*TWO, start=4, speaker="B")}
        segments {{ id: 0 start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        segments {{ id: 1 start: 4 end: 5.5 text: "How are you?" }}
        diarized_segments {{ id: "seg_001" speaker: "A" start: 0 end: 3 text: "Hello from the emulator, dear friend." }}
        diarized_segments {{ id: "seg_002" speaker: "B" start: 4 end: 5.5 text: "How are you?" }}""",
    )


@pytest.mark.parametrize("labels", [False, True])
async def test_channels(order: ProviderCalling, assemblyai: AssemblyAIEmulator, labels: bool):
    assemblyai.texts = ["One. Two.", "Three."]
    is_golden(
        await order(DIARIZED + extras(multichannel=True, speaker_labels=labels)),
        f"""text: "One. Two. Three." language: "en" languages {{ code: "en" }} duration: 8
        {words("One.", speaker="A", channel=0)} {words("Three.", speaker="B", channel=1)}
        {words("Two.", start=1.5, speaker="A", channel=0)}
        segments {{ id: 0 start: 0 end: 0.5 text: "One." }}
        segments {{ id: 1 start: 0 end: 0.5 text: "Three." }}
        segments {{ id: 2 start: 1.5 end: 2 text: "Two." }}
        diarized_segments {{ id: "seg_001" speaker: "A" start: 0 end: 0.5 text: "One." }}
        diarized_segments {{ id: "seg_002" speaker: "B" start: 0 end: 0.5 text: "Three." }}
        diarized_segments {{ id: "seg_003" speaker: "A" start: 1.5 end: 2 text: "Two." }}""",
    )


def test_speakers_without_utterances():
    result = read(
        {"text": "Hi there", "words": [
            {"text": "Hi", "start": 0, "end": 500, "speaker": "B"},
            {"text": "there", "start": 500, "end": 900, "speaker": "A"},
        ]}, diarized=True,
    )  # fmt: skip
    assert [(item.speaker, item.text) for item in result.diarized_segments] == [("A", "Hi"), ("B", "there")]
    assert list(result.extra_fields.synthesized_fields) == ["diarized_segments"]


def test_speakers_were_asked_for():
    body = {"text": "Hi", "words": [{"text": "Hi", "start": 0, "end": 1}]}
    with pytest.raises(errors.ProviderGarbled, match="speakers"):
        read(body, diarized=True)
    assert read(body).text == "Hi"


@pytest.mark.parametrize("config", ["", DIARIZED])
async def test_silence(order: ProviderCalling, assemblyai: AssemblyAIEmulator, config: str):
    assemblyai.error = "language_detection cannot be performed on files with no spoken audio."
    assert not (await order(config)).text
    body = '{"id": "job_1", "status": "completed", "text": null, "words": [], "audio_duration": 2}'
    assemblyai.script(ok(), ok())
    result = await order.answered(body, config)
    assert (result.text, len(result.words), result.duration) == ("", 0, 2)


def test_times_are_never_before_their_start():
    result = read({"text": "a b", "audio_duration": -1, "words": [
        {"text": "a", "start": -3, "end": "1500"}, {"text": "b", "start": 9000, "end": 200},
    ]})  # fmt: skip
    assert [(word.start, word.end) for word in result.words] == [(0, 1.5), (9, 9)]
    assert not result.HasField("duration")


JOB = '{"id": "job_1", "status": "%s"}'
GARBLED: list[tuple[str, ...]] = [
    # What is answered to the upload, to the order, to the question.
    ("",), ("nothing",), ("{}",), ('{"upload_url": null}',), ('{"upload_url": "file:///x"}',),
    ('{"upload_url": "https://x/' + "x" * 5000 + '"}',), ("<html>",),
    ("upload", ""), ("upload", "{}"), ("upload", JOB % "odd"), ("upload", '{"id": "../x", "status": "queued"}'),
    ("upload", '{"id": "", "status": "queued"}'), ("upload", "<html>"), ("upload", "[" * 100_000),
    ("upload", "order", "{}"), ("upload", "order", JOB % "completed"),
    ("upload", "order", '{"id": "job_1", "status": "completed", "text": "x", "words": 5}'),
]  # fmt: skip


@pytest.mark.parametrize("bodies", GARBLED)
async def test_what_makes_no_sense(order: ProviderCalling, assemblyai: AssemblyAIEmulator, bodies: tuple[str, ...]):
    answers = [ok() if body in {"upload", "order"} else raw(body) for body in bodies]
    # A question whose answer makes no sense is asked again.
    assemblyai.script(*answers, *[answers[-1]] * 2)
    with pytest.raises(errors.ProviderGarbled, match=r"assemblyai \(universal-3-5-pro\)"):
        await order()


_number = st.none() | st.floats() | st.integers() | st.text(max_size=3)
_anything = st.recursive(_number | st.booleans(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
_word = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=5) | _anything, "start": _number, "end": _number, "confidence": _number,
        "speaker": st.none() | st.text(max_size=3) | st.integers(0, 40),
        "channel": st.none() | st.integers() | st.integers(0, 3).map(str),
    },
)  # fmt: skip
_transcripts = st.fixed_dictionaries(
    {"text": st.none() | st.text(max_size=20)},
    optional={
        "words": st.none() | st.lists(_word, max_size=4), "utterances": st.none() | st.lists(_word, max_size=3),
        "audio_duration": _number, "language_code": st.none() | st.text(max_size=5),
    },
)  # fmt: skip


@given((_transcripts | _anything).map(lambda it: json.dumps(it).encode()) | st.binary(max_size=60), st.booleans())
@example(b'{"text": "\\ud800"}', False)
@example(b'{"text": "x", "words": [{"text": "x", "channel": 99999999999}]}', False)
def test_any_answer_is_a_transcript_or_garbled(body: bytes, diarized: bool):
    try:
        result = read(body, diarized=diarized)
    except errors.ProviderGarbled:
        return
    Transcription.FromString(result.SerializeToString())
    for item in (*result.words, *result.segments, *result.diarized_segments):
        assert 0 <= item.start <= item.end
    srt(result) if result.words or not result.text else None
    if diarized and result.text:
        assert result.diarized_segments


@given(st.binary(max_size=60) | _anything.map(lambda it: json.dumps({"id": it, "status": it}).encode()))
def test_any_job_is_one_or_garbled(body: bytes):
    for reader in (read_job, read_upload_url):
        with pytest.raises(errors.ProviderGarbled):
            reader(body, UPSTREAM)


FAILED = [
    ("Audio duration is too short.", errors.ProviderRejected),
    ("File does not appear to contain audio. File type is text/html (HTML document).", errors.ProviderRejected),
    ("Transcoding failed. File type application/pdf (PDF document) not supported.", errors.ProviderRejected),
    ("detected language 'de', confidence 0.3, is below the requested confidence threshold", errors.ProviderRejected),
    ("Audio duration exceeds the maximum of 10 hours", errors.AudioTooLarge),
    ("Download error, unable to download https://cdn.example/x.", errors.ProviderUnavailable),
    ("Server error, developers have been alerted.", errors.ProviderUnavailable),
    ("Something nobody has heard of", errors.ProviderUnavailable),
]


@pytest.mark.parametrize(("message", "kind"), FAILED)
async def test_a_failed_job(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, message: str, kind: type[errors.VoxgateError]
):
    assemblyai.error = message
    with pytest.raises(errors.VoxgateError, match=message[:20]) as caught:
        await order()
    assert type(caught.value) is kind
    assert caught.value.metadata["provider"] == "assemblyai"
    assert not assemblyai.deleted


async def test_what_the_emulator_says_of_audio(order: ProviderCalling):
    with pytest.raises(errors.ProviderRejected, match="Transcoding failed"):
        await order(data=b"RIFF but nothing else")
    with pytest.raises(errors.ProviderRejected, match="too short"):
        await order(data=b"RIFF")


@given(st.none() | st.text(max_size=400))
def test_any_failed_job_has_a_class(message: str | None):
    error = job_failure(UPSTREAM, Job("job_1", "error", message))
    assert isinstance(error, (errors.ProviderError, errors.AudioTooLarge))
    assert len(error.message) < 400


NO_FUNDS = "Your current account balance is negative. Please top up to continue using the API."
TABLE = [
    (400, "The following models are not available in this language: speaker_labels", errors.ProviderRejected, "models"),
    (400, NO_FUNDS, errors.ProviderQuotaExceeded, "no credit"),
    (400, '"speech_models" must be a non-empty list', errors.ProviderUnavailable, "operator has to check"),
    (400, "Transcript lookup error, transcript id not found", errors.ProviderUnavailable, "lost"),
    (401, "Authentication error, API token missing/invalid.", errors.ProviderCredential, "api_key"),
    (403, "Forbidden", errors.ProviderCredential, "api_key"),
    (403, "Rate limit exceeded", errors.ProviderRateLimited, "slow down"),
    (404, "Not found", errors.ProviderUnavailable, "api_base"),
    (413, "Too much", errors.AudioTooLarge, "Too much"),
    (429, "Too many requests", errors.ProviderRateLimited, "slow down"),
    (500, "Server error, developers have been alerted.", errors.ProviderUnavailable, "alerted"),
    (503, "Service unavailable", errors.ProviderUnavailable, "unavailable"),
    (504, "Gateway timeout", errors.ProviderTimeout, "timeout"),
]


@pytest.mark.parametrize(("status", "message", "kind", "said"), TABLE)
@pytest.mark.parametrize("before", [0, 1])
async def test_every_status_of_the_upload_and_of_the_order(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, status: int, message: str,
    kind: type[errors.VoxgateError], said: str, before: int,
):  # fmt: skip
    assemblyai.script(*[ok()] * before, failure(status, message, headers={"retry-after": "7"}))
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await order()
    assert type(caught.value) is kind
    waits = kind is errors.ProviderRateLimited or status >= 500
    assert caught.value.retry_after == (7 if waits else None)
    assert caught.value.metadata["provider_status"] == str(status)
    assert KEY not in caught.value.message
    assert not assemblyai.jobs


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "another shape"}}', "another shape"), ('{"detail": "x y z"}', "x y z"),
        ("", r"400\.$"), ("<html>", r"400\.$"), ("plain words", "plain words"),
    ],
)  # fmt: skip
async def test_other_shapes(order: ProviderCalling, assemblyai: AssemblyAIEmulator, body: str, said: str):
    assemblyai.script(raw(body, status=400))
    with pytest.raises(errors.ProviderRejected, match=said):
        await order()


@given(st.integers(300, 599), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_refusal_has_a_class(status: int, body: bytes):
    error = refusal(UPSTREAM, status, httpx.Headers(), body)
    assert isinstance(error, (errors.ProviderError, errors.AudioTooLarge))
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("config", "kwargs", "kind", "said"),
    [
        ("", {"model": "universal-9"}, errors.ProviderUnavailable, "deployment's model"),
        ("", {"api_key": "fedcba9876543210"}, errors.ProviderCredential, "api_key"),
        ("", {"api_key": f"Bearer {KEY}"}, errors.ProviderCredential, "api_key"),
        ('language: "tlh"', {}, errors.ProviderRejected, "tlh"),
        (extras(custom_spelling="x"), {}, errors.ProviderRejected, "custom_spelling"),
        (extras(speakers_expected=1.5), {}, errors.ProviderRejected, "speakers_expected"),
    ],
)
async def test_what_assemblyai_itself_refuses(
    order: ProviderCalling, config: str, kwargs: dict[str, Any], kind: type[errors.VoxgateError], said: str
):
    with pytest.raises(kind, match=said):
        await order(config, **kwargs)


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
@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_broken_connections(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, behaviour: str | Behaviour,
    kind: type[errors.VoxgateError], said: str, size: int,
):  # fmt: skip
    assemblyai.script(behaviour)
    with pytest.raises(kind, match=said):
        await order(data=WAV + bytes(size))
    assert len(assemblyai.records) == 1


async def test_an_early_success_is_none(order: ProviderCalling, assemblyai: AssemblyAIEmulator, store: SpoolStore):
    assemblyai.script("early-200")
    async with store.open(max_bytes=1 << 30) as spool, order.provider() as provider:
        await spool.write(WAV)
        with pytest.raises(errors.ProviderGarbled, match="before it had the whole recording"):
            await run(provider, attempt_with(spool))


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_the_deadline_while_waiting_for_an_answer(
    order: ProviderCalling, assemblyai: AssemblyAIEmulator, before: int
):
    assemblyai.script(*[ok()] * before, "hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
        await order(seconds=1)
    await assemblyai.records[before].peer_closed.wait()
    assert assemblyai.deleted == ["job_1"] * (before == 2)


async def test_the_deployments_own_timeout(order: ProviderCalling, assemblyai: AssemblyAIEmulator):
    assemblyai.script("hang")
    with pytest.raises(errors.ProviderTimeout, match="did not answer in time"):
        await order(timeout=0.2)
    await assemblyai.records[0].peer_closed.wait()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v2/upload", b"", 400, "empty"),
        ("POST", "/v2/transcript", b"{", 400, "Invalid JSON"),
        ("POST", "/v2/transcript", b'{"nobody": 1}', 400, "nobody"),
        ("POST", "/v2/transcript", b'{"speech_models": ["universal-2"]}', 400, "audio_url"),
        ("POST", "/v2/transcript", b'{"audio_url": "https://x.example/a.wav"}', 400, "speech_models"),
        ("POST", "/v2/transcript",
         b'{"audio_url":"https://x","speech_models": ["universal-2"], "language_code": "de","language_detection":true}',
         400, "together"),
        ("POST", "/v2/transcript",
         b'{"audio_url": "https://cdn.assemblyai.example/upload/9", "speech_models": ["universal-2"]}', 403, "another"),
        ("GET", "/v2/transcript/job_9", b"", 400, "not found"),
        ("DELETE", "/v2/transcript/job_9", b"", 400, "not found"),
        ("GET", "/v1/transcript", b"", 404, "Not found"),
    ],
)  # fmt: skip
async def test_the_emulators_rules(
    assemblyai: AssemblyAIEmulator, method: str, path: str, body: bytes, status: int, said: str
):
    kind = "application/octet-stream" if path.endswith("upload") else "application/json"
    async with httpx.AsyncClient(headers={"authorization": KEY, "content-type": kind}) as client:
        answer = await client.request(method, assemblyai.origin + path, content=body)
    assert (answer.status_code, said in answer.text) == (status, True)
