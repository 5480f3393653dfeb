"""The command's root. Subcommands are imported when they are used, so that `voxgate --help` is quick."""

import importlib
import sys
from typing import Any

import click

from voxgate_server import __version__

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells count."""

_COMMANDS = {
    "serve": ("voxgate_server.cli.serve", "serve"),
    "transcribe": ("voxgate_server.cli.transcribe", "transcribe"),
    "live": ("voxgate_server.cli.live", "live"),
    "models": ("voxgate_server.cli.models", "models"),
    "config": ("voxgate_server.cli.config", "config"),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: Any = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # The blank before it closes the line with the terminal's `^C`.
            click.echo("\nvoxgate: interrupted" if sys.stderr.isatty() else "voxgate: interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="voxgate")
def main() -> None:
    """One door in front of every speech-to-text provider, over gRPC and OpenAI's REST API."""
