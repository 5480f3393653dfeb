"""`voxgate transcribe`."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxgate_server.cli.backend import Backend, FiniteRange, OnProgress, backend_options, open_backend, read_options
from voxgate_server.cli.messages import CallFailed, complain, printable
from voxgate_server.cli.output import destinations, emit
from voxgate_server.cli.recording import STANDARD_INPUT, Recording

if TYPE_CHECKING:
    from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
    from voxgate.transcription.v1.transcription_pb2 import Transcription

_EXTENSIONS = {"text": "txt", "srt": "srt", "vtt": "vtt", "json": "json", "verbose_json": "json"}


class _Words(click.ParamType[str]):
    """Text that can be sent: arguments are bytes, and need not be UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("is not UTF-8.", param, ctx)
        return text


@click.command(short_help="Writes down what is said in recordings.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True))
@click.option(
    "--model", type=_Words(), default="whisper-1", show_default=True, help="Model or model group; see `voxgate models`."
)
@click.option("--language", type=_Words(), help="Language of the speech, e.g. `de`.  [default: detected]")
@click.option("--prompt", type=_Words(), help="Text that guides style or vocabulary.")
@click.option("--temperature", type=FiniteRange(0, 1), help="Sampling temperature.  [default: the provider's]")
@click.option(
    "--timestamps",
    type=click.Choice(["word", "segment"]),
    multiple=True,
    help="Times to ask for; may be given twice. verbose_json shows them.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(_EXTENSIONS)),
    default="text",
    show_default=True,
    help="Of the answer.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIRECTORY",
    help="Write there instead of standard output. With several recordings, or ending in /, it is a directory.",
)
@click.option("--fallback", "fallbacks", type=_Words(), multiple=True, help="Model to try next; may be given 5 times.")
@click.option(
    "--timeout",
    type=FiniteRange(0, 7 * 86_400, min_open=True),
    metavar="SECONDS",
    help="Limit for each recording.  [default: 600, or as --config says]",
)
@backend_options
@click.pass_context
def transcribe(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    format_: str,
    output: str | None,
    timeout: float | None,
    **values: Any,
) -> None:
    """Writes down what is said in recordings. `-` reads one from standard input.

    Transcripts go to standard output in the order of the files, each as soon as it is there. With --format json or
    verbose_json each is one line (JSON Lines). On a terminal several have headings, and standard error shows the
    progress; in a pipe there is neither. A recording that failed leaves nothing there, so where transcripts have to
    be matched with recordings, or several srt or vtt documents kept apart, use --output DIRECTORY: the transcript of
    talk.mp3 becomes talk.txt, .srt, .vtt or .json.

    Exit codes: 0 all done; 1 at least one recording failed (`voxgate: FILE: why` on standard error), the others are
    done; 2 wrong usage or configuration; 130 interrupted.

    \b
    Examples:
      voxgate transcribe meeting.flac
      voxgate transcribe --format srt -o talk.srt talk.mp4
      voxgate transcribe --format json -o transcripts/ *.mp3
      ffmpeg -i film.mkv -vn -f ogg - | voxgate transcribe -
      voxgate transcribe --server gateway:50051 --model openai/whisper-1 \\
          --format verbose_json --timestamps word talk.wav | jq .words
    """  # noqa: D301  (click wants the character itself)
    options = read_options(ctx, values)
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Standard input (-) can be read once.")
    paths = destinations(files, output, _EXTENSIONS[format_])
    with_headings = len(files) > 1 and output is None and sys.stdout.isatty()
    config = _config(format_, **values)
    backend = open_backend(options, timeout=timeout)
    failed = printed = 0
    # The loop runs only while something is waited for, so that Ctrl-C ends writing to a pipe nobody reads as well.
    with asyncio.Runner() as runner:
        runner.run(backend.__aenter__())
        try:
            for file, path in zip(files, paths, strict=True):
                try:
                    transcription = _transcribed(runner, backend, file, config)
                except (CallFailed, OSError) as error:
                    complain(file, error)
                    failed += 1
                    continue
                body = _document(transcription, config)
                if path is not None:
                    failed += not _written(path, body)
                    continue
                if with_headings:
                    body = f"==> {printable(file)} <==\n".encode() + body
                if printed and format_ in {"srt", "vtt"}:
                    body = b"\n" + body  # Cues end with an empty line, but documents do not.
                emit(body)
                printed += 1
        finally:
            runner.run(backend.__aexit__(None, None, None))
    ctx.exit(1 if failed else 0)


def _config(
    format_: str,
    *,
    model: str,
    language: str | None,
    prompt: str | None,
    temperature: float | None,
    timestamps: tuple[str, ...],
    fallbacks: tuple[str, ...],
) -> "TranscriptionConfig":
    from voxgate.transcription.v1.config_pb2 import (
        ResponseFormat,
        RouteTarget,
        RoutingConfig,
        TimestampGranularity,
        TranscriptionConfig,
    )

    config = TranscriptionConfig(
        model=model,
        # Empty is what a script's unset variable gives.
        language=language or None,
        prompt=prompt or None,
        temperature=temperature,
        response_format=ResponseFormat.Value(f"RESPONSE_FORMAT_{format_.upper()}"),
        timestamp_granularities=[
            TimestampGranularity.Value(f"TIMESTAMP_GRANULARITY_{level.upper()}") for level in dict.fromkeys(timestamps)
        ],
    )
    if fallbacks:
        config.routing.CopyFrom(RoutingConfig(fallbacks=[RouteTarget(model=name) for name in fallbacks]))
    return config


def _transcribed(runner: asyncio.Runner, backend: Backend, file: str, config: "TranscriptionConfig") -> "Transcription":
    recording = Recording.at(file)
    with _progress(recording) as on_progress:
        return runner.run(backend.transcribe(recording, config, on_progress))


def _progress(recording: Recording) -> contextlib.AbstractContextManager[OnProgress]:
    if not sys.stderr.isatty():
        return contextlib.nullcontext(lambda _sent, _finished: None)
    from voxgate_server.cli.progress import shown

    name = "standard input" if recording.name == STANDARD_INPUT else Path(recording.name).name
    return shown(name, recording.size)


def _document(transcription: "Transcription", config: "TranscriptionConfig") -> bytes:
    from voxgate_server.edges.rest.encode import encode_transcription

    levels = config.timestamp_granularities
    body = encode_transcription(transcription, config.response_format, granularities=levels).body
    return body if body.endswith(b"\n") else body + b"\n"


def _written(path: Path, body: bytes) -> bool:
    """Writes a transcript to its file. False: it could not be, which has been said."""
    try:
        path.write_bytes(body)
    except OSError as error:
        complain(str(path), error)
        return False
    return True
