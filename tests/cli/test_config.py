"""`voxgate config check`."""

import json
from pathlib import Path

from click.testing import CliRunner, Result
from voxgate_server.cli import main

from tests.cli.commands import Terminal, ended, start

USABLE = """\
model_list:
  - model_name: whisper-1
    litellm_params:
      model: openai/whisper-1
      api_key: sk-canary-0123456789
      tpm: 10
  - model_name: elsewhere
    litellm_params:
      model: no-such-provider/model
      api_key: sk-canary-0123456789
litellm_settings:
  drop_parms: true
"""
BROKEN = """\
model_list:
  - model_name: whisper-1
    litellm_params:
      model: openai/whisper-1
      timeout: soon
voxgate:
  limits:
    drain_seconds: -1
"""


def check(tmp_path: Path, text: str, *options: str) -> tuple[Path, Result]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file, CliRunner().invoke(main, ["config", "check", *options, str(file)])


def test_every_key_and_its_standing(tmp_path: Path) -> None:
    file, result = check(tmp_path, USABLE)
    assert result.exit_code == 0
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in result.stdout.splitlines())}
    assert rows["model_list.0.litellm_params.model"] == ["honoured", ""]
    assert rows["model_list.0.litellm_params.tpm"][0] == "ignored"
    assert rows["litellm_settings.drop_parms"][0] == "unknown"
    assert "drop_params" in rows["litellm_settings.drop_parms"][1]
    assert "litellm_settings" not in rows
    assert "canary" not in result.output
    lines = result.stderr.splitlines()
    assert any(line.startswith(f"warning: {file}:12:3: litellm_settings.drop_parms: is not known") for line in lines)
    assert lines[-1] == f"{file} can be used: 0 errors, {len(lines) - 1} warnings"


def test_a_provider_that_does_not_exist_is_said_before_serving(tmp_path: Path) -> None:
    file, result = check(tmp_path, USABLE)
    [line] = [line for line in result.stderr.splitlines() if "no-such-provider" in line]
    assert line.startswith(f"warning: {file}:9:14: model_list.1: this release has no provider 'no-such-provider'")
    assert line.endswith("this deployment is left out")


def test_a_wildcard_for_all_providers_is_nothing_to_warn_about(tmp_path: Path) -> None:
    file, result = check(tmp_path, 'model_list: [{model_name: "*", litellm_params: {model: "*"}}]\n')
    assert result.stderr.splitlines() == [f"{file} can be used: 0 errors, 0 warnings"]


def test_all_errors_at_once(tmp_path: Path) -> None:
    file, result = check(tmp_path, BROKEN)
    assert result.exit_code == 2
    first, second, last = result.stderr.splitlines()
    assert first.startswith(f"error: {file}:5:16: ")
    assert second.startswith(f"error: {file}:8:20: ")
    assert last == f"{file} cannot be used: 2 errors, 0 warnings"
    # What becomes of the keys is known all the same.
    assert "model_list.0.litellm_params.timeout\thonoured\t" in result.stdout


def test_json(tmp_path: Path) -> None:
    file, result = check(tmp_path, USABLE, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert list(report) == ["usable", "errors", "warnings", "keys"]
    assert report["usable"] is True
    assert report["errors"] == []
    assert {
        "key": "litellm_settings",
        "file": str(file),
        "line": 11,
        "column": 1,
        "standing": "honoured",
        "note": "",
    } in (report["keys"])
    assert all(set(one) == {"file", "line", "column", "what", "loud"} for one in report["warnings"])
    _, result = check(tmp_path, BROKEN, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["usable"]) == (2, False)
    assert [(one["line"], one["column"]) for one in report["errors"]] == [(5, 16), (8, 20)]


def test_no_yaml_at_all(tmp_path: Path) -> None:
    file, result = check(tmp_path, "a: [")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {file}:")


def test_a_missing_file() -> None:
    result = CliRunner().invoke(main, ["config", "check", "missing.yaml"])
    assert result.exit_code == 2
    assert "'missing.yaml' does not exist" in result.stderr


async def test_a_table_on_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(USABLE)
    with Terminal() as terminal:
        process = await start("config", "check", file, stdout=terminal.slave)
        async with ended(process):
            await process.communicate()
        await terminal.shows("drop_parms")
        await terminal.shows("└")
    assert process.returncode == 0
