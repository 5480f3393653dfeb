"""The transcript as a text document."""

from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.transcription_pb2 import RenderedTranscript, Transcription

from voxgate_server.transcript.subtitles import srt, vtt

__all__ = ["SRT_MEDIA_TYPE", "TEXT_MEDIA_TYPE", "VTT_MEDIA_TYPE", "render"]

TEXT_MEDIA_TYPE = "text/plain; charset=utf-8"
# Not a text/* type, and its registration knows no charset; without it clients guess one, and guess wrong.
SRT_MEDIA_TYPE = "application/x-subrip; charset=utf-8"
VTT_MEDIA_TYPE = "text/vtt; charset=utf-8"


def render(transcription: Transcription, response_format: "ResponseFormat.ValueType") -> RenderedTranscript | None:
    """The document that `response_format` asks for; None for the JSON formats, which are no document.

    Raises:
        UnsupportedParameter: Subtitles were asked for and the provider gave no times.
    """
    if response_format == ResponseFormat.RESPONSE_FORMAT_TEXT:
        return RenderedTranscript(media_type=TEXT_MEDIA_TYPE, body=f"{transcription.text}\n")
    if response_format == ResponseFormat.RESPONSE_FORMAT_SRT:
        return RenderedTranscript(media_type=SRT_MEDIA_TYPE, body=srt(transcription))
    if response_format == ResponseFormat.RESPONSE_FORMAT_VTT:
        return RenderedTranscript(media_type=VTT_MEDIA_TYPE, body=vtt(transcription))
    return None
