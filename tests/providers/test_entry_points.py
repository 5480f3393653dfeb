"""The provider of samples/provider, installed as its reader would install it, beside one that cannot be imported."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from voxgate_server import providers

from tests.cli.commands import voxgate
from tests.providers.emulator import raw
from tests.providers.whisper_cpp_emulator import TEXT, WhisperCppEmulator
from tests.running import AUTH, KEY
from tests.serve.processes import ROOT, SPEECH, Server, configured, post, serving

CONFIG = """
    model_list:
      - model_name: cpp
        litellm_params: {{model: whisper_cpp/large-v3, api_base: "{base}", beam_size: 5}}
      - model_name: lenient
        litellm_params: {{model: whisper_cpp/large-v3, api_base: "{base}", drop_params: true}}
      - model_name: broken
        litellm_params: {{model: broken/any}}
    general_settings: {{master_key: {key}}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as pip leaves it."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(ROOT / "samples" / "provider")], check=True, timeout=110)
    (target / "broken.py").write_text("import a_module_that_is_not_there\n")
    (target / "broken-1.dist-info").mkdir()
    (target / "broken-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    points = "[voxgate.providers]\nbroken = broken:build\n"
    (target / "broken-1.dist-info" / "entry_points.txt").write_text(points)
    return target


@pytest.fixture
async def emulator() -> AsyncIterator[WhisperCppEmulator]:
    async with WhisperCppEmulator() as emulator:
        yield emulator


@pytest.fixture
def config(emulator: WhisperCppEmulator, tmp_path: Path) -> Path:
    return configured(tmp_path, CONFIG.format(base=emulator.origin, key=KEY))


@pytest.fixture
async def server(config: Path, installed: Path, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(["--config", config], tmp_path, packages=[installed]) as server:
        yield server


def environment(installed: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([*sys.path, str(installed)])}


async def test_it_transcribes(server: Server, emulator: WhisperCppEmulator) -> None:
    [problem] = server.logged("deployment is unusable and left out")
    assert (problem["model"], "a_module_that_is_not_there" in problem["problem"]) == ("broken", True)
    answer = await post(server, headers=AUTH, model="cpp", language="de-AT", prompt="Zahlen", temperature="0.5")
    assert (answer.status_code, answer.json()["text"]) == (200, TEXT), answer.text
    [record] = emulator.records
    assert record.file_sha256 == hashlib.sha256(SPEECH).hexdigest()
    assert (record.filename, record.file_type) == ("audio.wav", "audio/wav")
    assert dict(record.fields) == {
        "beam_size": "5", "response_format": "verbose_json", "language": "de", "prompt": "Zahlen", "temperature": "0.5",
    }  # fmt: skip
    subtitles = await post(server, headers=AUTH, model="cpp", response_format="srt")
    assert "00:00:01,500 --> 00:00:03,250" in subtitles.text
    verbose = (await post(server, headers=AUTH, model="cpp", response_format="verbose_json")).json()
    assert (verbose["language"], verbose["duration"], len(verbose["segments"])) == ("english", 3.25, 2)


async def test_options_it_cannot_take(server: Server, emulator: WhisperCppEmulator) -> None:
    refused = await post(server, headers=AUTH, model="cpp", chunking_strategy="auto")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "chunking_strategy")
    assert emulator.records == []
    dropped = await post(server, headers=AUTH, model="lenient", chunking_strategy="auto")
    assert (dropped.status_code, dropped.json()["text"]) == (200, TEXT)
    words = await post(
        server, headers=AUTH, model="cpp", response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    assert (words.status_code, words.json()["error"]["param"]) == (400, "timestamp_granularities")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"error":"failed to read audio data"}', 400),
        (500, b'{"error":"failed to process audio"}', 502),
        (200, b'{"error":"no transcript"}', 502),
        (200, b"\xff", 502),
    ],
)
async def test_failures(server: Server, emulator: WhisperCppEmulator, status: int, body: bytes, expected: int) -> None:
    emulator.script(*[raw(body, status=status)] * 3)
    answer = await post(server, headers=AUTH, model="cpp")
    assert answer.status_code == expected, answer.text


async def test_it_is_listed(config: Path, installed: Path) -> None:
    done = await voxgate("models", "--config", config, "--json", env=environment(installed))
    models = {model["id"]: model for model in json.loads(done.out)}
    assert (done.code, sorted(models)) == (0, ["cpp", "lenient"])
    assert (models["cpp"]["provider"], models["cpp"]["translation"]) == ("whisper_cpp", True)


async def test_the_configuration_is_accepted(config: Path, installed: Path) -> None:
    done = await voxgate("config", "check", config, env=environment(installed))
    assert done.code == 0
    assert "the package of the provider 'broken' cannot be loaded" in done.err
    assert "whisper_cpp" not in done.err


def test_what_it_offers_is_loaded_when_asked_for() -> None:
    code = "from voxgate_server import providers; import sys; print(*sys.modules)"
    path = os.pathsep.join(sys.path)
    run = [sys.executable, "-c", code]
    shown = subprocess.run(run, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert not {"httpx", "aiohttp", "grpc", "google.protobuf"} & set(shown.stdout.split())
    assert all(callable(getattr(providers, name)) for name in providers.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = providers.nothing
