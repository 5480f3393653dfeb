"""What a provider left out and we can make, for all providers alike."""

from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.transcript.render import render
from voxgate_server.transcript.segments import segments_from_words

__all__ = ["complete"]


def complete(transcription: Transcription, response_format: ResponseFormat.ValueType) -> None:
    """Makes segments from words where there are none, and the document where one was asked for.

    Raises:
        UnsupportedParameter: Subtitles were asked for and the provider gave no times.
    """
    if transcription.words and not transcription.segments and not transcription.diarized_segments:
        transcription.segments.extend(segments_from_words(transcription.words, transcription.text))
        transcription.extra_fields.synthesized_fields.append("segments")
    document = render(transcription, response_format)
    if document is not None:
        transcription.rendered.CopyFrom(document)
