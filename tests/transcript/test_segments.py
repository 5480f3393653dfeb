"""Words to segments and segments to text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1 import config_pb2 as pb
from voxgate.transcription.v1.transcription_pb2 import Transcription, TranscriptionSegment, TranscriptionWord
from voxgate_server.transcript.render import render
from voxgate_server.transcript.segments import segments_from_words
from voxgate_server.transcript.words import align, joined


def words(*texts: str, start: float = 0.0, step: float = 0.5) -> list[TranscriptionWord]:
    return [
        TranscriptionWord(word=text, start=start + index * step, end=start + (index + 1) * step)
        for index, text in enumerate(texts)
    ]


def test_sentences_and_pauses_part_segments() -> None:
    spoken = [*words("hello", "world", "how", "are", "you"), *words("fine", start=3.2)]
    segments = segments_from_words(spoken, "Hello, world. How are you? Fine.")
    assert segments == [
        TranscriptionSegment(id=0, start=0, end=1, text="Hello, world."),
        TranscriptionSegment(id=1, start=1, end=2.5, text="How are you?"),
        TranscriptionSegment(id=2, start=3.2, end=3.7, text="Fine."),
    ]
    assert [segment.text for segment in segments_from_words(spoken)] == ["hello world how are you", "fine"]


def test_a_pause_below_the_limit_does_not_part() -> None:
    for start, count in ((1.19, 1), (1.2, 2)):
        assert len(segments_from_words([*words("a"), *words("b", start=start)])) == count


def test_no_words_no_segments() -> None:
    assert segments_from_words([]) == []
    assert segments_from_words(words(" ", ""), "text") == []


@given(
    spoken=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), st.floats(0, 5), st.floats(0, 40)),
        max_size=60,
    ),
    keep_text=st.booleans(),
)
def test_no_word_is_lost_and_no_segment_runs_backwards(spoken: list[tuple[str, float, float]], keep_text: bool) -> None:
    now = 0.0
    timed = []
    for text, pause, length in spoken:
        start = now + pause
        now = start + length
        timed.append(TranscriptionWord(word=text, start=start, end=now))
    text = " ".join(text for text, _, _ in spoken) if keep_text else ""
    segments = segments_from_words(timed, text)
    assert "".join("".join(segment.text.split()) for segment in segments) == "".join(
        "".join(text.split()) for text, _, _ in spoken
    )
    assert [segment.id for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert segment.start <= segment.end
        alone = any(word.start == segment.start and word.end == segment.end for word in timed)
        assert segment.end - segment.start <= 30 or alone
    for before, after in itertools.pairwise(segments):
        assert before.end <= after.start


@pytest.mark.parametrize(
    ("text", "spoken", "pieces"),
    [
        ("Well-known, \u201cyes\u201d!", ["well", "known", "yes"], ["Well-", "known, ", "\u201cyes\u201d!"]),
        ("(one) two", ["one", "two"], ["(one) ", "two"]),
        ("\u4f60\u597d\u3002\u4e16\u754c", ["\u4f60\u597d", "\u4e16\u754c"], ["\u4f60\u597d\u3002", "\u4e16\u754c"]),
        ("one extra two", ["one", "two"], None),
        ("one two", ["one", "two", "three"], None),
        ("one two three", ["one", "two"], None),
        ("what a day", ["a", "day"], None),
        ("20", ["twenty"], None),
        ("anything", [], None),
    ],
)
def test_alignment_is_exact_or_none(text: str, spoken: list[str], pieces: list[str] | None) -> None:
    aligned = align(words(*spoken), text)
    assert (aligned and [piece.text for piece in aligned]) == pieces


def test_documents_of_every_format() -> None:
    transcription = Transcription(text="Hi.", segments=[{"text": "Hi.", "start": 1, "end": 2.5}])
    documents = {
        pb.RESPONSE_FORMAT_TEXT: ("text/plain; charset=utf-8", "Hi.\n"),
        pb.RESPONSE_FORMAT_SRT: ("application/x-subrip; charset=utf-8", "1\n00:00:01,000 --> 00:00:02,500\nHi.\n"),
        pb.RESPONSE_FORMAT_VTT: ("text/vtt; charset=utf-8", "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nHi.\n"),
    }
    for response_format in pb.ResponseFormat.values():
        rendered = render(transcription, response_format)
        assert (rendered and (rendered.media_type, rendered.body)) == documents.get(response_format)


def test_texts_are_joined_as_their_script_is() -> None:
    assert joined([" Hello.", " ", " World. "]) == "Hello. World."
    assert joined(["\u4f60\u597d\u3002", "\u4e16\u754c"]) == "\u4f60\u597d\u3002\u4e16\u754c"
    assert joined([]) == ""
