"""Where transcripts and tables go: standard output, a file, a directory."""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from voxgate_server.cli.messages import printable
from voxgate_server.cli.recording import STANDARD_INPUT

__all__ = ["destinations", "emit"]


def destinations(files: Sequence[str], output: str | None, extension: str) -> list[Path | None]:
    """Where the transcript of each file goes, None meaning standard output. Makes the directory that it needs.

    Args:
        files: Names of the recordings; `-` is standard input.
        output: A file, or a directory, which it is when it exists as one, ends with a slash or has to take several.
        extension: Of the files in a directory, without the dot.

    Raises:
        UsageError: A transcript could not be written there, would have the name of another one or would overwrite a
            recording. Said here because it is too late when a transcript is there and nowhere to put it.
    """
    if output is None:
        return [None] * len(files)
    target = Path(output)
    if not (len(files) > 1 or output.endswith("/") or target.is_dir()):
        paths = [target]
    else:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"--output {output}: this directory cannot be made: {error.strerror}.") from error
        paths = [target / f"{'stdin' if file == STANDARD_INPUT else Path(file).stem}.{extension}" for file in files]
    sources: dict[Path, str] = {}
    recordings = {Path(file).resolve() for file in files if file != STANDARD_INPUT}
    for file, path in zip(files, paths, strict=True):
        if path.resolve() in recordings:
            raise click.UsageError(f"--output {output}: the transcript of {file} would overwrite a recording.")
        if path in sources:
            raise click.UsageError(
                f"--output {output}: the transcripts of {sources[path]} and {file} would both be {path.name}."
            )
        if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise click.UsageError(f"--output {output}: {path} cannot be written.")
        sources[path] = file
    return list(paths)


def emit(body: bytes) -> None:
    """Writes to standard output, at once.

    On a terminal, characters that would steer it are replaced.

    Args:
        body: UTF-8.

    Raises:
        ClickException: It cannot be written.
        SystemExit: Whoever read it reads no more.
    """
    stream = sys.stdout.buffer
    if stream.isatty():
        body = printable(body.decode("utf-8", "replace"), keep="\n\t").encode()
    try:
        stream.write(body)
        stream.flush()
    except OSError as error:
        # What is still in the buffer would fail again at exit, with words and an exit code of Python's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            raise SystemExit(1) from error
        raise click.ClickException(f"cannot write to standard output: {error.strerror}") from error
