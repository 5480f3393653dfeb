"""AdminService: what operators see and decide."""

import time
from typing import Any, NoReturn, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from voxgate.admin.v1 import admin_service_pb2 as api
from voxgate.admin.v1.admin_service_pb2_grpc import AdminServiceServicer

from voxgate_server import __version__
from voxgate_server.call import Call
from voxgate_server.errors import InvalidRequest, NotFound, NotInThisRelease
from voxgate_server.gateway import Gateway
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.health import Circuit, OperatorState
from voxgate_server.telemetry import get_logger

__all__ = ["AdminServicer"]

_log = get_logger("admin")

_Context: TypeAlias = "aio.ServicerContext[Any, Any]"

_API_VERSIONS = ("voxgate.transcription.v1", "voxgate.admin.v1")
_STATES = {
    OperatorState.ENABLED: api.PROVIDER_STATE_ENABLED,
    OperatorState.DRAINING: api.PROVIDER_STATE_DRAINING,
    OperatorState.DISABLED: api.PROVIDER_STATE_DISABLED,
}
_STATES_BY_NUMBER = {number: state for state, number in _STATES.items()}
_CIRCUITS = {
    Circuit.CLOSED: api.CIRCUIT_STATE_CLOSED,
    Circuit.OPEN: api.CIRCUIT_STATE_OPEN,
    Circuit.HALF_OPEN: api.CIRCUIT_STATE_HALF_OPEN,
}


class AdminServicer(AdminServiceServicer):
    """Shows and changes the state of one process.

    Args:
        gateway: Whose state.
        started: When the process began to serve.
        worker: Its number among those that share the ports, from 1; None when it is the only one.
    """

    def __init__(self, gateway: Gateway, *, started: Timestamp, worker: int | None) -> None:
        self._gateway = gateway
        self._started = started
        self._worker = worker

    async def ListProviders(  # noqa: N802
        self, request: api.ListProvidersRequest, context: _Context
    ) -> api.ListProvidersResponse:
        """The deployments, and how they are doing."""
        deployments = self._gateway.router.table.deployments()
        return api.ListProvidersResponse(
            providers=[_provider(one) for one in deployments if request.group in {"", one.group}]
        )

    async def SetProviderState(  # noqa: N802
        self, request: api.SetProviderStateRequest, context: _Context
    ) -> api.SetProviderStateResponse:
        """Takes a deployment out of service, or puts it back."""
        state = _STATES_BY_NUMBER.get(request.state)
        if state is None:
            raise InvalidRequest("state must be ENABLED, DRAINING or DISABLED.", param="state")
        for deployment in self._gateway.router.table.deployments():
            if deployment.id == request.id:
                deployment.health.operator_state = state
                _log.warning("deployment's state set by an operator", deployment=deployment.id, state=state.value)
                return api.SetProviderStateResponse(provider=_provider(deployment))
        raise NotFound(f"There is no deployment '{request.id[:100]}'; ListProviders lists them.", param="id")

    async def ListActiveRequests(  # noqa: N802
        self, request: api.ListActiveRequestsRequest, context: _Context
    ) -> api.ListActiveRequestsResponse:
        """The transcriptions in progress."""
        return api.ListActiveRequestsResponse(requests=[_active_request(call) for call in self._gateway.active])

    async def CancelRequest(  # noqa: N802
        self, request: api.CancelRequestRequest, context: _Context
    ) -> api.CancelRequestResponse:
        """Ends a transcription in progress."""
        self._gateway.active.cancel(request.request_id)
        _log.warning("call cancelled by an operator", request_id=request.request_id)
        return api.CancelRequestResponse()

    async def ReloadConfig(self, request: api.ReloadConfigRequest, context: _Context) -> NoReturn:  # noqa: N802
        """Not part of this release."""
        raise NotInThisRelease(
            "ReloadConfig is not part of this release; restart the server to read its configuration."
        )

    async def GetServerInfo(  # noqa: N802
        self, request: api.GetServerInfoRequest, context: _Context
    ) -> api.GetServerInfoResponse:
        """Which program this is."""
        return api.GetServerInfoResponse(
            version=__version__, start_time=self._started, worker=self._worker, api_versions=_API_VERSIONS
        )


def _provider(deployment: Deployment) -> api.Provider:
    now, health = time.monotonic(), deployment.health
    circuit = health.circuit(now)
    provider = api.Provider(
        id=deployment.id,
        group=deployment.group,
        provider=deployment.provider.name,
        model=deployment.provider.model,
        state=_STATES[health.operator_state],
        circuit=_CIRCUITS[circuit],
        consecutive_failure_count=health.consecutive_failures,
        last_error=health.last_error,
        error_ratio=health.error_ratio(now),
        active_request_count=health.in_flight,
        minute_request_count=health.window_requests,
    )
    if circuit is Circuit.OPEN and health.open_until is not None:
        provider.open_for.CopyFrom(_duration(health.open_until - now))
        provider.open_until.CopyFrom(_wall_clock(health.open_until))
    if health.latency is not None:
        provider.latency_per_audio_second.CopyFrom(_duration(health.latency))
    return provider


def _active_request(call: Call) -> api.ActiveRequest:
    attempt = call.attempts[-1] if call.attempts else None
    return api.ActiveRequest(
        request_id=call.request_id,
        method=call.method,
        key_id=call.caller.key_id,
        requested_model=call.config.model,
        provider=attempt.provider if attempt else "",
        model=attempt.model if attempt else "",
        attempt_count=len(call.attempts),
        start_time=_wall_clock(call.started),
        received_bytes=call.spool.size,
        upload_complete=call.spool.finished,
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _wall_clock(monotonic: float) -> Timestamp:
    """The time of day of a time on the clock of `time.monotonic()`."""
    timestamp = Timestamp()
    timestamp.FromNanoseconds(time.time_ns() + round((monotonic - time.monotonic()) * 1e9))
    return timestamp
