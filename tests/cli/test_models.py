"""`voxgate models`, for people and for programs."""

import json
import re

from tests.cli.commands import FAULTS, Terminal, ended, start, voxgate
from tests.running import KEY, Gateway

NAMES = sorted(["whisper-1", *FAULTS])


async def test_a_line_for_each_model(where: list[str]) -> None:
    done = await voxgate("models", *where)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.decode().splitlines()]
    assert [row[0] for row in rows] == NAMES
    for _, provider, formats, languages, seconds, size in rows:
        assert provider == "openai"
        assert set(formats.split(",")) >= {"json", "text", "srt", "verbose_json", "vtt"}
        assert (languages, seconds, size) == ("", "", "")


async def test_json(where: list[str]) -> None:
    done = await voxgate("models", *where, "--json")
    assert (done.code, done.err) == (0, "")
    models = json.loads(done.out)
    assert [model["id"] for model in models] == NAMES
    whisper = models[-1]
    assert whisper["provider"] == "openai"
    assert whisper["timestamp_granularities"] == ["word", "segment"]
    assert "srt" in whisper["response_formats"]
    assert whisper["max_audio_bytes"] is None


async def test_a_table_on_a_terminal(where: list[str]) -> None:
    with Terminal() as terminal:
        process = await start("models", *where, stdout=terminal.slave)
        async with ended(process):
            _, err = await process.communicate()
        await terminal.shows("whisper-1")
        await terminal.shows("└")
    assert (process.returncode, err) == (0, b"")
    written = re.sub(r"\x1b\[[0-9;]*m", "", terminal.written.decode())
    assert re.search(r"┃ model +┃ provider ┃ formats +┃ also +┃ languages ┃ limits ┃", written)
    assert re.search(r"│ whisper-1 +│ openai +│ .*verbose_json", written)


async def test_limits_and_aliases(tmp_path) -> None:
    file = tmp_path / "openai.yaml"
    file.write_text(
        "model_list:\n  - model_name: official\n    litellm_params: {model: openai/whisper-1, api_key: sk-0123456789}\n"
        "router_settings: {model_group_alias: {short: official}}\n"
    )
    [model] = json.loads((await voxgate("models", "--config", file, "--json")).out)
    assert (model["id"], model["aliases"], model["max_audio_bytes"]) == ("official", ["short"], 26_214_400)
    with Terminal() as terminal:
        process = await start("models", "--config", file, stdout=terminal.slave)
        async with ended(process):
            await process.communicate()
        await terminal.shows("also short")
        await terminal.shows("25 MiB")


async def test_a_wrong_key(gateway: Gateway) -> None:
    done = await voxgate("models", "--server", gateway.target, "--api-key", "sk-wrong-wrong-wrong")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"voxgate: {gateway.target}: Incorrect API key")
    assert KEY not in done.err


async def test_nobody_there(unused_tcp_port: int) -> None:
    server = f"127.0.0.1:{unused_tcp_port}"
    done = await voxgate("models", "--server", server)
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"voxgate: {server}: ")
