"""The transcript as such: segments, cues, documents."""

from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.transcription_pb2 import Transcription

__all__ = ["complete"]


def complete(transcription: Transcription, response_format: ResponseFormat.ValueType) -> None:
    """Placeholder"""
