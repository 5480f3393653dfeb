"""`voxgate serve` as a process of its own, on free ports of the loopback."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from grpc import aio

from tests.recordings import recording

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds after which something is taken to hang."""
SPEECH = recording("demo-thanks.wav").data


class Server:
    """A running `voxgate serve`.

    Args:
        process: Its process.
        rest_port: Port of REST.
        grpc_port: Port of gRPC.
    """

    def __init__(self, process: asyncio.subprocess.Process, rest_port: int, grpc_port: int) -> None:
        self.process = process
        self.rest_port = rest_port
        self.grpc_port = grpc_port
        self.lines: list[str] = []
        """What it wrote so far on standard error."""
        self._wrote = asyncio.Condition()
        self._silent = False
        self._reading = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The JSON log lines of one kind so far."""
        entries = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    async def wrote(self, what: Callable[[], Any]) -> None:
        """Waits until something holds about `lines`."""
        async with asyncio.timeout(PATIENCE), self._wrote:
            await self._wrote.wait_for(lambda: self._silent or what())
        assert what(), self.lines

    async def is_ready(self) -> None:
        """Waits for its word that it is."""
        await self.wrote(lambda: any("is ready" in line for line in self.lines))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Waits until it and all its workers are gone: these hold its standard error open. Says its exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reading
        return code

    def workers(self) -> list[int]:
        """Process ids of its children."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._wrote:
                self.lines.append(line.decode().rstrip("\n"))
                self._wrote.notify_all()
        async with self._wrote:
            self._silent = True
            self._wrote.notify_all()


def free_ports(count: int = 2) -> list[int]:
    """Ports of the loopback that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configured(directory: Path, config: str) -> Path:
    """The configuration as a file."""
    file = directory / "voxgate.yaml"
    file.write_text(textwrap.dedent(config))
    return file


@contextlib.asynccontextmanager
async def started(
    arguments: Sequence[object],
    directory: Path,
    *,
    ports: Sequence[int] | None = None,
    module: Sequence[str] = ("voxgate_server.cli", "serve"),
    packages: Sequence[Path] = (),
) -> AsyncIterator[Server]:
    """Starts it and ends it with the block, by force if need be; does not wait until it is ready.

    `packages` are directories with further distributions.
    """
    grpc_port, rest_port = free_ports() if ports is None else ports
    path = os.pathsep.join(map(str, (ROOT / "server", ROOT / "clients/python/src", ROOT, *packages)))
    own = [*module, *map(str, arguments), "--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *own,
        cwd=directory, env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, limit=1 << 22,
    )  # fmt: skip
    server = Server(process, rest_port, grpc_port)
    workers: list[int] = []
    try:
        yield server
    finally:
        if process.returncode is None:
            workers = server.workers()
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), PATIENCE)
        for pid in [process.pid, *workers] if process.returncode is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await server.ended()


@contextlib.asynccontextmanager
async def serving(arguments: Sequence[object], directory: Path, **kwargs: Any) -> AsyncIterator[Server]:
    """Starts it and waits until it is ready."""
    async with started(arguments, directory, **kwargs) as server:
        await eventually(lambda: ready(server))
        yield server


async def ready(server: Server) -> bool:
    """Whether it takes calls."""
    assert server.process.returncode is None, server.lines
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{server.url}/health/readiness")).status_code == 200
    except httpx.TransportError:
        return False


async def eventually(what: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not await what():  # noqa: ASYNC110  # nobody tells when another process is ready
            await asyncio.sleep(0.05)


async def gone(pid: int) -> None:
    """Waits until a process that is not ours has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert await asyncio.to_thread(select.select, [descriptor], [], [], PATIENCE) != ([], [], [])
    finally:
        os.close(descriptor)


async def post(server: Server, *, headers: dict[str, str], filename: str = "a.wav", **fields: str) -> httpx.Response:
    """A transcription over REST, on a connection of its own."""
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        return await client.post(
            f"{server.url}/v1/audio/transcriptions",
            headers=headers,
            files={"file": (filename, SPEECH)},
            data={"model": "whisper-1", **fields},
        )


def channel(server: Server) -> aio.Channel:
    """A gRPC connection of its own."""
    return aio.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)])
