"""Translates a TranscriptionConfig into AssemblyAI's order for a transcript, and says what that API takes."""

from collections.abc import Mapping
from typing import Any

from voxgate.transcription.v1.config_pb2 import ResponseFormat, TranscriptionConfig

from voxgate_server.providers.extra_params import caller_params
from voxgate_server.providers.options import accepted_options, is_translation, language_hints, refused_option

__all__ = ["FORBIDDEN_PARAMS", "OPERATOR_FIRST_PARAMS", "build_request", "options_of"]

_CALLER_PARAMS = frozenset(
    {
        "audio_end_at",
        "audio_start_from",
        "boost_param",
        "custom_spelling",
        "disfluencies",
        "filter_profanity",
        "format_text",
        "keyterms_prompt",
        "language_confidence_threshold",
        "multichannel",
        "punctuate",
        "redact_pii",
        "redact_pii_policies",
        "redact_pii_sub",
        "speaker_labels",
        "speaker_options",
        "speakers_expected",
        "word_boost",
    }
)
"""AssemblyAI's own parameters that callers may use: whatever they change in the answer finds a place in a transcript.
What has none there (summaries, chapters, sentiments …) needs the operator's leave."""

FORBIDDEN_PARAMS = frozenset(
    {
        "audio_url",
        "speech_model",
        "speech_models",
        "webhook_auth_header_name",
        "webhook_auth_header_value",
        "webhook_url",
    }
)
"""What nobody can set: the adapter does it itself, or the transcript would go elsewhere."""

OPERATOR_FIRST_PARAMS = frozenset({"redact_pii", "redact_pii_policies", "redact_pii_sub"})
"""Where the operator has set one of these, callers cannot: privacy is not theirs to change."""

_LANGUAGE_PARAMS = frozenset({"language_code", "language_codes", "language_detection", "language_detection_options"})
_ALIASES = {"best": ["universal-3-5-pro", "universal-2"]}
"""LiteLLM's name for what AssemblyAI itself would choose: the first of these that knows the language."""
_PLAIN_MODELS = frozenset({"nano", "universal", "universal-2"})
"""Recognisers without a language model that could be told something."""
_ENGLISH = {"en-us": "en_us", "en-gb": "en_uk", "en-uk": "en_uk", "en-au": "en_au"}
"""The regions it tells apart, by its names for them."""


def options_of(model: str) -> frozenset[str]:
    """What a model takes from callers: options of the API by their REST names, then AssemblyAI's own."""
    options = _CALLER_PARAMS | {
        # How long audio is cut is AssemblyAI's decision in any case, and times come with every answer.
        "chunking_strategy",
        "keywords",
        "language",
        "languages",
        "timestamp_granularities",
    }
    return options if model in _PLAIN_MODELS else options | {"prompt", "temperature"}


def build_request(
    config: TranscriptionConfig,
    *,
    model: str,
    known: frozenset[str],
    defaults: Mapping[str, Any],
    dropped: list[str] | None,
    who: str,
) -> dict[str, Any]:
    """The order without `audio_url`.

    The caller's parameters come first, then the operator's where the caller has none, then ours: the language is
    found out where nobody says it. AssemblyAI would take every language for English.

    Args:
        config: What the caller wants.
        model: The model by AssemblyAI's name, or `best`.
        known: Options callers may use.
        defaults: The operator's.
        dropped: Takes the REST names of options the model cannot take; None means that they are refused.
        who: The deployment, for messages.

    Raises:
        UnsupportedParameter: The model cannot do what an option asks for. The task is never dropped: without it the
            answer would be another thing.
        InvalidRequest: One of `extra_params` has the name of an option.
    """
    if is_translation(config):
        raise refused_option(who, "task", known)
    asked = _asked(config, known, dropped, who)
    taken = asked.keys() | (_LANGUAGE_PARAMS if _LANGUAGE_PARAMS & asked.keys() else set())
    request = {
        "speech_models": _ALIASES.get(model, [model]),
        **{name: value for name, value in defaults.items() if name not in taken},
        **asked,
    }
    if not _LANGUAGE_PARAMS & request.keys():
        request["language_detection"] = True
    # Channels are told apart by themselves; whether there are several speakers on one is up to the caller.
    if (
        config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
        and request.get("multichannel") is not True
    ):
        request["speaker_labels"] = True
    return request


def _asked(config: TranscriptionConfig, known: frozenset[str], dropped: list[str] | None, who: str) -> dict[str, Any]:
    """What the caller asks for, by AssemblyAI's names."""
    if config.chunking_strategy.HasField("server_vad"):
        known -= {"chunking_strategy"}
    accepted = accepted_options(config, known, dropped=dropped, who=who)
    asked = caller_params(config, accepted)
    language, languages = language_hints(config, takes_several="languages" in known)
    codes = [language] if "language" in accepted else []
    codes += languages if "languages" in accepted else []
    asked.update(_languages(list(dict.fromkeys(_language(code) for code in codes))))
    if "prompt" in accepted:
        asked["prompt"] = config.prompt
    if "keywords" in accepted:
        further = asked.get("keyterms_prompt", [])
        asked["keyterms_prompt"] = [*config.keywords, *(further if isinstance(further, list) else [further])]
    if "temperature" in accepted:
        asked["temperature"] = config.temperature
    return asked


def _languages(codes: list[str]) -> dict[str, Any]:
    """One language is stated; of several, the one that is spoken is found out."""
    if len(codes) < 2:
        return {"language_code": codes[0]} if codes else {}
    # For finding out, all kinds of English are one.
    expected = list(dict.fromkeys(code.partition("_")[0] for code in codes))
    return {"language_detection": True, "language_detection_options": {"expected_languages": expected}}


def _language(tag: str) -> str:
    """A language as AssemblyAI writes it; a region it does not know is left out (`de-AT` is `de`)."""
    lower = tag.replace("_", "-").lower()
    return _ENGLISH.get(lower, lower.partition("-")[0])
