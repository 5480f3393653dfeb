"""Can a model do what a call asks for? Asked before a byte leaves, so that an option never gets lost on the way."""

from voxgate.transcription.v1.config_pb2 import (
    INCLUDE_LOGPROBS,
    RESPONSE_FORMAT_DIARIZED_JSON,
    RESPONSE_FORMAT_UNSPECIFIED,
    ResponseFormat,
    TimestampGranularity,
    TranscriptionConfig,
)
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import AudioTooLarge, UnsupportedParameter
from voxgate_server.providers.base import Provider
from voxgate_server.providers.options import asked_options, is_translation, refused_option
from voxgate_server.routing.plan import Recording

__all__ = ["fits", "option_refusal", "refusal", "too_large"]


def refusal(provider: Provider, config: TranscriptionConfig, model: str) -> UnsupportedParameter | None:
    """Why a model cannot serve a call whatever is left out of it, or None when it can.

    Args:
        provider: Serves the model.
        config: What the caller wants.
        model: The model by the caller's name of it, for the message.
    """
    capabilities = provider.capabilities
    wanted = config.response_format
    if wanted != RESPONSE_FORMAT_UNSPECIFIED and wanted not in capabilities.response_formats:
        if wanted == RESPONSE_FORMAT_DIARIZED_JSON:
            return _cannot(model, "response_format", "tell speakers apart")
        offered = ", ".join(_format_name(number) for number in capabilities.response_formats)
        return _cannot(model, "response_format", f"answer in {_format_name(wanted)}", f"It can answer in {offered}.")
    if is_translation(config) and not capabilities.translation:
        return _cannot(model, "task", "translate")
    for granularity in config.timestamp_granularities if capabilities.timestamp_granularities else ():
        if granularity not in capabilities.timestamp_granularities:
            name = TimestampGranularity.Name(granularity).removeprefix("TIMESTAMP_GRANULARITY_").lower()
            return _cannot(model, "timestamp_granularities", f"give times at the level '{name}'")
    if capabilities.languages and (language := _foreign(config, list(capabilities.languages))):
        offered = ", ".join(capabilities.languages)
        which = "language" if config.language else "languages"
        return _cannot(model, which, f"recognise '{language[:64]}'", f"{provider.name} has {offered} for it.")
    return None


def option_refusal(provider: Provider, config: TranscriptionConfig, model: str) -> UnsupportedParameter | None:
    """Why a model cannot serve a call unless options are left out of it, or None when it can.

    Args:
        provider: Serves the model.
        config: What the caller wants.
        model: The model by the caller's name of it, for the message.
    """
    capabilities = provider.capabilities
    known = capabilities.options
    if not known:
        # Its adapter alone knows; what the other fields tell is certain all the same.
        if INCLUDE_LOGPROBS in config.include and not capabilities.logprobs:
            return _cannot(model, "include", "give log-probabilities")
        if config.known_speakers and not capabilities.diarization:
            return _cannot(model, "known_speaker_names", "tell speakers apart")
        return None
    for option in asked_options(config, takes_several_languages="languages" in known):
        if option not in known:
            who = f"{provider.name} ({provider.model})"
            return refused_option(who, option, known, extra=option in config.extra_params.fields)
    return None


def fits(provider: Provider, recording: Recording) -> bool:
    """Whether a provider takes a recording, as far as its size and length are known.

    One that is put into another container first is measured when it is.
    """
    capabilities = provider.capabilities
    if _too_many_bytes(capabilities, recording):
        return False
    if recording.seconds is None or not capabilities.HasField("max_audio_duration"):
        return True
    return recording.seconds <= capabilities.max_audio_duration.ToNanoseconds() / 1e9


def _too_many_bytes(capabilities: ModelCapabilities, recording: Recording) -> bool:
    if not capabilities.max_audio_bytes or (recording.size_bytes or 0) <= capabilities.max_audio_bytes:
        return False
    taken = capabilities.media_types
    return not taken or recording.media_type is None or recording.media_type in taken


def too_large(provider: Provider, recording: Recording, alternatives: list[str]) -> AudioTooLarge:
    """The refusal of a recording that a provider does not take.

    Args:
        provider: The one with the limit.
        recording: What is known of the recording.
        alternatives: Models that would take it, by their names for callers.
    """
    capabilities = provider.capabilities
    who = f"{provider.name} ({provider.model})"
    if _too_many_bytes(capabilities, recording):
        what = f"has {recording.size_bytes} bytes and {who} takes at most {capabilities.max_audio_bytes}"
        limit = {"limit_bytes": str(capabilities.max_audio_bytes)}
    else:
        seconds = capabilities.max_audio_duration.ToNanoseconds() / 1e9
        what = f"is {recording.seconds or 0:.0f} s long and {who} takes at most {seconds:.0f} s"
        limit = {"limit_seconds": f"{seconds:g}"}
    better = (
        f"Models that would take it: {', '.join(alternatives)}." if alternatives else "No model here would take it."
    )
    return AudioTooLarge(f"The recording {what}. {better}", param="file", metadata={**limit, "provider": provider.name})


def _foreign(config: TranscriptionConfig, spoken: list[str]) -> str | None:
    """A language asked for that is none of `spoken`; of several hints one that fits is enough.

    Names and codes of three letters are left to the adapter, which knows how its provider writes them.
    """
    asked = [config.language] if config.language else list(config.languages)
    known = {_subtag(language) for language in spoken}
    fitting = any(len(_subtag(language)) != 2 or _subtag(language) in known for language in asked)
    return None if not asked or fitting else asked[0]


def _subtag(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def _cannot(model: str, parameter: str, what: str, offer: str = "") -> UnsupportedParameter:
    return UnsupportedParameter(
        f"The model '{model}' cannot {what}. {offer}".rstrip(), param=parameter, metadata={"parameter": parameter}
    )


def _format_name(number: ResponseFormat.ValueType) -> str:
    return ResponseFormat.Name(number).removeprefix("RESPONSE_FORMAT_").lower()
