"""`voxgate config check`."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxgate_server.cli.messages import printable
from voxgate_server.cli.output import emit

if TYPE_CHECKING:
    from voxgate_server.config import KeyReport, LoadedConfig, Problem


@click.group(short_help="Looks at configuration files.")
def config() -> None:
    """Looks at configuration files (LiteLLM's YAML, with a section `voxgate:`)."""


@config.command(short_help="Tells what is wrong with a file, and what becomes of its keys.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object with errors, warnings and keys.")
@click.pass_context
def check(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Tells what is wrong with a configuration, and what becomes of each of its keys.

    Standard output has a line for each key (a table on a terminal, columns separated by tabs elsewhere): the key, its
    standing, a note. The standing is `honoured`; `differs`, where it works not quite as in LiteLLM; `ignored`, where
    it has no effect in this release; `unknown`. Errors and warnings go to standard error as
    `error: FILE:LINE:COLUMN: what`, all of them at once. Values of variables are looked up in the environment, as the
    gateway itself would.

    Exit codes: 0 the gateway can run with it; 2 it cannot.

    \b
    Examples:
      voxgate config check config.yaml
      voxgate config check config.yaml | grep -v honoured
      voxgate config check --json config.yaml | jq -r '.warnings[].what'
    """  # noqa: D301  (click wants the character itself)
    from voxgate_server.config import ConfigError, load_config
    from voxgate_server.config import check as check_keys

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    keys: list[KeyReport] = []
    loaded: LoadedConfig | None = None
    try:
        keys = check_keys(file)
        loaded = load_config(file)
        warnings = (*loaded.warnings, *asyncio.run(_unusable(loaded)))
    except ConfigError as error:
        errors = error.problems
    if as_json:
        found = {
            "usable": not errors,
            "errors": [_problem(one) for one in errors],
            "warnings": [_problem(one) for one in warnings],
            "keys": [
                {"key": key.path, **asdict(key.place), "standing": key.standing.value, "note": key.note} for key in keys
            ],
        }
        emit(json.dumps(found, ensure_ascii=False, indent=2).encode("utf-8", "replace") + b"\n")
        ctx.exit(2 if errors else 0)
    # A section that is honoured says nothing that its keys do not say.
    rows = [(key.path, key.standing.value, key.note) for key in keys if key.leaf or key.standing.value != "honoured"]
    if sys.stdout.isatty():
        _show(rows)
    else:
        emit("".join("\t".join(map(printable, row)) + "\n" for row in rows).encode("utf-8", "replace"))
    for kind, problems in (("warning", warnings), ("error", errors)):
        for problem in problems:
            click.echo(f"{kind.upper() if problem.loud else kind}: {printable(str(problem))}", err=True)
    verdict = "cannot be used" if errors else "can be used"
    click.echo(f"{printable(str(file))} {verdict}: {len(errors)} errors, {len(warnings)} warnings", err=True)
    ctx.exit(2 if errors else 0)


async def _unusable(loaded: "LoadedConfig") -> "list[Problem]":
    """Deployments that are well written and that this release, or this machine, has no adapter for."""
    from voxgate_server.config import Problem
    from voxgate_server.providers.registry import build_provider

    found = []
    for index, (entry, place) in enumerate(zip(loaded.config.model_list, loaded.model_places, strict=False)):
        if entry.problems or entry.litellm_params.is_any_provider:
            continue  # A warning has said so, or the callers' names will tell.
        try:
            provider = build_provider(entry, loaded.config, loaded.environment)
        except ValueError as error:
            found.append(Problem(place, f"model_list.{index}: {error}; this deployment is left out"))
        else:
            await provider.aclose()
    return found


def _problem(problem: "Problem") -> dict[str, Any]:
    return {**asdict(problem.place), "what": problem.what, "loud": problem.loud}


def _show(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"honoured": "green", "differs": "yellow", "ignored": "yellow", "unknown": "red"}
    table = Table("key", "standing", "note")
    for path, standing, note in rows:
        table.add_row(Text(printable(path)), Text(standing, style=styles[standing]), Text(printable(note)))
    Console().print(table)
