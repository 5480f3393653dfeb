"""What Deepgram's models can take: a table and nothing else.

Which languages a model has changes by the month and is left to Deepgram, which refuses the others by name.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.audio.convert import RAW_MEDIA_TYPES

__all__ = ["CALLER_PARAMS", "ModelFamily", "family_of"]

CALLER_PARAMS = frozenset(
    {
        "diarize",
        "diarize_model",
        "dictation",
        "filler_words",
        "measurements",
        "mip_opt_out",
        "multichannel",
        "numerals",
        "paragraphs",
        "profanity_filter",
        "punctuate",
        "redact",
        "replace",
        "smart_format",
        "tag",
        "utt_split",
        "utterances",
        "version",
    }
)
"""Deepgram's own parameters that callers may use: whatever they change in the answer finds a place in a transcript.
What has none there (summaries, topics, search hits …) needs the operator's leave."""

_MEDIA_TYPES = (
    "audio/aac", "audio/aiff", "audio/amr", "audio/basic", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg",
    "audio/wav", "audio/webm", "audio/x-caf", "audio/x-ms-wma", *RAW_MEDIA_TYPES.values(),
)  # fmt: skip
_FORMATS = (
    ResponseFormat.RESPONSE_FORMAT_JSON,
    ResponseFormat.RESPONSE_FORMAT_TEXT,
    ResponseFormat.RESPONSE_FORMAT_SRT,
    ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
    ResponseFormat.RESPONSE_FORMAT_VTT,
    ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
)
_GRANULARITIES = (
    TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
    TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
)


@dataclass(frozen=True)
class ModelFamily:
    """Models that take the same parameters."""

    vocabulary: str | None = "keyterm"
    """The parameter for terms to favour."""
    detects_language: bool = False
    """It can find out which of several languages is spoken. Those that cannot take the speech for English."""
    language_hints: bool = False
    """It takes `language_hint` along with `language=multi`."""
    speakers: tuple[str, str] = ("diarize_model", "latest")
    """The parameter that asks for speakers, and its value."""

    @cached_property
    def options(self) -> frozenset[str]:
        """Options it takes from callers: those of the API by their REST names, then Deepgram's own."""
        # Times come with every answer, and how long audio is cut is Deepgram's decision in any case.
        options = CALLER_PARAMS | {"language", "timestamp_granularities", "chunking_strategy"}
        if self.vocabulary is not None:
            options |= {"keywords", self.vocabulary}
        if self.detects_language:
            options |= {"languages", "detect_language"}
        if self.language_hints:
            options |= {"language_hint"}
        return options

    def capabilities(self, *, max_audio_bytes: int, options: frozenset[str]) -> ModelCapabilities:
        """The API's own message.

        Args:
            max_audio_bytes: Largest recording in bytes, 0 if not known.
            options: What callers may use.
        """
        return ModelCapabilities(
            response_formats=_FORMATS,
            timestamp_granularities=_GRANULARITIES,
            diarization=True,
            max_audio_bytes=max_audio_bytes,
            media_types=_MEDIA_TYPES,
            options=sorted(options),
        )


_NAME = re.compile(r"(nova-3|nova-2|nova|enhanced|base|whisper)(?:-(.+))?")


def family_of(model: str) -> ModelFamily:
    """The family of a model, by Deepgram's name of it; one of another name is taken for a new or custom one."""
    match = _NAME.fullmatch(model)
    if match is None:
        return ModelFamily(speakers=("diarize", "true"))
    name, variant = match.groups()
    if name == "whisper":
        return ModelFamily(vocabulary=None, detects_language=True, speakers=("diarize", "true"))
    # What is made for one trade (medical, phonecall …) is made for one language.
    general = variant in {None, "general"}
    return ModelFamily(
        vocabulary="keyterm" if name == "nova-3" else "keywords",
        detects_language=general,
        language_hints=general and name == "nova-3",
    )
