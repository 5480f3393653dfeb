"""What is different on a terminal: progress, headings, nothing that steers it."""

import os
import re
import signal
from pathlib import Path

from tests.cli.commands import OTHER_WAV, TEXT, WAV, Terminal, config_file, ended, start
from tests.providers.openai_emulator import OpenAIEmulator

COLOURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def plain(written: bytes) -> str:
    return COLOURS.sub(b"", written).decode()


async def test_progress_is_shown_on_a_terminal_and_only_there(where: list[str]) -> None:
    with Terminal() as terminal:
        process = await start("transcribe", *where, WAV, stderr=terminal.slave)
        async with ended(process):
            out, _ = await process.communicate()
        await terminal.shows("done")
    assert (process.returncode, out.decode()) == (0, f"{TEXT}\n")
    size = f"{WAV.stat().st_size / 1000:.1f}"
    assert re.search(rf"vm-goodbye\.wav .*{size}/{size} kB done +0:00:", plain(terminal.written))


async def test_the_states_of_a_call(where: list[str], emulator: OpenAIEmulator) -> None:
    data = WAV.read_bytes()
    with Terminal() as terminal:
        process = await start("transcribe", *where, "--model", "fault-hang", "-", stderr=terminal.slave)
        async with ended(process):
            assert process.stdin is not None
            process.stdin.write(data[:10_000])
            await terminal.shows("10.0/? kB")
            assert "recognising" not in plain(terminal.written)
            assert re.search(r"standard input .*uploading", plain(terminal.written))
            process.stdin.write(data[10_000:])
            process.stdin.close()
            await terminal.shows("recognising")
            await (await emulator.record()).body_ended.wait()
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
        await terminal.shows("voxgate: interrupted")
    assert (process.returncode, out) == (130, b"")
    last = plain(terminal.written).splitlines()
    assert any("interrupted" in line and "standard input" in line for line in last)
    assert "Traceback" not in plain(terminal.written)
    # The cursor, hidden while the line is being redrawn, is there again.
    assert terminal.written.rindex(b"\x1b[?25h") > terminal.written.rindex(b"\x1b[?25l")


async def test_a_failure_on_a_terminal(where: list[str]) -> None:
    with Terminal() as terminal:
        process = await start("transcribe", *where, "--model", "fault-503", WAV, stderr=terminal.slave)
        async with ended(process):
            out, _ = await process.communicate()
        await terminal.shows("PROVIDER_UNAVAILABLE")
    assert (process.returncode, out) == (1, b"")
    assert re.search(r"vm-goodbye\.wav .* failed", plain(terminal.written))


async def test_headings_are_for_people(config: Path) -> None:
    with Terminal() as terminal:
        process = await start("transcribe", "--config", config, WAV, OTHER_WAV, stdout=terminal.slave)
        async with ended(process):
            _, err = await process.communicate()
        await terminal.shows("agent-incorrect.wav <==\r\n" + TEXT)
    assert (process.returncode, err) == (0, b"")
    assert terminal.written.decode().replace("\r\n", "\n") == f"==> {WAV} <==\n{TEXT}\n==> {OTHER_WAV} <==\n{TEXT}\n"


async def test_a_transcript_cannot_steer_the_terminal(tmp_path: Path) -> None:
    async with OpenAIEmulator(text="a\x1b]0;title\x07b\u009b2Jc", key="sk-upstream-canary-0001") as emulator:
        config = config_file(tmp_path, emulator)
        with Terminal() as terminal:
            process = await start("transcribe", "--config", config, WAV, stdout=terminal.slave)
            async with ended(process):
                await process.communicate()
            await terminal.shows("2Jc")
        assert terminal.written.decode() == "a\ufffd]0;title\ufffdb\ufffd2Jc\r\n"


async def test_ctrl_c_typed_on_the_terminal(config: Path, emulator: OpenAIEmulator) -> None:
    """The terminal itself sends the signal, to everything in its foreground."""
    with Terminal() as terminal:
        process = await start(
            "transcribe", "--config", config, "--model", "fault-hang", WAV,
            stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave,
            preexec_fn=lambda: os.login_tty(terminal.slave),
        )  # fmt: skip
        async with ended(process):
            await (await emulator.record()).body_ended.wait()
            os.write(terminal.master, b"\x03")
            assert await process.wait() == 130
        await terminal.shows("voxgate: interrupted\r\n")
    assert "Traceback" not in plain(terminal.written)
