"""faster-whisper with a model of random weights: all of it runs as with a real one, but the words mean nothing."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config import GatewayConfig, ModelEntry, load_config
from voxgate_server.errors import ProviderUnavailable, UnsupportedAudio, UnsupportedParameter, UploadIncomplete
from voxgate_server.providers.base import Provider
from voxgate_server.providers.local.whisper import FasterWhisperProvider, find_model
from voxgate_server.providers.registry import build_provider

from tests.cli.commands import voxgate
from tests.providers.local.calling import attempt_at, follow, gone, refused, transcribe
from tests.recordings import recording

pytest.importorskip("faster_whisper", reason="the extra faster-whisper is not installed")
from tests.providers.local.tiny_whisper import make_tiny_whisper

WAV = recording("demo-abouttotry.wav")
SHORT = recording("demo-thanks.wav")
FILES = ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("models") / "tiny.en", english=True)


@pytest.fixture
async def provider(directory: Path) -> AsyncIterator[FasterWhisperProvider]:
    provider = FasterWhisperProvider(model="tiny", directory=directory, device="cpu", cpu_threads=1, beam_size=1)
    checked: Provider = provider
    assert (checked.name, checked.model) == ("faster_whisper", "tiny")
    yield provider
    await provider.aclose()
    assert provider.worker_pids == []


def entry(directory: Path, text: str) -> tuple[ModelEntry, GatewayConfig]:
    file = directory / "gw.yaml"
    file.write_text(f"model_list:\n  - {{model_name: m, litellm_params: {text}}}\n")
    config = load_config(file, {}).config
    return config.model_list[0], config


class TestRecognition:
    async def test_transcript(self, provider: FasterWhisperProvider, store: SpoolStore) -> None:
        answer = await transcribe(
            provider, store, WAV.data, "temperature: 0 timestamp_granularities: TIMESTAMP_GRANULARITY_WORD"
        )
        result = answer.transcription
        assert result is not None
        assert result.text
        assert "".join(answer.deltas) == result.text == " ".join(segment.text for segment in result.segments)
        assert result.duration == pytest.approx(WAV.seconds, abs=0.01)
        assert result.usage.duration.seconds == result.duration
        assert (result.task, len(result.language)) == ("transcribe", 2)
        assert result.words
        for item in (*result.segments, *result.words):
            assert 0 <= item.start <= item.end <= result.duration + 0.01
        segment = result.segments[0]
        assert segment.tokens
        assert segment.avg_logprob < 0
        assert segment.HasField("no_speech_prob")
        assert segment.compression_ratio > 0
        assert all(0 <= word.confidence <= 1 for word in result.words)
        assert answer.attempt.dropped_params == []

    async def test_the_same_again_by_the_same_process(self, provider: FasterWhisperProvider, store: SpoolStore) -> None:
        first = await transcribe(provider, store, SHORT.data, "temperature: 0 language: 'de-AT'")
        [pid] = provider.worker_pids
        other = await transcribe(provider, store, WAV.data, "temperature: 0 task: TRANSCRIPTION_TASK_TRANSLATE")
        again = await transcribe(provider, store, SHORT.data, "temperature: 0 language: 'de-AT'", cuts=(999, 20_001))
        assert provider.worker_pids == [pid]
        assert first.transcription is not None
        assert other.transcription is not None
        assert (first.transcription.language, other.transcription.task) == ("de", "translate")
        assert not first.transcription.words
        assert first.transcription == again.transcription

    async def test_prompt_and_keywords_change_what_is_heard(
        self, provider: FasterWhisperProvider, store: SpoolStore
    ) -> None:
        plain, prompted, hinted = [
            (await transcribe(provider, store, SHORT.data, f"temperature: 0 language: 'en' {option}")).text
            for option in ("", "prompt: 'word7 word8'", "keywords: 'word9' keywords: 'word10'")
        ]
        assert len({plain, prompted, hinted}) == 3

    async def test_silence_has_no_text(self, provider: FasterWhisperProvider, store: SpoolStore) -> None:
        raw = "raw_format {encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000}"
        answer = await transcribe(provider, store, bytes(96_000), audio=raw)
        assert (answer.text, answer.deltas) == ("", [])

    async def test_english_only(self, english: Path, store: SpoolStore) -> None:
        provider = FasterWhisperProvider(model="tiny.en", directory=english, device="cpu", beam_size=1)
        assert list(provider.capabilities.languages) == ["en"]
        assert not provider.capabilities.translation
        try:
            answer = await transcribe(provider, store, SHORT.data, "temperature: 0")
            assert answer.transcription is not None
            assert answer.transcription.language == "en"
            assert isinstance(await refused(provider, store, SHORT.data, "language: 'de'"), UnsupportedParameter)
        finally:
            await provider.aclose()


class TestEndings:
    async def test_a_caller_who_leaves_ends_the_process(
        self, provider: FasterWhisperProvider, store: SpoolStore
    ) -> None:
        async with store.open(max_bytes=1 << 40) as spool:
            await spool.write(WAV.data)
            spool.finish()
            task = asyncio.create_task(follow(provider, attempt_at(spool)))
            while not provider.worker_pids:  # noqa: ASYNC110 (nobody tells when a process has been started)
                await asyncio.sleep(0)
            [pid] = provider.worker_pids
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone(pid)

    async def test_an_upload_that_breaks_off(self, provider: FasterWhisperProvider, store: SpoolStore) -> None:
        async with store.open(max_bytes=1 << 40) as spool:
            task = asyncio.create_task(follow(provider, attempt_at(spool)))
            await spool.write(WAV.data[:50_000])
            spool.fail(UploadIncomplete("gone"))
            with pytest.raises(UploadIncomplete):
                await task

    async def test_not_audio(self, provider: FasterWhisperProvider, store: SpoolStore) -> None:
        assert isinstance(await refused(provider, store, b"plain text" * 100), UnsupportedAudio)

    @pytest.mark.parametrize(
        ("config", "param"),
        [("language: 'xx'", "language"), ("language: 'klingon'", "language"),
         ("include: INCLUDE_LOGPROBS", "include"), ("chunking_strategy {auto {}}", "chunking_strategy")],
    )  # fmt: skip
    async def test_options_it_cannot_take(
        self, provider: FasterWhisperProvider, store: SpoolStore, config: str, param: str
    ) -> None:
        error = await refused(provider, store, SHORT.data, config)
        assert isinstance(error, UnsupportedParameter)
        assert error.param == param
        assert provider.worker_pids == []

    async def test_options_that_are_left_out(self, directory: Path, store: SpoolStore) -> None:
        provider = FasterWhisperProvider(model="tiny", directory=directory, device="cpu", beam_size=1, drop_params=True)
        try:
            answer = await transcribe(provider, store, SHORT.data, "temperature: 0 chunking_strategy {auto {}}")
            assert answer.attempt.dropped_params == ["chunking_strategy"]
        finally:
            await provider.aclose()

    async def test_a_model_that_cannot_be_loaded(self, directory: Path, tmp_path: Path, store: SpoolStore) -> None:
        for name in FILES:
            (tmp_path / name).symlink_to(directory / name)
        (tmp_path / "model.bin").unlink()
        (tmp_path / "model.bin").write_bytes(b"none")
        provider = FasterWhisperProvider(model="cut", directory=tmp_path, device="cpu")
        try:
            error = await refused(provider, store, SHORT.data)
            assert isinstance(error, ProviderUnavailable)
            assert str(tmp_path) not in error.message
        finally:
            await provider.aclose()


class TestModels:
    @pytest.mark.parametrize("missing", [*FILES, "everything"])
    def test_what_is_missing_is_named(self, directory: Path, tmp_path: Path, missing: str) -> None:
        for name in FILES:
            if missing not in (name, "everything"):
                (tmp_path / name).symlink_to(directory / name)
        listed = r"model\.bin and no config\.json and no tokenizer\.json and no vocabulary"
        named = {"everything": listed, "vocabulary.json": "vocabulary"}.get(missing, missing)
        with pytest.raises(ValueError, match=f"the model 'small' has no {named}"):
            FasterWhisperProvider(model="small", directory=tmp_path)

    @pytest.mark.parametrize(("name", "text", "english"), [
        ("vocabulary.txt", "a\n" * 51_864, True), ("vocabulary.txt", "a\n" * 51_865, False),
        ("vocabulary.json", json.dumps(["a"] * 51_864), True), ("vocabulary.json", "{}", None),
    ])  # fmt: skip
    def test_languages(self, directory: Path, tmp_path: Path, name: str, text: str, english: bool | None) -> None:
        for file in FILES[:3]:
            (tmp_path / file).symlink_to(directory / file)
        (tmp_path / name).write_text(text)
        if english is None:
            with pytest.raises(ValueError, match=r"vocabulary\.json of the model is damaged"):
                FasterWhisperProvider(model="small", directory=tmp_path)
        else:
            provider = FasterWhisperProvider(model="small", directory=tmp_path)
            assert (len(provider.capabilities.languages) == 1) is english

    @pytest.mark.parametrize(
        ("model", "place"),
        [
            ("small", "small"),
            ("small", "models--Systran--faster-whisper-small/snapshots/abc"),
            ("large", "models--Systran--faster-whisper-large-v3/snapshots/abc"),
            ("turbo", "models--mobiuslabsgmbh--faster-whisper-large-v3-turbo/snapshots/abc"),
            ("distil-large-v3", "models--Systran--faster-distil-whisper-large-v3/snapshots/abc"),
            ("somebody/whisper-of-hers", "models--somebody--whisper-of-hers/snapshots/abc"),
            ("somebody/whisper-of-hers", "somebody/whisper-of-hers"),
        ],
    )
    def test_where_it_is_looked_for(self, tmp_path: Path, model: str, place: str) -> None:
        directory = tmp_path / place
        directory.mkdir(parents=True)
        for name in FILES:
            (directory / name).touch()
        if "snapshots" in place:
            (directory.parent / "0older").mkdir()
            (directory.parent.parent / "refs").mkdir()
            (directory.parent.parent / "refs" / "main").write_text("abc")
        assert find_model(model, None, tmp_path, {}) == directory
        assert find_model(model, None, None, {"HF_HUB_CACHE": str(tmp_path)}) == directory
        (tmp_path.parent / f"{tmp_path.name}-home").mkdir(exist_ok=True)
        (tmp_path.parent / f"{tmp_path.name}-home" / "hub").symlink_to(tmp_path)
        assert find_model(model, None, None, {"HF_HOME": f"{tmp_path}-home"}).resolve() == directory

    @pytest.mark.parametrize("model", ["small", "../small", "/etc", "a/../../b"])
    def test_what_is_not_there(self, tmp_path: Path, model: str) -> None:
        root = tmp_path / "root"
        root.mkdir()
        (tmp_path / "small").mkdir()
        with pytest.raises(ValueError, match="is not on this machine"):
            find_model(model, None, root, {})

    def test_a_deployment(self, directory: Path, tmp_path: Path) -> None:
        for params in (
            f"{{model: faster_whisper/{directory}, device: cpu, compute_type: int8, beam_size: 2, workers: 2}}",
            f"{{model: faster_whisper/tiny, model_path: {directory}}}",
            f"{{model: faster_whisper/tiny, download_root: {directory.parent}}}",
        ):
            provider = build_provider(*entry(tmp_path, params), {})
            assert (provider.name, provider.model) == ("faster_whisper", "tiny")
            assert provider.capabilities.max_audio_duration.seconds == 14_400

    @pytest.mark.parametrize(
        ("setting", "why"),
        [
            ("beam: 5", "faster_whisper has no beam; it has"),
            ("beam_size: many", "beam_size of faster_whisper must be a whole number"),
            ("beam_size: 0", "beam_size at least 1"),
            ("device: tpu", "device must be"),
            ("device: 1", "device of faster_whisper must be a text"),
            ("workers: 0", "workers must be at least 1"),
            ("model_path: models/tiny", "model_path of faster_whisper must be an absolute path"),
        ],
    )
    def test_settings_that_are_wrong(self, directory: Path, tmp_path: Path, setting: str, why: str) -> None:
        place = "" if setting.startswith("model_path") else f"model_path: {directory}, "
        with pytest.raises(ValueError, match=why):
            build_provider(*entry(tmp_path, f"{{model: faster_whisper/tiny, {place}{setting}}}"), {})

    async def test_the_command(self, directory: Path, tmp_path: Path) -> None:
        """Two deployments, of which one has no model: the other one serves."""
        file = tmp_path / "gw.yaml"
        file.write_text(
            "model_list:\n"
            f"  - {{model_name: tiny, litellm_params: {{model: faster_whisper/{directory}, device: cpu}}}}\n"
            "  - {model_name: other, litellm_params: {model: faster_whisper/a-model-nobody-has}}\n"
        )
        checked = await voxgate("config", "check", file)
        assert checked.code == 0
        assert "the model 'a-model-nobody-has' is not on this machine" in checked.err
        done = await voxgate("transcribe", "--config", file, "--model", "tiny", "--format", "json", SHORT.path)
        assert done.code == 0, done.err
        assert json.loads(done.out)["text"]
        assert str(os.fspath(directory)) not in done.out.decode()
