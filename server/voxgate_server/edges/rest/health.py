"""GET /health and GET /metrics: how the deployments are doing, from what calls have shown. Nobody is asked for it."""

import asyncio
import time
from urllib.parse import parse_qs

import msgspec

from voxgate_server.gateway import Gateway
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.health import Circuit, OperatorState
from voxgate_server.telemetry.metrics import DeploymentGauges

__all__ = ["health_body", "metrics_body"]

_CIRCUITS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}
_OPERATOR_STATES = {OperatorState.ENABLED: 0, OperatorState.DRAINING: 1, OperatorState.DISABLED: 2}


def health_body(gateway: Gateway, query: bytes) -> bytes:
    """LiteLLM's document: the deployments in two lists, and how many are in each.

    Args:
        gateway: Whose.
        query: `model=NAME` chooses a group, by its name or an alias; without it, all.

    Raises:
        UnknownModel: There is no such group.
    """
    table = gateway.router.table
    model = parse_qs(query.decode("latin-1")).get("model", [""])[0]
    deployments = table.group(model) if model else table.deployments()
    now = time.monotonic()
    healthy: list[dict[str, object]] = []
    unhealthy: list[dict[str, object]] = []
    for deployment in deployments:
        endpoint, problem = _endpoint(deployment, now), _problem(deployment, now)
        if problem is None:
            healthy.append(endpoint)
        else:
            unhealthy.append({**endpoint, "error": problem})
    return msgspec.json.encode(
        {
            "healthy_endpoints": healthy,
            "unhealthy_endpoints": unhealthy,
            "healthy_count": len(healthy),
            "unhealthy_count": len(unhealthy),
        }
    )


async def metrics_body(gateway: Gateway) -> bytes:
    """The metrics, as Prometheus reads them."""
    now = time.monotonic()
    return await asyncio.to_thread(
        gateway.metrics.render,
        active_calls=gateway.calls_in_progress,
        spool_bytes=gateway.spool_bytes,
        deployments=[
            DeploymentGauges(
                deployment=deployment.id,
                group=deployment.group,
                provider=deployment.provider.name,
                model=deployment.provider.model,
                circuit=_CIRCUITS[deployment.health.circuit(now)],
                operator_state=_OPERATOR_STATES[deployment.health.operator_state],
                active_attempts=deployment.health.in_flight,
            )
            for deployment in gateway.router.table.deployments()
        ],
    )


def _endpoint(deployment: Deployment, now: float) -> dict[str, object]:
    provider, health = deployment.provider, deployment.health
    return {
        "model": f"{provider.name}/{provider.model}",
        "model_name": deployment.group,
        "model_id": deployment.id,
        "state": health.operator_state.value,
        "circuit": health.circuit(now).value,
        "active_requests": health.in_flight,
    }


def _problem(deployment: Deployment, now: float) -> str | None:
    """Why calls do not go there; None when they do."""
    health = deployment.health
    if health.operator_state is not OperatorState.ENABLED:
        return f"The operator's state is {health.operator_state.value}."
    match health.circuit(now):
        case Circuit.CLOSED:
            return None
        case Circuit.OPEN:
            left = max((health.open_until or now) - now, 0.0)
            return f"Cools down for {left:.1f} s more. {health.last_error}"
        case Circuit.HALF_OPEN:
            return f"Cooled down; the next call finds out. {health.last_error}"
