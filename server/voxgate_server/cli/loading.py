"""Loading the configuration for a command, with its warnings and errors as people read them."""

from pathlib import Path

import click

from voxgate_server.config import ConfigError, LoadedConfig, default_config, load_config

__all__ = ["load"]


def load(path: Path | None, *, warn: bool = True) -> LoadedConfig:
    """Loads the file, or what is served without one. Ends the command when it cannot be used.

    Args:
        path: The file; None means none.
        warn: Show the warnings.
    """
    try:
        loaded = default_config() if path is None else load_config(path)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        raise SystemExit(2) from error
    for warning in loaded.warnings if warn else ():
        click.secho(
            f"{'WARNING' if warning.loud else 'warning'}: {warning}", err=True, fg="red" if warning.loud else None
        )
    return loaded
