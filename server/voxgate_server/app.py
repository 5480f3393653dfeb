"""Builds the house from a configuration, opens its doors and closes them again. The only file that knows every room."""

import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from google.protobuf.timestamp_pb2 import Timestamp

from voxgate_server.audio.spool import SpoolStore
from voxgate_server.call import Caller
from voxgate_server.config import GatewayConfig, ModelEntry
from voxgate_server.config.hosts import Network
from voxgate_server.edges.grpc.admin import AdminServicer
from voxgate_server.edges.grpc.server import GrpcServer, admin_services, public_services
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.listen import ListenError, check_host, join_host_port, port_taken
from voxgate_server.edges.rest.app import rest_app
from voxgate_server.edges.rest.server import RestServer
from voxgate_server.edges.tls import TlsFiles, grpc_credentials, http_context
from voxgate_server.gateway import Gateway, GatewayLimits
from voxgate_server.live import LiveLimits, LiveRoom
from voxgate_server.providers.registry import build_for_caller, build_provider, provider_names
from voxgate_server.routing.deployments import Deployment, DeploymentTable, Wildcard
from voxgate_server.routing.health import Health, HealthSettings
from voxgate_server.routing.portkey_plan import PortkeyPlanner, PortkeySettings
from voxgate_server.routing.portkey_pool import DeploymentFactory
from voxgate_server.routing.router import Router, RouterSettings
from voxgate_server.routing.strategies import STRATEGIES
from voxgate_server.telemetry import get_logger

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

__all__ = ["App", "Listening"]

_log = get_logger("app")

_ADMIN_CALLS = 16
_ADMIN_FAREWELL_SECONDS = 1.0
_MODEL_NAME = re.compile(r"[\w.:@+/-]{1,200}", re.ASCII)
"""What the `*` of a wildcard may stand for."""


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
        resolver: Finds the addresses of hosts that callers name; None means the system's.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        environ: Mapping[str, str] | None = None,
        worker: int | None = None,
        resolver: "AbstractResolver | None" = None,
    ) -> None:
        self._config = config
        settings = config.voxgate
        limits = settings.limits
        self._retiring: set[asyncio.Task[None]] = set()
        table = _table(config, os.environ if environ is None else environ, self._retire)
        self._spools = SpoolStore(
            directory=limits.spool_directory,
            window_bytes=limits.spool_window_bytes,
            quota_bytes=limits.spool_quota_bytes,
        )
        self.gateway = Gateway(
            Router(table, _router_settings(config)),
            self._spools,
            GatewayLimits(
                max_audio_bytes=limits.max_audio_bytes,
                upload_idle_seconds=limits.upload_idle_seconds,
                request_timeout_seconds=limits.request_timeout_seconds,
                request_timeout_per_audio_second=limits.request_timeout_per_audio_second,
                max_concurrent_calls=limits.max_concurrent_calls,
                allow_raw_payloads=settings.debug.allow_raw_payloads,
                allow_drills=config.general_settings.dangerously_allow_mock_testing_request_params,
                sse_restart=settings.streaming.sse_restart,
            ),
        )
        self.live = LiveRoom(self.gateway, LiveLimits(**settings.live.model_dump()))
        self._portkey = PortkeyPlanner(_portkey_settings(config), self.gateway.router, _factory_for_callers(resolver))
        self._identity = Identity(
            config.master_key.get_secret_value() if config.master_key else None,
            {one.key.get_secret_value(): Caller(key_id=one.name, models=one.models or None) for one in settings.keys},
        )
        self._ready = False
        self._created, self._worker = Timestamp(), worker
        self._created.GetCurrentTime()
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
        self._grpc = GrpcServer(
            public_services(self.gateway, self.live), self._identity, calls=calls, share_port=share_ports
        )
        self._rest = RestServer(
            rest_app(self.gateway, self._identity, ready=lambda: self._ready, portkey=self._portkey),
            share_port=share_ports,
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
        self.live.go_away(grace)
        doors = [door.stop(grace) for door in (self._grpc, self._rest) if door is not None]
        await asyncio.gather(*doors)
        await self.live.aclose()
        # Last, so that operators can see, and end, what holds up the others.
        if self._admin is not None:
            await self._admin.stop(min(grace, _ADMIN_FAREWELL_SECONDS))
        await asyncio.gather(*(d.provider.aclose() for d in self.gateway.router.table.deployments()), *self._retiring)
        await self._portkey.aclose()
        await self.gateway.aclose()
        self._spools.close()

    def _retire(self, deployment: Deployment) -> None:
        task = asyncio.get_running_loop().create_task(deployment.provider.aclose())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _router_settings(config: GatewayConfig) -> RouterSettings:
    router = config.router_settings
    return RouterSettings(
        fallbacks=config.fallbacks,
        context_window_fallbacks=config.context_window_fallbacks,
        content_policy_fallbacks=config.content_policy_fallbacks,
        max_fallbacks=router.max_fallbacks,
        num_retries=config.num_retries,
        strategy=STRATEGIES[router.routing_strategy],
        tag_filtering=router.enable_tag_filtering,
        empty_falls_back=config.voxgate.empty_transcript == "fallback",
        hedging={group: hedging.percentile for group, hedging in config.voxgate.hedging.items()},
    )


def _portkey_settings(config: GatewayConfig) -> PortkeySettings:
    portkey = config.voxgate.portkey
    return PortkeySettings(
        configs=portkey.configs,
        allow_caller_credentials=portkey.allow_caller_credentials,
        custom_hosts={one.host: one.addresses for one in portkey.custom_hosts},
        credentials={
            name: {key: str(value) for key, value in values.items() if value is not None}
            for name, values in config.credentials.items()
        },
    )


def _table(config: GatewayConfig, environ: Mapping[str, str], retire: Callable[[Deployment], None]) -> DeploymentTable:
    made = [_deployment(entry, config, environ) for entry in config.model_list if not entry.is_wildcard]
    deployments = [deployment for deployment in made if deployment is not None]
    members = Counter(deployment.group for deployment in deployments)
    for deployment in deployments:
        deployment.health.alone = members[deployment.group] == 1
    patterns = [entry for entry in config.model_list if entry.is_wildcard]
    members = Counter(entry.model_name for entry in patterns if not entry.problems)
    wildcards = [_wildcard(entry, config, environ, alone=members[entry.model_name] == 1) for entry in patterns]
    created = Timestamp()
    created.GetCurrentTime()
    return DeploymentTable(
        deployments,
        wildcards=wildcards,
        groups=[entry.model_name for entry in config.model_list if not entry.is_wildcard],
        aliases=config.aliases,
        hidden=config.hidden_aliases,
        created=created,
        retire=retire,
    )


def _deployment(
    entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str], *, alone: bool = False
) -> Deployment | None:
    """The deployment of an entry; None, with a line in the log, when it cannot be used."""
    problem = "; ".join(entry.problems)
    if not problem:
        try:
            provider = build_provider(entry, config, environ)
        except ValueError as error:
            problem = str(error)
    if problem:
        _log.warning("deployment is unusable and left out", model=entry.model_name, problem=problem)
        return None
    params = entry.litellm_params
    return Deployment(
        id=entry.model_info.id,
        group=entry.model_name,
        provider=provider,
        health=Health(_health_settings(entry, config), alone=alone),
        weight=params.weight,
        order=params.order,
        timeout=config.attempt_seconds(entry),
        tags=frozenset(params.tags),
        cost_per_second=config.cost_per_second(entry),
        drops_params=config.drops_params(entry),
    )


def _health_settings(entry: ModelEntry, config: GatewayConfig) -> HealthSettings:
    params, router = entry.litellm_params, config.router_settings
    cooldown = router.cooldown_time if params.cooldown_time is None else params.cooldown_time
    return HealthSettings(
        allowed_fails=config.allowed_fails,
        cooldown_seconds=router.cooldown_time,
        fixed_cooldown=params.cooldown_time,
        rpm=params.rpm,
        max_parallel_requests=params.max_parallel_requests,
        disabled=router.disable_cooldowns or cooldown == 0,
    )


def _wildcard(entry: ModelEntry, config: GatewayConfig, environ: Mapping[str, str], *, alone: bool) -> Wildcard:
    def accepts(name: str) -> bool:
        # Callers choose the name, and it goes to the provider, in some dialects as a part of the address.
        if not _MODEL_NAME.fullmatch(name) or ".." in name:
            return False
        try:
            return entry.concrete(name).litellm_params.provider in provider_names()
        except ValueError:  # A bare name that does not tell whose model it is.
            return False

    def make(name: str) -> Deployment | None:
        return _deployment(entry.concrete(name), config, environ, alone=alone)

    return Wildcard(entry.model_name, make, accepts)


def _factory_for_callers(resolver: "AbstractResolver | None") -> DeploymentFactory:
    def make(provider: str, model: str, params: Mapping[str, str], networks: Sequence[Network] | None) -> Deployment:
        made = build_for_caller(provider, model, params, networks, resolver)
        # Its name leads nowhere: it is in no table, so that callers see nothing of each other's.
        return Deployment(id=f"portkey-{secrets.token_hex(8)}", group=f"{provider}/{model}", provider=made)

    return make


def _tls_files(config: GatewayConfig) -> TlsFiles | None:
    tls = config.voxgate.tls
    if tls.certificate is None or tls.private_key is None:
        return None
    return TlsFiles(tls.certificate, tls.private_key, tls.client_ca)
