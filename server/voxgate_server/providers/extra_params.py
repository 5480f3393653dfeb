"""Parameters under a provider's own names: the operator's, for every request, and the callers' `extra_params`."""

from collections.abc import Mapping, Set
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.errors import InvalidRequest

__all__ = ["caller_params", "operator_params", "plain_value"]

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


def operator_params(params: Mapping[str, object], forbidden: Set[str], who: str) -> dict[str, Any]:
    """The operator's parameters, those that are null left out.

    Args:
        params: As configured.
        forbidden: Names that cannot be set.
        who: The deployment, for messages.

    Raises:
        ValueError: One cannot be set, or has a value that JSON does not have.
    """
    if taken := sorted(forbidden & params.keys()):
        raise ValueError(f"parameters of {who} that cannot be set: {taken}")
    values = Struct()
    values.update(params)  # type: ignore[arg-type]  # a value of another kind raises
    plain = {name: plain_value(value) for name, value in values.fields.items()}
    return {name: value for name, value in plain.items() if value is not None}


def caller_params(config: TranscriptionConfig, accepted: list[str]) -> dict[str, Any]:
    """Those of a caller's `extra_params` that are accepted, those that are null left out.

    Args:
        config: What the caller wants.
        accepted: What `accepted_options` said.

    Raises:
        InvalidRequest: One has the name of an option with a field of its own.
    """
    extras = config.extra_params.fields
    if doubled := sorted(_CONFIG_OPTIONS & extras.keys()):
        raise InvalidRequest(
            f"{doubled[0]} is an option of its own and must not stand in extra_params.", param=doubled[0]
        )
    plain = {name: plain_value(extras[name]) for name in accepted if name in extras}
    return {name: value for name, value in plain.items() if value is not None}


def plain_value(value: Value) -> Any:
    """What JSON would say, whole numbers as integers: servers that want an `int` refuse `3.0`."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [plain_value(item) for item in value.list_value.values]
        case "struct_value":
            return {name: plain_value(item) for name, item in value.struct_value.fields.items()}
        case _:
            return None
