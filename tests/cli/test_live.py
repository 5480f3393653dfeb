"""`voxgate live`: recordings at the pace they were spoken at, and a microphone."""

import io
import signal
import wave
from pathlib import Path

import pytest

from tests.cli.commands import OTHER_WAV, TEXT, WAV, Terminal, ended, start, voxgate
from tests.providers.openai_emulator import OpenAIEmulator, failure
from tests.recordings import convert, recording

LONG = recording("demo-abouttotry.wav")


def samples(path: Path) -> bytes:
    with wave.open(io.BytesIO(convert(path.read_bytes(), "wav", "pcm_s16le"))) as file:
        return file.readframes(file.getnframes())


def arecord(directory: Path, script: str) -> dict[str, str]:
    """An environment whose `arecord` is this shell script."""
    program = directory / "arecord"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


async def test_a_recording_is_a_line_for_every_turn(where: list[str], emulator: OpenAIEmulator) -> None:
    done = await voxgate("live", *where, WAV)
    assert (done.code, done.out, done.err) == (0, f"{TEXT}\n".encode(), "")
    assert len(emulator.records) == 1


async def test_any_container(where: list[str], tmp_path: Path, emulator: OpenAIEmulator) -> None:
    file = tmp_path / "speech.ogg"
    file.write_bytes(convert(OTHER_WAV.read_bytes(), "ogg", "libopus", rate=48_000))
    done = await voxgate("live", *where, "--fast", file)
    assert (done.code, done.out) == (0, f"{TEXT}\n".encode())
    assert emulator.records[0].file_type == "audio/wav"


async def test_what_is_understood_is_rewritten_in_place_until_it_is_certain() -> None:
    text = (await voxgate("transcribe", OTHER_WAV)).out
    with Terminal() as terminal:
        process = await start("live", OTHER_WAV, stdout=terminal.slave)
        async with ended(process):
            await process.wait()
        await terminal.shows(text.decode().strip())
    assert process.returncode == 0
    drawn = terminal.written.split(b"\r\x1b[K")
    assert len(drawn) > 5
    assert drawn[-1].replace(b"\r\n", b"\n") == text
    assert not any(b"\n" in line for line in drawn[:-1])


async def test_what_is_lost_is_said(where: list[str], emulator: OpenAIEmulator) -> None:
    emulator.script(*[failure(400, "no")] * 5)
    done = await voxgate("live", *where, "--fast", WAV)
    assert (done.code, done.out) == (1, b"")
    assert f"voxgate: {WAV}: what was said from 0.0 to 0.9 s is lost" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Give either a FILE or --microphone"),
        (("--microphone", WAV), "Give either a FILE or --microphone"),
        (("--microphone", "--fast"), "--fast is for files"),
        (("--microphone",), "Install alsa-utils"),
        (("no-such-file.wav",), "no-such-file.wav"),
        (("--pause", "0", WAV), "0"),
    ],
)
async def test_wrong_usage(arguments: tuple[object, ...], said: str, tmp_path: Path) -> None:
    done = await voxgate("live", *arguments, env={"PATH": str(tmp_path)})
    assert (done.code, done.out) == (2, b"")
    assert said in done.err
    assert "Traceback" not in done.err


async def test_what_is_no_audio(where: list[str], tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no audio at all")
    done = await voxgate("live", *where, file)
    assert (done.code, done.out) == (1, b"")
    assert "notes.txt cannot be read" in done.err
    assert "Traceback" not in done.err


async def test_the_microphone_until_ctrl_c(where: list[str], tmp_path: Path, emulator: OpenAIEmulator) -> None:
    (tmp_path / "heard").write_bytes(samples(LONG.path))
    env = arecord(tmp_path, f"cat {tmp_path}/heard; exec sleep 60")
    process = await start("live", *where, "--microphone", "--pause", "0.24", env=env)
    async with ended(process):
        assert process.stdout is not None
        assert await process.stdout.readline() == f"{TEXT}\n".encode()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, f"{TEXT}\n".encode(), b"")
    assert len(emulator.records) == 2


async def test_a_microphone_that_does_not_work(where: list[str], tmp_path: Path) -> None:
    env = arecord(tmp_path, "echo 'cannot open audio device' >&2; exit 1")
    done = await voxgate("live", *where, "--microphone", env=env)
    assert (done.code, done.out) == (1, b"")
    assert "cannot open audio device" in done.err
    assert "Traceback" not in done.err


async def test_interrupted(where: list[str]) -> None:
    process = await start("live", *where, "--pause", "0.24", LONG.path)
    async with ended(process):
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode().strip().endswith("voxgate: interrupted")
    assert b"Traceback" not in err
