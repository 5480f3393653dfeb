"""What a caller wants and what an operator configured, as Riva's RecognitionConfig."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig

from voxgate_server.providers.extra_params import caller_params
from voxgate_server.providers.options import accepted_options, language_hints
from voxgate_server.providers.riva.riva_asr_pb2 import RecognitionConfig, SpeechContext
from voxgate_server.providers.riva.samples import SampleFormat

__all__ = ["OPTIONS", "RivaSettings", "recognition_config"]

OPTIONS = frozenset({"language", "keywords", "timestamp_granularities"})
"""The options Riva takes, by their REST names."""

_REGIONS = {
    "ar": "ar-AR", "cs": "cs-CZ", "da": "da-DK", "de": "de-DE", "en": "en-US", "es": "es-US", "fr": "fr-FR",
    "he": "he-IL", "hi": "hi-IN", "it": "it-IT", "ja": "ja-JP", "ko": "ko-KR", "nl": "nl-NL", "no": "nb-NO",
    "pl": "pl-PL", "pt": "pt-BR", "ru": "ru-RU", "sv": "sv-SE", "th": "th-TH", "tr": "tr-TR", "zh": "zh-CN",
}  # fmt: skip
"""Riva's models are made for a country's variant of a language; callers seldom name one."""


@dataclass(frozen=True, slots=True)
class RivaSettings:
    """The operator's settings of one deployment: further keys of its `litellm_params`."""

    offline: bool = False
    """Send the whole recording in one message, for models that do not recognise streams."""
    language_code: str = "en-US"
    """Where the caller names no language, or not which country's. `multi` for models that find it out."""
    boost: float = 20.0
    """How much keywords are favoured."""
    max_speaker_count: int = 0
    """0: as the server has it."""
    profanity_filter: bool = False
    verbatim_transcripts: bool = False
    custom: Mapping[str, str] = field(default_factory=dict)
    """Everything else, as `custom_configuration`."""

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Self:
        """The settings out of keys that LiteLLM has no meaning for.

        Raises:
            ValueError: One has the wrong type; the message names it.
        """
        own: dict[str, Any] = {}
        custom: dict[str, str] = {}
        for name, value in params.items():
            kind = _TYPES.get(name)
            if kind is None:
                custom[name] = _text(value)
            elif isinstance(value, bool) != (kind is bool) or not isinstance(value, (kind, int)):
                raise ValueError(f"{name} of nvidia_riva must be {_KINDS[kind]}")
            else:
                own[name] = kind(value)
        return cls(**own, custom=custom)


_TYPES: Mapping[str, type] = {
    "offline": bool, "language_code": str, "boost": float, "max_speaker_count": int, "profanity_filter": bool,
    "verbatim_transcripts": bool,
}  # fmt: skip
_KINDS: Mapping[type, str] = {bool: "true or false", str: "a text", float: "a number", int: "a whole number"}


def recognition_config(
    config: TranscriptionConfig,
    form: SampleFormat,
    settings: RivaSettings,
    *,
    model: str,
    extra_params: frozenset[str],
    dropped: list[str] | None,
    who: str,
) -> RecognitionConfig:
    """How Riva is asked to recognise.

    Args:
        config: What the caller wants.
        form: What the audio is.
        settings: The operator's.
        model: By the server's name; empty lets it choose.
        extra_params: Names callers may use in `extra_params`; they go into `custom_configuration`.
        dropped: Takes the REST names of options Riva cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: It cannot do what an option asks for.
    """
    accepted = accepted_options(config, OPTIONS | extra_params, dropped=dropped, who=who)
    result = RecognitionConfig(
        encoding=form.encoding,
        sample_rate_hertz=form.sample_rate,
        audio_channel_count=form.sent_channels,
        language_code=_language_code(language_hints(config, takes_several=False)[0], settings.language_code),
        max_alternatives=1,
        model=model,
        enable_word_time_offsets=True,
        enable_automatic_punctuation=True,
        profanity_filter=settings.profanity_filter,
        verbatim_transcripts=settings.verbatim_transcripts,
        custom_configuration=settings.custom,
    )
    if "keywords" in accepted:
        result.speech_contexts.append(SpeechContext(phrases=config.keywords, boost=settings.boost))
    if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
        result.diarization_config.enable_speaker_diarization = True
        result.diarization_config.max_speaker_count = settings.max_speaker_count
    for name, value in caller_params(config, accepted).items():
        result.custom_configuration[name] = _text(value)
    return result


def _language_code(asked: str, configured: str) -> str:
    tag = asked.replace("_", "-")
    if not tag or (tag.lower() == configured.partition("-")[0].lower()):
        return configured
    return _REGIONS.get(tag.lower(), tag)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
