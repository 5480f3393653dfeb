"""Several processes on the same two ports: the kernel spreads connections over them."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

import click

from voxgate_server.edges.listen import join_host_port

__all__ = ["run_workers"]

_EXTRA_SECONDS = 5.0
"""How long after its grace a worker may take before it is killed."""


def run_workers(count: int, *, host: str, ports: Sequence[int], arguments: Sequence[str], grace: float) -> int:
    """Starts workers and waits until they end.

    They are spawned, never forked: gRPC does not survive a fork. When one ends by itself, all are stopped, so that
    whoever supervises us sees a clean failure instead of half a server.

    Args:
        count: How many.
        host: Address they listen on.
        ports: Ports they share.
        arguments: For `voxgate serve`, without `--workers`.
        grace: Seconds calls in progress have after a signal.

    Returns:
        The exit code: 0 after a signal, 1 when a worker failed.
    """
    if 0 in ports:
        raise click.UsageError("Workers share their ports, so the ports have to be given; 0 is none.")
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    with _reserved(host, ports):
        command = [sys.executable, "-m", "voxgate_server.cli", "serve", *arguments]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        workers = [subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) for _ in range(count)]
        try:
            while not stopping.wait(0.2):
                if any(worker.poll() is not None for worker in workers):
                    break
        finally:
            failed = not stopping.is_set()
            _stop(workers, grace)
    return 1 if failed else 0


def _stop(workers: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(grace + _EXTRA_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        if worker.stdin is not None:
            worker.stdin.close()


@contextlib.contextmanager
def _reserved(host: str, ports: Sequence[int]) -> Iterator[None]:
    """Holds the ports without listening, so that no other server can take them between two workers' starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        for port in ports:
            try:
                # Without SO_REUSEPORT first: with it, the kernel would let us in beside a foreign server.
                socket.create_server((host, port), family=family).close()
                holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                holder.bind((host, port))
            except OSError as error:
                raise click.ClickException(
                    f"Cannot listen on {join_host_port(host, port)} ({error.strerror}). Is another server running "
                    "there? Choose other ports with --grpc-port and --rest-port."
                ) from error
        yield
