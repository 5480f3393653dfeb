"""Builds the house from a configuration, opens its doors and closes them again. The only file that knows every room."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp

from voxgate_server.audio.spool import SpoolStore
from voxgate_server.config import GatewayConfig
from voxgate_server.edges.grpc.admin import AdminServicer
from voxgate_server.edges.grpc.server import GrpcServer, admin_services, public_services
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.listen import ListenError, check_host, join_host_port, port_taken
from voxgate_server.edges.rest.app import rest_app
from voxgate_server.edges.rest.server import RestServer
from voxgate_server.edges.tls import TlsFiles, grpc_credentials, http_context
from voxgate_server.gateway import Gateway, GatewayLimits
from voxgate_server.providers.registry import build_provider
from voxgate_server.routing.deployments import Deployment, DeploymentTable
from voxgate_server.routing.router import Router, RouterSettings
from voxgate_server.telemetry import get_logger

__all__ = ["App", "Listening"]

_log = get_logger("app")

_ADMIN_CALLS = 16
_ADMIN_FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the server listens."""

    host: str
    grpc_port: int
    rest_port: int
    admin_host: str | None = None
    """None: there is no admin listener."""
    admin_port: int | None = None


class App:
    """A gateway with its providers, and the listeners in front of it.

    Args:
        config: The configuration.
        environ: Where providers' usual variables are looked up; None means the process's environment.
        worker: Number of this process among those that share the ports, from 1; None when it is the only one.
    """

    def __init__(
        self, config: GatewayConfig, *, environ: Mapping[str, str] | None = None, worker: int | None = None
    ) -> None:
        self._config = config
        settings = config.voxgate
        limits = settings.limits
        deployments = _deployments(config, os.environ if environ is None else environ)
        created = Timestamp()
        created.GetCurrentTime()
        groups = [entry.model_name for entry in config.model_list]
        table = DeploymentTable(deployments, groups=groups, aliases=config.aliases, created=created)
        self._spools = SpoolStore(
            directory=limits.spool_directory,
            window_bytes=limits.spool_window_bytes,
            quota_bytes=limits.spool_quota_bytes,
        )
        self.gateway = Gateway(
            Router(table, RouterSettings(fallbacks=config.fallbacks)),
            self._spools,
            GatewayLimits(
                max_audio_bytes=limits.max_audio_bytes,
                upload_idle_seconds=limits.upload_idle_seconds,
                request_timeout_seconds=limits.request_timeout_seconds,
                max_concurrent_calls=limits.max_concurrent_calls,
                allow_raw_payloads=settings.debug.allow_raw_payloads,
            ),
        )
        self._identity = Identity(config.master_key.get_secret_value() if config.master_key else None)
        self._ready = False
        self._created, self._worker = created, worker
        self._admin: GrpcServer | None = None
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(grace=0)

    async def start(
        self,
        *,
        host: str,
        grpc_port: int,
        rest_port: int,
        admin_host: str = "127.0.0.1",
        admin_port: int | None = None,
        share_ports: bool = False,
    ) -> Listening:
        """Opens the listeners.

        Args:
            host: Address of both public ones. Anything but loopback needs a key to be configured.
            grpc_port: 0 takes a free one.
            rest_port: 0 takes a free one.
            admin_host: Address of the admin listener. Anything but loopback needs a key to be configured.
            admin_port: 0 takes a free one; None opens no admin listener. Never shared: each process has its own state.
            share_ports: Several processes listen on the same public ports.

        Returns:
            Where they are.

        Raises:
            ListenError: A listener cannot be opened.
        """
        check_host(host, has_key=not self._identity.open_to_everybody)
        if admin_port is not None:
            check_host(admin_host, has_key=not self._identity.open_to_everybody)
        tls = _tls_files(self._config)
        try:
            credentials, context = (grpc_credentials(tls), http_context(tls)) if tls else (None, None)
        except ValueError as error:
            raise ListenError(str(error)) from error
        calls = self.gateway.limits.max_concurrent_calls
        self._grpc = GrpcServer(public_services(self.gateway), self._identity, calls=calls, share_port=share_ports)
        self._rest = RestServer(
            rest_app(self.gateway, self._identity, ready=lambda: self._ready), share_port=share_ports
        )
        try:
            grpc_port = await self._grpc.start(join_host_port(host, grpc_port), credentials)
        except RuntimeError as error:
            raise port_taken(host, grpc_port, "--grpc-port") from error
        try:
            rest_port = await self._rest.start(host, rest_port, context)
        except OSError as error:
            await self._grpc.stop(0)
            raise port_taken(host, rest_port, "--rest-port", error) from error
        if admin_port is not None:
            servicer = AdminServicer(self.gateway, started=self._created, worker=self._worker)
            self._admin = GrpcServer(admin_services(servicer), self._identity, calls=_ADMIN_CALLS, admins_only=True)
            try:
                admin_port = await self._admin.start(join_host_port(admin_host, admin_port), credentials)
            except RuntimeError as error:
                await asyncio.gather(self._grpc.stop(0), self._rest.stop(0))
                raise port_taken(admin_host, admin_port, "--admin-port") from error
        self._ready = True
        return Listening(host, grpc_port, rest_port, None if admin_port is None else admin_host, admin_port)

    async def stop(self, *, grace: float) -> None:
        """Takes no new calls, lets those in progress end, then gives everything up.

        Args:
            grace: Seconds calls in progress have.
        """
        self._ready = False
        doors = [door.stop(grace) for door in (self._grpc, self._rest) if door is not None]
        await asyncio.gather(*doors)
        # Last, so that operators can see, and end, what holds up the others.
        if self._admin is not None:
            await self._admin.stop(min(grace, _ADMIN_FAREWELL_SECONDS))
        await asyncio.gather(*(d.provider.aclose() for d in self.gateway.router.table.deployments()))
        self._spools.close()


def _deployments(config: GatewayConfig, environ: Mapping[str, str]) -> list[Deployment]:
    deployments = []
    for entry in config.model_list:
        problem = "; ".join(entry.problems)
        if not problem:
            try:
                provider = build_provider(entry, config, environ)
            except ValueError as error:
                problem = str(error)
        if problem:
            _log.warning("deployment is unusable and left out", model=entry.model_name, problem=problem)
            continue
        deployments.append(
            Deployment(
                id=entry.model_info.id,
                group=entry.model_name,
                provider=provider,
                weight=1.0 if entry.litellm_params.weight is None else float(entry.litellm_params.weight),
                timeout=config.attempt_seconds(entry),
            )
        )
    return deployments


def _tls_files(config: GatewayConfig) -> TlsFiles | None:
    tls = config.voxgate.tls
    if tls.certificate is None or tls.private_key is None:
        return None
    return TlsFiles(tls.certificate, tls.private_key, tls.client_ca)
