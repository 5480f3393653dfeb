"""Models → `GET /v1/models`: OpenAI's object, and beside its keys what the model can do, by REST names."""

from collections.abc import Callable, Iterable

import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.model_service_pb2 import Model, ModelCapabilities

__all__ = ["capabilities_object", "model_body", "models_body"]


def models_body(models: Iterable[Model]) -> bytes:
    """The answer of `GET /v1/models`: every name a caller may use, aliases among them."""
    data = [_model(model, name) for model in models for name in (model.id, *model.aliases)]
    return msgspec.json.encode({"object": "list", "data": data})


def model_body(model: Model) -> bytes:
    """The answer of `GET /v1/models/{id}`."""
    return msgspec.json.encode(_model(model, model.id))


def capabilities_object(can: ModelCapabilities) -> dict[str, object]:
    """What a model can do, for JSON. What is not known, or has no limit, is null or an empty list."""
    seconds = can.max_audio_duration.ToNanoseconds() / 1e9 if can.HasField("max_audio_duration") else None
    return {
        "response_formats": [_name(ResponseFormat.Name, one, "RESPONSE_FORMAT_") for one in can.response_formats],
        "timestamp_granularities": [
            _name(TimestampGranularity.Name, one, "TIMESTAMP_GRANULARITY_") for one in can.timestamp_granularities
        ],
        "options": list(can.options),
        "languages": list(can.languages),
        "streaming": can.streaming,
        "live": can.live,
        "diarization": can.diarization,
        "logprobs": can.logprobs,
        "translation": can.translation,
        "media_types": list(can.media_types),
        "max_audio_seconds": seconds,
        "max_audio_bytes": can.max_audio_bytes or None,
        "needs_length": can.needs_length,
    }


def _model(model: Model, name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": model.create_time.seconds,
        "owned_by": model.owned_by,
        "capabilities": capabilities_object(model.capabilities),
    }


def _name(name_of: Callable[..., str], number: int, prefix: str) -> str:
    """The word REST has for a value; its number when only a newer server knows it."""
    try:
        return name_of(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)
