"""A worker process: `python -m voxgate_server.audio.conversion_worker`, spoken to in frames over stdin and stdout."""

import signal

# A signal during the imports would end the process with a traceback.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

from voxgate_server.audio.isolation.decoding import Unreadable  # noqa: E402
from voxgate_server.audio.isolation.frames import Done, Failed, Failure, Kind  # noqa: E402
from voxgate_server.audio.isolation.process import Job, serve  # noqa: E402
from voxgate_server.audio.remux import OutputTooLarge, convert  # noqa: E402

__all__ = ["main"]

_ADDRESS_SPACE = 1 << 30
"""Bytes, most of them for libraries; a conversion itself holds a few hundred kilobytes."""


def main() -> None:
    """Converts recordings until stdin ends."""
    serve(_convert, address_space=_ADDRESS_SPACE)


def _convert(job: Job) -> Done:
    def give(data: bytes) -> None:
        job.wanted.acquire()
        job.tell(Kind.PIECE, data)

    options = job.start.options
    try:
        seconds = convert(job.recording, give=give, max_seconds=job.start.max_audio_seconds, **options)
    except OutputTooLarge:
        raise Unreadable(
            Failed(
                Failure.TOO_LONG,
                f"The recording has more than {options['max_bytes']} bytes when it is converted. Send it in parts.",
            )
        ) from None
    return Done(duration=seconds)


if __name__ == "__main__":
    main()
