"""faster-whisper: Whisper models in CTranslate2's format, in a directory of this machine."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

# There is nothing to be fetched: the adapter has seen that the directory is complete.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from faster_whisper import WhisperModel

from voxgate_server.audio.isolation.frames import SAMPLE_RATE
from voxgate_server.providers.local.endpointing import FEW_PAUSES, Stretch
from voxgate_server.providers.local.engine import Utterance, Word

__all__ = ["WhisperEngine", "load"]


class WhisperEngine:
    """Runs a model over stretches of speech. The language is decided by the first of a recording."""

    pauses = FEW_PAUSES

    def __init__(self, model: WhisperModel, beam_size: int) -> None:
        self._model = model
        self._beam_size = beam_size
        self._options: dict[str, Any] = {}

    def start_recording(self, options: Mapping[str, Any]) -> None:
        """Takes faster-whisper's own options of `transcribe`."""
        self._options = dict(options)

    def recognise(self, stretch: Stretch) -> Iterator[Utterance]:
        """What was said, while it is being found."""
        samples = np.frombuffer(stretch.pcm, np.int16).astype(np.float32) / 32768
        segments, info = self._model.transcribe(samples, beam_size=self._beam_size, **self._options)
        self._options["language"] = info.language
        length = len(samples) / SAMPLE_RATE
        for segment in segments:
            if not (text := segment.text.strip()):
                continue
            start, end = _span(segment, stretch.start, length)
            yield Utterance(
                text=text,
                start=start,
                end=end,
                words=[_word(word, stretch.start, length) for word in segment.words or ()],
                language=info.language,
                tokens=[int(token) for token in segment.tokens],
                avg_logprob=round(float(segment.avg_logprob), 4),
                no_speech_prob=round(float(segment.no_speech_prob), 4),
                compression_ratio=round(float(segment.compression_ratio), 4),
                temperature=float(segment.temperature or 0.0),
            )

    def listener(self) -> None:
        """None: it takes stretches that are over."""


def _word(word: Any, offset: float, length: float) -> Word:
    start, end = _span(word, offset, length)
    return Word(word.word.strip(), start, end, round(min(max(float(word.probability), 0.0), 1.0), 4))


def _span(item: Any, offset: float, length: float) -> tuple[float, float]:
    # The window is longer than what is in it, and times may lie behind the end. Some numbers are numpy's.
    start, end = (round(offset + min(max(float(time), 0.0), length), 3) for time in (item.start, item.end))
    return start, max(start, end)


def load(path: str, device: str, compute_type: str, cpu_threads: int, beam_size: int) -> WhisperEngine:
    """Loads a model.

    Args:
        path: Its directory.
        device: `cpu` or `cuda`.
        compute_type: CTranslate2's name of how weights are held, e.g. `int8`; `default` as they are stored.
        cpu_threads: How many processors it uses.
        beam_size: How many hypotheses are followed.
    """
    model = WhisperModel(path, device=device, compute_type=compute_type, cpu_threads=cpu_threads, local_files_only=True)
    return WhisperEngine(model, beam_size)
