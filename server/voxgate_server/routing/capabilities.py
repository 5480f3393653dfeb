"""Can a model do what a call asks for? Asked before a byte leaves, so that an option never gets lost on the way."""

from voxgate.transcription.v1.config_pb2 import (
    INCLUDE_LOGPROBS,
    RESPONSE_FORMAT_DIARIZED_JSON,
    RESPONSE_FORMAT_UNSPECIFIED,
    TRANSCRIPTION_TASK_TRANSLATE,
    ResponseFormat,
    TranscriptionConfig,
)
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import UnsupportedParameter

__all__ = ["refusal"]


def refusal(capabilities: ModelCapabilities, config: TranscriptionConfig, model: str) -> UnsupportedParameter | None:
    """Why a model cannot serve a call, or None when it can.

    Options whose mapping only the provider's adapter knows (language, prompt …) are its own to refuse.
    """
    wanted = config.response_format
    if wanted != RESPONSE_FORMAT_UNSPECIFIED and wanted not in capabilities.response_formats:
        offered = ", ".join(_format_name(number) for number in capabilities.response_formats)
        return _cannot(model, "response_format", f"answer in {_format_name(wanted)}", f"It can answer in {offered}.")
    if INCLUDE_LOGPROBS in config.include and not capabilities.logprobs:
        return _cannot(model, "include", "give log-probabilities")
    if (config.known_speakers or wanted == RESPONSE_FORMAT_DIARIZED_JSON) and not capabilities.diarization:
        return _cannot(model, "known_speaker_names", "tell speakers apart")
    if config.task == TRANSCRIPTION_TASK_TRANSLATE and not capabilities.translation:
        return _cannot(model, "task", "translate")
    return None


def _cannot(model: str, parameter: str, what: str, offer: str = "") -> UnsupportedParameter:
    return UnsupportedParameter(
        f"The model '{model}' cannot {what}. {offer}".rstrip(), param=parameter, metadata={"parameter": parameter}
    )


def _format_name(number: ResponseFormat.ValueType) -> str:
    return ResponseFormat.Name(number).removeprefix("RESPONSE_FORMAT_").lower()
