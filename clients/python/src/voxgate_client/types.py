"""The messages of the API under one roof, so that nobody has to know which generated file has which."""

from voxgate.transcription.v1.config_pb2 import Include, ResponseFormat, RouteTarget, TimestampGranularity
from voxgate.transcription.v1.error_reason_pb2 import ErrorReason
from voxgate.transcription.v1.events_pb2 import StreamReset, TextDelta, TextDone, TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import ExtraFields, ProviderAttempt
from voxgate.transcription.v1.model_service_pb2 import Model, ModelCapabilities
from voxgate.transcription.v1.transcription_pb2 import (
    DetectedLanguage,
    DiarizedSegment,
    DurationUsage,
    InputTokenDetails,
    RenderedTranscript,
    TokenLogprob,
    TokenUsage,
    Transcription,
    TranscriptionSegment,
    TranscriptionWord,
    Usage,
)

__all__ = [
    "DetectedLanguage",
    "DiarizedSegment",
    "DurationUsage",
    "ErrorReason",
    "ExtraFields",
    "Include",
    "InputTokenDetails",
    "Model",
    "ModelCapabilities",
    "ProviderAttempt",
    "RenderedTranscript",
    "ResponseFormat",
    "RouteTarget",
    "StreamReset",
    "TextDelta",
    "TextDone",
    "TimestampGranularity",
    "TokenLogprob",
    "TokenUsage",
    "Transcription",
    "TranscriptionEvent",
    "TranscriptionSegment",
    "TranscriptionWord",
    "Usage",
]
