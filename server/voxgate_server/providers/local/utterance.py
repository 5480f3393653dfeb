"""What a worker process of the embedded recogniser tells of what was said."""

import msgspec

__all__ = ["Partial", "Utterance", "Word"]


class Word(msgspec.Struct):
    """A word; times in seconds from the start of the recording, confidence as a posterior probability."""

    word: str
    start: float
    end: float
    confidence: float


class Partial(msgspec.Struct):
    """What was understood so far of a recording that is still arriving."""

    text: str
    seconds: float
    """Of how much of it."""


class Utterance(msgspec.Struct):
    """What was said between two pauses; never without words."""

    words: list[Word]
