"""The HTTP listener: uvicorn in our event loop, with our signals."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

__all__ = ["RestServer"]

_BACKLOG = 4096
"""Connections that may wait to be accepted: more than a burst of calls."""
_KEEP_ALIVE_SECONDS = 75


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves the process's signals to us: its own handlers would end the process after its shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class RestServer:
    """One HTTP listener.

    Args:
        app: Answers the requests.
        share_port: Several processes listen on the same port (SO_REUSEPORT). Otherwise a second one is refused.
    """

    def __init__(self, app: ASGIApp, *, share_port: bool = False) -> None:
        self._app = app
        self._share_port = share_port
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listens.

        Args:
            host: Address to listen on.
            port: Port; 0 takes a free one.
            context: For TLS; None means plain text.

        Returns:
            The port.

        Raises:
            OSError: The address is in use or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=self._share_port)
        config = uvicorn.Config(
            self._app,
            http="httptools",
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=16 * 1024,
        )
        config.load()
        config.ssl = context
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError("the HTTP listener did not start")
            await asyncio.sleep(0.005)
        return int(listener.getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Takes no new connections, and ends requests still running after `grace` seconds."""
        if self._server is None or self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(int(grace), 1)
        self._server.should_exit = True
        await self._task
