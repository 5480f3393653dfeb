"""The OpenAI dialect: whatever a server answers, and what of it is shown."""

import json
from collections.abc import Callable

import pytest
from google.protobuf import text_format
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors

from tests.providers import openai_emulator as emulation
from tests.providers.calling import KEY, Calling, answered
from tests.providers.openai_emulator import OpenAIEmulator


@pytest.mark.parametrize(
    "body",
    [
        "", "  \n", "null", "[]", '"text"', "{}", '{"text": null}', '{"text": 5}', '{"text": "cut', "[" * 100_000,
        "<html>502</html>", '{"error": {"message": "backend died"}}', '{"error": "backend died"}',
        '{"text": "fine", "error": {"message": "not fine"}}', "plain text",
    ],
)  # fmt: skip
async def test_answers_that_make_no_sense(call: Calling, body: str):
    with pytest.raises(errors.ProviderGarbled, match=r"openai \(whisper-1\)"):
        await answered(call, body)
    assert call.attempt is not None
    assert call.attempt.report.http_status == 200


async def test_a_compressed_answer_nobody_asked_for(call: Calling):
    with pytest.raises(errors.ProviderGarbled, match="compressed"):
        await answered(call, b"\x1f\x8b" + bytes(20), headers={"content-encoding": "gzip"})


async def test_an_answer_without_end(call: Calling):
    with pytest.raises(errors.AnswerTooLarge, match="16777216"):
        await answered(call, '{"text": "' + "x" * (16 << 20) + '"}')


async def test_a_long_answer(call: Calling):
    words = [{"word": f"w{number}", "start": number, "end": number + 0.5} for number in range(30_000)]
    result = await answered(call, json.dumps({"text": "long", "words": words}))
    assert len(result.words) == 30_000


async def test_plain_text_where_text_was_asked_for(call: Calling):
    result = await answered(
        call, "Guten Tag.\n", "response_format: RESPONSE_FORMAT_TEXT", media_type="text/plain; charset=utf-8"
    )
    assert result.text == "Guten Tag."


async def test_silence_is_an_answer(call: Calling):
    assert (await answered(call, '{"text": ""}')).text == ""


async def test_tolerance(call: Calling):
    """vLLM's numbers in strings, faster-whisper's NaN, nulls and things nobody has heard of."""
    result = await answered(
        call,
        rb"""{"text": "a \ud800 b", "duration": "3.5", "language": null, "task": "transcribe", "new": {"x": [1]},
        "languages": [{"code": "de"}, null, "en"],
        "usage": {"type": "tokens", "input_tokens": 5.0, "output_tokens": "7",
        "input_token_details": null},
        "segments": [{"id": "0", "start": "0.5", "end": 1e999, "text": " x", "avg_logprob": NaN, "seek": null,
                      "tokens": [1, "2", null, 99999999999]},
                     {"id": 99999999999999, "start": 2, "end": 1, "text": "y", "temperature": true,
                      "no_speech_prob": "0.5"},
                     17, {"id": "seg_009", "speaker": "A", "start": null, "end": null, "text": "z"}],
        "words": [{"word": "x", "start": -1, "end": 1, "probability": 0.5, "speaker": 3}, {"text": "y", "end": 2}],
        "logprobs": [{"token": "x", "logprob": -0.5, "bytes": [300]}, {"token": "y", "logprob": null}]}""",
    )
    assert result == text_format.Parse(
        """text: "a \ufffd b" task: "transcribe" duration: 3.5 languages { code: "de" }
        segments { id: 0 start: 0.5 end: 0.5 text: " x" tokens: [1, 2] }
        segments { id: 1 start: 2 end: 2 text: "y" no_speech_prob: 0.5 }
        segments { id: 2 start: 2 end: 2 text: "z" }
        diarized_segments { id: "seg_009" speaker: "A" start: 2 end: 2 text: "z" }
        words { word: "x" start: 0 end: 1 confidence: 0.5 speaker: "3" } words { word: "y" start: 1 end: 2 }
        logprobs { token: "x" logprob: -0.5 }
        usage { tokens { input_tokens: 5 output_tokens: 7 total_tokens: 12 } }""",
        Transcription(),
    )


SECRETS = [
    KEY,
    "sk-proj-AbCdEf123456",
    "hunter2hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "gsk_1234567890abcdef",
]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 429, 500])
@pytest.mark.parametrize("shape", [lambda text: json.dumps({"error": {"message": text}}), lambda text: text])
async def test_no_key_comes_back(call: Calling, status: int, shape: Callable[[str], str]):
    text = "bad key " + " ".join(SECRETS) + " Authorization: Bearer abcdefghijk\r\n" + "x" * 10_000
    call.emulator.script(emulation.raw(shape(text), status=status))
    with pytest.raises(errors.VoxgateError) as caught:
        await call("debug { include_raw_response: true }", extra_headers={"x-secret": "hunter2hunter2"})
    assert call.attempt is not None
    assert call.attempt.raw_response is not None
    shown = f"{caught.value.message} {caught.value.metadata} {call.attempt.raw_response.data.decode()}"
    for secret in [*SECRETS, "abcdefghijk"]:
        assert secret not in shown
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


async def test_raw_payloads(call: Calling, emulator: OpenAIEmulator):
    await call('debug { include_raw_request: true include_raw_response: true } prompt: "hello" language: "de"')
    assert call.attempt is not None
    request, response = call.attempt.raw_request, call.attempt.raw_response
    assert request is not None
    assert json.loads(request.data) == {
        "model": "whisper-1", "response_format": "verbose_json", "language": "de", "prompt": "hello",
        "file": {"filename": "audio.wav", "content_type": "audio/wav"},
    }  # fmt: skip
    assert response is not None
    assert json.loads(response.data)["text"] == emulator.text
    assert response.media_type == "application/json"
    assert not request.truncated
    assert not response.truncated


async def test_raw_payloads_are_bounded(call: Calling):
    await answered(call, json.dumps({"text": "ü" * 100_000}), "debug { include_raw_response: true }")
    assert call.attempt is not None
    assert call.attempt.raw_response is not None
    assert call.attempt.raw_response.truncated
    assert len(call.attempt.raw_response.data) == 64 * 1024
