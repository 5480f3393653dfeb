"""What a worker process of the embedded recogniser tells of what was said."""

import msgspec

__all__ = ["Utterance", "Word"]


class Word(msgspec.Struct):
    """A word; times in seconds from the start of the recording, confidence as a posterior probability."""

    word: str
    start: float
    end: float
    confidence: float


class Utterance(msgspec.Struct):
    """What was said between two pauses; never without words."""

    words: list[Word]
