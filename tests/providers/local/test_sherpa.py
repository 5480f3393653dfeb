"""sherpa-onnx with models of random weights: all of it runs as with real ones, but the words mean nothing."""

import json
from pathlib import Path

import pytest
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config import load_config
from voxgate_server.errors import ProviderUnavailable, UnsupportedAudio, UnsupportedParameter
from voxgate_server.providers.base import Provider
from voxgate_server.providers.local.sherpa import SherpaOnnxProvider, find_files
from voxgate_server.providers.registry import build_provider

from tests.cli.commands import voxgate
from tests.providers.local.calling import refused, transcribe
from tests.recordings import recording

pytest.importorskip("sherpa_onnx", reason="the extra sherpa-onnx is not installed")
pytest.importorskip("onnx", reason="the package onnx is not installed")
from voxgate_server.providers.local.sherpa_engine import _words

from tests.providers.local.tiny_sherpa import make_tiny_sherpa

WAV = recording("demo-abouttotry.wav")
SHORT = recording("demo-thanks.wav")
TYPES = ["transducer", "nemo_transducer", "nemo_ctc", "zipformer_ctc"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    for model_type in TYPES:
        make_tiny_sherpa(directory / model_type, model_type)
    return directory


@pytest.mark.parametrize("model_type", TYPES)
async def test_transcript(models: Path, store: SpoolStore, model_type: str) -> None:
    provider = SherpaOnnxProvider(
        model="tiny", directory=models / model_type, model_type=model_type, language="en", cpu_threads=1
    )
    checked: Provider = provider
    assert (checked.name, checked.model) == ("sherpa_onnx", "tiny")
    try:
        answer = await transcribe(provider, store, WAV.data, "language: 'en'")
        [pid] = provider.worker_pids
        again = await transcribe(provider, store, WAV.data, "language: 'en'", cuts=(777, 50_001))
        assert provider.worker_pids == [pid]
        silence = await transcribe(provider, store, bytes(96_000), audio=RAW)
        assert silence.text == ""
        assert isinstance(await refused(provider, store, b"plain text" * 100), UnsupportedAudio)
    finally:
        await provider.aclose()
    assert provider.worker_pids == []
    result = answer.transcription
    assert result is not None
    assert result == again.transcription
    assert (result.language, result.task) == ("en", "transcribe")
    assert result.duration == pytest.approx(WAV.seconds, abs=0.01)
    assert "".join(answer.deltas) == result.text == " ".join(segment.text for segment in result.segments)
    assert result.words
    assert "".join(result.text.split()) == "".join(word.word for word in result.words)
    before = 0.0
    for word in result.words:
        assert before <= word.start <= word.end <= result.duration + 0.01
        before = word.start
    sure = model_type.endswith("transducer")
    assert all(word.HasField("confidence") is sure for word in result.words)
    assert all(segment.HasField("avg_logprob") is sure for segment in result.segments)


RAW = "raw_format {encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000}"


class TestWords:
    def test_spaces_begin_words(self) -> None:
        words = list(_words([" he", "llo", " you", "."], [0.1, 0.2, 0.4, 2.0], [], [-0.1, -0.3, 0.0, 0.0], 2.1))
        assert [(word.word, word.start, pytest.approx(word.end)) for word in words] == [
            ("hello", 0.1, 0.4), ("you.", 0.4, 2.1),
        ]  # fmt: skip
        assert [word.confidence for word in words] == [0.8187, 1.0]

    def test_scripts_without_spaces(self) -> None:
        assert [word.word for word in _words(["你", "好"], [0.0, 0.5], [], [], 1.0)] == ["你", "好"]

    def test_durations_of_the_model(self) -> None:
        [word] = _words(["▁a", "b"], [0.0, 0.2], [0.08, 0.16], [], 9.0)
        assert (word.start, word.end, word.confidence) == (0.0, pytest.approx(0.36), None)

    def test_tokens_without_times(self) -> None:
        assert list(_words(["a"], [], [], [], 1.0)) == []


async def test_options(models: Path, store: SpoolStore) -> None:
    plain = SherpaOnnxProvider(model="tiny", directory=models / "nemo_ctc", model_type="nemo_ctc")
    lenient = SherpaOnnxProvider(model="t", directory=models / "nemo_ctc", model_type="nemo_ctc", drop_params=True)
    try:
        for config, param in (("language: 'de'", "language"), ("prompt: 'names'", "prompt")):
            error = await refused(plain, store, SHORT.data, config)
            assert isinstance(error, UnsupportedParameter)
            assert error.param == param
        answer = await transcribe(lenient, store, SHORT.data, "language: 'de' prompt: 'names'")
        assert answer.attempt.dropped_params == ["language", "prompt"]
        assert answer.transcription is not None
        assert not answer.transcription.HasField("language")
    finally:
        await plain.aclose()
        await lenient.aclose()


async def test_a_model_that_cannot_be_loaded(tmp_path: Path, store: SpoolStore) -> None:
    (tmp_path / "model.onnx").write_bytes(b"none")
    (tmp_path / "tokens.txt").write_text("a 0\n")
    provider = SherpaOnnxProvider(model="cut", directory=tmp_path, model_type="nemo_ctc")
    try:
        error = await refused(provider, store, SHORT.data)
        assert isinstance(error, ProviderUnavailable)
        assert str(tmp_path) not in error.message
    finally:
        await provider.aclose()


class TestModels:
    @pytest.mark.parametrize(
        ("model_type", "there", "why"),
        [
            ("transducer", [], r"no encoder\*\.onnx and no decoder\*\.onnx and no joiner\*\.onnx and no tokens\.txt"),
            ("transducer", ["encoder-1.onnx", "joiner.int8.onnx", "tokens.txt"], r"has no decoder\*\.onnx: a transd"),
            ("nemo_ctc", ["model.onnx"], r"has no tokens\.txt"),
            ("", ["model.onnx"], "model_type of sherpa_onnx must be one of transducer, "),
            ("conformer", ["model.onnx"], "model_type of sherpa_onnx must be one of transducer, "),
        ],
    )
    def test_what_is_missing_is_named(self, tmp_path: Path, model_type: str, there: list[str], why: str) -> None:
        for name in there:
            (tmp_path / name).touch()
        with pytest.raises(ValueError, match=why):
            find_files("m", tmp_path, model_type, quantized=False)

    @pytest.mark.parametrize(("quantized", "expected"), [(False, "model.onnx"), (True, "model.int8.onnx")])
    def test_quantized(self, tmp_path: Path, quantized: bool, expected: str) -> None:
        for name in ("model.onnx", "model.int8.onnx", "tokens.txt"):
            (tmp_path / name).touch()
        assert find_files("m", tmp_path, "nemo_ctc", quantized=quantized)["model"].name == expected
        (tmp_path / expected).unlink()
        assert find_files("m", tmp_path, "nemo_ctc", quantized=quantized)["model"].name != expected

    @pytest.mark.parametrize(
        ("params", "why"),
        [
            ("model: sherpa_onnx/m, model_type: nemo_ctc", "does not know where the model 'm' is"),
            ("model: sherpa_onnx/../m, download_root: {root}, model_type: nemo_ctc", "does not know where"),
            ("model: sherpa_onnx/m, download_root: {root}, model_type: nemo_ctc", "'m' is not on this machine"),
            ("model: sherpa_onnx/nemo_ctc, download_root: {root}", "model_type of sherpa_onnx must be one of"),
            ("model: sherpa_onnx/{root}/nemo_ctc, model_type: nemo_ctc, quantized: 1", "must be true or false"),
            ("model: sherpa_onnx/{root}/nemo_ctc, model_type: nemo_ctc, device: auto", "device must be cpu or cuda"),
            ("model: sherpa_onnx/{root}/nemo_ctc, model_type: nemo_ctc, beam: 3", "sherpa_onnx has no beam; it has"),
        ],
    )
    def test_settings_that_are_wrong(self, models: Path, tmp_path: Path, params: str, why: str) -> None:
        file = tmp_path / "gw.yaml"
        file.write_text(f"model_list:\n  - {{model_name: m, litellm_params: {{{params.format(root=models)}}}}}\n")
        config = load_config(file, {}).config
        with pytest.raises(ValueError, match=why):
            build_provider(config.model_list[0], config, {})

    async def test_the_command(self, models: Path, tmp_path: Path) -> None:
        file = tmp_path / "gw.yaml"
        file.write_text(
            "model_list:\n  - model_name: tiny\n    litellm_params:\n"
            f"      {{model: sherpa_onnx/transducer, download_root: {models}, model_type: transducer, language: en}}\n"
        )
        done = await voxgate("transcribe", "--config", file, "--model", "tiny", "--format", "json", SHORT.path)
        assert done.code == 0, done.err
        assert json.loads(done.out)["text"]
