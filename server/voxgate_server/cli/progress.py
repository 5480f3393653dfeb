"""How far a transcription is, as a line on the terminal that standard error is."""

import contextlib
import datetime
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from voxgate_server.cli.backend import OnProgress
from voxgate_server.cli.messages import printable

__all__ = ["shown"]


class _Elapsed(ProgressColumn):
    """Time since the start. Rich's own stops when all bytes are sent, and the longest part comes after that."""

    def render(self, task: Task) -> Text:
        """As 0:00:05."""
        return Text(str(datetime.timedelta(seconds=int(task.elapsed or 0))))


@contextlib.contextmanager
def shown(name: str, total: int | None) -> Iterator[OnProgress]:
    """Shows the progress of one recording until the block ends; its last state stays.

    Args:
        name: The recording.
        total: Its size in bytes; None when it is not known.
    """
    bars = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[state]}", table_column=Column(min_width=len("recognising"), no_wrap=True)),
        _Elapsed(),
        console=Console(stderr=True),
    )
    with bars:
        task = bars.add_task(printable(name), total=total, state="uploading")

        def show(sent: int, finished: bool) -> None:
            if finished:
                bars.update(task, completed=sent, total=sent, state="recognising")
            else:
                bars.update(task, completed=sent)

        try:
            yield show
        except BaseException as error:
            bars.update(task, state="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        bars.update(task, state="done")
