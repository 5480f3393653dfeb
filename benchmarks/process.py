"""The processes of a run: the provider, the gateway, and what /proc says about them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from benchmarks import ROOT, SOURCES
from benchmarks.upstream import MODELS, UPSTREAM_KEY

__all__ = ["Gateway", "Tree", "Upstream", "machine_busy_seconds", "on_cpu"]

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS: Final = 10


class Tree:
    """What a process and all its descendants use.

    Args:
        root: Process id.
    """

    def __init__(self, root: int) -> None:
        self.root = root

    def pids(self) -> list[int]:
        """The living processes of the tree, the root first; empty when it is gone."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
        found = [self.root] if Path(f"/proc/{self.root}").exists() else []
        for pid in found:  # grows while it is read
            found += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, ended children included."""
        ticks = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, _stat(pid)[11:15]))
        return ticks / _TICKS_PER_SECOND

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory now, and at its highest since `reset_peak` (each process's own peak added up), in MB."""
        now = peak = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                sizes = {key: value for key, _, value in (line.partition(":") for line in lines)}
                now += int(sizes.get("VmRSS", "0 kB").split()[0])
                peak += int(sizes.get("VmHWM", "0 kB").split()[0])
        return now / 1024, peak / 1024

    def reset_peak(self) -> None:
        """Lets the highest resident memory start again from what it is now."""
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name: state, parent, and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def machine_busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / _TICKS_PER_SECOND


@contextlib.contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """Processes that are started inside run on this CPU alone. None changes nothing."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends a process that was started as the leader of a session, and what it left behind in there."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


class Upstream:
    """The provider in a process of its own.

    Args:
        cpu: The CPU it runs on. None means any.
    """

    def __init__(self, cpu: int | None) -> None:
        with on_cpu(cpu):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.upstream"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["port"]
        self.tree = Tree(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            _stop(self._process)


class Gateway:
    """The gateway in a process tree of its own, with a configuration that leads every model to the provider.

    Args:
        command: What starts it. `{config}`, `{grpc_port}` and `{rest_port}` are filled in.
        upstream_port: Port of the provider.
        key: The master key that clients have to show.
        cpu: The CPU it runs on. None means any.
    """

    def __init__(self, command: list[str], upstream_port: int, key: str, cpu: int | None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="voxgate-bench-")
        config = Path(self._directory.name, "config.yaml")
        config.write_text(_config(upstream_port, key))
        self.rest_port, self.grpc_port = _free_ports(2)
        filled = [part.format(config=config, grpc_port=self.grpc_port, rest_port=self.rest_port) for part in command]
        path = os.pathsep.join([*SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._log = Path(self._directory.name, "log")
        with on_cpu(cpu), self._log.open("w") as log:
            self._process = subprocess.Popen(
                filled,
                cwd=self._directory.name,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.tree = Tree(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """Stops it, if it does not stop by itself then by force."""
        _stop(self._process)
        self._directory.cleanup()


def _config(upstream_port: int, key: str) -> str:
    lines = ["model_list:"]
    for model in MODELS:
        prefix = {"throttled": "/throttled", "failover": "/fault"}.get(model, "")
        lines += _deployment(model, model, upstream_port, prefix)
    lines += _deployment("second", "failover", upstream_port, "/second")
    # Without cooldowns, so that the provider that fails is asked every time.
    lines += ["router_settings:", "  disable_cooldowns: true", "  fallbacks: [{failover: [second]}]"]
    return "\n".join([*lines, "general_settings:", f"  master_key: {key}", ""])


def _deployment(group: str, model: str, upstream_port: int, prefix: str) -> list[str]:
    return [
        f"  - model_name: {group}",
        "    litellm_params:",
        f"      model: openai/{model}",
        f"      api_base: http://127.0.0.1:{upstream_port}{prefix}/v1",
        f"      api_key: {UPSTREAM_KEY}",
    ]


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
