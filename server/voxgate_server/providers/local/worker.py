"""A worker process: `python -m voxgate_server.providers.local.worker ENGINE SETTINGS`, spoken to in frames.

ENGINE is a module beside this one, SETTINGS the JSON object its `load` takes.
"""

import signal

# A signal during the imports would end the process with a traceback.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

import importlib  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterable, Iterator  # noqa: E402

import msgspec  # noqa: E402

from voxgate_server.audio.isolation.decoding import decode  # noqa: E402
from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Done, Kind  # noqa: E402
from voxgate_server.audio.isolation.process import Job, serve  # noqa: E402
from voxgate_server.audio.isolation.spoken import samples_as_they_come  # noqa: E402
from voxgate_server.providers.local.endpointing import Endpointer  # noqa: E402
from voxgate_server.providers.local.engine import Engine, Listener, Partial, Utterance  # noqa: E402

__all__ = ["main"]

_ADDRESS_SPACE = 3 << 30


def main(name: str, settings: str) -> None:
    """Recognises recordings until stdin ends.

    Args:
        name: Module of the engine.
        settings: For its `load`, as JSON. `address_space` is for the process: its limit in bytes, null for none.
    """
    options = msgspec.json.decode(settings, type=dict)
    limit = options.pop("address_space", _ADDRESS_SPACE)
    loaded: list[Engine] = []

    def work(job: Job) -> Done:
        # With the first recording, when the limits hold and what libraries print goes where it does no harm.
        if not loaded:
            load: Callable[..., Engine] = importlib.import_module(f"voxgate_server.providers.local.{name}").load
            loaded.append(load(**options))
        return _recognise(job, loaded[0])

    serve(work, address_space=limit)


def _recognise(job: Job, engine: Engine) -> Done:
    endpointer = Endpointer(engine.pauses)
    samples = 0
    engine.start_recording(job.start.options)

    def tell(utterances: Iterable[Utterance]) -> None:
        for utterance in utterances:
            job.tell(Kind.UTTERANCE, utterance)

    listener = engine.listener() if job.start.partials else None
    partials = None if listener is None else _Partials(job, listener)
    for pcm in _samples(job):
        samples += len(pcm) // 2
        if partials is not None:
            partials.hear(pcm)
        for stretch in endpointer.feed(pcm):
            tell(engine.recognise(stretch))
    last = endpointer.finish()
    if last is not None:
        tell(engine.recognise(last))
    return Done(duration=round(samples / SAMPLE_RATE, 3))


def _samples(job: Job) -> Iterator[bytes]:
    start = job.start
    if start.partials and start.raw is not None:
        return samples_as_they_come(job.recording, start.raw, start.max_audio_seconds)
    return decode(job.recording, start.raw, start.max_audio_seconds)


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


if __name__ == "__main__":
    main(*sys.argv[1:3])
