"""What an engine is: the part of a local recogniser that runs in a worker process. And what it tells."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from voxgate_server.providers.local.endpointing import Stretch

__all__ = ["Engine", "Listener", "Partial", "Utterance", "Word"]


class Word(msgspec.Struct):
    """A word; times in seconds from the start of the recording."""

    word: str
    start: float
    end: float
    confidence: float | None = None
    """As a probability; None where the engine has none."""


class Utterance(msgspec.Struct, omit_defaults=True):
    """Something that was said; never without text. What an engine does not know stays out."""

    text: str
    start: float
    """In seconds from the start of the recording."""
    end: float
    words: list[Word] = []
    language: str = ""
    """ISO 639-1."""
    tokens: list[int] = []
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    temperature: float | None = None


class Partial(msgspec.Struct):
    """What was understood so far of a recording that is still arriving."""

    text: str
    seconds: float
    """Of how much of it."""


class Listener(Protocol):
    """Understands speech while it arrives, as well as can be done before its end is known. Not safe for threads."""

    def start_recording(self) -> None:
        """A recording begins: the one before, and what was learnt of it, is forgotten."""

    def hear(self, pcm: bytes) -> str:
        """Takes the next samples (as those of a stretch) and gives the text of the recording, as it seems by now."""


class Engine(Protocol):
    """Recognises one recording at a time, stretch by stretch. It has loaded its model; not safe for threads."""

    pauses: Sequence[tuple[int, int]]
    """Where it wants recordings to be cut; see `Endpointer`."""

    def start_recording(self, options: Mapping[str, Any]) -> None:
        """A recording begins: what was learnt of the one before is forgotten.

        Args:
            options: What the adapter of the engine makes of the caller's.
        """

    def recognise(self, stretch: Stretch) -> Iterable[Utterance]:
        """What was said in a stretch, in order; nothing where there is no speech."""

    def listener(self) -> Listener | None:
        """What hears the recordings that are still being spoken, always the same; None where the model cannot."""
