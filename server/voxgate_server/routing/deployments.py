"""The deployments there are, by the names callers use for them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.model_service_pb2 import Model, ModelCapabilities

from voxgate_server.errors import UnknownModel
from voxgate_server.providers.base import Provider

__all__ = ["Deployment", "DeploymentTable"]

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
    weight: float = 1.0
    """Share of the group's load, relative to the others."""
    timeout: float | None = None
    """Limit of one attempt in seconds; None means the call's own."""


class DeploymentTable:
    """All deployments, grouped.

    Args:
        deployments: In the order of the configuration.
        groups: All groups of the configuration, also those whose deployments are all unusable.
        aliases: Further names of groups.
        created: When the table was made, for `Model.create_time`.
    """

    def __init__(
        self,
        deployments: Iterable[Deployment],
        *,
        groups: Iterable[str] = (),
        aliases: Mapping[str, str] | None = None,
        created: Timestamp,
    ) -> None:
        grouped: dict[str, list[Deployment]] = {name: [] for name in groups}
        for deployment in deployments:
            grouped.setdefault(deployment.group, []).append(deployment)
        self._groups: dict[str, Sequence[Deployment]] = {name: tuple(group) for name, group in grouped.items()}
        self._aliases = dict(aliases or {})
        self._created = created

    def group(self, model: str, *, param: str = "model") -> Sequence[Deployment]:
        """The deployments that serve `model`; none when the operator knows it and all of them are unusable.

        Raises:
            UnknownModel: There is no such group; the error names similar ones.
        """
        name = self._name(model)
        if name is None:
            raise self._unknown(model, param)
        return self._groups[name]

    def name(self, model: str) -> str:
        """The group behind a name or alias; the name itself when there is none."""
        return self._name(model) or model

    def models(self) -> list[Model]:
        """What callers can ask for, in order of the ids."""
        return [self._model(name) for name in sorted(self._groups) if self._groups[name]]

    def model(self, model: str) -> Model:
        """One model, by its id or an alias.

        Raises:
            UnknownModel: There is none; the error names similar ones.
        """
        name = self._name(model)
        if name is None or not self._groups[name]:
            raise self._unknown(model, "model")
        return self._model(name)

    def knows(self, model: str) -> bool:
        """Whether there is such a group."""
        return self._name(model) is not None

    def deployments(self) -> list[Deployment]:
        """All of them."""
        return [deployment for group in self._groups.values() for deployment in group]

    def _name(self, model: str) -> str | None:
        # An alias wins over a group of the same name, as the operator wrote it on purpose.
        name = self._aliases.get(model, model)
        return name if name in self._groups else None

    def _model(self, name: str) -> Model:
        group = self._groups[name]
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
