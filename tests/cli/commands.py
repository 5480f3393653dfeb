"""Runs `voxgate` as a shell would: as a process of its own, with pipes or a terminal."""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import openai_config

SPEECH = Path(__file__).parent.parent.parent / "samples"
WAV = SPEECH / "vm-goodbye.wav"
OTHER_WAV = SPEECH / "agent-incorrect.wav"
TEXT = "Hello from the emulator."
FAULTS = ("fault-hang", "fault-503", "fault-401")


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: bytes
    err: str


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Nothing of the developer's own environment but what a program needs to run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path), **(extra or {})}


async def start(*arguments: object, env: dict[str, str] | None = None, **streams) -> asyncio.subprocess.Process:
    """Starts a command; its streams are pipes unless something else is given."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
    command = [sys.executable, "-m", "voxgate_server.cli", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, env=environment(env), **{**pipes, **streams})


async def voxgate(
    *arguments: object, stdin: bytes | None = None, env: dict[str, str] | None = None, **streams
) -> Finished:
    """Runs a command to its end, with pipes."""
    process = await start(*arguments, env=env, **streams)
    async with ended(process):
        out, err = await process.communicate(stdin or b"")
    return Finished(process.returncode or 0, out or b"", (err or b"").decode())


@contextlib.asynccontextmanager
async def ended(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Sees to it that a process does not outlive a test that fails."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def config_file(directory: Path, emulator: OpenAIEmulator, extra: str = "") -> Path:
    """A configuration whose models are the emulator's."""
    file = directory / "voxgate.yaml"
    file.write_text(openai_config(emulator.url, models=("whisper-1", *FAULTS), extra=extra))
    return file


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        # Wide enough that nothing is shortened.
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.written = b""
        self.left = asyncio.Event()
        """After `hang_up`: nobody has the terminal open any more."""
        self._more = asyncio.Event()

    def __enter__(self) -> "Terminal":
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        self.hang_up()

    def hang_up(self) -> None:
        """Lets go of the side that commands have, so that their end can be seen."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def _read(self) -> None:
        try:
            self.written += os.read(self.master, 1 << 16)
        except OSError:  # What Linux says when the last one has left.
            asyncio.get_running_loop().remove_reader(self.master)
            self.left.set()
        self._more.set()

    async def shows(self, text: str) -> None:
        """Waits until the text was written."""
        while text.encode() not in self.written:
            self._more.clear()
            await self._more.wait()
