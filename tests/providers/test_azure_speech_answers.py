"""Azure AI Speech: whatever is answered, refusals and broken connections among it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.providers.azure_speech_answer import fill_from_azure_speech
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.transcript.subtitles import srt

from tests.providers.azure_speech_emulator import KEY, PATH, AzureSpeechEmulator, failure
from tests.providers.calling import WAV
from tests.providers.emulator import Behaviour
from tests.providers.provider_calling import ProviderCalling, extras

UPSTREAM = Upstream("azure_speech", "standard")


def read(body: bytes | str | dict) -> Transcription:
    data = json.dumps(body) if isinstance(body, dict) else body
    result = Transcription()
    fill_from_azure_speech(result, data.encode() if isinstance(data, str) else data, UPSTREAM)
    return result


class TestAnswers:
    @pytest.mark.parametrize("wanted", ["JSON", "TEXT", "SRT", "VERBOSE_JSON", "VTT"])
    async def test_every_format_is_made_of_the_same_answer(self, dictate: ProviderCalling, wanted: str):
        words = " ".join(
            f'words {{ word: "{word}" start: {1 + i / 2} end: {1.5 + i / 2} }}'
            for i, word in enumerate(["remind", "me", "to", "buy", "5", "pencils"])
        )
        expected = f"""text: "Remind me to buy 5 pencils." {words}
            segments {{ id: 0 start: 1 end: 4 text: "Remind me to buy 5 pencils." }}"""
        result = await dictate(f"response_format: RESPONSE_FORMAT_{wanted}")
        assert result == text_format.Parse(expected, Transcription())

    def test_a_simple_answer(self):
        result = read({"RecognitionStatus": "Success", "DisplayText": "Hi.", "Offset": "5000000", "Duration": "1e7"})
        assert result.text == "Hi."
        assert [(item.start, item.end, item.text) for item in result.segments] == [(0.5, 1.5, "Hi.")]

    @pytest.mark.parametrize("status", ["NoMatch", "InitialSilenceTimeout", "BabbleTimeout"])
    def test_silence(self, status: str):
        assert read({"RecognitionStatus": status, "Offset": 0, "Duration": 1}) == Transcription()

    async def test_silence_of_the_emulator(self, dictate: ProviderCalling, azure: AzureSpeechEmulator):
        azure.text = ""
        assert not (await dictate()).text

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
    async def test_statuses(self, dictate: ProviderCalling, status: str, kind: type[errors.VoxgateError], said: str):
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await dictate.answered(json.dumps({"RecognitionStatus": status}))
        assert type(caught.value) is kind

    @pytest.mark.parametrize(
        "body",
        ["", "nothing", "[]", "{}", '{"RecognitionStatus": "Success"}', '{"RecognitionStatus": 5}',
         '{"RecognitionStatus": "Success", "NBest": []}', '{"RecognitionStatus": "Success", "NBest": 7}', "<html>",
         "[" * 100_000],
    )  # fmt: skip
    async def test_what_is_no_transcript(self, dictate: ProviderCalling, body: str):
        with pytest.raises(errors.ProviderGarbled, match=r"azure_speech \(standard\)"):
            await dictate.answered(body)

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
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, status: int, message: str,
        kind: type[errors.VoxgateError], said: str,
    ):  # fmt: skip
        azure.script(failure(status, message, headers={"retry-after": "7"}))
        with pytest.raises(errors.VoxgateError, match=said) as caught:
            await dictate()
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
        self, dictate: ProviderCalling, config: str, data: bytes, kwargs: dict[str, Any], kind, said: str
    ):
        with pytest.raises(kind, match=said):
            await dictate(config, data=data, **kwargs)

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
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator, behaviour: str | Behaviour, kind, said: str
    ):
        azure.script(behaviour)
        with pytest.raises(kind, match=said):
            await dictate()
        assert len(azure.records) == 1

    async def test_the_deadline_while_waiting_for_the_answer(
        self, dictate: ProviderCalling, azure: AzureSpeechEmulator
    ):
        azure.script("hang")
        with pytest.raises(errors.ProviderTimeout, match="did not answer in the time that was left"):
            await dictate(seconds=0.5)
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
