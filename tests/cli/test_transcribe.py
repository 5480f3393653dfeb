"""`voxgate transcribe` in pipes, against a strict provider, through a gateway of its own and through a server."""

import asyncio
import hashlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.cli.commands import OTHER_WAV, TEXT, WAV, config_file, ended, start, voxgate
from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import KEY, Gateway

DIGEST = hashlib.sha256(WAV.read_bytes()).hexdigest()


async def test_the_transcript_is_all_that_is_written(where: list[str], emulator: OpenAIEmulator) -> None:
    done = await voxgate("transcribe", *where, WAV)
    assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")
    [record] = emulator.records
    assert record.complete
    assert record.digest.hexdigest() == DIGEST


@pytest.mark.parametrize("format_", ["srt", "vtt", "json", "verbose_json"])
async def test_formats(where: list[str], format_: str) -> None:
    done = await voxgate("transcribe", *where, "--format", format_, WAV)
    assert (done.code, done.err) == (0, "")
    text = done.out.decode()
    match format_:
        case "srt":
            assert text.startswith("1\n00:00:00,000 --> 00:00:01,500\nHello\n\n2\n")
        case "vtt":
            assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello\n")
        case "json":
            assert json.loads(text) == {"text": TEXT, "usage": {"type": "duration", "seconds": 4}}
        case "verbose_json":
            assert list(json.loads(text)) == ["task", "language", "duration", "text", "segments", "usage"]
    assert text.endswith("\n")


async def test_every_option_reaches_the_provider(where: list[str], emulator: OpenAIEmulator) -> None:
    options = ["--language", "en", "--prompt", "Grüße", "--temperature", "0.25", "--format", "verbose_json"]
    done = await voxgate("transcribe", *where, *options, "--timestamps", "word", "--timestamps", "segment", WAV)
    assert (done.code, done.err) == (0, "")
    [record] = emulator.records
    assert record.field("language") == "en"
    assert record.field("prompt") == "Grüße"
    assert float(record.field("temperature") or "nan") == 0.25
    assert set(record.values("timestamp_granularities[]")) == {"word", "segment"}
    answer = json.loads(done.out)
    assert [word["word"] for word in answer["words"]] == TEXT.split()
    assert len(answer["segments"]) == 2


async def test_one_json_document_a_line_and_the_others_are_done(
    where: list[str], emulator: OpenAIEmulator, tmp_path: Path
) -> None:
    missing, text = tmp_path / "missing.wav", tmp_path / "no-audio.wav"
    text.write_text("This is no audio. " * 500)
    done = await voxgate("transcribe", *where, "--format", "json", WAV, missing, text, tmp_path, OTHER_WAV)
    assert done.code == 1
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == [TEXT, TEXT]
    assert [record.digest.hexdigest() for record in emulator.records] == [
        hashlib.sha256(file.read_bytes()).hexdigest() for file in (WAV, OTHER_WAV)
    ]
    first, second, third = done.err.splitlines()
    assert first == f"voxgate: {missing}: No such file or directory"
    assert re.fullmatch(
        rf"voxgate: {re.escape(str(text))}: The file is not audio: .+ \(request req_[0-9a-f]{{24}}\)", second
    )
    assert third == f"voxgate: {tmp_path}: Is a directory"


async def test_a_failure_says_request_and_attempts(where: list[str]) -> None:
    done = await voxgate("transcribe", *where, "--model", "fault-503", "--fallback", "fault-401", WAV)
    assert (done.code, done.out) == (1, b"")
    what, *tried = done.err.splitlines()
    assert re.fullmatch(rf"voxgate: {re.escape(str(WAV))}: .*\(request req_[0-9a-f]{{24}}\)", what)
    assert "HTTP 503" in tried[0]
    assert "PROVIDER_UNAVAILABLE" in tried[0]
    assert "HTTP 401" in tried[1]
    for line, model in zip(tried, ("fault-503", "fault-401"), strict=True):
        assert line.startswith(f"voxgate: {WAV}:   tried openai/{model} (failed, after ")


async def test_a_fallback_answers(where: list[str]) -> None:
    done = await voxgate("transcribe", *where, "--model", "fault-503", "--fallback", "whisper-1", WAV)
    assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")


async def test_standard_input(where: list[str], emulator: OpenAIEmulator) -> None:
    done = await voxgate("transcribe", *where, "-", stdin=WAV.read_bytes())
    assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")
    assert emulator.records[0].digest.hexdigest() == DIGEST


async def test_empty_standard_input(where: list[str], emulator: OpenAIEmulator) -> None:
    done = await voxgate("transcribe", *where, "-")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith("voxgate: -: The recording has no bytes.")
    # A provider may have been asked already; the whole of it, it never got.
    assert not any(record.complete for record in emulator.records)


async def test_a_pipe_with_a_name(where: list[str], emulator: OpenAIEmulator, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    done, _ = await asyncio.gather(
        voxgate("transcribe", *where, pipe), asyncio.to_thread(pipe.write_bytes, WAV.read_bytes())
    )
    assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")
    assert emulator.records[0].digest.hexdigest() == DIGEST


async def test_a_name_that_is_not_utf8_steers_no_terminal(where: list[str], tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\xff\x1b[31mred\n.wav")
    file.symlink_to(WAV)
    done = await voxgate("transcribe", *where, "--model", "no-such", file)
    assert done.code == 1
    [line] = done.err.splitlines()
    assert "\x1b" not in line
    assert "There is no model 'no-such'" in line
    assert (await voxgate("transcribe", *where, file)).out.decode() == f"{TEXT}\n"


async def test_output_into_a_file(where: list[str], tmp_path: Path) -> None:
    target = tmp_path / "talk.srt"
    done = await voxgate("transcribe", *where, "--format", "srt", "-o", target, WAV)
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert target.read_text().startswith("1\n00:00:00,000 -->")


async def test_output_into_a_directory(where: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "new" / "transcripts"
    done = await voxgate("transcribe", *where, "--format", "json", "-o", directory, WAV, tmp_path / "no.wav", OTHER_WAV)
    assert (done.code, done.out) == (1, b"")
    assert sorted(path.name for path in directory.iterdir()) == ["agent-incorrect.json", "vm-goodbye.json"]
    assert json.loads((directory / "vm-goodbye.json").read_bytes())["text"] == TEXT


async def test_a_full_disk_behind_an_output(config: Path) -> None:
    done = await voxgate("transcribe", "--config", config, "-o", "/dev/full", WAV)
    assert (done.code, done.out, done.err) == (1, b"", "voxgate: /dev/full: No space left on device\n")


async def test_several_subtitles_stay_apart(config: Path) -> None:
    done = await voxgate("transcribe", "--config", config, "--format", "srt", WAV, OTHER_WAV)
    single = await voxgate("transcribe", "--config", config, "--format", "srt", WAV)
    assert done.out == single.out + b"\n" + single.out


async def test_a_full_disk_behind_standard_output(config: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = await voxgate("transcribe", "--config", config, WAV, stdout=full)
    assert (done.code, done.err) == (1, "Error: cannot write to standard output: No space left on device\n")


async def test_a_reader_that_went_away(config: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = await voxgate("transcribe", "--config", config, WAV, stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (1, "")


@pytest.mark.parametrize("extra", [[], ["--fallback", "whisper-1"]])
async def test_ctrl_c_cancels_the_call(where: list[str], emulator: OpenAIEmulator, extra: list[str]) -> None:
    process = await start("transcribe", *where, "--model", "fault-hang", *extra, WAV, OTHER_WAV)
    async with ended(process):
        record = await emulator.record()
        await record.body_ended.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (130, b"", b"voxgate: interrupted\n")
        await record.peer_closed.wait()
    assert len(emulator.records) == 1


async def test_ctrl_c_while_nothing_comes_from_standard_input(where: list[str], emulator: OpenAIEmulator) -> None:
    process = await start("transcribe", *where, "-")
    async with ended(process):
        assert process.stdin is not None
        process.stdin.write(WAV.read_bytes())
        record = await emulator.record()
        await record.first_file_byte.wait()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        # Standard input stays open: the command may not wait for its end.
        assert await process.stdout.read() == b""
        assert await process.stderr.read() == b"voxgate: interrupted\n"
        assert await process.wait() == 130
        await record.body_ended.wait()
    assert not record.complete


async def test_the_timeout_ends_a_call(where: list[str]) -> None:
    done = await voxgate("transcribe", *where, "--model", "fault-hang", "--timeout", "1", WAV)
    assert (done.code, done.out) == (1, b"")
    # A server ends its work a little earlier, so that the answer can say why; it need not be faster than the client.
    assert re.match(rf"voxgate: {re.escape(str(WAV))}: (The limit of|No answer from .* within the timeout)", done.err)


async def test_the_timeout_ends_waiting_for_standard_input(where: list[str]) -> None:
    process = await start("transcribe", *where, "--timeout", "1", "-")
    async with ended(process):
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.read() == b""
        error = (await process.stderr.read()).decode()
        assert await process.wait() == 1
    assert error.startswith("voxgate: -: ")


async def test_a_longer_timeout_than_the_configured_one(emulator: OpenAIEmulator, tmp_path: Path) -> None:
    config = config_file(tmp_path, emulator, "voxgate:\n  limits:\n    request_timeout_seconds: 0.001\n")
    assert (await voxgate("transcribe", "--config", config, WAV)).code == 1
    assert (await voxgate("transcribe", "--config", config, "--timeout", "60", WAV)).code == 0


async def test_no_server(unused_tcp_port: int) -> None:
    server = f"127.0.0.1:{unused_tcp_port}"
    done = await voxgate("transcribe", "--server", server, "--timeout", "20", WAV)
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith(f"voxgate: {WAV}: ")
    assert server in done.err
    assert "Connection refused" in done.err
    assert len(done.err.splitlines()) == 1


async def test_the_key_of_the_environment(gateway: Gateway) -> None:
    env = {"VOXGATE_SERVER": gateway.target, "VOXGATE_API_KEY": KEY}
    assert (await voxgate("transcribe", WAV, env=env)).out.decode() == f"{TEXT}\n"
    refused = await voxgate("transcribe", WAV, env={**env, "VOXGATE_API_KEY": "sk-wrong-wrong-wrong"})
    assert refused.code == 1
    assert "Incorrect API key" in refused.err
    assert "sk-wrong" not in refused.err


async def test_a_typed_configuration_beats_a_server_in_the_environment(config: Path, unused_tcp_port: int) -> None:
    env = {"VOXGATE_SERVER": f"127.0.0.1:{unused_tcp_port}", "VOXGATE_API_KEY": "sk-for-somebody-else"}
    done = await voxgate("transcribe", "--config", config, WAV, env=env)
    assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")
