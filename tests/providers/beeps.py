"""Recordings whose every word is a beep of its own pitch, and somebody who understands them.

So a test can tell which words were heard, and when, whatever was done to the recording on the way.
"""

from __future__ import annotations

import io
import itertools
import math
import wave
from array import array

from tests.providers.vertex_emulator import Heard

RATE = 16_000
_FRAME = RATE // 100
_BEEP = 0.4
_LOUD = 1000
_LOWEST, _STEP, _WORDS = 300, 25, 80


def spoken(count: int, *, gap: float = 0.25, pause: float = 0.6) -> tuple[bytes, Heard]:
    """Samples (16 kHz, mono, signed 16 bit) of so many words, a pause after every tenth, and what is said when."""
    samples = array("h")
    heard: Heard = []
    for number in range(count):
        samples.extend([0] * round(RATE * (pause if number and number % 10 == 0 else gap)))
        start = len(samples) / RATE
        pitch = _LOWEST + _STEP * (number % _WORDS)
        samples.extend(_beep(pitch))
        heard.append((f"w{number % _WORDS}", start, len(samples) / RATE))
    samples.extend([0] * (RATE // 5))
    return samples.tobytes(), heard


def hears(pcm: bytes) -> Heard:
    """What is said in such samples."""
    samples = array("h", pcm)
    loud = [max(samples[at : at + _FRAME], default=0) > _LOUD for at in range(0, len(samples), _FRAME)]
    heard: Heard = []
    start = None
    for frame, is_loud in enumerate([*loud, False]):
        if is_loud and start is None:
            start = frame
        elif not is_loud and start is not None:
            if frame - start > 10:
                heard.append((_word(samples[start * _FRAME : frame * _FRAME]), start / 100, frame / 100))
            start = None
    return heard


def wav(pcm: bytes, *, channels: int = 1) -> bytes:
    """The samples in a WAV file; with two channels every other second is in the second one only."""
    if channels == 2:
        left, right = array("h"), array("h")
        for second, at in enumerate(range(0, len(pcm), 2 * RATE)):
            part = array("h", pcm[at : at + 2 * RATE])
            silence = array("h", bytes(2 * len(part)))
            (left if second % 2 else right).extend(part)
            (right if second % 2 else left).extend(silence)
        both = array("h", bytes(4 * len(left)))
        both[::2], both[1::2] = left, right
        pcm = both.tobytes()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return out.getvalue()


_beeps: dict[int, array[int]] = {}


def _beep(pitch: int) -> array[int]:
    if pitch not in _beeps:
        step = 2 * math.pi * pitch / RATE
        _beeps[pitch] = array("h", [round(9000 * math.sin(step * at)) for at in range(round(_BEEP * RATE))])
    return _beeps[pitch]


def _word(samples: array[int]) -> str:
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    crossings = sum((left < 0) != (right < 0) for left, right in itertools.pairwise(middle))
    return f"w{round((crossings * RATE / 2 / len(middle) - _LOWEST) / _STEP)}"
