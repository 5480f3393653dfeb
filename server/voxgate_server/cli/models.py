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
    return {"id": model.id, "aliases": list(model.aliases), "provider": model.provider, **_can(model)}


def _can(model: "Model") -> dict[str, Any]:
    from voxgate_server.edges.rest.model_list import capabilities_object

    return capabilities_object(model.capabilities)


def _row(model: "Model") -> list[str]:
    can = _can(model)
    seconds = can["max_audio_seconds"]
    return [
        model.id,
        model.provider,
        ",".join(can["response_formats"]),
        ",".join(can["languages"]),
        "" if seconds is None else f"{seconds:g}",
        str(can["max_audio_bytes"] or ""),
    ]


def _show(found: "list[Model]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "provider", "formats", "also", "languages", "limits")
    for model in found:
        can = _can(model)
        names = [model.id, *(f"also {alias}" for alias in model.aliases)]
        cells = [
            "\n".join(map(printable, names)),
            printable(model.provider),
            ", ".join(can["response_formats"]),
            _extras(can),
            printable(", ".join(can["languages"])),
            _limits(can),
        ]
        table.add_row(*map(Text, cells))
    console = Console()
    console.print(table if found else "There are no models.")


def _limits(can: dict[str, Any]) -> str:
    seconds, size = can["max_audio_seconds"], can["max_audio_bytes"]
    limits = []
    if seconds is not None:
        limits.append(f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s")
    if size:
        limits.append(f"{size / (1 << 20):.4g} MiB")
    return ", ".join(limits)


def _extras(can: dict[str, Any]) -> str:
    """What not every model can."""
    words = "word times" if "word" in can["timestamp_granularities"] else ""
    able = [name for name in ("diarization", "logprobs", "translation", "streaming", "live") if can[name]]
    return ", ".join(filter(None, (words, *able)))
