"""The deployments there are, by the names callers use for them."""

import difflib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.model_service_pb2 import Model, ModelCapabilities

from voxgate_server.errors import UnknownModel
from voxgate_server.providers.base import Provider
from voxgate_server.routing.health import Health, HealthSettings

__all__ = ["Deployment", "DeploymentTable", "Wildcard"]

_MADE = 512
"""Names for which the deployments of patterns are kept. Names are the callers', so there is no end of them."""
_NEAREST = 3
"""How many similar names an unknown model's error offers."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that can serve a model group."""

    id: str
    """Unique; the operator's `model_info.id` or one made of its place in the configuration."""
    group: str
    """The name callers use (`model_name`). Deployments with the same group share the load."""
    provider: Provider
    health: Health = field(default_factory=lambda: Health(HealthSettings()))
    weight: float | None = None
    """Share of the group's load, relative to the others; None means by `rpm`, or like the others."""
    order: int = 1
    """Rank inside the group: a higher number is asked only after all lower ones failed."""
    timeout: float | None = None
    """Limit of one attempt in seconds; None means the call's own."""
    tags: frozenset[str] = frozenset()
    """Words by which callers choose among deployments."""
    cost_per_second: float | None = None
    """US dollars per second of audio, for the choice of the cheapest; None when unknown."""


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Deployments for every model whose name fits a pattern with one `*`."""

    pattern: str
    """E.g. `openai/*`."""
    make: Callable[[str], Deployment | None]
    """Makes the deployment for what the `*` stands for; None when it cannot be used, which its maker reports."""
    accepts: Callable[[str], bool] = lambda _: True
    """Whether what the `*` stands for can name a model at all."""

    def stands_for(self, model: str) -> str | None:
        """What the `*` stands for in `model`; None when the pattern does not fit."""
        head, _, tail = self.pattern.partition("*")
        if len(model) <= len(head) + len(tail) or not (model.startswith(head) and model.endswith(tail)):
            return None
        rest = model[len(head) : len(model) - len(tail)]
        return rest if self.accepts(rest) else None


class DeploymentTable:
    """All deployments, grouped.

    Args:
        deployments: In the order of the configuration.
        wildcards: Deployments for names that fit a pattern; the longest pattern wins.
        groups: All groups of the configuration, also those whose deployments are all unusable.
        aliases: Further names of groups.
        created: When the table was made, for `Model.create_time`.
        retire: Takes deployments made for names nobody has asked for lately, to give up what they hold.
    """

    def __init__(
        self,
        deployments: Iterable[Deployment],
        *,
        wildcards: Iterable[Wildcard] = (),
        groups: Iterable[str] = (),
        aliases: Mapping[str, str] | None = None,
        created: Timestamp,
        retire: Callable[[Deployment], None] = lambda _: None,
    ) -> None:
        grouped: dict[str, list[Deployment]] = {name: [] for name in groups}
        for deployment in deployments:
            grouped.setdefault(deployment.group, []).append(deployment)
        self._groups: dict[str, Sequence[Deployment]] = {name: tuple(group) for name, group in grouped.items()}
        self._wildcards = sorted(wildcards, key=lambda one: (len(one.pattern), one.pattern), reverse=True)
        self._aliases = dict(aliases or {})
        self._created = created
        self._retire = retire
        self._made: dict[str, Sequence[Deployment]] = {}
        """By name; the one asked for last is at the end."""

    def group(self, model: str, *, param: str = "model") -> Sequence[Deployment]:
        """The deployments that serve `model`; none when the operator knows it and all of them are unusable.

        Raises:
            UnknownModel: There is no such group; the error names similar ones.
        """
        name = self._name(model)
        if name is None:
            raise self._unknown(model, param)
        return self._groups.get(name) or self._fitting(name) or ()

    def name(self, model: str) -> str:
        """The group behind a name or alias; the name itself when there is none."""
        return self._name(model) or model

    def models(self) -> list[Model]:
        """What callers can ask for, in order of the ids."""
        return [self._model(name, self._groups[name]) for name in sorted(self._groups) if self._groups[name]]

    def model(self, model: str) -> Model:
        """One model, by its id or an alias.

        Raises:
            UnknownModel: There is none; the error names similar ones.
        """
        name = self._name(model)
        if name is None or not (group := self.group(name)):
            raise self._unknown(model, "model")
        return self._model(name, group)

    def knows(self, model: str) -> bool:
        """Whether there is such a group."""
        return self._name(model) is not None

    def deployments(self) -> list[Deployment]:
        """All of them."""
        groups = (*self._groups.values(), *self._made.values())
        return [deployment for group in groups for deployment in group]

    def _name(self, model: str) -> str | None:
        # An alias wins over a group of the same name, as the operator wrote it on purpose.
        name = self._aliases.get(model, model)
        return name if name in self._groups or self._fitting(name) is not None else None

    def _fitting(self, model: str) -> Sequence[Deployment] | None:
        """Deployments made for a name that fits a pattern, those of the longest pattern; None when it fits none."""
        made = self._made.pop(model, None)
        if made is not None:
            self._made[model] = made
        else:
            for pattern, alike in itertools.groupby(self._wildcards, key=lambda wildcard: wildcard.pattern):
                found = [(wildcard, rest) for wildcard in alike if (rest := wildcard.stands_for(model)) is not None]
                if found:
                    made = tuple(one for wildcard, rest in found if (one := wildcard.make(rest)) is not None)
                    self._keep(model, made)
                    break
                del pattern
        return made

    def _keep(self, model: str, made: Sequence[Deployment]) -> None:
        if len(self._made) >= _MADE:
            idle = (name for name, group in self._made.items() if not any(one.health.in_flight for one in group))
            for deployment in self._made.pop(next(idle, ""), ()):
                self._retire(deployment)
        self._made[model] = made

    def _model(self, name: str, group: Sequence[Deployment]) -> Model:
        capabilities = ModelCapabilities()
        capabilities.CopyFrom(group[0].provider.capabilities)
        return Model(
            id=name,
            create_time=self._created,
            owned_by=group[0].provider.name,
            provider=group[0].provider.name,
            aliases=sorted(alias for alias, target in self._aliases.items() if target == name),
            capabilities=capabilities,
        )

    def _unknown(self, model: str, param: str) -> UnknownModel:
        shown = model[:100]
        nearest = difflib.get_close_matches(shown, [*self._groups, *self._aliases], n=_NEAREST, cutoff=0.4)
        hint = f" Similar: {', '.join(nearest)}." if nearest else " GET /v1/models or ListModels lists what there is."
        return UnknownModel(
            f"There is no model '{shown}'.{hint}", param=param, metadata={"model": shown, "nearest": ",".join(nearest)}
        )
