"""What a provider left out and we can make, for all providers alike. What was made up is named in `synthesized_fields`.

The caller's own words and what we have measured ourselves are not made up: a language the caller stated, or a length
the packets of the recording have, is filled in where the provider did not say it.
"""

from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription, TranscriptionSegment

from voxgate_server.transcript.render import render
from voxgate_server.transcript.segments import segments_from_words, speakers_from_words

__all__ = ["complete"]

_TOLERATED_SECONDS = 10.0
"""A provider's length of the recording may differ from ours by this much besides a factor of two."""


def complete(transcription: Transcription, config: TranscriptionConfig, seconds: float | None = None) -> None:
    """Fills in what is missing, and renders the document where one was asked for.

    - the length, also in place of one that cannot be true;
    - segments from words, or from what each speaker said;
    - what each speaker said from words with speakers.

    Args:
        transcription: The provider's answer.
        config: What the caller wants.
        seconds: Length of the recording as we measured it; None when unknown.

    Raises:
        UnsupportedParameter: Subtitles were asked for and the provider gave no times.
    """
    synthesized = transcription.extra_fields.synthesized_fields
    if seconds is not None and not _plausible(transcription, seconds):
        transcription.duration = seconds
    if config.language and not transcription.HasField("language") and not transcription.languages:
        transcription.language = config.language
    diarized = config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
    if diarized and not transcription.diarized_segments and any(word.speaker for word in transcription.words):
        transcription.diarized_segments.extend(speakers_from_words(transcription.words, transcription.text))
        synthesized.append("segments")
    if not transcription.segments and transcription.words and not transcription.diarized_segments:
        transcription.segments.extend(segments_from_words(transcription.words, transcription.text))
        synthesized.append("segments")
    if not transcription.segments and transcription.diarized_segments and not diarized:
        transcription.segments.extend(
            TranscriptionSegment(id=number, start=one.start, end=one.end, text=one.text)
            for number, one in enumerate(transcription.diarized_segments)
        )
        synthesized.append("segments")
    if (covered := _coverage(transcription)) is not None:
        transcription.extra_fields.coverage = covered
    document = render(transcription, config.response_format)
    if document is not None:
        transcription.rendered.CopyFrom(document)


def _coverage(transcription: Transcription) -> float | None:
    """How much of the recording the transcript reaches, 0 to 1; None without times or length."""
    timed = (transcription.words, transcription.segments, transcription.diarized_segments)
    ends = [stretch[-1].end for stretch in timed if stretch]
    return min(max(ends) / transcription.duration, 1.0) if ends and transcription.duration > 0 else None


def _plausible(transcription: Transcription, seconds: float) -> bool:
    if not transcription.HasField("duration"):
        return False
    given = transcription.duration
    return given <= 2 * seconds + _TOLERATED_SECONDS and seconds <= 2 * given + _TOLERATED_SECONDS
