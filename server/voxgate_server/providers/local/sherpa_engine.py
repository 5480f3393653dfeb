"""sherpa-onnx: transducers and CTC models in ONNX, in files of this machine."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sherpa_onnx

from voxgate_server.audio.isolation.frames import SAMPLE_RATE
from voxgate_server.providers.local.endpointing import PAUSES, Stretch
from voxgate_server.providers.local.engine import Utterance, Word

__all__ = ["SherpaEngine", "load"]

_LAST_TOKEN = 0.3
"""Seconds a token lasts at most, as far as is known: models tell where tokens begin, and seldom where they end."""


class SherpaEngine:
    """Recognises stretches of speech one by one."""

    pauses = PAUSES

    def __init__(self, recogniser: Any, language: str) -> None:
        self._recogniser = recogniser
        self._language = language

    def start_recording(self, options: Mapping[str, Any]) -> None:
        """Nothing is kept between stretches, and there are no options."""

    def recognise(self, stretch: Stretch) -> Iterator[Utterance]:
        """What was said in a stretch: one utterance, or nothing."""
        samples = np.frombuffer(stretch.pcm, np.int16).astype(np.float32) / 32768
        stream = self._recogniser.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples)
        self._recogniser.decode_stream(stream)
        result = stream.result
        text = result.text.strip()
        if not text:
            return
        length = len(samples) / SAMPLE_RATE
        words = list(_words(result.tokens, result.timestamps, result.durations, result.ys_log_probs, length))
        for word in words:
            word.start, word.end = round(stretch.start + word.start, 3), round(stretch.start + word.end, 3)
        logprobs = result.ys_log_probs
        yield Utterance(
            text=text,
            start=words[0].start if words else round(stretch.start, 3),
            end=words[-1].end if words else round(stretch.start + length, 3),
            words=words,
            language=self._language,
            avg_logprob=round(sum(logprobs) / len(logprobs), 4) if logprobs else None,
        )

    def listener(self) -> None:
        """None: it takes stretches that are over."""


def _words(
    tokens: Sequence[str],
    starts: Sequence[float],
    durations: Sequence[float],
    logprobs: Sequence[float],
    length: float,
) -> Iterator[Word]:
    """Joins tokens to words at the spaces before them; in scripts without spaces each token is a word."""
    if len(starts) != len(tokens):
        return
    spaced = any(token.startswith((" ", "▁")) for token in tokens)
    bounds = [0, *(at for at in range(1, len(tokens)) if not spaced or tokens[at].startswith((" ", "▁"))), len(tokens)]
    for first, after in itertools.pairwise(bounds):
        text = "".join(tokens[first:after]).replace("▁", " ").strip()
        if not text:
            continue
        last = after - 1
        lasts = durations[last] if len(durations) == len(tokens) else _LAST_TOKEN
        following = starts[after] if after < len(tokens) else length
        start = min(float(starts[first]), length)
        end = min(max(float(starts[last]) + lasts, start), max(float(following), start), length)
        confidence = None
        if len(logprobs) == len(tokens):
            confidence = round(min(math.exp(sum(logprobs[first:after]) / (after - first)), 1.0), 4)
        yield Word(text, start, max(start, end), confidence)


def load(model_type: str, files: dict[str, str], device: str, cpu_threads: int, language: str) -> SherpaEngine:
    """Loads a model.

    Args:
        model_type: See `voxgate_server.providers.local.sherpa`.
        files: The paths of its parts, by sherpa-onnx's names of them.
        device: `cpu` or `cuda`.
        cpu_threads: How many processors it uses.
        language: ISO 639-1; empty where it is not known.
    """
    make = sherpa_onnx.OfflineRecognizer
    options: dict[str, Any] = {**files, "num_threads": cpu_threads, "provider": device}
    match model_type:
        case "transducer" | "nemo_transducer":
            recogniser = make.from_transducer(**options, model_type=model_type)
        case "nemo_ctc":
            recogniser = make.from_nemo_ctc(**options)
        case _:
            recogniser = make.from_zipformer_ctc(**options)
    return SherpaEngine(recogniser, language)
