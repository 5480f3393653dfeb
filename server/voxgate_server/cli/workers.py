"""Several processes on the same two ports: the kernel spreads connections over them."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

import click

from voxgate_server.edges.listen import port_taken

__all__ = ["run_workers"]

_POLL_SECONDS = 0.1
_EXTRA_SECONDS = 5.0
"""How long after its grace a worker may take before it is killed."""


def run_workers(count: int, *, host: str, ports: Sequence[int], arguments: Sequence[str], grace: float) -> int:
    """Starts workers and waits until they end.

    They are spawned, never forked: gRPC does not survive a fork. When one ends by itself, all are stopped, so that
    whoever supervises us sees a clean failure instead of half a server.

    Args:
        count: How many.
        host: Address they listen on.
        ports: Ports they share: gRPC's and REST's.
        arguments: For `voxgate serve`, without `--workers`.
        grace: Seconds calls in progress have after a signal.

    Returns:
        The exit code: 0 after a signal, 1 when a worker failed or had to be killed.
    """
    if 0 in ports:
        raise click.UsageError("Workers share their ports, so the ports have to be given; 0 is none.")
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        # Nothing more: a handler may interrupt whatever holds a lock.
        received.append(number)

    with _reserved(host, ports):
        signal.signal(signal.SIGTERM, note)
        signal.signal(signal.SIGINT, note)
        workers: list[_Worker] = []
        try:
            for number in range(1, count + 1):
                # One by one: when one cannot be started, those before it have to be stopped.
                workers.append(_start(number, arguments))  # noqa: PERF401
            while not received and all(worker.process.poll() is None for worker in workers):
                time.sleep(_POLL_SECONDS)
            for worker in () if received else workers:
                if worker.process.returncode is not None:
                    click.echo(f"error: {worker} {_how(worker.process.returncode)}; stopping the others", err=True)
        finally:
            _stop([worker.process for worker in workers], grace, received)
    return 0 if received and all(worker.process.returncode == 0 for worker in workers) else 1


@dataclass(frozen=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


def _start(number: int, arguments: Sequence[str]) -> _Worker:
    command = [sys.executable, "-m", "voxgate_server.cli", "serve", *arguments, "--worker", str(number)]
    return _Worker(number, subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def _stop(workers: Sequence[subprocess.Popen[bytes]], grace: float, received: Sequence[int]) -> None:
    """Asks all to stop; kills them when their time is over, or at once after a second signal."""
    until = time.monotonic() + grace + _EXTRA_SECONDS
    for worker in workers:
        worker.terminate()
    while any(worker.poll() is None for worker in workers) and time.monotonic() < until and len(received) < 2:
        time.sleep(_POLL_SECONDS)
    for worker in workers:
        worker.kill()
        worker.wait()
        if worker.stdin is not None:
            worker.stdin.close()


@contextlib.contextmanager
def _reserved(host: str, ports: Sequence[int]) -> Iterator[None]:
    """Holds the ports without listening, so that no other server can take them between two workers' starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        for port, option in zip(ports, ("--grpc-port", "--rest-port"), strict=True):
            try:
                # Without SO_REUSEPORT first: with it, the kernel would let us in beside a foreign server.
                socket.create_server((host, port), family=family).close()
                holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                holder.bind((host, port))
            except OSError as error:
                raise click.ClickException(str(port_taken(host, port, option, error))) from error
        yield
