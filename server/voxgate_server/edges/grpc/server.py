"""The gRPC listener: services, limits, keepalive, TLS, health and reflection."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from voxgate.admin.v1 import admin_service_pb2
from voxgate.admin.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from voxgate.transcription.v1 import model_service_pb2, transcription_service_pb2
from voxgate.transcription.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from voxgate.transcription.v1.transcription_service_pb2_grpc import add_TranscriptionServiceServicer_to_server

from voxgate_server.edges.grpc.admin import AdminServicer
from voxgate_server.edges.grpc.fence import Fence
from voxgate_server.edges.grpc.models import ModelServicer
from voxgate_server.edges.grpc.transcription import TranscriptionServicer
from voxgate_server.edges.identity import Identity
from voxgate_server.gateway import Gateway
from voxgate_server.live import LiveRoom

__all__ = ["GrpcServer", "admin_services", "public_services"]

_MESSAGE_BYTES = 32 << 20
"""The largest message: a whole recording in Transcribe. Larger ones come in chunks."""

_FAREWELL_SECONDS = 1.0
"""What is given to whatever must not hold up the end of the server: the last word to health checks, tidying up."""

Services: TypeAlias = Mapping[str, Callable[[Any], None]]
"""By their full names: what adds them to a server."""


def public_services(gateway: Gateway, live: LiveRoom) -> Services:
    """The services for everybody with a key."""
    transcription = transcription_service_pb2.DESCRIPTOR.services_by_name["TranscriptionService"].full_name
    models = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
    return {
        transcription: lambda to: add_TranscriptionServiceServicer_to_server(TranscriptionServicer(gateway, live), to),
        models: lambda to: add_ModelServiceServicer_to_server(ModelServicer(gateway), to),
    }


def admin_services(servicer: AdminServicer) -> Services:
    """The services for operators."""
    name = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
    return {name: lambda to: add_AdminServiceServicer_to_server(servicer, to)}


class GrpcServer:
    """One gRPC listener.

    Args:
        services: What it serves, besides health checks and reflection.
        identity: Knows the keys.
        calls: How many calls it may have at once; the services refuse with a reason before this bare limit.
        admins_only: Everything but health checks and reflection needs an admin key.
        share_port: Several processes listen on the same port (SO_REUSEPORT). Otherwise a second one is refused.
    """

    def __init__(
        self,
        services: Services,
        identity: Identity,
        *,
        calls: int,
        admins_only: bool = False,
        share_port: bool = False,
    ) -> None:
        self._services = tuple(services)
        self._fence = Fence(identity, admins_only=admins_only)
        self._server = aio.server(
            interceptors=[self._fence],
            maximum_concurrent_rpcs=2 * calls + 64,
            options=[
                ("grpc.so_reuseport", int(share_port)),
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.max_send_message_length", -1),
                # Clients may ping every 10 s even while nothing is going on; the default answers with GOAWAY.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                # Finds peers that vanished without a word; ping_timeout is what makes keepalive notice.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.ping_timeout_ms", 10_000),
                # A fixed window per stream instead of one that grows with the bandwidth: uploads are taken as fast as
                # the spool takes them, and eight large ones at once would otherwise hold hundreds of megabytes here.
                # 512 KiB still carries 10 MB/s over a round trip of 50 ms.
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", 512 << 10),
                ("grpc.max_metadata_size", 8192),
                ("grpc.absolute_max_metadata_size", 16_384),
            ],
        )
        self._health = HealthServicer()
        for add in services.values():
            add(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            self._server,
        )

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listens.

        Args:
            address: `host:port`; port 0 takes a free one.
            credentials: For TLS; None means plain text.

        Returns:
            The port.

        Raises:
            RuntimeError: The address is in use or not ours.
        """
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Tells health checks, takes no new calls, and ends those still running after `grace` seconds."""
        with contextlib.suppress(TimeoutError):
            # A watcher that reads nothing would hold this up.
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        # This sends channels elsewhere at once, and waits for all there is. Health checks and reflection may never
        # end by themselves, so they are ended once the calls are over. A second `stop` that hurries the first one
        # is no way: when both end at once, grpc touches the server that it has just freed.
        stopping = asyncio.ensure_future(self._server.stop(grace))
        if calls := set(self._fence.calls):
            await asyncio.wait(calls, timeout=grace)
        await self._fence.end_watches(min(grace, _FAREWELL_SECONDS))
        await stopping
        if calls := set(self._fence.calls):
            await asyncio.wait(calls, timeout=_FAREWELL_SECONDS)

    async def _set_health(self, status: Any) -> None:
        await asyncio.gather(*(self._health.set(service, status) for service in ("", *self._services)))
