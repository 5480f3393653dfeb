"""A worker process: `python -m voxgate_server.providers.local.worker`, spoken to in frames over stdin and stdout."""

import functools
import signal
from collections.abc import Iterator

# A signal during the imports would end the process with a traceback.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

from voxgate_server.audio.isolation.decoding import decode, samples_as_they_come  # noqa: E402
from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Done, Kind  # noqa: E402
from voxgate_server.audio.isolation.process import Job, serve  # noqa: E402
from voxgate_server.providers.local.endpointing import Endpointer, Stretch  # noqa: E402
from voxgate_server.providers.local.recogniser import Listener, Recogniser  # noqa: E402
from voxgate_server.providers.local.utterance import Partial  # noqa: E402

__all__ = ["main"]


def main() -> None:
    """Recognises recordings until stdin ends."""
    recogniser = Recogniser()
    # Takes time and 90 MB, and is needed only for what is spoken while it is sent.
    listener = functools.cache(Listener)
    serve(lambda job: _recognise(job, recogniser, _Partials(job, listener()) if job.start.partials else None))


class _Partials:
    """Tells what was understood of a recording while it arrives."""

    def __init__(self, job: Job, listener: Listener) -> None:
        self._job = job
        self._listener = listener
        self._told = ""
        self._samples = 0
        listener.start_recording()

    def hear(self, pcm: bytes) -> None:
        """Takes the next samples."""
        self._samples += len(pcm) // 2
        text = self._listener.hear(pcm)
        if text != self._told:
            self._told = text
            self._job.tell(Kind.PARTIAL, Partial(text, round(self._samples / SAMPLE_RATE, 3)))


def _recognise(job: Job, recogniser: Recogniser, partials: _Partials | None) -> Done:
    endpointer = Endpointer()
    samples = 0
    recogniser.start_recording()

    def recognise(stretch: Stretch) -> None:
        utterance = recogniser.recognise(stretch)
        if utterance.words:
            job.tell(Kind.UTTERANCE, utterance)

    for pcm in _samples(job):
        samples += len(pcm) // 2
        if partials is not None:
            partials.hear(pcm)
        for stretch in endpointer.feed(pcm):
            recognise(stretch)
    last = endpointer.finish()
    if last is not None:
        recognise(last)
    return Done(duration=round(samples / SAMPLE_RATE, 3))


def _samples(job: Job) -> Iterator[bytes]:
    start = job.start
    if start.partials and start.raw is not None:
        return samples_as_they_come(job.recording, start.raw, start.max_audio_seconds)
    return decode(job.recording, start.raw, start.max_audio_seconds)


if __name__ == "__main__":
    main()
