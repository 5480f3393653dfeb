"""The servers that speak OpenAI's transcription API, and what each has different: a table and nothing else.

Where a server is anybody's (`hosted_vllm`, `openai_like` …) it is taken to be compatible in the way nearly all are:
like whisper, with times only for those who ask for them, because not every model behind such a server has any.
"""

from collections.abc import Mapping
from dataclasses import replace

from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity

from voxgate_server.providers.openai_models import Dialect, ModelFamily

__all__ = ["AZURE", "DIALECTS", "OPENAI", "OPENAI_COMPATIBLE"]

_PLAIN = (ResponseFormat.RESPONSE_FORMAT_JSON, ResponseFormat.RESPONSE_FORMAT_TEXT)
_TIMED = (
    *_PLAIN,
    ResponseFormat.RESPONSE_FORMAT_SRT,
    ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
    ResponseFormat.RESPONSE_FORMAT_VTT,
)
_ALL = (*_TIMED, ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON)
_BOTH = (TimestampGranularity.TIMESTAMP_GRANULARITY_WORD, TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT)

_MEDIA_TYPES = ("audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm")
_OPENAI_BYTES = 26_214_400
_MEGABYTE = 1_000_000

_STREAM = (("stream", "true"),)
_COMMON = frozenset({"language", "temperature", "chunking_strategy"})
_WHISPER_OPTIONS = frozenset({"language", "temperature", "prompt", "timestamp_granularities"})
# verbose_json costs a whisper neither money nor time, and says how long the recording is and in which language.
_WHISPER = ModelFamily(
    part="whisper", formats=_TIMED, options=_WHISPER_OPTIONS, granularities=_BOTH, plain_format="verbose_json"
)
_FOUR_O = ModelFamily(
    formats=_PLAIN,
    options=_COMMON | {"prompt", "include"},
    stream_fields=_STREAM,
    max_audio_bytes=_OPENAI_BYTES,
    max_audio_seconds=1500,
)
_OPENAI_WHISPER = replace(_WHISPER, options=_WHISPER_OPTIONS | _COMMON, translation=True, max_audio_bytes=_OPENAI_BYTES)
_LIKE_WHISPER = replace(_OPENAI_WHISPER, part="", plain_format="json")

_OPENAI_FAMILIES = (
    ModelFamily(
        part="gpt-4o-transcribe-diarize",
        formats=_ALL,
        options=_COMMON | {"known_speaker_names"},
        timed_format="diarized_json",
        diarization=True,
        default_chunking=True,
        stream_fields=_STREAM,
        max_audio_bytes=_OPENAI_BYTES,
        max_audio_seconds=1400,
    ),
    replace(_FOUR_O, part="gpt-4o-transcribe"),
    replace(_FOUR_O, part="gpt-4o-mini-transcribe"),
    ModelFamily(
        part="gpt-transcribe",
        formats=_PLAIN,
        options=_COMMON | {"prompt", "languages", "keywords"},
        stream_fields=_STREAM,
        max_audio_bytes=_OPENAI_BYTES,
    ),
    _OPENAI_WHISPER,
    _LIKE_WHISPER,
)

OPENAI = Dialect(
    name="openai",
    families=_OPENAI_FAMILIES,
    base="https://api.openai.com/v1",
    base_variables=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    key_variables=("OPENAI_API_KEY",),
    host="api.openai.com",
    media_types=_MEDIA_TYPES,
)
"""OpenAI itself."""

OPENAI_COMPATIBLE = replace(
    OPENAI, families=(*_OPENAI_FAMILIES[:-2], _LIKE_WHISPER), host=None, media_types=(), language_tags=True
)
"""Whoever else is configured as `openai/…`, with an address of its own."""

AZURE = Dialect(
    name="azure",
    families=_OPENAI_FAMILIES,
    base_variables=("AZURE_API_BASE",),
    key_variables=("AZURE_API_KEY",),
    key_header="api-key",
    host="",
    media_types=_MEDIA_TYPES,
)
"""Azure OpenAI; its paths and tokens are in `azure`."""

# Of the free tier's 25 MB and the paid tier's 100 MB the larger: the service itself knows which holds.
_GROQ_WHISPER = replace(_WHISPER, part="", max_audio_bytes=100 * 1024 * 1024)

_GROQ_LANGUAGES = frozenset(
    (  # noqa: SIM905 (a hundred quoted strings are harder to read)
        "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la "
        "mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be "
        "tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jv su yue"
    ).split()
)

_GROQ = Dialect(
    name="groq",
    families=(replace(_GROQ_WHISPER, part="turbo"), replace(_GROQ_WHISPER, translation=True)),
    base="https://api.groq.com/openai/v1",
    base_variables=("GROQ_API_BASE",),
    key_variables=("GROQ_API_KEY",),
    host="api.groq.com",
    languages=_GROQ_LANGUAGES,
    media_types=_MEDIA_TYPES,
)

_FIREWORKS_WHISPER = replace(
    _WHISPER,
    part="",
    formats=_ALL,
    extra_options=frozenset(
        {
            "alignment_model",
            "diarization_model",
            "diarize",
            "max_clip_len",
            "max_speakers",
            "min_speakers",
            "preprocessing",
            "skip_vad",
            "vad_model",
        }
    ),
    diarization=True,
    speaker_granularities=("word", "segment"),
    max_audio_bytes=1000 * _MEGABYTE,
)

_FIREWORKS = Dialect(
    name="fireworks_ai",
    families=(
        replace(_FIREWORKS_WHISPER, part="turbo", base="https://audio-turbo.api.fireworks.ai/v1"),
        replace(_FIREWORKS_WHISPER, translation=True),
    ),
    base="https://audio-prod.api.fireworks.ai/v1",
    base_variables=("FIREWORKS_API_BASE",),
    key_variables=("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    host="fireworks.ai",
    list_suffix="",
    granularities="comma",
    notice="Fireworks is reported to have ended transcription on 2026-06-10; plan for another provider",
)

_OVHCLOUD_WHISPER = replace(
    _WHISPER,
    part="",
    formats=_ALL,
    options=_WHISPER_OPTIONS | {"chunking_strategy"},
    extra_options=frozenset({"diarize"}),
    diarization=True,
    max_audio_bytes=2048 * _MEGABYTE,
    max_audio_seconds=10_800,
)

_OVHCLOUD = Dialect(
    name="ovhcloud",
    families=(_OVHCLOUD_WHISPER,),
    base="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
    base_variables=("OVHCLOUD_API_BASE",),
    key_variables=("OVHCLOUD_API_KEY", "OVH_AI_ENDPOINTS_ACCESS_TOKEN"),
    needs_key=False,
    host="endpoints.kepler.ai.cloud.ovh.net",
    vad_settings=False,
    media_types=("audio/aac", *_MEDIA_TYPES),
)

_OVHCLOUD_ANONYMOUS = replace(
    _OVHCLOUD,
    families=(replace(_OVHCLOUD_WHISPER, max_audio_bytes=10 * _MEGABYTE, max_audio_seconds=60),),
    notice="there is no OVHCLOUD_API_KEY: it takes 2 requests a minute, of at most 10 MB or 60 s",
)

_MISTRAL = Dialect(
    name="mistral",
    families=(
        ModelFamily(
            formats=_ALL,
            options=frozenset({"language", "temperature", "keywords", "timestamp_granularities"}),
            extra_options=frozenset({"context_bias", "diarize"}),
            granularities=_BOTH,
            plain_format="",
            timed_format="",
            timed_granularities=("segment",),
            speaker_granularities=("segment",),
            diarization=True,
            stream_fields=_STREAM,
        ),
    ),
    base="https://api.mistral.ai/v1",
    base_variables=("MISTRAL_API_BASE",),
    key_variables=("MISTRAL_API_KEY",),
    host="api.mistral.ai",
    list_suffix="",
    granularities="one",
    keywords_field="context_bias",
    max_keywords=100,
    language_or_times=True,
)

_VLLM_OPTIONS = frozenset(
    {"hotwords", "max_completion_tokens", "min_p", "repetition_penalty", "seed", "to_language", "top_k", "top_p"}
)


def _server(name: str, base_variable: str, *key_variables: str, base: str = "") -> Dialect:
    """Anybody's compatible server. One with a public address wants a key, one of the operator's own may.

    Addresses on loopback are nobody's default: callers who bring their own provider must not reach this machine.
    """
    return replace(
        OPENAI_COMPATIBLE,
        name=name,
        base=base,
        base_variables=(base_variable,),
        key_variables=key_variables,
        needs_key=bool(base),
    )


_SERVERS = (
    replace(
        _server("hosted_vllm", "HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY"),
        families=(
            replace(
                _LIKE_WHISPER,
                options=_WHISPER_OPTIONS,
                extra_options=_VLLM_OPTIONS,
                stream_fields=(*_STREAM, ("stream_include_usage", "true")),
                streams_times=False,
            ),
        ),
        language_tags=False,
    ),
    _server("openai_like", "OPENAI_LIKE_API_BASE", "OPENAI_LIKE_API_KEY"),
    _server("custom_openai", "OPENAI_API_BASE", "OPENAI_API_KEY"),
    _server("litellm_proxy", "LITELLM_PROXY_API_BASE", "LITELLM_PROXY_API_KEY"),
    _server("lm_studio", "LM_STUDIO_API_BASE", "LM_STUDIO_API_KEY"),
    _server("xinference", "XINFERENCE_API_BASE", "XINFERENCE_API_KEY"),
    _server("deepinfra", "DEEPINFRA_API_BASE", "DEEPINFRA_API_KEY", base="https://api.deepinfra.com/v1/openai"),
    _server("scaleway", "SCALEWAY_API_BASE", "SCW_SECRET_KEY", base="https://api.scaleway.ai/v1"),
    _server(
        "together_ai", "TOGETHER_AI_API_BASE", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY",
        base="https://api.together.xyz/v1",
    ),
)  # fmt: skip

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OPENAI,
        AZURE,
        _GROQ,
        _FIREWORKS,
        replace(_OVHCLOUD, without_key=_OVHCLOUD_ANONYMOUS),
        _MISTRAL,
        *_SERVERS,
    )
}
"""By the provider's name."""
