"""`voxgate models`."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from voxgate_server.cli.backend import Backend, backend_options, open_backend, read_options
from voxgate_server.cli.messages import CallFailed, complain, printable
from voxgate_server.cli.output import emit

if TYPE_CHECKING:
    from voxgate.transcription.v1.model_service_pb2 import Model


@click.command(short_help="Lists the models that can be asked for.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array with everything that is known.")
@backend_options
@click.pass_context
def models(ctx: click.Context, /, as_json: bool, **values: Any) -> None:
    """Lists the models that can be asked for, and what they can do.

    A table on a terminal. Elsewhere a line for each model, its columns separated by tabs: id, provider, formats,
    languages (both with commas), longest recording in seconds, largest recording in bytes. What is not known, or
    has no limit, is empty.

    \b
    Examples:
      voxgate models
      voxgate models --server gateway:50051 | cut -f1
      voxgate models --json | jq '.[] | select(.diarization) | .id'
    """  # noqa: D301  (click wants the character itself)
    options = read_options(ctx, values)
    backend = open_backend(options)
    try:
        found = asyncio.run(_models(backend))
    except CallFailed as error:
        complain(backend.name, error)
        ctx.exit(1)
    if as_json:
        emit(json.dumps([_object(model) for model in found], ensure_ascii=False, indent=2).encode() + b"\n")
    elif sys.stdout.isatty():
        _show(found)
    else:
        emit("".join("\t".join(map(printable, _row(model))) + "\n" for model in found).encode())


async def _models(backend: Backend) -> "list[Model]":
    async with backend:
        return await backend.models()


def _object(model: "Model") -> dict[str, Any]:
    can = model.capabilities
    return {
        "id": model.id,
        "aliases": list(model.aliases),
        "provider": model.provider,
        "response_formats": _formats(model),
        "timestamp_granularities": _granularities(model),
        "languages": list(can.languages),
        "streaming": can.streaming,
        "live": can.live,
        "diarization": can.diarization,
        "logprobs": can.logprobs,
        "translation": can.translation,
        "media_types": list(can.media_types),
        "max_audio_seconds": _seconds(model),
        "max_audio_bytes": can.max_audio_bytes or None,
    }


def _row(model: "Model") -> list[str]:
    seconds = _seconds(model)
    return [
        model.id,
        model.provider,
        ",".join(_formats(model)),
        ",".join(model.capabilities.languages),
        "" if seconds is None else f"{seconds:g}",
        str(model.capabilities.max_audio_bytes or ""),
    ]


def _show(found: "list[Model]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "provider", "formats", "languages", "limits")
    for model in found:
        names = [model.id, *(f"also {alias}" for alias in model.aliases)]
        cells = [
            "\n".join(map(printable, names)),
            printable(model.provider),
            ", ".join(_formats(model)),
            printable(", ".join(model.capabilities.languages)),
            _limits(model),
        ]
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table if found else "There are no models.")


def _limits(model: "Model") -> str:
    seconds, size = _seconds(model), model.capabilities.max_audio_bytes
    limits = []
    if seconds is not None:
        limits.append(f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s")
    if size:
        limits.append(f"{size / (1 << 20):g} MiB")
    return ", ".join(limits)


def _seconds(model: "Model") -> float | None:
    if not model.capabilities.HasField("max_audio_duration"):
        return None
    return model.capabilities.max_audio_duration.ToTimedelta().total_seconds()


def _formats(model: "Model") -> list[str]:
    from voxgate.transcription.v1.config_pb2 import ResponseFormat

    return [_name(ResponseFormat.Name, number, "RESPONSE_FORMAT_") for number in model.capabilities.response_formats]


def _granularities(model: "Model") -> list[str]:
    from voxgate.transcription.v1.config_pb2 import TimestampGranularity

    return [
        _name(TimestampGranularity.Name, number, "TIMESTAMP_GRANULARITY_")
        for number in model.capabilities.timestamp_granularities
    ]


def _name(name_of: Any, number: int, prefix: str) -> str:
    """The word REST has for a value; its number when only a newer server knows it."""
    try:
        return str(name_of(number)).removeprefix(prefix).lower()
    except ValueError:
        return str(number)
