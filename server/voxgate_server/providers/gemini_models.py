"""What Gemini models can take and give: a table and nothing else.

There are two kinds: models made for transcription, which have options of their own and answer with words and
speakers, and all others that hear, which are asked in plain words and answer with text or with JSON of a given schema.
"""

from collections.abc import Collection
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

__all__ = ["AI_STUDIO_MEDIA_TYPES", "VERTEX_MEDIA_TYPES", "GeminiFamily", "family_of"]

AI_STUDIO_MEDIA_TYPES = ("audio/aac", "audio/aiff", "audio/flac", "audio/mpeg", "audio/ogg", "audio/wav")
"""What the Gemini API documents; m4a and webm are not among it."""
VERTEX_MEDIA_TYPES = (
    "audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm",
)  # fmt: skip
"""What Vertex AI documents for the same models."""

_FORMATS = (
    ResponseFormat.RESPONSE_FORMAT_JSON,
    ResponseFormat.RESPONSE_FORMAT_TEXT,
    ResponseFormat.RESPONSE_FORMAT_SRT,
    ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
    ResponseFormat.RESPONSE_FORMAT_VTT,
    ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
)
_WORD = TimestampGranularity.TIMESTAMP_GRANULARITY_WORD
_SEGMENT = TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT


@dataclass(frozen=True, slots=True)
class GeminiFamily:
    """Models that can do the same."""

    dedicated: bool
    """Made for transcription."""
    options: frozenset[str]
    """Options it takes, by their REST names; of `chunking_strategy` only `auto`, which leaves it to Google."""
    granularities: tuple[TimestampGranularity.ValueType, ...]
    translation: bool
    max_audio_seconds: int
    """At AI Studio."""
    callers_params: frozenset[str] = frozenset()
    """Google's own parameters that every caller may use: they change the transcript and not who pays for what."""

    def capabilities(
        self,
        *,
        max_audio_bytes: int,
        max_audio_seconds: int | None,
        media_types: Collection[str],
        extra_params: frozenset[str],
    ) -> ModelCapabilities:
        """The same as the API's own message.

        Args:
            max_audio_bytes: Largest recording in bytes.
            max_audio_seconds: Longest recording in seconds; None means as at AI Studio.
            media_types: Media types the place takes.
            extra_params: Further options the operator permits.
        """
        return ModelCapabilities(
            response_formats=_FORMATS,
            timestamp_granularities=self.granularities,
            diarization=True,
            translation=self.translation,
            streaming=True,
            max_audio_duration=Duration(seconds=max_audio_seconds or self.max_audio_seconds),
            max_audio_bytes=max_audio_bytes,
            media_types=sorted(media_types),
            options=sorted(self.options | self.callers_params | extra_params),
            # The size decides between a recording inside the request and a file of its own.
            needs_length=True,
        )


_HINTS = frozenset({"chunking_strategy", "language", "languages", "keywords", "timestamp_granularities"})
_DEDICATED = GeminiFamily(
    dedicated=True,
    options=_HINTS,
    granularities=(_WORD, _SEGMENT),
    translation=False,
    max_audio_seconds=3600,
    callers_params=frozenset({"diarization", "mode", "wordTimestamp"}),
)
_GENERAL = GeminiFamily(
    dedicated=False,
    options=_HINTS | {"prompt", "temperature"},
    granularities=(_SEGMENT,),
    translation=True,
    max_audio_seconds=34_200,
)


def family_of(model: str) -> GeminiFamily:
    """The family of a model, by Google's name of it.

    Raises:
        ValueError: It is one for live speech, which `generateContent` does not know.
    """
    if "-live" in model:
        raise ValueError(f"{model[:80]} is a model for live speech only; for recordings there is gemini-3.5-transcribe")
    return _DEDICATED if "transcribe" in model else _GENERAL
