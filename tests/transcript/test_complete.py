"""What a provider left out and we fill in, and what is said of it."""

import pytest
from voxgate.transcription.v1 import config_pb2 as pb
from voxgate.transcription.v1.transcription_pb2 import DiarizedSegment, Transcription, TranscriptionWord
from voxgate_server.transcript import complete

WORDS = [
    TranscriptionWord(word="good", start=0.0, end=0.4, speaker="A"),
    TranscriptionWord(word="morning", start=0.4, end=0.9, speaker="A"),
    TranscriptionWord(word="hello", start=1.0, end=1.4, speaker="B"),
]


def config(wanted: str = "JSON", **options: object) -> pb.TranscriptionConfig:
    return pb.TranscriptionConfig(
        model="m", response_format=pb.ResponseFormat.Value(f"RESPONSE_FORMAT_{wanted}"), **options
    )


def synthesized(transcription: Transcription) -> list[str]:
    return list(transcription.extra_fields.synthesized_fields)


def test_speakers_from_words() -> None:
    said = Transcription(text="Good morning. Hello!", words=WORDS)
    complete(said, config("DIARIZED_JSON"))
    assert [(one.id, one.speaker, one.start, one.end, one.text) for one in said.diarized_segments] == [
        ("seg_001", "A", 0.0, 0.9, "Good morning."),
        ("seg_002", "B", 1.0, 1.4, "Hello!"),
    ]
    assert synthesized(said) == ["segments"]


def test_a_word_without_a_speaker_is_the_one_befores() -> None:
    said = Transcription(text="a b", words=[WORDS[0], TranscriptionWord(word="b", start=0.5, end=0.6), WORDS[2]])
    complete(said, config("DIARIZED_JSON"))
    assert [(one.speaker, one.text) for one in said.diarized_segments] == [("A", "good b"), ("B", "hello")]


def test_words_without_speakers_make_no_speakers() -> None:
    said = Transcription(text="b", words=[TranscriptionWord(word="b", start=0.5, end=0.6)])
    complete(said, config("DIARIZED_JSON"))
    assert not said.diarized_segments
    assert [one.text for one in said.segments] == ["b"]


def test_segments_from_what_each_speaker_said() -> None:
    said = Transcription(text="hi", diarized_segments=[DiarizedSegment(id="x", speaker="A", start=1, end=2, text="hi")])
    complete(said, config("VERBOSE_JSON"))
    assert [(one.id, one.start, one.end, one.text) for one in said.segments] == [(0, 1.0, 2.0, "hi")]
    assert synthesized(said) == ["segments"]


def test_segments_of_the_provider_stay() -> None:
    said = Transcription(text="hi", words=WORDS)
    said.segments.add(id=7, text="its own")
    complete(said, config("VERBOSE_JSON"))
    assert [one.id for one in said.segments] == [7]
    assert not synthesized(said)


@pytest.mark.parametrize(
    ("given", "measured", "told"),
    [(None, 3.0, 3.0), (None, None, None), (4.0, 3.0, 4.0), (3600.0, 3.0, 3.0), (0.0, 300.0, 300.0), (9.0, None, 9.0)],
)
def test_the_length(given: float | None, measured: float | None, told: float | None) -> None:
    said = Transcription(text="hi")
    if given is not None:
        said.duration = given
    complete(said, config(), measured)
    assert (said.duration if said.HasField("duration") else None) == told
    assert not synthesized(said)


def test_the_callers_language() -> None:
    said = Transcription(text="hi")
    complete(said, config(language="de"))
    assert said.language == "de"
    heard = Transcription(text="hi", language="german")
    complete(heard, config(language="de"))
    assert heard.language == "german"


@pytest.mark.parametrize(("seconds", "share"), [(None, None), (1.4, 1.0), (2.8, 0.5), (1.0, 1.0)])
def test_how_much_of_the_recording_is_covered(seconds: float | None, share: float | None) -> None:
    said = Transcription(text="Good morning. Hello!", words=WORDS)
    complete(said, config(), seconds)
    extra = said.extra_fields
    assert (extra.coverage if extra.HasField("coverage") else None) == share


def test_text_without_times_covers_nobody_knows_what() -> None:
    said = Transcription(text="hi")
    complete(said, config(), 3.0)
    assert not said.extra_fields.HasField("coverage")
