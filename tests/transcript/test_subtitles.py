"""Subtitles against golden files, against two parsers of other people's, and against any transcript at all."""

import itertools
import math
import re
from pathlib import Path

import pysubs2
import pytest
import webvtt
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.errors import UnsupportedParameter
from voxgate_server.transcript.subtitles import MAX_CUE_CHARACTERS, MAX_CUE_SECONDS, Cue, cues, srt, vtt

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["segments", "words", "speakers"])
@pytest.mark.parametrize(("suffix", "write"), [("srt", srt), ("vtt", vtt)])
def test_golden_files(name: str, suffix: str, write: object) -> None:
    transcription = text_format.Parse((GOLDEN / f"{name}.txtpb").read_text(), Transcription())
    assert callable(write)
    assert write(transcription) == (GOLDEN / f"{name}.{suffix}").read_text()


seconds = st.floats(0, 400_000, allow_nan=False) | st.sampled_from([0.0, 0.0004, 1.0, 1.0, 7.0, 8.0])
words_of_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from([
    "-->", "--->", "<i>", "&amp;", "12", "00:00:01,000 --> 00:00:02,000", "WEBVTT", "NOTE", "end.",
    "\u4f60\u597d\u3002",
])  # fmt: skip


@st.composite
def running_text(draw: st.DrawFn) -> Transcription:
    """A transcript as providers give it: in order, with pauses, in words or segments or both."""
    transcription = Transcription()
    now = draw(st.sampled_from([0.0, 3590.0]))
    segments: list[list[tuple[str, float, float]]] = [[]]
    for text in draw(st.lists(words_of_text, min_size=1, max_size=40)):
        start = now + draw(st.sampled_from([0.0, 0.0, 0.1, 0.69, 0.7, 3.0]))
        now = start + draw(st.sampled_from([0.0, 0.05, 0.3, 1.0, 9.0]))
        segments[-1].append((text, start, now))
        if draw(st.booleans()):
            segments.append([])
    kinds = draw(st.sampled_from(["words", "segments", "both", "speakers"]))
    for segment in filter(None, segments):
        text, start, end = " ".join(word for word, _, _ in segment), segment[0][1], segment[-1][2]
        if kinds in ("segments", "both"):
            transcription.segments.add(text=text, start=start, end=end)
        elif kinds == "speakers":
            transcription.diarized_segments.add(text=text, start=start, end=end, speaker="A")
        if kinds in ("words", "both"):
            for word, first, last in segment:
                transcription.words.add(word=word, start=first, end=last)
    transcription.text = " ".join(word for segment in segments for word, _, _ in segment)
    return transcription


@st.composite
def garbage(draw: st.DrawFn) -> Transcription:
    """Times in any order, empty texts, words that are not in the text."""
    transcription = Transcription(text=draw(st.text(max_size=40)))
    times = seconds | st.sampled_from([math.nan, math.inf, -math.inf, -5.0, 1e300])
    pieces = st.lists(st.tuples(words_of_text | st.text(" \n\x00", max_size=3), times, times), max_size=12)
    for text, start, end in draw(pieces):
        transcription.words.add(word=text, start=start, end=end)
    for text, start, end in draw(pieces):
        transcription.segments.add(text=text * draw(st.sampled_from([1, 20])), start=start, end=end)
    return transcription


def solid(text: str) -> str:
    """A text without what a cue may not have: white space, control characters, arrows."""
    text = "".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return re.sub(r"-{2,}>", "->", text)


def check(result: list[Cue]) -> None:
    for cue in result:
        assert 0 <= cue.start < cue.end <= cue.start + MAX_CUE_SECONDS * 1000
        assert cue.text == " ".join(cue.text.split()) != ""
        assert "-->" not in cue.text
    for before, after in itertools.pairwise(result):
        assert before.end <= after.start


@given(transcription=running_text())
def test_every_word_in_order_and_every_cue_fits(transcription: Transcription) -> None:
    result = cues(transcription)
    check(result)
    texts = [cue.text for cue in result]
    assert solid("".join(texts)) == solid(transcription.text)
    for text in texts:
        longest = max(len(word) for word in text.split(" "))
        assert len(text) <= MAX_CUE_CHARACTERS or len(text) == longest or " --> " in transcription.text


@given(transcription=garbage())
@example(Transcription(words=[{"word": " "}]))
@example(Transcription(segments=[{"text": "a", "start": 5, "end": 2}, {"text": "b", "start": 1, "end": 1}]))
def test_any_times_make_valid_cues(transcription: Transcription) -> None:
    if transcription.words or any(segment.text.strip() for segment in transcription.segments):
        check(cues(transcription))
    elif transcription.text.strip():
        with pytest.raises(UnsupportedParameter):
            cues(transcription)
    else:
        assert cues(transcription) == []


@given(transcription=running_text())
def test_other_parsers_read_the_same_cues(transcription: Transcription) -> None:
    expected = cues(transcription)
    captions = webvtt.from_string(vtt(transcription)).captions
    assert [(caption.start_in_seconds, caption.end_in_seconds) for caption in captions] == [
        (cue.start // 1000, cue.end // 1000) for cue in expected
    ]
    assert [caption.raw_text.replace("&lt;", "<").replace("&amp;", "&") for caption in captions] == [
        cue.text for cue in expected
    ]
    # pysubs2 takes a cue of digits for the number of the next one, and two times on a line for a time line, whatever
    # stands between them. SubRip has no way to escape either.
    if not any(cue.text.isdigit() or "00:00:01,000" in cue.text for cue in expected):
        events = pysubs2.SSAFile.from_string(srt(transcription), format_="srt", keep_unknown_html_tags=True)
        assert [(event.start, event.end) for event in events] == [(cue.start, cue.end) for cue in expected]


def test_nothing_said_is_no_cue() -> None:
    for transcription in (Transcription(), Transcription(text=" \n", duration=3)):
        assert srt(transcription) == ""
        assert vtt(transcription) == "WEBVTT\n\n"


def test_without_times_there_are_no_subtitles() -> None:
    for write in (srt, vtt):
        with pytest.raises(UnsupportedParameter, match="no times") as raised:
            write(Transcription(text="Hello.", duration=4))
        assert raised.value.param == "response_format"


def test_segments_without_text_leave_the_words() -> None:
    transcription = Transcription(words=[{"word": "a", "start": 1, "end": 2}], segments=[{"text": " ", "end": 9}])
    assert cues(transcription) == [Cue(1000, 2000, "a")]


def test_a_change_of_speaker_parts_words() -> None:
    transcription = Transcription(
        words=[
            {"word": "yes", "start": 0, "end": 1, "speaker": "A"},
            {"word": "no", "start": 1, "end": 2, "speaker": "B"},
        ]
    )
    assert [cue.text for cue in cues(transcription)] == ["yes", "no"]


def test_a_long_segment_without_words_is_parted_by_the_length_of_its_text() -> None:
    transcription = Transcription(segments=[{"text": "aaaa bbbb cccc dddd.", "start": 10, "end": 30}])
    assert cues(transcription) == [
        Cue(10_000, 15_000, "aaaa"),
        Cue(15_000, 20_000, "bbbb"),
        Cue(20_000, 25_000, "cccc"),
        Cue(25_000, 30_000, "dddd."),
    ]
