"""What runs in a worker process: takes recordings in frames over stdin, answers in frames over stdout.

It lives and dies with its stdin: signals meant for the whole process group (Ctrl-C, a service manager's stop) have to
be ignored by whoever calls `serve`, so that a server that drains can still finish its calls; the end of stdin ends
the process at once.
"""

import math
import os
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import av.logging
import msgspec

from voxgate_server.audio.isolation.decoding import Unreadable
from voxgate_server.audio.isolation.frames import (
    HEADER_SIZE,
    PIECES_AHEAD,
    Done,
    Failed,
    Failure,
    FrameError,
    Kind,
    Start,
    decode_header,
    encode,
)
from voxgate_server.audio.isolation.recording import Recording, RecordingDropped

__all__ = ["Job", "serve"]

_ADDRESS_SPACE = 3 << 30
"""Bytes. A worker needs about 0.35 GiB; a recording that makes a decoder ask for more ends in an error, not in swap."""
_NICENESS = 5
"""Decoding may take every core; the event loop of the gateway comes first."""


@dataclass(slots=True)
class Job:
    """One recording."""

    start: Start
    recording: Recording
    answers: BinaryIO
    wanted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(PIECES_AHEAD))
    """How many pieces the server has room for."""
    complete: bool = False
    """All of its bytes have come."""

    def tell(self, kind: Kind, payload: bytes | msgspec.Struct) -> None:
        """Sends a frame to the server."""
        _write(self.answers, encode(kind, payload))


def serve(work: Callable[[Job], Done], *, address_space: int | None = _ADDRESS_SPACE) -> None:
    """Serves recordings until stdin ends.

    Args:
        work: Reads one recording to its end. What it raises is reported, and the process lives on.
        address_space: Bytes the process may have; None for no limit.
    """
    if address_space is not None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.nice(_NICENESS)
    av.logging.set_level(None)
    # Whatever a library prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, jobs, answers), name="receive", daemon=True).start()
    while True:
        job = jobs.get()
        _limit_processor(job.start.processor_seconds)
        _serve(job, work)


def _receive(stream: BinaryIO, jobs: "queue.SimpleQueue[Job]", answers: BinaryIO) -> None:
    """Takes frames while the main thread works. Never returns: the end of stdin is the end of the process."""
    job: Job | None = None
    try:
        while header := stream.read(HEADER_SIZE):
            kind, size = decode_header(header)
            job = _take(kind, stream.read(size), job, jobs, answers)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _take(kind: Kind, payload: bytes, job: Job | None, jobs: "queue.SimpleQueue[Job]", answers: BinaryIO) -> Job:
    """Takes one frame. Gives the recording it belongs to."""
    if kind is Kind.START:
        if job is not None and not job.complete:
            job.recording.drop()
        start = msgspec.json.decode(payload, type=Start)
        job = Job(start, Recording(container=start.raw is None), answers)
        jobs.put(job)
    elif kind is Kind.MORE and job is not None:
        job.wanted.release()
    elif job is None or job.complete or kind not in (Kind.AUDIO, Kind.FINISH):
        raise FrameError(f"{kind.name} out of order")
    elif kind is Kind.AUDIO:
        job.recording.append(payload)
    else:
        job.recording.finish()
        job.complete = True
    return job


def _limit_processor(seconds: int) -> None:
    """Limits what the next recording may cost; more ends the process with SIGXCPU, whatever it is doing."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = math.ceil(time.process_time()) + seconds if seconds else hard
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _serve(job: Job, work: Callable[[Job], Done]) -> None:
    try:
        done = work(job)
        # The audio can end before the bytes do. Nothing is a whole recording before the caller said so.
        job.recording.wait_finished()
        answer = encode(Kind.DONE, done)
    except RecordingDropped:
        return
    except Unreadable as error:
        answer = encode(Kind.FAILED, error.failed)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        traceback.print_exc()
        answer = encode(Kind.FAILED, Failed(Failure.INTERNAL, type(error).__name__))
    finally:
        job.recording.close()
    _write(job.answers, answer)


def _write(answers: BinaryIO, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[answers.write(view) :]
