"""What the models of OpenAI's transcription API can take and give: a table and nothing else.

Where a model is none of OpenAI's, the server is taken to be compatible in the way nearly all are: like whisper.
"""

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

__all__ = ["TRANSLATION_OPTIONS", "ModelFamily", "family_of"]

_JSON = ResponseFormat.RESPONSE_FORMAT_JSON
_TEXT = ResponseFormat.RESPONSE_FORMAT_TEXT
_SRT = ResponseFormat.RESPONSE_FORMAT_SRT
_VERBOSE_JSON = ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON
_VTT = ResponseFormat.RESPONSE_FORMAT_VTT
_DIARIZED_JSON = ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
_WORD = TimestampGranularity.TIMESTAMP_GRANULARITY_WORD
_SEGMENT = TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT

_COMMON = frozenset({"language", "temperature", "chunking_strategy"})

TRANSLATION_OPTIONS = frozenset({"prompt", "temperature"})
"""The options `/audio/translations` knows, by their REST names."""


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """Models whose names begin alike and which can do the same."""

    prefix: str
    formats: tuple[ResponseFormat.ValueType, ...]
    """Formats a caller can have: the model's own, and text, srt and vtt where they can be rendered from them."""
    options: frozenset[str]
    """Options it takes, by their REST names."""
    granularities: tuple[TimestampGranularity.ValueType, ...] = ()
    diarization: bool = False
    translation: bool = False
    max_audio_seconds: int | None = None

    def capabilities(
        self, *, max_audio_bytes: int, media_types: tuple[str, ...], extra_params: frozenset[str]
    ) -> ModelCapabilities:
        """The same as the API's own message.

        Args:
            max_audio_bytes: Largest recording in bytes, 0 if not known.
            media_types: Media types the server takes, empty if not known.
            extra_params: Further options the operator permits.
        """
        return ModelCapabilities(
            response_formats=self.formats,
            timestamp_granularities=self.granularities,
            diarization=self.diarization,
            logprobs="include" in self.options,
            translation=self.translation,
            max_audio_duration=None if self.max_audio_seconds is None else Duration(seconds=self.max_audio_seconds),
            max_audio_bytes=max_audio_bytes,
            media_types=media_types,
            options=sorted(self.options | extra_params),
        )


_WHISPER_FORMATS = (_JSON, _TEXT, _SRT, _VERBOSE_JSON, _VTT)
_WHISPER_OPTIONS = _COMMON | {"prompt", "timestamp_granularities"}
_FOUR_O_OPTIONS = _COMMON | {"prompt", "include"}

_FAMILIES = (
    # The first prefix that fits decides: longer ones stand before shorter ones.
    ModelFamily(
        "gpt-4o-transcribe-diarize",
        (_JSON, _TEXT, _DIARIZED_JSON),
        _COMMON | {"known_speaker_names"},
        diarization=True,
        max_audio_seconds=1400,
    ),
    ModelFamily("gpt-4o-transcribe", (_JSON, _TEXT), _FOUR_O_OPTIONS, max_audio_seconds=1500),
    ModelFamily("gpt-4o-mini-transcribe", (_JSON, _TEXT), _FOUR_O_OPTIONS, max_audio_seconds=1500),
    ModelFamily("gpt-transcribe", (_JSON, _TEXT), _COMMON | {"prompt", "languages", "keywords"}),
    ModelFamily("whisper-", _WHISPER_FORMATS, _WHISPER_OPTIONS, (_WORD, _SEGMENT), translation=True),
    ModelFamily("", _WHISPER_FORMATS, _WHISPER_OPTIONS, (_WORD, _SEGMENT), translation=True),
)


def family_of(model: str) -> ModelFamily:
    """The family of a model, by the provider's name of it; models of nobody's are taken for whispers."""
    return next(family for family in _FAMILIES if model.startswith(family.prefix))
