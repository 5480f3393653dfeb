"""The deployments there are, by the names callers use for them."""

import bisect
import difflib
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.model_service_pb2 import Model, ModelCapabilities

from voxgate_server.errors import UnknownModel
from voxgate_server.providers.base import Provider
from voxgate_server.routing.health import Health, HealthSettings

__all__ = ["Deployment", "DeploymentTable", "Group", "Pool", "Profile", "Wildcard", "shares"]

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
    drops_params: bool = False
    """Options its model cannot take are left out, and reported, instead of refused."""


def shares(deployments: Sequence[Deployment]) -> list[float]:
    """Each one's share of the load: by `weight` where any has one, else by `rpm`. One without is like the average.

    Returns:
        Numbers that are in proportion to the shares, all 1 when nobody has any.
    """
    shares: list[float | None] = [one.weight for one in deployments]
    if all(share is None for share in shares):
        shares = [one.health.settings.rpm for one in deployments]
    given = [share for share in shares if share]
    average = sum(given) / len(given) if given else 1.0
    weights = [average if share is None else share for share in shares]
    return weights if any(weights) else [1.0] * len(weights)


class Pool(tuple[Deployment, ...]):
    """Deployments among which one is chosen again and again."""

    @cached_property
    def _bounds(self) -> list[float]:
        return list(itertools.accumulate(shares(self)))

    def draw(self, rng: random.Random) -> Deployment:
        """One of them at random, by their shares of the load; how many there are makes next to no difference."""
        bounds = self._bounds
        return self[bisect.bisect(bounds, rng.random() * bounds[-1], hi=len(bounds) - 1)]


@dataclass(frozen=True, slots=True)
class Profile:
    """What deployments of a group have in common that stand at the same place and can do the same."""

    order: int
    provider: Provider
    """Of the first of them."""
    drops_params: bool
    deployments: tuple[Deployment, ...]


class Group(tuple[Deployment, ...]):
    """The deployments of one name, in the order of the configuration.

    What many of them have in common is looked at once, and not in every call.
    """

    profiles: Sequence[Profile]
    """In the order of the configuration."""
    _pools: dict[tuple[int, ...], Pool]

    def __new__(cls, deployments: Iterable[Deployment] = ()) -> Self:
        """A group of these deployments."""
        group = super().__new__(cls, deployments)
        alike: dict[tuple[int, bool, str, bytes], list[Deployment]] = {}
        for one in group:
            able = one.provider.capabilities.SerializeToString(deterministic=True)
            alike.setdefault((one.order, one.drops_params, one.provider.name, able), []).append(one)
        group.profiles = [
            Profile(order, same[0].provider, drops, tuple(same)) for (order, drops, _, _), same in alike.items()
        ]
        group._pools = {}
        return group

    def pool(self, profiles: tuple[int, ...]) -> Pool:
        """The deployments of some profiles, by their places in `profiles`. The same question gets the same pool."""
        pool = self._pools.get(profiles)
        if pool is None:
            chosen = {one.id for index in profiles for one in self.profiles[index].deployments}
            pool = self._pools[profiles] = Pool(one for one in self if one.id in chosen)
        return pool


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
        hidden: Those of them that are not listed.
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
        hidden: Iterable[str] = (),
        created: Timestamp,
        retire: Callable[[Deployment], None] = lambda _: None,
    ) -> None:
        grouped: dict[str, list[Deployment]] = {name: [] for name in groups}
        for deployment in deployments:
            grouped.setdefault(deployment.group, []).append(deployment)
        self._groups = {name: Group(group) for name, group in grouped.items()}
        self._wildcards = sorted(wildcards, key=lambda one: (len(one.pattern), one.pattern), reverse=True)
        self._aliases = dict(aliases or {})
        self._created = created
        self._retire = retire
        self._hidden = frozenset(hidden)
        self._made: dict[str, Group] = {}
        """By name; the one asked for last is at the end."""

    def group(self, model: str, *, param: str = "model") -> Group:
        """The deployments that serve `model`; none when the operator knows it and all of them are unusable.

        Raises:
            UnknownModel: There is no such group; the error names similar ones.
        """
        name = self._name(model)
        if name is None:
            raise self._unknown(model, param)
        return self._groups.get(name) or self._fitting(name) or Group()

    def name(self, model: str) -> str:
        """The group behind a name or alias; the name itself when there is none."""
        return self._name(model) or model

    def models(self) -> list[Model]:
        """What callers can ask for, in order of the ids."""
        return [self._model(name, group) for name, group in self.groups()]

    def model(self, model: str) -> Model:
        """One model, by its id or an alias.

        Raises:
            UnknownModel: There is none; the error names similar ones.
        """
        name = self._name(model)
        if name is None or not (group := self.group(name)):
            raise self._unknown(model, "model")
        return self._model(name, group)

    def groups(self) -> list[tuple[str, Group]]:
        """The groups of the configuration with somebody in them, by name."""
        return [(name, self._groups[name]) for name in sorted(self._groups) if self._groups[name]]

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

    def _fitting(self, model: str) -> Group | None:
        """Deployments made for a name that fits a pattern, those of the longest pattern; None when it fits none."""
        made = self._made.pop(model, None)
        if made is not None:
            self._made[model] = made
        else:
            for pattern, alike in itertools.groupby(self._wildcards, key=lambda wildcard: wildcard.pattern):
                found = [(wildcard, rest) for wildcard in alike if (rest := wildcard.stands_for(model)) is not None]
                if found:
                    made = Group(one for wildcard, rest in found if (one := wildcard.make(rest)) is not None)
                    self._keep(model, made)
                    break
                del pattern
        return made

    def _keep(self, model: str, made: Group) -> None:
        if len(self._made) >= _MADE:
            idle = (name for name, group in self._made.items() if not any(one.health.in_flight for one in group))
            for deployment in self._made.pop(next(idle, ""), ()):
                self._retire(deployment)
        self._made[model] = made

    def _model(self, name: str, group: Group) -> Model:
        provider = group[0].provider
        capabilities = ModelCapabilities()
        capabilities.CopyFrom(provider.capabilities)
        return Model(
            id=name,
            create_time=self._created,
            owned_by=provider.name,
            provider=provider.name,
            aliases=sorted(
                alias for alias, target in self._aliases.items() if target == name and alias not in self._hidden
            ),
            capabilities=capabilities,
        )

    def _unknown(self, model: str, param: str) -> UnknownModel:
        shown = model[:100]
        nearest = difflib.get_close_matches(shown, [*self._groups, *self._aliases], n=_NEAREST, cutoff=0.4)
        hint = f" Similar: {', '.join(nearest)}." if nearest else " GET /v1/models or ListModels lists what there is."
        return UnknownModel(
            f"There is no model '{shown}'.{hint}", param=param, metadata={"model": shown, "nearest": ",".join(nearest)}
        )
