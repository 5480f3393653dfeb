"""A worker process: `python -m voxgate_server.providers.local.worker`, spoken to in frames over stdin and stdout."""

import signal

# A signal during the imports would end the process with a traceback.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

from voxgate_server.audio.isolation.decoding import decode  # noqa: E402
from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Done, Kind  # noqa: E402
from voxgate_server.audio.isolation.process import Job, serve  # noqa: E402
from voxgate_server.providers.local.endpointing import Endpointer, Stretch  # noqa: E402
from voxgate_server.providers.local.recogniser import Recogniser  # noqa: E402

__all__ = ["main"]


def main() -> None:
    """Recognises recordings until stdin ends."""
    recogniser = Recogniser()
    serve(lambda job: _recognise(job, recogniser))


def _recognise(job: Job, recogniser: Recogniser) -> Done:
    endpointer = Endpointer()
    samples = 0
    recogniser.start_recording()

    def recognise(stretch: Stretch) -> None:
        utterance = recogniser.recognise(stretch)
        if utterance.words:
            job.tell(Kind.UTTERANCE, utterance)

    for pcm in decode(job.recording, job.start.raw, job.start.max_audio_seconds):
        samples += len(pcm) // 2
        for stretch in endpointer.feed(pcm):
            recognise(stretch)
    last = endpointer.finish()
    if last is not None:
        recognise(last)
    return Done(duration=round(samples / SAMPLE_RATE, 3))


if __name__ == "__main__":
    main()
