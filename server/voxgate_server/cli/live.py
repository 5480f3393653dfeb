"""`voxgate live`."""

import asyncio
import contextlib
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxgate_server.cli.backend import Backend, FiniteRange, backend_options, open_backend, read_options
from voxgate_server.cli.messages import CallFailed, complain, printable
from voxgate_server.cli.output import emit
from voxgate_server.cli.speech import Microphone, Played

if TYPE_CHECKING:
    from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
    from voxgate.transcription.v1.transcription_service_pb2 import SessionNotice, TranscribeLiveResponse

_CLEAR_LINE = "\r\x1b[K"


@click.command(short_help="Writes down what is said while it is said.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--microphone", is_flag=True, help="Listen to the microphone (by arecord) until Ctrl-C.")
@click.option("--fast", is_flag=True, help="Send the file as fast as it is taken, not at the pace it was spoken at.")
@click.option("--model", default="whisper-1", show_default=True, help="Model or model group; see `voxgate models`.")
@click.option("--language", help="Language of the speech, e.g. `de`.  [default: detected]")
@click.option("--prompt", help="Text that guides style or vocabulary.")
@click.option(
    "--pause",
    type=FiniteRange(0, 30, min_open=True),
    metavar="SECONDS",
    help="The pause that ends a line.  [default: 0.5]",
)
@backend_options
@click.pass_context
def live(
    ctx: click.Context,
    /,
    file: Path | None,
    microphone: bool,
    fast: bool,
    model: str,
    language: str | None,
    prompt: str | None,
    pause: float | None,
    **values: Any,
) -> None:
    """Writes down what is said while it is said: a line for every turn, which a pause ends.

    On a terminal the line that is still being spoken is shown as it is understood and rewritten until it is certain,
    where the model can do that; the embedded recogniser can. In a pipe there are only the certain lines. Ctrl-C ends
    listening to the microphone; what was said before is still written.

    Exit codes: 0 all done; 1 the session failed, or a turn was lost (`voxgate: FILE: why` on standard error); 2 wrong
    usage or configuration; 130 interrupted.

    \b
    Examples:
      voxgate live --microphone
      voxgate live talk.flac
      voxgate live --server gateway:50051 --model groq/whisper-large-v3 --microphone | tee notes.txt
    """  # noqa: D301  (click wants the character itself)
    options = read_options(ctx, values)
    if microphone == (file is not None):
        raise click.UsageError("Give either a FILE or --microphone.")
    if microphone and fast:
        raise click.UsageError("--fast is for files.")
    source = Microphone() if file is None else Played(file, paced=not fast)
    backend = open_backend(options)
    config = _config(model, language, prompt)
    pause_ms = None if pause is None else max(round(pause * 1000), 1)
    name = "microphone" if file is None else str(file)
    ctx.exit(asyncio.run(_listen(backend, source, config, pause_ms, name)))


async def _listen(
    backend: Backend, source: Microphone | Played, config: "TranscriptionConfig", pause_ms: int | None, name: str
) -> int:
    lines = _Lines(name)
    if isinstance(source, Microphone):
        loop = asyncio.get_running_loop()

        def stop() -> None:
            source.stop()
            loop.remove_signal_handler(signal.SIGINT)  # The next one interrupts.

        loop.add_signal_handler(signal.SIGINT, stop)
    async with backend:
        pieces = source.pieces()
        try:
            events = backend.live(pieces, source.sample_rate, config, pause_ms)
            async with contextlib.aclosing(pieces), contextlib.aclosing(events):
                async for event in events:
                    lines.show(event)
        except (CallFailed, OSError) as error:
            lines.clear()
            complain(name, error)
            return 1
        finally:
            lines.clear()
    return 1 if lines.lost else 0


class _Lines:
    """Finals as lines on standard output, and what is still being spoken below them where that is a terminal.

    Args:
        name: Of what is listened to, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = sys.stdout.isatty()
        self._drawn = False
        self.lost = False
        """A turn could not be recognised."""

    def show(self, event: "TranscribeLiveResponse") -> None:
        """Shows what there is to see of an event."""
        match event.WhichOneof("event"):
            case "partial" if self._terminal:
                self._draw(event.partial.text)
            case "turn_completed":
                self.clear()
                turn = event.turn_completed
                if turn.HasField("error"):
                    self.lost = True
                    complain(self._name, turn.error.message)
                elif text := turn.transcription.text.strip():
                    emit(" ".join(text.split()).encode() + b"\n")
            case "notice":
                self.clear()
                if said := _said(event.notice):
                    complain(self._name, said)

    def clear(self) -> None:
        """Takes away what is not certain."""
        if self._drawn:
            self._drawn = False
            self._write(_CLEAR_LINE)

    def _draw(self, text: str) -> None:
        # A line that wraps could not be rewritten; its end is what is new.
        room = shutil.get_terminal_size().columns - 1
        shown = printable(" ".join(text.split()))
        if len(shown) > room:
            shown = "…" + shown[len(shown) - room + 1 :]
        self._drawn = True
        self._write(_CLEAR_LINE + shown)

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.buffer.flush()


def _said(notice: "SessionNotice") -> str:
    match notice.WhichOneof("kind"):
        case "going_away":
            seconds = notice.going_away.time_left.ToTimedelta().total_seconds()
            return f"the server ends the session in {seconds:.0f} s"
        case "provider_switched":
            switched = notice.provider_switched
            taken = switched.to_provider or "another attempt"
            return f"{switched.from_provider or 'a provider'} failed ({switched.reason}); {taken} takes over"
        case "audio_dropped":
            dropped = notice.audio_dropped
            return f"what was said from {dropped.start:.1f} to {dropped.end:.1f} s is lost"
    return ""


def _config(model: str, language: str | None, prompt: str | None) -> "TranscriptionConfig":
    from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

    return TranscriptionConfig(model=model, language=language or None, prompt=prompt or None)
