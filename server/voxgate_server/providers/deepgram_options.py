"""Translates a TranscriptionConfig into the query of Deepgram's pre-recorded API."""

from collections.abc import Mapping

from google.protobuf.struct_pb2 import Struct, Value
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig

from voxgate_server.errors import InvalidRequest, UnsupportedAudio
from voxgate_server.providers.deepgram_models import ModelFamily
from voxgate_server.providers.options import accepted_options, is_translation, language_hints, refused_option

__all__ = ["FORBIDDEN_PARAMS", "OPERATOR_FIRST_PARAMS", "Query", "build_query", "operator_params"]

Query = dict[str, list[str]]
"""Parameters by their names; one that has several values is repeated."""

FORBIDDEN_PARAMS = frozenset({"model", "encoding", "sample_rate", "channels", "url", "callback", "callback_method"})
"""What nobody can set: the adapter does it itself, or the transcript would go elsewhere."""

OPERATOR_FIRST_PARAMS = frozenset({"mip_opt_out", "redact", "tag"})
"""Where the operator has set one of these, callers cannot: privacy and accounts are not theirs to change."""
_LANGUAGE_PARAMS = frozenset({"language", "detect_language", "language_hint"})
_SPEAKER_PARAMS = frozenset({"diarize", "diarize_model"})
_CONFIG_OPTIONS = frozenset(
    {
        "chunking_strategy",
        "include",
        "keywords",
        "known_speaker_names",
        "language",
        "languages",
        "prompt",
        "temperature",
        "timestamp_granularities",
    }
)
_ENCODINGS = {
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE: "linear16",
    AudioEncoding.AUDIO_ENCODING_MULAW: "mulaw",
    AudioEncoding.AUDIO_ENCODING_ALAW: "alaw",
}
_REGIONS = frozenset(
    {
        "ar-AE", "ar-DZ", "ar-EG", "ar-IQ", "ar-IR", "ar-JO", "ar-KW", "ar-LB", "ar-MA", "ar-PS", "ar-QA", "ar-SA",
        "ar-SD", "ar-SY", "ar-TD", "ar-TN", "da-DK", "de-CH", "en-AU", "en-GB", "en-IN", "en-NZ", "en-US", "es-419",
        "fr-CA", "hi-Latn", "ko-KR", "nl-BE", "pt-BR", "pt-PT", "sv-SE", "th-TH", "zh-CN", "zh-HK", "zh-TW", "zh-Hans",
        "zh-Hant",
    }
)  # fmt: skip
"""Regional languages Deepgram tells apart from their base."""


def build_query(
    config: TranscriptionConfig,
    audio: AudioHeader,
    *,
    model: str,
    family: ModelFamily,
    known: frozenset[str],
    defaults: Query,
    dropped: list[str] | None,
    who: str,
) -> Query:
    """The parameters of one request.

    The caller's come first, then the operator's where the caller has none, then ours: text with punctuation, numbers
    and the like written as people do, in utterances, and the language found out where nobody says it.

    Args:
        config: What the caller wants.
        audio: What the caller said about the audio; headerless audio needs to be described.
        model: The model by Deepgram's name.
        family: What it takes.
        known: Options callers may use.
        defaults: The operator's.
        dropped: Takes the REST names of options the model cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for. The task is never dropped: without it the
            answer would be another thing.
        UnsupportedAudio: Headerless audio that Deepgram cannot read.
        InvalidRequest: One of `extra_params` makes no sense in a query.
    """
    if is_translation(config):
        raise refused_option(who, "task", known)
    asked = _asked(config, family, known, dropped, who)
    query = {"model": [model], **_raw_audio(audio, who), **_left_of(defaults, asked), **asked}
    for name in ("punctuate", "smart_format", "utterances"):
        query.setdefault(name, ["true"])
    if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
        # The format is nothing without speakers and utterances, whatever else says that they are not wanted.
        query["utterances"] = ["true"]
        if query.get("diarize") != ["true"] and "diarize_model" not in query:
            query.pop("diarize", None)
            name, value = family.speakers
            query[name] = [value]
    if family.detects_language and not {"language", "detect_language"} & query.keys():
        query["detect_language"] = ["true"]
    return query


def operator_params(params: Mapping[str, object], who: str) -> Query:
    """The operator's parameters for every request.

    Raises:
        ValueError: A value cannot stand in a query, or the name is not the operator's to use.
    """
    if forbidden := sorted(FORBIDDEN_PARAMS & params.keys()):
        raise ValueError(f"parameters of {who} that cannot be set: {forbidden}")
    values = Struct()
    values.update(params)  # type: ignore[arg-type]  # a value of another kind raises
    query = {name: _texts(name, value) for name, value in values.fields.items()}
    return {name: texts for name, texts in query.items() if texts}


def _asked(
    config: TranscriptionConfig, family: ModelFamily, known: frozenset[str], dropped: list[str] | None, who: str
) -> Query:
    """What the caller asks for."""
    extras = config.extra_params.fields
    if doubled := sorted(_CONFIG_OPTIONS & extras.keys()):
        raise InvalidRequest(
            f"{doubled[0]} is an option of its own and must not stand in extra_params.", param=doubled[0]
        )
    if config.chunking_strategy.HasField("server_vad"):
        known -= {"chunking_strategy"}
    if config.language.lower() == "multi" and not family.language_hints:
        known -= {"languages"}
    query: Query = {}
    accepted = accepted_options(config, known, dropped=dropped, who=who)
    if "language" in accepted or "languages" in accepted:
        language, languages = language_hints(config, takes_several="languages" in known)
        query.update(_languages(language, languages if "languages" in accepted else []))
    if "keywords" in accepted and family.vocabulary is not None:
        query[family.vocabulary] = list(config.keywords)
    for name in accepted:
        if name in extras:
            try:
                texts = _texts(name, extras[name])
            except ValueError as error:
                raise InvalidRequest(f"{who}: {error}.", param=name) from error
            if texts:
                query.setdefault(name, []).extend(texts)
    return query


def _languages(language: str, languages: list[str]) -> Query:
    """One language is stated; of several, the one that is spoken is found out."""
    hints = list(dict.fromkeys(_language(tag) for tag in languages))
    if language.lower() == "multi":
        return {"language": ["multi"], **({"language_hint": hints} if hints else {})}
    if language:
        hints = list(dict.fromkeys([_language(language), *hints]))
    return {"language": hints} if len(hints) == 1 else {"detect_language": hints}


def _language(tag: str) -> str:
    """A language as Deepgram writes it; a region it does not know is left out (`de-AT` is `de`)."""
    base, _, region = tag.replace("_", "-").partition("-")
    base = base.lower()
    regional = f"{base}-{region.title() if len(region) == 4 else region.upper()}"
    return regional if regional in _REGIONS else base


def _left_of(defaults: Query, asked: Query) -> Query:
    """The operator's parameters beside which the caller's make sense."""
    taken = set(asked)
    if {"language", "detect_language"} & taken:
        taken |= _LANGUAGE_PARAMS
    if _SPEAKER_PARAMS & taken:
        taken |= _SPEAKER_PARAMS
    return {name: texts for name, texts in defaults.items() if name not in taken}


def _raw_audio(audio: AudioHeader, who: str) -> Query:
    if not audio.HasField("raw_format"):
        return {}
    raw = audio.raw_format
    encoding = _ENCODINGS.get(raw.encoding)
    if encoding is None:
        # Packets of Opus have no length of their own: without a container nobody can tell where one ends.
        raise UnsupportedAudio(
            f"{who} takes headerless audio as 16-bit PCM, A-law or mu-law only. Send Opus in an Ogg or WebM container.",
            param="file",
        )
    query = {"encoding": [encoding], "sample_rate": [str(raw.sample_rate_hertz)]}
    if raw.channel_count > 1:
        query["channels"] = [str(raw.channel_count)]
    return query


def _texts(name: str, value: Value) -> list[str]:
    match value.WhichOneof("kind"):
        case "string_value":
            return [value.string_value]
        case "number_value":
            number = value.number_value
            return [str(int(number)) if number.is_integer() else repr(number)]
        case "bool_value":
            return ["true" if value.bool_value else "false"]
        case "list_value":
            return [text for item in value.list_value.values for text in _texts(name, item)]
        case "struct_value":
            raise ValueError(f"'{name[:64]}' is an object, which no query can carry")
        case _:
            return []
