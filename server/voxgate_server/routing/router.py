"""Which deployments serve a call, in which order."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voxgate.transcription.v1.config_pb2 import RouteTarget, TranscriptionConfig

from voxgate_server.errors import InvalidRequest, ProviderUnavailable, UnsupportedParameter
from voxgate_server.routing.capabilities import refusal
from voxgate_server.routing.deployments import Deployment, DeploymentTable

__all__ = ["Router", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """One step of a plan: a deployment, and the call's options as they are for it."""

    deployment: Deployment
    config: TranscriptionConfig
    timeout: float | None
    """Limit of the attempt in seconds; None means what is left of the call."""


@dataclass(frozen=True, slots=True)
class Router:
    """Plans a call: the deployments of its group, then those of its fallbacks."""

    table: DeploymentTable
    fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Groups to try after a group has failed; `*` stands for the groups that have no entry of their own."""

    def plan(self, config: TranscriptionConfig) -> list[Target]:
        """The targets of a call, in the order in which they are tried; at least one.

        A target that cannot do what is asked for is left out.

        Raises:
            UnknownModel: There is no such model, or no such fallback.
            UnsupportedParameter: No target can do what is asked for; the error is that of the first.
            ProviderUnavailable: The operator knows the model, and none of its deployments can be used.
        """
        routing = config.routing
        timeout = routing.attempt_timeout.ToTimedelta().total_seconds() if routing.HasField("attempt_timeout") else None
        targets, refused = self._group_targets(config.model, "model", config, timeout)
        if not routing.disable_fallbacks:
            for index, fallback in enumerate(self._fallbacks(config)):
                param = f"fallbacks[{index}]"
                more, more_refused = self._group_targets(
                    _target_model(fallback, param), param, _overridden(config, fallback), _timeout(fallback, timeout)
                )
                targets += more
                refused += more_refused
        if targets:
            return targets
        if refused:
            raise refused[0]
        raise ProviderUnavailable(
            f"No deployment of '{config.model}' is usable at present; the server's log says why.",
            metadata={"model": config.model},
        )

    def _fallbacks(self, config: TranscriptionConfig) -> Sequence[RouteTarget]:
        if config.routing.fallbacks:
            return config.routing.fallbacks
        group = self.table.name(config.model)
        names = self.fallbacks.get(group, self.fallbacks.get("*", ()))
        # A configured name without a group was reported when the configuration was loaded.
        return [RouteTarget(model=name) for name in names if name != group and self.table.knows(name)]

    def _group_targets(
        self, model: str, param: str, config: TranscriptionConfig, timeout: float | None
    ) -> tuple[list[Target], list[UnsupportedParameter]]:
        targets, refused = [], []
        for deployment in _weighted_order(self.table.group(model, param=param)):
            if error := refusal(deployment.provider.capabilities, config, model):
                refused.append(error)
            else:
                targets.append(Target(deployment, config, timeout if timeout is not None else deployment.timeout))
        return targets, refused


def _weighted_order(group: Sequence[Deployment]) -> Sequence[Deployment]:
    """The group in random order, heavier deployments rather first (weighted sampling without replacement)."""
    if len(group) == 1:
        return group
    # Efraimidis and Spirakis: u^(1/w) sorts into exactly that order. A weight of 0 comes last.
    return sorted(group, key=lambda d: random.random() ** (1 / d.weight) if d.weight > 0 else -1.0, reverse=True)  # noqa: S311


def _target_model(target: RouteTarget, param: str) -> str:
    if not target.model:
        raise InvalidRequest("A fallback needs a model.", param=param)
    return f"{target.provider}/{target.model}" if target.provider else target.model


def _timeout(target: RouteTarget, default: float | None) -> float | None:
    return target.attempt_timeout.ToTimedelta().total_seconds() if target.HasField("attempt_timeout") else default


def _overridden(config: TranscriptionConfig, target: RouteTarget) -> TranscriptionConfig:
    if not target.HasField("extra_params"):
        return config
    copy = TranscriptionConfig()
    copy.CopyFrom(config)
    copy.extra_params.CopyFrom(target.extra_params)
    return copy
