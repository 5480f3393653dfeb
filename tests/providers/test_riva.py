"""NVIDIA Riva: what is sent, what is made of the answer, and how calls end, against a real gRPC server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config import ConfigError, load_config
from voxgate_server.errors import (
    AnswerTooLarge,
    AudioTooLarge,
    DeadlineExceeded,
    ProviderCredential,
    ProviderError,
    ProviderGarbled,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedParameter,
    UploadIncomplete,
)
from voxgate_server.providers import ProviderParams
from voxgate_server.providers.riva import build
from voxgate_server.providers.riva import riva_asr_pb2 as riva
from voxgate_server.providers.riva.request import RivaSettings

from tests.providers.riva_calling import WAV, RivaCalling, attempt_with, follow, riva_at
from tests.providers.riva_emulator import FUNCTION, KEY, TEXTS, Behaviour, RivaEmulator
from tests.running import AUTH, running
from tests.running import KEY as MASTER_KEY

TEXT = " ".join(TEXTS)
OFFLINE = RivaSettings(offline=True)
Status = grpc.StatusCode


@pytest.fixture
async def emulator() -> AsyncIterator[RivaEmulator]:
    async with RivaEmulator() as emulator:
        yield emulator


@pytest.fixture
def call(emulator: RivaEmulator, store: SpoolStore) -> RivaCalling:
    return RivaCalling(emulator, store)


class TestAnswers:
    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_transcript(self, call: RivaCalling, settings: RivaSettings) -> None:
        answer = await call(settings=settings)
        assert answer.deltas == ([TEXT] if settings.offline else [TEXTS[0], f" {TEXTS[1]}"])
        result = answer.transcription
        assert (result.text, result.language, result.duration, result.task) == (TEXT, "en-US", 5.0, "transcribe")
        assert [language.code for language in result.languages] == ["en-US"]
        assert [(one.id, one.start, one.end, one.text) for one in result.segments] == [
            (0, 0.0, 0.85, TEXTS[0]), (1, 0.9, 2.05, TEXTS[1]),
        ]  # fmt: skip
        assert [word.word for word in result.words] == TEXT.split()
        word = result.words[2]
        assert (word.start, word.end, word.confidence, word.HasField("speaker")) == (0.6, 0.85, 0.75, False)
        assert not result.diarized_segments

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_speakers(self, call: RivaCalling, settings: RivaSettings) -> None:
        result = (await call("response_format: RESPONSE_FORMAT_DIARIZED_JSON", settings=settings)).transcription
        assert [(one.id, one.speaker, one.text, one.start, one.end) for one in result.diarized_segments] == [
            ("seg_001", "A", "Hello from Riva.", 0.0, 0.85),
            ("seg_002", "B", "It says two", 0.9, 1.75),
            ("seg_003", "A", "things.", 1.8, 2.05),
        ]
        assert [word.speaker for word in result.words] == list("AAABBBA")
        assert (result.text, len(result.segments)) == (TEXT, 0)

    async def test_an_end_that_is_not_final(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        emulator.script(Behaviour(never_final=True))
        answer = await call()
        assert (answer.deltas, answer.transcription.text) == ([TEXTS[0], f" {TEXTS[1]}"], TEXT)

    async def test_guesses_that_are_taken_back(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        guess, final, empty = (
            riva.StreamingRecognizeResponse(
                results=[
                    riva.StreamingRecognitionResult(
                        is_final=is_final, alternatives=[riva.SpeechRecognitionAlternative(transcript=text)]
                    )
                ]
            )
            for text, is_final in (("yes", False), ("No.", True), (" ", True))
        )
        bare = riva.StreamingRecognizeResponse(results=[riva.StreamingRecognitionResult(is_final=True)])
        emulator.script(Behaviour(answer=[guess, bare, final, empty]))
        answer = await call()
        assert (answer.deltas, answer.transcription.text) == (["No."], "No.")
        assert not answer.transcription.HasField("duration")

    async def test_silence(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        emulator.script(Behaviour(answer=[]))
        answer = await call()
        assert (answer.deltas, answer.transcription.text) == ([], "")

    async def test_raw_payloads(self, call: RivaCalling) -> None:
        answer = await call("debug {include_raw_request: true include_raw_response: true}")
        assert answer.attempt.raw_request is not None
        assert answer.attempt.raw_response is not None
        assert b'"sampleRateHertz": 16000' in answer.attempt.raw_request.data
        assert answer.attempt.raw_response.data.count(b"transcript") == 2


class TestRequests:
    async def test_configuration(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        settings = RivaSettings.read(
            {"language_code": "de-DE", "boost": 40, "max_speaker_count": 3, "profanity_filter": True, "eou": 800,
             "verbatim_transcripts": True, "vad": False}
        )  # fmt: skip
        await call(
            'response_format: RESPONSE_FORMAT_DIARIZED_JSON keywords: "voxgate" keywords: "gRPC" '
            'extra_params {fields {key: "beam" value {number_value: 4}} fields {key: "fast" value {bool_value: true}}}',
            "parakeet", settings=settings, allowed_extra_params=frozenset({"beam", "fast"}),
        )  # fmt: skip
        [record] = emulator.records
        assert record.config == riva.RecognitionConfig(
            encoding=riva.AudioEncoding.LINEAR_PCM, sample_rate_hertz=16_000, audio_channel_count=1,
            language_code="de-DE", model="parakeet", max_alternatives=1, enable_word_time_offsets=True,
            enable_automatic_punctuation=True, profanity_filter=True, verbatim_transcripts=True,
            speech_contexts=[riva.SpeechContext(phrases=["voxgate", "gRPC"], boost=40)],
            diarization_config=riva.SpeakerDiarizationConfig(enable_speaker_diarization=True, max_speaker_count=3),
            custom_configuration={"eou": "800", "vad": "false", "beam": "4", "fast": "true"},
        )  # fmt: skip
        assert "authorization" not in record.metadata
        assert record.metadata["user-agent"].startswith("voxgate ")

    @pytest.mark.parametrize(
        ("config", "sent"),
        [
            ("", "en-GB"), ('language: "en"', "en-GB"), ('language: "en-US"', "en-US"), ('language: "de"', "de-DE"),
            ('language: "pt_PT"', "pt-PT"), ('languages: "fr"', "fr-FR"), ('language: "multi"', "multi"),
        ],
    )  # fmt: skip
    async def test_languages(self, call: RivaCalling, emulator: RivaEmulator, config: str, sent: str) -> None:
        await call(config, settings=RivaSettings(language_code="en-GB"))
        assert emulator.records[0].config is not None
        assert emulator.records[0].config.language_code == sent

    async def test_options_it_cannot_take(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        with pytest.raises(UnsupportedParameter) as caught:
            await call('prompt: "names" temperature: 0.5')
        assert (caught.value.param, emulator.records) == ("prompt", [])
        answer = await call('prompt: "names" temperature: 0.5', drop_params=True)
        assert answer.attempt.dropped_params == ["prompt", "temperature"]

    @pytest.mark.parametrize("wrong", [{"boost": "much"}, {"offline": 1}, {"language_code": True}, {"boost": True}])
    def test_settings_of_the_wrong_type(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} of nvidia_riva must be"):
            RivaSettings.read(wrong)

    async def test_the_cloud(self, store: SpoolStore) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        pair = (certificate.private_key_pem.bytes(), b"".join(one.bytes() for one in certificate.cert_chain_pems))
        credentials = grpc.ssl_server_credentials([pair])
        roots = authority.cert_pem.bytes()
        async with RivaEmulator(key=KEY, function=FUNCTION, credentials=credentials) as emulator:
            call = RivaCalling(emulator, store)
            # With a key it is TLS without anybody saying so.
            answer = await call(
                model="parakeet", api_key=KEY, function_id=FUNCTION, roots=roots, extra_metadata={"X-Team": "a"}
            )
            assert answer.transcription.text == TEXT
            assert emulator.records[0].metadata["x-team"] == "a"
            with pytest.raises(ProviderCredential) as caught:
                await call(api_key="nvapi-wrong-0123456789", function_id=FUNCTION, roots=roots)
            assert "wrong" not in caught.value.message
            with pytest.raises(ProviderUnavailable, match="nvcf_function_id: no such function"):
                await call(api_key=KEY, function_id="another", roots=roots)
            with pytest.raises(ProviderUnavailable, match="UNAVAILABLE"):
                await call(api_key=KEY, function_id=FUNCTION, target=f"http://{emulator.target}")
            with pytest.raises(ProviderUnavailable, match="UNAVAILABLE"):
                await call(api_key=KEY, function_id=FUNCTION)  # an authority nobody trusts

    @pytest.mark.parametrize(
        "wrong", ["", "ftp://host:1", "host:0", "host:65536", "a b:1", "https://user@host:443", "https://host/path"]
    )
    def test_addresses_that_are_none(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="api_base"):
            build(ProviderParams("nvidia_riva", "m", {"api_base": wrong}))

    @pytest.mark.parametrize("name", ["grpc-timeout", "key-bin", "ä"])
    def test_metadata_that_is_none(self, name: str) -> None:
        with pytest.raises(ValueError, match="gRPC metadata"):
            build(ProviderParams("nvidia_riva", "m", {"api_base": "host:1"}, extra_headers={name: "x"}))


class TestUploads:
    async def test_the_recording_goes_on_while_it_comes_in(self, emulator: RivaEmulator, store: SpoolStore) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target) as provider:
            task = asyncio.create_task(follow(provider, attempt_with(spool)))
            await spool.write(WAV[:20_000])
            record = await emulator.record()
            await record.began.wait()
            await spool.write(WAV[20_000:])
            spool.finish()
            assert (await task).transcription.text == TEXT
        assert record.answered
        assert max(record.sizes) <= 32 * 1024

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_an_upload_that_breaks_off(
        self, emulator: RivaEmulator, store: SpoolStore, settings: RivaSettings
    ) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target, settings=settings) as provider:
            task = asyncio.create_task(follow(provider, attempt_with(spool)))
            await spool.write(WAV[:20_000])
            if not settings.offline:
                record = await emulator.record()
                await record.began.wait()
            broken = UploadIncomplete("gone")
            spool.fail(broken)
            with pytest.raises(UploadIncomplete) as caught:
                await task
            assert caught.value is broken
            if settings.offline:
                assert emulator.records == []
            else:
                await record.over.wait()
                assert not record.answered

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_a_call_that_is_cancelled(
        self, emulator: RivaEmulator, store: SpoolStore, settings: RivaSettings
    ) -> None:
        emulator.script(Behaviour(hang=True))
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target, settings=settings) as provider:
            await spool.write(WAV)
            spool.finish()
            task = asyncio.create_task(follow(provider, attempt_with(spool)))
            record = await emulator.record()
            await record.began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await record.over.wait()

    async def test_a_call_that_is_left(self, emulator: RivaEmulator, store: SpoolStore) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target) as provider:
            await spool.write(WAV)
            spool.finish()
            events = provider.transcribe(attempt_with(spool))
            assert (await anext(events)).delta.delta == TEXTS[0]
            await events.aclose()
            await (await emulator.record()).over.wait()

    async def test_time_runs_out_while_it_comes_in(self, emulator: RivaEmulator, store: SpoolStore) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target) as provider:
            await spool.write(WAV[:20_000])
            with pytest.raises(DeadlineExceeded, match="still coming in; 20000 bytes"):
                await follow(provider, attempt_with(spool, seconds=1))
            assert not emulator.records[0].answered

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_time_runs_out_before_the_first_byte(
        self, emulator: RivaEmulator, store: SpoolStore, settings: RivaSettings
    ) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target, settings=settings) as provider:
            with pytest.raises(DeadlineExceeded):
                await follow(provider, attempt_with(spool, seconds=0.2))
        assert emulator.records == []

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_time_runs_out_while_it_is_recognised(
        self, call: RivaCalling, emulator: RivaEmulator, settings: RivaSettings
    ) -> None:
        emulator.script(Behaviour(hang=True))
        with pytest.raises(ProviderTimeout):
            await call(seconds=1, settings=settings)

    async def test_a_limit_is_kept_while_it_comes_in(self, emulator: RivaEmulator, store: SpoolStore) -> None:
        async with store.open(max_bytes=1 << 40) as spool, riva_at(emulator.target) as provider:
            attempt = attempt_with(spool)
            attempt.max_audio_bytes = 10_000
            await spool.write(WAV)
            spool.finish()
            with pytest.raises(AudioTooLarge, match="at most 10000"):
                await follow(provider, attempt)


STATUSES = [
    (Status.UNAUTHENTICATED, ProviderCredential),
    (Status.PERMISSION_DENIED, ProviderCredential),
    (Status.RESOURCE_EXHAUSTED, ProviderRateLimited),
    (Status.INVALID_ARGUMENT, ProviderRejected),
    (Status.OUT_OF_RANGE, ProviderRejected),
    (Status.NOT_FOUND, ProviderUnavailable),
    (Status.UNIMPLEMENTED, ProviderUnavailable),
    (Status.DEADLINE_EXCEEDED, ProviderTimeout),
    (Status.UNAVAILABLE, ProviderUnavailable),
    (Status.INTERNAL, ProviderUnavailable),
    (Status.UNKNOWN, ProviderUnavailable),
    (Status.ABORTED, ProviderUnavailable),
    (Status.CANCELLED, ProviderUnavailable),
    (Status.FAILED_PRECONDITION, ProviderUnavailable),
    (Status.DATA_LOSS, ProviderUnavailable),
]


class TestFailures:
    @pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
    @pytest.mark.parametrize(("status", "expected"), STATUSES, ids=[status.name for status, _ in STATUSES])
    async def test_statuses(
        self, call: RivaCalling, emulator: RivaEmulator, status: grpc.StatusCode, expected: type, early: bool
    ) -> None:
        emulator.script(Behaviour(status=status, details=f"at 10.1.2.3 with {KEY}", early=early))
        with pytest.raises(ProviderError) as caught:
            await call(api_key=KEY, use_tls=False)
        assert type(caught.value) is expected
        assert caught.value.metadata["provider_code"] == status.name.lower()
        assert KEY not in caught.value.message

    @pytest.mark.parametrize(("status", "expected"), STATUSES, ids=[status.name for status, _ in STATUSES])
    async def test_statuses_of_one_message(
        self, call: RivaCalling, emulator: RivaEmulator, status: grpc.StatusCode, expected: type
    ) -> None:
        emulator.script(Behaviour(status=status))
        with pytest.raises(expected):
            await call(settings=OFFLINE)

    async def test_a_wait_hint(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        emulator.script(Behaviour(status=Status.RESOURCE_EXHAUSTED, trailers=[("retry-after", "7")]))
        with pytest.raises(ProviderRateLimited, match="it did not work") as caught:
            await call()
        assert caught.value.retry_after == 7

    async def test_a_model_that_is_not_there(self, call: RivaCalling) -> None:
        with pytest.raises(ProviderRejected, match=r"Unavailable model requested\. Lang: xx"):
            await call('language: "xx"')

    async def test_an_early_success(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        emulator.script(Behaviour(early=True))
        with pytest.raises(ProviderGarbled, match="before it had the whole"):
            await call(data=WAV + bytes(4 << 20))

    async def test_nobody_there(self, call: RivaCalling, unused_tcp_port: int) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            await call(target=f"127.0.0.1:{unused_tcp_port}")
        assert "127.0.0.1" not in caught.value.message

    @pytest.mark.parametrize("settings", [RivaSettings(), OFFLINE], ids=["streaming", "offline"])
    async def test_a_server_that_goes_away(
        self, call: RivaCalling, emulator: RivaEmulator, settings: RivaSettings
    ) -> None:
        emulator.script(Behaviour(hang=True))
        task = asyncio.create_task(call(settings=settings))
        record = await emulator.record()
        await record.began.wait()
        await emulator.stop()
        with pytest.raises(ProviderUnavailable):
            await task

    async def test_a_recording_too_large_for_one_message(self, call: RivaCalling) -> None:
        raw = "raw_format {encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000}"
        with pytest.raises(AudioTooLarge, match="in one message"):
            await call(data=bytes(5 << 20), audio=raw, settings=OFFLINE)
        with pytest.raises(AudioTooLarge, match="at most 33554432"):
            await call(data=bytes((32 << 20) + 2), audio=raw, settings=OFFLINE)
        assert (await call(data=bytes(5 << 20), audio=raw)).transcription.text == TEXT

    async def test_an_answer_too_large(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        huge = riva.SpeechRecognitionAlternative(transcript="x" * (17 << 20))
        result = riva.StreamingRecognitionResult(alternatives=[huge], is_final=True)
        emulator.script(Behaviour(answer=[riva.StreamingRecognizeResponse(results=[result])]))
        with pytest.raises(AnswerTooLarge):
            await call()


async def test_through_the_gateway(emulator: RivaEmulator, tmp_path: Path) -> None:
    config = f"""
        model_list:
          - model_name: riva
            litellm_params:
              {{model: nvidia_riva/parakeet, api_base: "{emulator.target}", use_ssl: false, offline: true}}
        general_settings: {{master_key: {MASTER_KEY}}}
    """
    async with running(tmp_path, config) as gateway, httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(
            f"{gateway.url}/v1/audio/transcriptions",
            headers=AUTH,
            data={"model": "riva", "response_format": "srt"},
            files={"file": ("a.wav", WAV)},
        )
    assert answer.status_code == 200, answer.text
    assert "00:00:00,900 --> 00:00:02,050\nIt says two things." in answer.text
    assert emulator.records[0].method == "Recognize"


def test_addresses_without_a_scheme_are_for_grpc_only(tmp_path: Path) -> None:
    file = tmp_path / "gw.yaml"
    entry = "model_list:\n  - {{model_name: m, litellm_params: {{model: {model}, api_base: 'host:50051'}}}}\n"
    file.write_text(entry.format(model="nvidia_riva/default"))
    [loaded] = load_config(file, {}).config.model_list
    assert loaded.litellm_params.api_base == "host:50051"
    file.write_text(entry.format(model="openai/whisper-1"))
    with pytest.raises(ConfigError, match="must be a URL"):
        load_config(file, {})
