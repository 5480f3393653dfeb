"""Worker processes: started when first needed, kept warm, killed when what they do is not wanted any more."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

import voxgate_server
from voxgate_server.audio.isolation.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Failed,
    Failure,
    FrameError,
    Kind,
    Start,
    decode_header,
    encode,
)
from voxgate_server.audio.spool import Spool
from voxgate_server.errors import (
    AudioTooLarge,
    EmptyAudio,
    Overloaded,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedAudio,
    VoxgateError,
)

__all__ = ["Lease", "Worker", "WorkerPool", "failure"]

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
"""What a worker sees of the environment. It reads strangers' files and has no business with the operator's keys."""

_LAST_BREATH = 2.0
"""Seconds a worker has to end after it closed its stdout, or had its stdin closed, before it is killed."""


class Worker:
    """One worker process and the frames to and from it."""

    def __init__(self, process: asyncio.subprocess.Process, who: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._who = who
        self._stdin = process.stdin
        self._stdout = process.stdout
        # Unbounded, but no more than the words of one recording, whose length has a limit, or the pieces asked for.
        self._frames: asyncio.Queue[tuple[Kind, bytes] | None] = asyncio.Queue()
        self._killed = False
        self.ended = asyncio.create_task(self._pump(), name="voxgate-worker")
        """Done when the process is gone and its pipes are closed."""

    @classmethod
    async def start(
        cls, module: str, who: str, temporary_directory: Path | None, arguments: Sequence[str] = ()
    ) -> "Worker":
        """Starts a process.

        Args:
            module: What it runs.
            who: Whose process it is, for messages.
            temporary_directory: Where it keeps recordings; None means TMPDIR or, without it, /var/tmp.
            arguments: For the module; everybody on the machine can read them.

        Raises:
            ProviderUnavailable: The system does not allow another process.
        """
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        if temporary_directory is not None:
            environment["TMPDIR"] = str(temporary_directory)
        else:
            # Unlike /tmp it is seldom in memory.
            environment.setdefault("TMPDIR", "/var/tmp")  # noqa: S108
        environment["PYTHONPATH"] = str(Path(voxgate_server.__file__).parent.parent)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise ProviderUnavailable(
                f"{who}'s process cannot be started: {os.strerror(error.errno or 0)}.", retry_after=5
            ) from error
        return cls(process, who)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended_by(self) -> signal.Signals | None:
        """The signal that ended the process; None when it lives or ended in another way."""
        code = self._process.returncode or 0
        return signal.Signals(-code) if code < 0 else None

    @property
    def is_alive(self) -> bool:
        """It can be given a recording, as far as is known."""
        return not self._killed and not self.ended.done()

    async def send(self, kind: Kind, payload: bytes | msgspec.Struct = b"") -> None:
        """Sends a frame; waits while the worker does not read.

        Raises:
            ConnectionError: The process is gone; `receive` says how it ended.
        """
        self._stdin.write(encode(kind, payload))
        await self._stdin.drain()

    async def feed(self, start: Start, spool: Spool) -> None:
        """Sends a whole recording, as it arrives. A worker that is gone is no error here: `receive` says it.

        Raises:
            VoxgateError: Whatever the spool's cursor raises; the worker is killed.
        """
        try:
            await self.send(Kind.START, start)
            async for chunk in spool.cursor():
                view = memoryview(chunk)
                for offset in range(0, len(chunk), MAX_PAYLOAD):
                    await self.send(Kind.AUDIO, bytes(view[offset : offset + MAX_PAYLOAD]))
            await self.send(Kind.FINISH)
        except ConnectionError:
            return
        except Exception:
            # The upload broke off: without a worker there is nothing that could still come out of it.
            self.kill()
            raise

    async def receive(self) -> tuple[Kind, bytes]:
        """The next frame of the worker.

        Raises:
            ProviderUnavailable: The process ended.
        """
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
            raise ProviderUnavailable(f"{self._who}'s process ended unexpectedly ({self._how_it_ended()}).")
        return frame

    def kill(self) -> None:
        """Ends the process at once. `ended` tells when it is gone."""
        if not self._killed:
            # Only once: subprocess reaps a process that is already dead when it is told to signal it, and asyncio
            # then never learns how it ended.
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _pump(self) -> None:
        try:
            while True:
                kind, size = decode_header(await self._stdout.readexactly(HEADER_SIZE))
                self._frames.put_nowait((kind, await self._stdout.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except FrameError:
            self.kill()
        finally:
            self._stdin.close()
            try:
                async with asyncio.timeout(_LAST_BREATH):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
            # A pipe that is not read to its end is never closed.
            while await self._stdout.read(1 << 16):
                pass
            self._frames.put_nowait(None)

    def _how_it_ended(self) -> str:
        ended_by = self.ended_by
        return f"exit code {self._process.returncode or 0}" if ended_by is None else ended_by.name


class WorkerPool:
    """A bounded number of workers, lent one recording at a time, first come first served.

    Args:
        module: What they run, e.g. `voxgate_server.providers.local.worker`.
        who: Whose processes they are, for messages, e.g. `local: the recogniser`.
        size: How many processes there are at most.
        max_waiting: How many callers may wait for one.
        temporary_directory: Where workers keep recordings; None means TMPDIR or, without it, /var/tmp.
        arguments: For the module; everybody on the machine can read them.
    """

    def __init__(
        self,
        module: str,
        who: str,
        *,
        size: int,
        max_waiting: int,
        temporary_directory: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._arguments = arguments
        self._module = module
        self._who = who
        self._size = size
        self._max_waiting = max_waiting
        self._temporary_directory = temporary_directory
        self._free = asyncio.Semaphore(size)
        self._waiting = 0
        self._lent = 0
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._closed = asyncio.Event()
        self._returned = asyncio.Event()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers there are, busy or idle."""
        return sorted(worker.pid for worker in self._workers)

    @property
    def spare(self) -> int:
        """How many more calls would get a worker at once."""
        return max(self._size - self._lent - self._waiting, 0)

    async def wait_spare(self, count: int) -> None:
        """Waits until so many more calls would get a worker at once; for ever where there are not that many."""
        while self.spare < count:
            self._returned.clear()
            await self._returned.wait()

    @contextlib.asynccontextmanager
    async def lease(self, deadline: float) -> AsyncIterator["Lease"]:
        """Lends a worker, waiting for a free one.

        The worker goes back only when the borrower says that its recording is over (`Lease.release`); otherwise
        it is killed, which frees the processor whatever the worker was doing.

        Args:
            deadline: When waiting ends, on the clock of `time.monotonic()`, in seconds.

        Raises:
            Overloaded: Too many callers wait already.
            ProviderTimeout: None became free in time.
            ProviderUnavailable: No process can be started, or the pool is closed.
        """
        await self._wait_for_free(deadline)
        self._lent += 1
        try:
            lease = Lease(await self._take())
            try:
                yield lease
            finally:
                if lease.released and lease.worker.is_alive:
                    self._idle.append(lease.worker)
                else:
                    lease.worker.kill()
        finally:
            self._lent -= 1
            self._free.release()
            self._returned.set()

    async def aclose(self) -> None:
        """Kills all workers and waits until they are gone."""
        self._closed.set()
        self._idle.clear()
        for worker in self._workers:
            worker.kill()
        if self._workers:
            await asyncio.wait([worker.ended for worker in self._workers])

    async def _wait_for_free(self, deadline: float) -> None:
        if self._free.locked() and self._waiting >= self._max_waiting:
            raise Overloaded(
                f"{self._who}: all {self._size} processes are busy and {self._waiting} calls wait already. Try again "
                "later.",
                metadata={"limit": str(self._max_waiting)},
                retry_after=5,
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._free.acquire()
        except TimeoutError:
            raise ProviderTimeout(f"{self._who}: none of the {self._size} processes became free in time.") from None
        finally:
            self._waiting -= 1

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
        if not self._closed.is_set():
            worker = await Worker.start(self._module, self._who, self._temporary_directory, self._arguments)
            self._workers.add(worker)
            worker.ended.add_done_callback(lambda _: self._workers.discard(worker))
            if not self._closed.is_set():
                return worker
            worker.kill()
        raise ProviderUnavailable(f"{self._who} is shut down.")


class Lease:
    """A worker in the hands of one borrower."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.released = False

    def release(self) -> None:
        """Says that the worker has answered for the recording and may serve the next."""
        self.released = True


def failure(failed: Failed, who: str) -> VoxgateError:
    """The error for a recording that cannot be read.

    Args:
        failed: What the worker said.
        who: Whose worker it is.
    """
    match failed.failure:
        case Failure.UNSUPPORTED:
            return UnsupportedAudio(failed.message, param="file", metadata={"detected": failed.detected})
        case Failure.EMPTY:
            return EmptyAudio(failed.message, param="file")
        case Failure.TOO_LONG:
            return AudioTooLarge(failed.message, param="file")
        case Failure.INTERNAL:
            return ProviderUnavailable(f"{who} failed ({failed.message}).")
