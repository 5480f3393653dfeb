"""Where turns begin and end."""

import math
import random
from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.audio.voice import (
    Detector,
    ManualTurns,
    TurnBegan,
    TurnEnded,
    TurnEvent,
    TurnSamples,
    VoiceActivity,
)

RATE = 16_000


def tone(seconds: float, loud: float = 9000, rate: int = RATE) -> bytes:
    return array("h", [round(loud * math.sin(0.3 * at)) for at in range(round(seconds * rate))]).tobytes()


def noise(seconds: float, loud: float, seed: int = 1) -> bytes:
    chance = random.Random(seed)
    return array("h", [round(chance.gauss(0, loud)) for _ in range(round(seconds * RATE))]).tobytes()


def quiet(seconds: float, rate: int = RATE) -> bytes:
    return bytes(2 * round(seconds * rate))


def mixed(one: bytes, other: bytes) -> bytes:
    return array(
        "h", [max(-32768, min(32767, a + b)) for a, b in zip(array("h", one), array("h", other), strict=True)]
    ).tobytes()


def turns(detector: Detector, *pieces: bytes, size: int = 640) -> list[tuple[float, float, bytes]]:
    """Start, end of speech and samples of every turn."""
    events: list[TurnEvent] = []
    for piece in pieces:
        for at in range(0, len(piece), size):
            events += detector.feed(piece[at : at + size])
    events += detector.commit()
    found: list[tuple[float, float, bytes]] = []
    start, pcm = 0.0, b""
    for event in events:
        match event:
            case TurnBegan():
                start, pcm = event.start, b""
            case TurnSamples():
                pcm += event.pcm
            case TurnEnded():
                found.append((start, event.end, pcm))
    return found


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_speech_between_pauses(rate: int):
    detector = VoiceActivity(rate)
    found = turns(detector, quiet(1, rate), tone(0.5, rate=rate), quiet(1, rate), tone(0.3, rate=rate), quiet(1, rate))
    assert [start for start, _, _ in found] == pytest.approx([0.7, 2.2], abs=0.03)
    assert [end for _, end, _ in found] == pytest.approx([1.5, 2.8], abs=0.03)
    assert [len(pcm) / 2 / rate for _, _, pcm in found] == pytest.approx([1.3, 1.1], abs=0.04)
    assert detector.position == pytest.approx(3.8)


def test_the_parameters():
    sound = [quiet(1), tone(0.5), quiet(0.4), tone(0.5), quiet(3)]
    assert len(turns(VoiceActivity(RATE, silence_seconds=0.5), *sound)) == 1
    assert len(turns(VoiceActivity(RATE, silence_seconds=0.3), *sound)) == 2
    assert turns(VoiceActivity(RATE, prefix_seconds=0), *sound)[0][0] == pytest.approx(1, abs=0.03)
    assert turns(VoiceActivity(RATE, prefix_seconds=0.8), *sound)[0][0] == pytest.approx(0.2, abs=0.03)
    faint = [quiet(1), tone(0.5), quiet(1), tone(0.5, 60), quiet(1)]
    assert len(turns(VoiceActivity(RATE, threshold=0.2), *faint)) == 2
    assert len(turns(VoiceActivity(RATE, threshold=0.9), *faint)) == 1


def test_a_click_is_no_speech():
    assert not turns(VoiceActivity(RATE), quiet(1), tone(0.03), quiet(1), tone(0.02), quiet(1))


@pytest.mark.parametrize("loud", [10, 100, 500])
def test_speech_in_steady_noise(loud: float):
    """The noise is learnt within some seconds, whatever it is called until then."""
    speech = quiet(10) + tone(1) + quiet(2) + tone(1) + quiet(2)
    found = turns(VoiceActivity(RATE), mixed(speech, noise(16, loud)))
    assert [start for start, _, _ in found if start > 9] == pytest.approx([9.7, 12.7], abs=0.1)
    assert [end for _, end, _ in found if end > 9] == pytest.approx([11, 14], abs=0.1)


def test_a_turn_without_a_pause_ends_at_the_limit_and_at_shorter_pauses_before():
    endless = turns(VoiceActivity(RATE, longest_seconds=4), (tone(0.18) + quiet(0.02)) * 50)
    assert [len(pcm) / 32_000 for _, _, pcm in endless] == pytest.approx([4, 4, 2], abs=0.1)
    breathing = (tone(0.8) + quiet(0.2)) * 10
    found = turns(VoiceActivity(RATE, longest_seconds=4), breathing)
    # Every turn but the last ends where somebody breathes, not in the middle of a word.
    assert len(found) > 1
    assert all(end % 1 == pytest.approx(0.8, abs=0.05) for _, end, _ in found[:-1])


PIECES = st.lists(
    st.one_of(
        st.floats(0.02, 1).map(tone), st.floats(0.02, 1.5).map(quiet), st.floats(0.02, 1).map(lambda s: noise(s, 300))
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(PIECES, st.integers(1, 5000), st.booleans())
def test_how_the_samples_are_cut_changes_nothing_and_no_sample_comes_twice(
    pieces: list[bytes], size: int, manual: bool
):
    sound = b"".join(pieces)

    def make() -> Detector:
        return ManualTurns(RATE) if manual else VoiceActivity(RATE, longest_seconds=2)

    found = turns(make(), sound)
    assert turns(make(), sound, size=2 * size) == found
    for start, end, pcm in found:
        first = round(start * RATE) * 2
        assert sound[first : first + len(pcm)] == pcm
        assert start <= end <= start + len(pcm) / 2 / RATE + 1e-9
    for (start, _, pcm), (following, _, _) in pairwise(found):
        assert start + len(pcm) / 2 / RATE <= following + 1e-9
    if manual:
        assert b"".join(pcm for _, _, pcm in found) == sound


def test_a_steady_tone_becomes_background():
    """It is no speech, however loud: otherwise a machine's hum would be one turn after the other."""
    assert sum(len(pcm) for _, _, pcm in turns(VoiceActivity(RATE), tone(60))) < 32_000 * 10


def test_commit_and_clear():
    detector = VoiceActivity(RATE)
    assert not list(detector.commit())
    list(detector.feed(quiet(0.5) + tone(0.31)))
    assert detector.in_turn
    ended = [event for event in detector.commit() if isinstance(event, TurnEnded)]
    assert ended[0].end == pytest.approx(0.81, abs=0.001)
    assert not detector.in_turn
    list(detector.feed(tone(0.5)))
    assert detector.in_turn
    detector.clear()
    assert not detector.in_turn
    assert not list(detector.feed(quiet(2)))
    assert detector.silence == pytest.approx(2, abs=0.1)
