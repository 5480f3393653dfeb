"""What is wrong before anything is done: exit code 2, and what to change."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from voxgate_server.cli import main

from tests.cli.commands import OTHER_WAV, WAV, environment


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'FILE...'"),
        (["-", "-"], "Standard input (-) can be read once"),
        (["--format", "pdf", WAV], "'pdf' is not one of"),
        (["--temperature", "2", WAV], "not in the range"),
        (["--temperature", "nan", WAV], "not a finite number"),
        (["--timeout", "0", WAV], "not in the range"),
        (["--timeout", "inf", WAV], "not in the range"),
        (["--timestamps", "letter", WAV], "'letter' is not one of"),
        (["--prompt", "\udcff", WAV], "is not UTF-8"),
        (["--config", "missing.yaml", WAV], "'missing.yaml' does not exist"),
        (["--config", WAV, "--server", "x:1", WAV], "--config is for a gateway inside this process"),
        (["--api-key", "k", WAV], "--api-key has no effect without --server"),
        (["--tls-ca", WAV, "--allow-plaintext-key", WAV], "--tls-ca, --allow-plaintext-key has no effect"),
        (["--server", "x:1", "--tls-cert", WAV, WAV], "--tls-cert and --tls-key belong together"),
        (["--server", "a b", WAV], "is no address of a server"),
        (["--server", "example.com:1", "--api-key", "k", WAV], "--allow-plaintext-key"),
        (["--server", "http://x:1", "--tls-ca", WAV, WAV], "says plain text"),
        (["-o", WAV, WAV], "would overwrite a recording"),
        (["-o", "no-such-directory/talk.txt", WAV], "cannot be written"),
        (["-o", WAV, WAV, OTHER_WAV], "this directory cannot be made"),
    ],
)
def test_wrong_usage_of_transcribe(arguments: list[object], says: str) -> None:
    result = run("transcribe", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in " ".join(result.stderr.split())


def test_two_transcripts_of_one_name(tmp_path: Path) -> None:
    result = run("transcribe", "-o", tmp_path, "a/talk.wav", "b/talk.mp3")
    assert result.exit_code == 2
    assert "a/talk.wav and b/talk.mp3 would both be talk.txt" in result.stderr


def test_a_transcript_whose_place_is_taken(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").mkdir()
    result = run("transcribe", "-o", tmp_path, "talk.wav", "other.wav")
    assert result.exit_code == 2
    assert "talk.txt cannot be written" in result.stderr


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("model_list:\n  - model_name: 3\n    litellm_params: {}\n")
    for command in (["transcribe", WAV], ["models"]):
        result = run(*command, "--config", file)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {file}:3:21: " in result.stderr


@pytest.mark.parametrize("command", [[], ["serve"], ["transcribe"], ["models"], ["config"], ["config", "check"]])
def test_help_is_quick(command: list[str]) -> None:
    """It loads nothing that has to do with the work itself."""
    script = (
        "import sys\n"
        "from voxgate_server.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print('loaded:', *sorted({'grpc', 'rich', 'google.protobuf', 'pydantic', 'voxgate'} & set(sys.modules)))\n"
    )
    arguments = [sys.executable, "-c", script, *command, "--help"]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=True, timeout=60)
    if command and command != ["serve"] and command != ["config"]:
        assert "Examples:" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]
