"""A worker process: `python -m voxgate_server.audio.splitting_worker`, spoken to in frames over stdin and stdout."""

import signal

# A signal during the imports would end the process with a traceback.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

from voxgate_server.audio.cutter import Cutter  # noqa: E402
from voxgate_server.audio.isolation.decoding import decode  # noqa: E402
from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Done, Kind  # noqa: E402
from voxgate_server.audio.isolation.process import Job, serve  # noqa: E402

__all__ = ["main"]


def main() -> None:
    """Cuts recordings until stdin ends."""
    serve(_cut)


def _cut(job: Job) -> Done:
    samples = 0
    cutter = Cutter(longest=job.start.piece_seconds, shortest=job.start.piece_seconds / 2)
    for pcm in decode(job.recording, job.start.raw, job.start.max_audio_seconds):
        samples += len(pcm) // 2
        for piece in cutter.feed(pcm):
            _tell(job, piece)
    if rest := cutter.finish():
        _tell(job, rest)
    return Done(duration=samples / SAMPLE_RATE)


def _tell(job: Job, piece: bytes) -> None:
    job.wanted.acquire()
    job.tell(Kind.PIECE, piece)


if __name__ == "__main__":
    main()
