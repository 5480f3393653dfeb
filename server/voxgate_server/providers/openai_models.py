"""What can differ between the servers that speak OpenAI's transcription API, and between their models.

The values are in `openai_dialects`; this is the form they have.
"""

from dataclasses import dataclass
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

__all__ = ["TRANSLATION_OPTIONS", "Dialect", "ModelFamily"]

TRANSLATION_OPTIONS = frozenset({"prompt", "temperature"})
"""The options `/audio/translations` knows, by their REST names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """Models whose names have a part in common and which can do the same."""

    part: str = ""
    """Part of the names, in lower case. Empty fits every name."""
    formats: tuple[ResponseFormat.ValueType, ...]
    """Formats a caller can have: the model's own, and those that are rendered from them."""
    options: frozenset[str]
    """Options it takes, by their REST names."""
    extra_options: frozenset[str] = frozenset()
    """Options of this provider alone, by its own names. Callers send them in `extra_params`."""
    granularities: tuple[TimestampGranularity.ValueType, ...] = ()
    plain_format: str = "json"
    """`response_format` asked for where nobody needs times. Empty: the server has no such field."""
    timed_format: str = "verbose_json"
    """`response_format` asked for where somebody does."""
    timed_granularities: tuple[str, ...] = ()
    """Asked for where times are needed and the caller does not say which. Empty: the server has a default."""
    speaker_granularities: tuple[str, ...] = ()
    """Asked for as well where speakers are told apart: the server refuses it without them."""
    diarization: bool = False
    """Tells speakers apart. It is switched on with the field `diarize` where that is one of `extra_options`."""
    default_chunking: bool = False
    """Refuses long recordings without a `chunking_strategy`; `auto` is sent when the caller has none."""
    translation: bool = False
    stream_fields: tuple[tuple[str, str], ...] = ()
    """Form fields with which it is asked to answer in events. Empty: it cannot."""
    streams_times: bool = True
    """It can also where times are wanted."""
    base: str = ""
    """Address of these models, where the provider has several."""
    max_audio_bytes: int = 0
    """0: not known."""
    max_audio_seconds: int | None = None

    def capabilities(
        self, dialect: "Dialect", *, max_audio_bytes: int, own_server: bool, extra_params: frozenset[str] = frozenset()
    ) -> ModelCapabilities:
        """The same as the API's own message.

        Args:
            dialect: Whose models these are.
            max_audio_bytes: Largest recording in bytes, 0 if not known.
            own_server: It is the provider's own server, so that what is known of that holds.
            extra_params: Further options the operator permits.
        """
        seconds = self.max_audio_seconds if own_server else None
        return ModelCapabilities(
            response_formats=self.formats,
            timestamp_granularities=self.granularities,
            languages=sorted(dialect.languages),
            diarization=self.diarization,
            logprobs="include" in self.options,
            translation=self.translation,
            streaming=bool(self.stream_fields),
            max_audio_duration=None if seconds is None else Duration(seconds=seconds),
            max_audio_bytes=max_audio_bytes,
            media_types=dialect.media_types if own_server else (),
            options=sorted(self.options | self.extra_options | extra_params),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one provider speaks OpenAI's API."""

    name: str
    """The provider, as it stands before the slash of `provider/model`."""
    families: tuple[ModelFamily, ...]
    """The first whose part the model's name contains decides: longer parts stand before shorter ones."""
    base: str = ""
    """What stands before `/audio/transcriptions`. Empty: the operator has to say it."""
    base_variables: tuple[str, ...] = ()
    """Variables of the environment that say it, as LiteLLM reads them."""
    key_variables: tuple[str, ...] = ()
    needs_key: bool = True
    """Refuses whoever has no key; not asked at addresses the operator gives."""
    without_key: "Dialect | None" = None
    """How it treats those it does not refuse. None: like everybody."""
    key_header: str = ""
    """Header that holds the bare key. Empty: it is a bearer token."""
    host: str | None = None
    """Host of the provider's own servers or what it ends with; limits and media types hold there. Empty: any host;
    None: nothing is known of any."""
    list_suffix: Literal["[]", ""] = "[]"
    """Follows the name of a field that holds a list. Lists are fields repeated."""
    granularities: Literal["all", "comma", "one"] = "all"
    """Whether granularities are a list, one field with commas, or a list of which only one may be."""
    keywords_field: str = "keywords"
    max_keywords: int | None = None
    languages: frozenset[str] = frozenset()
    """The languages it takes, ISO 639-1. Empty: not known."""
    language_tags: bool = False
    """Takes whole BCP 47 tags (`de-AT`); others are sent the language alone (`de`)."""
    language_or_times: bool = False
    """Refuses a language together with granularities."""
    vad_settings: bool = True
    """Takes the settings of `server_vad`, not its name only."""
    media_types: tuple[str, ...] = ()
    """Media types it takes. Empty: not known."""
    notice: str = ""
    """What its operator should know at start. Empty: nothing."""

    def family_of(self, model: str) -> ModelFamily:
        """The family of a model, by any name that tells it."""
        name = model.lower()
        return next(family for family in self.families if family.part in name)

    def owns(self, host: str) -> bool:
        """Whether a host is one of the provider's own servers."""
        return self.host is not None and (not self.host or f".{host}".endswith(f".{self.host}"))
