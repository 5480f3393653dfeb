"""How long it takes to plan a call and to choose whom to ask first, among many deployments."""

import statistics
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.config_pb2 import RESPONSE_FORMAT_JSON, TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.deployments import Deployment, DeploymentTable
from voxgate_server.routing.route import Try
from voxgate_server.routing.router import Router, RouterSettings

__all__ = ["measure"]

_DEPLOYMENTS: Final = 1000


class _Nobody:
    """A provider that is never asked."""

    def __init__(self, model: str) -> None:
        self.name, self.model = "nobody", model
        self.capabilities = ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON])

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        raise AssertionError(attempt)
        yield TranscriptionEvent()

    async def aclose(self) -> None:
        return


def measure(calls: int) -> dict[str, float]:
    """Microseconds for a plan and its first step, as medians of `calls` calls.

    Returns:
        `groups_us`: among 1,000 groups of one deployment each; `one_group_us`: among 1,000 deployments of one group.
    """
    groups = Router(_table(lambda number: f"g{number}"), RouterSettings(fallbacks={"*": ["g0"]}))
    one_group = Router(_table(lambda _: "g0"))
    return {
        "groups_us": _median_us(groups, [f"g{number}" for number in range(_DEPLOYMENTS)], calls),
        "one_group_us": _median_us(one_group, ["g0"], calls),
    }


def _table(group: Callable[[int], str]) -> DeploymentTable:
    deployments = [Deployment(f"d{number}", group(number), _Nobody(f"m{number}")) for number in range(_DEPLOYMENTS)]
    return DeploymentTable(deployments, created=Timestamp())


def _median_us(router: Router, models: list[str], calls: int) -> float:
    seconds = []
    for number in range(calls):
        config = TranscriptionConfig(model=models[number * 7 % len(models)], response_format=RESPONSE_FORMAT_JSON)
        started = time.perf_counter()
        step = router.route(router.plan(config), deadline=started + 60).next(started)
        seconds.append(time.perf_counter() - started)
        assert isinstance(step, Try)
    return statistics.median(seconds) * 1e6
