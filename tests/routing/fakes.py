"""Deployments for tests of the routing: nobody is ever asked."""

import random
from collections.abc import AsyncGenerator, Sequence

from voxgate.transcription.v1.config_pb2 import RESPONSE_FORMAT_JSON, TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.health import Health, HealthSettings
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.policy import RetryBudget
from voxgate_server.routing.route import Route
from voxgate_server.routing.strategies import STRATEGIES

__all__ = ["Silent", "deployment", "hop", "route"]


class Silent:
    """A provider that has capabilities and is never asked."""

    def __init__(self, model: str, capabilities: ModelCapabilities | None = None) -> None:
        self.name, self.model = "silent", model
        self.capabilities = capabilities or ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON])

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        raise AssertionError(attempt)
        yield TranscriptionEvent()

    async def aclose(self) -> None:
        return


def deployment(name: str, settings: HealthSettings | None = None, *, alone: bool = False, **more) -> Deployment:
    health = Health(settings or HealthSettings(), alone=alone)
    return Deployment(name, "group", Silent(name), health=health, **more)


def hop(*deployments: Deployment, **more) -> Hop:
    return Hop("group", deployments, TranscriptionConfig(), **more)


def route(hops: Sequence[Hop], *, deadline: float = 600.0, budget: RetryBudget | None = None, seed: int = 0) -> Route:
    return Route(
        hops,
        strategy=STRATEGIES["simple-shuffle"],
        budget=budget or RetryBudget(),
        deadline=deadline,
        rng=random.Random(seed),
    )
