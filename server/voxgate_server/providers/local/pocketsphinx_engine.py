"""pocketsphinx with the US English model its wheel contains."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pocketsphinx

from voxgate_server.audio.isolation.frames import SAMPLE_RATE
from voxgate_server.providers.local.endpointing import PAUSES, Stretch
from voxgate_server.providers.local.engine import Utterance, Word

__all__ = ["PocketsphinxEngine", "PocketsphinxListener", "load"]

_FRAMES_PER_SECOND = 100
_LEAST_CONFIDENCE = 1e-4
"""Confidences have four decimals; a logarithm needs something above zero."""
_VARIANT = re.compile(r"\(\d+\)$")
"""The dictionary numbers the pronunciations of a word: `the(2)`."""


class PocketsphinxEngine:
    """Turns stretches of speech into words. Loading takes about 0.2 s; not safe for threads."""

    pauses = PAUSES

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
        self._listener: PocketsphinxListener | None = None

    def start_recording(self, options: Mapping[str, Any]) -> None:
        """Forgets what was learnt about the noise of the recording before. There are no options."""
        self._decoder.start_stream()

    def recognise(self, stretch: Stretch) -> Iterator[Utterance]:
        """Recognises a stretch, normalising over the whole of it; nothing where there is no speech."""
        self._decoder.start_utt()
        self._decoder.process_raw(stretch.pcm, full_utt=True)
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return
        end_of_stretch = stretch.start + len(stretch.pcm) / 2 / SAMPLE_RATE
        words: list[Word] = []
        logprob = 0.0
        for segment in self._decoder.seg():
            if segment.word.startswith(("<", "[", "+")):
                continue  # silence, noise, breath
            start = min(stretch.start + segment.start_frame / _FRAMES_PER_SECOND, end_of_stretch)
            # The last frame belongs to the word.
            end = min(stretch.start + (segment.end_frame + 1) / _FRAMES_PER_SECOND, end_of_stretch)
            confidence = round(min(max(segment.prob, 0.0), 1.0), 4)
            logprob += math.log(max(confidence, _LEAST_CONFIDENCE))
            words.append(Word(_VARIANT.sub("", segment.word), round(start, 3), round(end, 3), confidence))
        if not words:
            return
        text = " ".join(word.word for word in words)
        yield Utterance(
            text, words[0].start, words[-1].end, words, language="en", avg_logprob=round(logprob / len(words), 4)
        )

    def listener(self) -> "PocketsphinxListener":
        """A second decoder. It takes 0.2 s and 90 MB, hence not before it is asked for."""
        if self._listener is None:
            self._listener = PocketsphinxListener()
        return self._listener


class PocketsphinxListener:
    """Understands speech while it arrives, quickly and not too well: nothing can be normalised over what is to come."""

    def __init__(self) -> None:
        # Second and third pass would begin only when the utterance is over.
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", fwdflat=False, bestpath=False)
        self._listening = False

    def start_recording(self) -> None:
        """Forgets the recording before, and what was learnt about its noise."""
        if self._listening:
            self._decoder.end_utt()
        self._decoder.start_stream()
        self._decoder.start_utt()
        self._listening = True

    def hear(self, pcm: bytes) -> str:
        """Takes the next samples and gives the text of the recording, as it seems by now."""
        self._decoder.process_raw(pcm)
        hypothesis = self._decoder.hyp()
        if hypothesis is None:
            return ""
        words = hypothesis.hypstr.split()
        return " ".join(_VARIANT.sub("", word) for word in words if not word.startswith(("<", "[", "+")))


def load() -> PocketsphinxEngine:
    """The engine."""
    return PocketsphinxEngine()
