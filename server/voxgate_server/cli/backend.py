"""Who answers a command: a server, or a gateway inside this process. The options that choose, and what both can do."""

import math
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
    from voxgate.transcription.v1.model_service_pb2 import Model
    from voxgate.transcription.v1.transcription_pb2 import Transcription
    from voxgate.transcription.v1.transcription_service_pb2 import TranscribeLiveResponse

    from voxgate_server.cli.recording import Recording

__all__ = ["Backend", "BackendOptions", "FiniteRange", "OnProgress", "backend_options", "open_backend", "read_options"]

OnProgress = Callable[[int, bool], None]
"""Called with the bytes that were handed over so far, and whether those were all."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOR_SERVERS = {
    "api_key": "--api-key",
    "tls_ca": "--tls-ca",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "allow_plaintext_key": "--allow-plaintext-key",
}


class Backend(Protocol):
    """Answers commands between `__aenter__` and `__aexit__`."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def transcribe(
        self, recording: "Recording", config: "TranscriptionConfig", on_progress: OnProgress
    ) -> "Transcription":
        """Transcribes a recording.

        Raises:
            CallFailed: It could not be transcribed.
            OSError: It could not be read.
        """
        ...

    def live(
        self, audio: "AsyncIterable[bytes]", sample_rate: int, config: "TranscriptionConfig", pause_ms: int | None
    ) -> "AsyncGenerator[TranscribeLiveResponse]":
        """Transcribes speech while it is spoken.

        Args:
            audio: Samples as they come: signed 16 bit little-endian, mono.
            sample_rate: In Hz.
            config: The options.
            pause_ms: The pause that ends a turn, in milliseconds; None leaves it to the gateway.

        Raises:
            CallFailed: The session has failed.
        """
        ...

    async def models(self) -> "list[Model]":
        """What can be asked for, in order of the ids.

        Raises:
            CallFailed: The server did not say.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Options that say where a command goes."""

    server: str | None
    api_key: str | None = field(repr=False)
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    allow_plaintext_key: bool
    config_file: Path | None


class FiniteRange(click.FloatRange):
    """A range of numbers; click's own lets NaN and infinity through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises BadParameter for anything that is no number in the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def backend_options(command: _Command) -> _Command:
    """Gives a command the options of BackendOptions, and itself their values as the argument `options`."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option(
                "--server",
                metavar="HOST:PORT",
                envvar="VOXGATE_SERVER",
                show_envvar=True,
                help="gRPC address of a running gateway; https://HOST:PORT connects by TLS. Without it, a gateway runs "
                "inside this process for as long as the command takes.",
            ),
            click.option(
                "--api-key",
                metavar="KEY",
                envvar="VOXGATE_API_KEY",
                show_envvar=True,
                help="Key for the server. Other users of this machine can see it on a command line, but not in the "
                "environment.",
            ),
            click.option("--tls-ca", type=file, help="PEM file with the authorities to trust; turns TLS on."),
            click.option("--tls-cert", type=file, help="PEM file with this client's certificate chain, for mTLS."),
            click.option("--tls-key", type=file, help="PEM file with the private key of --tls-cert."),
            click.option(
                "--allow-plaintext-key",
                is_flag=True,
                help="Send the key to another machine without TLS, because the network itself encrypts.",
            ),
            click.option(
                "--config",
                "config_file",
                type=file,
                help="Configuration (LiteLLM's YAML) of the gateway inside this process. Without it: the embedded "
                "recogniser, and providers whose usual key is in the environment.",
            ),
        )
    ):
        command = option(command)
    return command


def read_options(ctx: click.Context, values: dict[str, Any]) -> BackendOptions:
    """Takes the options of BackendOptions out of a command's values.

    Raises:
        UsageError: An option is given that could have no effect.
    """
    options = BackendOptions(**{name: values.pop(name) for name in BackendOptions.__dataclass_fields__})
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if "config_file" in given:
        if "server" in given:
            raise click.UsageError("--config is for a gateway inside this process, and --server for another one.")
        # A server that only the environment names gives way to what was typed.
        options = replace(options, server=None)
    if options.server is None and (useless := [_FOR_SERVERS[name] for name in _FOR_SERVERS if name in given]):
        raise click.UsageError(f"{', '.join(useless)} has no effect without --server.")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together.")
    return options


def open_backend(options: BackendOptions, *, timeout: float | None = None) -> Backend:
    """The backend that the options choose, not yet entered.

    Args:
        options: Where to go.
        timeout: Limit of each transcription in seconds; None means the backend's own, usually 600.

    Raises:
        UsageError: The address, or what is to be used for TLS, is wrong.
        SystemExit: The configuration cannot be used; what is wrong with it has been said.
    """
    # What gRPC's core has to say about a connection, our own messages say; its lines would stand between them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported here, each only when it is used: both take a good part of a second.
    if options.server is not None:
        from voxgate_server.cli.remote import RemoteBackend

        return RemoteBackend(options, options.server, timeout)
    from voxgate_server.cli.inprocess import InProcessBackend

    return InProcessBackend(options.config_file, timeout)
