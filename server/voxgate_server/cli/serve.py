"""`voxgate serve`."""

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from voxgate_server.config import LoadedConfig


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="LiteLLM's YAML. Without it: the embedded recogniser, and providers whose usual key is in the environment.",
)
@click.option(
    "--host", help="Address of both listeners; any but a loopback one needs a master key.  [default: 127.0.0.1]"
)
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Port for gRPC, 0 for a free one.  [default: 50051]")
@click.option("--rest-port", type=click.IntRange(0, 65535), help="Port for REST, 0 for a free one.  [default: 4000]")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port for AdminService, 0 for a free one; with --workers, the first one's.  [default: none]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that share the two ports, one per processor core to use.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important lines that are shown. Every call is one line of level info.",
)
@click.option(
    "--log-json/--log-text",
    default=None,
    help="One JSON object a line, or lines for people, on standard error.  [default: text on a terminal, else JSON]",
)
@click.option("--worker", type=int, hidden=True, help="The number of this one of several workers.")
def serve(
    config_file: Path | None,
    host: str | None,
    grpc_port: int | None,
    rest_port: int | None,
    admin_port: int | None,
    workers: int,
    log_level: str,
    log_json: bool | None,
    worker: int | None,
) -> None:
    """Runs the gateway until SIGTERM or SIGINT.

    Then it takes no new calls, gives those in progress 30 seconds to end (voxgate.limits.drain_seconds) and exits
    with 0. A second signal ends it at once. Options win over the configuration's voxgate.listen and voxgate.admin.
    """
    # gRPC's preparations for a fork are for children that go on with it, and write a line for each. Ours, the embedded
    # recognisers, start another program at once.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from voxgate_server.cli.loading import load
    from voxgate_server.edges.listen import ListenError, check_host
    from voxgate_server.telemetry import configure_logging

    configure_logging(log_level, json=log_json, worker=worker)
    loaded = load(config_file, warn=worker is None)
    config = loaded.config
    listen = config.voxgate.listen
    host = listen.host if host is None else host
    grpc_port = listen.grpc_port if grpc_port is None else grpc_port
    rest_port = listen.rest_port if rest_port is None else rest_port
    admin_port = config.voxgate.admin.port if admin_port is None else admin_port
    try:
        check_host(host, has_key=config.master_key is not None)
        if admin_port is not None:
            check_host(config.voxgate.admin.host, has_key=config.master_key is not None)
    except ListenError as error:
        raise click.ClickException(str(error)) from error
    if workers > 1:
        from voxgate_server.cli.workers import run_workers

        arguments = ["--host", host, "--grpc-port", str(grpc_port), "--rest-port", str(rest_port)]
        arguments += ["--log-level", log_level]
        if admin_port is not None:
            arguments += ["--admin-port", str(admin_port)]
        if config_file is not None:
            arguments += ["--config", str(config_file)]
        if log_json is not None:
            arguments += ["--log-json" if log_json else "--log-text"]
        grace = config.voxgate.limits.drain_seconds
        sys.exit(run_workers(workers, host=host, ports=(grpc_port, rest_port), arguments=arguments, grace=grace))
    import uvloop

    if admin_port and worker is not None:
        # Each worker has a state of its own, and so a port of its own to see and change it.
        admin_port += worker - 1
    uvloop.run(_serve(loaded, host, grpc_port, rest_port, admin_port, worker=worker))


async def _serve(
    loaded: "LoadedConfig", host: str, grpc_port: int, rest_port: int, admin_port: int | None, *, worker: int | None
) -> None:
    from voxgate_server.app import App
    from voxgate_server.edges.listen import ListenError, join_host_port

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if worker is not None:
        _stop_with_parent(loop, stopping)
    config = loaded.config
    app = App(config, environ=loaded.environment, worker=worker)
    try:
        where = await app.start(
            host=host,
            grpc_port=grpc_port,
            rest_port=rest_port,
            admin_host=config.voxgate.admin.host,
            admin_port=admin_port,
            share_ports=worker is not None,
        )
    except ListenError as error:
        await app.stop(grace=0)
        raise click.ClickException(str(error)) from error
    scheme = "https" if config.voxgate.tls.certificate else "http"
    who = "voxgate" if worker is None else f"voxgate worker {worker} (process {os.getpid()})"
    doors = [
        f"gRPC on {join_host_port(where.host, where.grpc_port)}",
        f"REST on {scheme}://{join_host_port(where.host, where.rest_port)}",
    ]
    if where.admin_host is not None and where.admin_port is not None:
        doors.append(f"AdminService on {join_host_port(where.admin_host, where.admin_port)}")
    # What start-up made stays to the end: the collector need not look at it again at every call's expense.
    gc.collect()
    gc.freeze()
    click.echo(f"{who} is ready: {', '.join(doors)}", err=True)
    await stopping.wait()
    # A second signal must not be swallowed: whoever sends it does not want to wait.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    click.echo(f"stopping; calls in progress have {config.voxgate.limits.drain_seconds:g} s", err=True)
    await app.stop(grace=config.voxgate.limits.drain_seconds)


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """A worker's standard input is a pipe that the parent holds open: its end is the parent's end."""

    def readable() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stopping.set()

    loop.add_reader(0, readable)
