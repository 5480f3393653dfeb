"""A worker process: `python -m voxgate_server.providers.local.worker`, spoken to in frames over stdin and stdout.

It lives and dies with its stdin: signals meant for the whole process group (Ctrl-C, a service manager's stop) leave
it alone, so that a server that drains can still finish its calls; the end of stdin ends it at once.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

import os  # noqa: E402 (a signal during the imports would end the process with a traceback)
import queue  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from typing import BinaryIO  # noqa: E402

import av.logging  # noqa: E402
import msgspec  # noqa: E402

from voxgate_server.providers.local.decoding import Unreadable, decode  # noqa: E402
from voxgate_server.providers.local.endpointing import SAMPLE_RATE, Endpointer, Stretch  # noqa: E402
from voxgate_server.providers.local.frames import (  # noqa: E402
    HEADER_SIZE,
    Done,
    Failed,
    Failure,
    FrameError,
    Kind,
    Start,
    decode_header,
    encode,
)
from voxgate_server.providers.local.recogniser import Recogniser  # noqa: E402
from voxgate_server.providers.local.recording import Recording, RecordingDropped  # noqa: E402

__all__ = ["main"]

_ADDRESS_SPACE = 3 << 30
"""Bytes. A worker needs about 0.35 GiB; a recording that makes a decoder ask for more ends in an error, not in swap."""
_NICENESS = 5
"""Recognition may take every core; the event loop of the gateway comes first."""


@dataclass(frozen=True, slots=True)
class _Job:
    start: Start
    recording: Recording


def main() -> None:
    """Serves recordings until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.nice(_NICENESS)
    av.logging.set_level(None)
    # Whatever a library prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, jobs), name="receive", daemon=True).start()
    recogniser = Recogniser()
    while True:
        _serve(jobs.get(), recogniser, answers)


def _receive(stream: BinaryIO, jobs: "queue.SimpleQueue[_Job]") -> None:
    """Takes frames while the main thread recognises. Never returns: the end of stdin is the end of the process."""
    recording: Recording | None = None
    try:
        while header := stream.read(HEADER_SIZE):
            kind, size = decode_header(header)
            recording = _take(kind, stream.read(size), recording, jobs)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _take(kind: Kind, payload: bytes, recording: Recording | None, jobs: "queue.SimpleQueue[_Job]") -> Recording | None:
    """Takes one frame. Gives the recording that is still open afterwards."""
    if kind is Kind.START:
        if recording is not None:
            recording.drop()
        start = msgspec.json.decode(payload, type=Start)
        recording = Recording(container=start.raw is None)
        jobs.put(_Job(start, recording))
        return recording
    if recording is None or kind not in (Kind.AUDIO, Kind.FINISH):
        raise FrameError(f"{kind.name} out of order")
    if kind is Kind.AUDIO:
        recording.append(payload)
        return recording
    recording.finish()
    return None


def _serve(job: _Job, recogniser: Recogniser, answers: BinaryIO) -> None:
    try:
        answer = encode(Kind.DONE, _recognise(job, recogniser, answers))
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
    _write(answers, answer)


def _recognise(job: _Job, recogniser: Recogniser, answers: BinaryIO) -> Done:
    endpointer = Endpointer()
    samples = 0
    recogniser.start_recording()

    def recognise(stretch: Stretch) -> None:
        utterance = recogniser.recognise(stretch)
        if utterance.words:
            _write(answers, encode(Kind.UTTERANCE, utterance))

    for pcm in decode(job.recording, job.start.raw, job.start.max_audio_seconds):
        samples += len(pcm) // 2
        for stretch in endpointer.feed(pcm):
            recognise(stretch)
    last = endpointer.finish()
    if last is not None:
        recognise(last)
    # The audio can end before the bytes do. Nothing is a whole recording before the caller said so.
    job.recording.wait_finished()
    return Done(duration=round(samples / SAMPLE_RATE, 3))


def _write(answers: BinaryIO, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[answers.write(view) :]


if __name__ == "__main__":
    main()
