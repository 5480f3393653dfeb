"""Plans a call: which hops, each with which deployments."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import RouteTarget, TranscriptionConfig

from voxgate_server.errors import (
    AudioTooLarge,
    InvalidRequest,
    ProviderRejected,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.routing.capabilities import fits, option_refusal, refusal, too_large
from voxgate_server.routing.deployments import Deployment, DeploymentTable, Group
from voxgate_server.routing.plan import Hop, Recording
from voxgate_server.routing.policy import RetryBudget
from voxgate_server.routing.route import Route
from voxgate_server.routing.strategies import STRATEGIES, Strategy

__all__ = ["Router", "RouterSettings", "target_model"]

_UNKNOWN = Recording()

_CONTENT_REFUSED = ("content_policy_violation", "content_filter")
"""What OpenAI and Azure call a refusal of what was said."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How calls find their way, by the operator's choice."""

    fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Groups to try after a group has failed; `*` stands for the groups that have no entry of their own."""
    context_window_fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Instead of `fallbacks`, when a provider finds the recording too large."""
    content_policy_fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Instead of `fallbacks`, when a provider refuses the content."""
    max_fallbacks: int = 5
    """The most hops after the first group."""
    num_retries: int | None = None
    """Attempts after the first at each group; None: 2, and the same deployment again only as a last resort."""
    strategy: Strategy = STRATEGIES["simple-shuffle"]
    tag_filtering: bool = False
    """Callers' tags choose among deployments."""
    empty_falls_back: bool = False
    """A transcript without text is once a reason to ask somebody else."""
    hedging: Mapping[str, float] = field(default_factory=dict)
    """Percentile of a group's calls after which a second attempt begins; groups without one never hedge."""


class Router:
    """Plans calls and hands out their routes. One per process."""

    def __init__(
        self, table: DeploymentTable, settings: RouterSettings | None = None, *, rng: random.Random | None = None
    ) -> None:
        self.table = table
        self.settings = settings or RouterSettings()
        self.budget = RetryBudget()
        self._rng = rng or random.Random()  # noqa: S311
        for deployment in table.deployments():
            # Where there are fallbacks, a deployment that fails is not all there is.
            has_fallbacks = bool(self._names(self.settings.fallbacks, deployment.group))
            deployment.health.alone = deployment.health.alone and not has_fallbacks

    def plan(self, config: TranscriptionConfig, recording: Recording = _UNKNOWN) -> list[Hop]:
        """The hops of a call, in the order in which they are taken; at least one.

        A deployment that cannot do what is asked for is left out. One that leaves options out and says so is asked
        where no other one of its group can.

        Args:
            config: What the caller wants.
            recording: What is known of the audio so far.

        Raises:
            UnknownModel: There is no such model, or no such fallback.
            UnsupportedParameter: No deployment can do what is asked for; the error is that of the first.
            AudioTooLarge: No deployment that can takes so large a recording; names the limit, and who would.
            ProviderUnavailable: The operator knows the model, and none of its deployments can be used.
        """
        hops, refused = self._hops(config.model, "model", config, config, recording)
        first = bool(hops)
        if not config.routing.disable_fallbacks:
            for index, fallback in enumerate(self._fallbacks(config)):
                more, more_refused = self._hops(
                    target_model(fallback, f"fallbacks[{index}]"), f"fallbacks[{index}]",
                    _overridden(config, fallback), config, recording, fallback,
                )  # fmt: skip
                # Who asks for what only a fallback would leave out had better hear that it cannot be had.
                hops += more if first else [hop for hop in more if not hop.lenient]
                refused += more_refused
        if hops:
            return hops
        if refused:
            raise refused[0]
        if self.settings.tag_filtering and self.table.group(config.model):
            asked = ", ".join(config.labels.tags)[:100]
            raise ProviderUnavailable(
                f"No deployment of '{config.model}' is for "
                + (f"the tags {asked}." if asked else "calls without tags."),
                param="tags",
                metadata={"model": config.model},
            )
        raise ProviderUnavailable(
            f"No deployment of '{config.model}' is usable at present; the server's log says why.",
            metadata={"model": config.model},
        )

    def hops(
        self, model: str, param: str, config: TranscriptionConfig, recording: Recording = _UNKNOWN
    ) -> tuple[list[Hop], list[InvalidRequest | AudioTooLarge]]:
        """The hops of one group without its fallbacks, and why deployments were left out.

        Raises:
            UnknownModel: There is no such group; the error has `param`.
        """
        return self._hops(model, param, config, config, recording)

    def route(self, hops: Sequence[Hop], *, deadline: float, recording: Callable[[], Recording] = Recording) -> Route:
        """The way of one call through its plan.

        Args:
            hops: The plan.
            deadline: On the clock of `time.monotonic()`.
            recording: What is known of the audio by now: an upload that goes on grows.
        """
        return Route(
            hops,
            strategy=self.settings.strategy,
            budget=self.budget,
            deadline=deadline,
            rng=self._rng,
            fits=lambda one: fits(one.provider, recording()),
        )

    def size_refusal(self, hops: Sequence[Hop], recording: Recording) -> AudioTooLarge | None:
        """Why nobody takes a recording that has outgrown its plan; None when somebody does."""
        asked = [one for hop in hops for one in hop.deployments]
        if any(fits(one.provider, recording) for one in asked):
            return None
        return too_large(asked[0].provider, recording, self._who_takes(recording))

    def special_hops(self, config: TranscriptionConfig, error: VoxgateError) -> list[Hop] | None:
        """The hops after a failure that has fallbacks of its own; None when it has none.

        A caller's own fallbacks, or its wish for none, win over these as over all configured ones.
        """
        settings = self.settings
        if config.routing.fallbacks or config.routing.disable_fallbacks:
            return None
        said = error.metadata.get("provider_code") if isinstance(error, ProviderRejected) else None
        if isinstance(error, AudioTooLarge) or said == "context_length_exceeded":
            configured = settings.context_window_fallbacks
        elif said in _CONTENT_REFUSED:
            configured = settings.content_policy_fallbacks
        else:
            return None
        names = self._names(configured, self.table.name(config.model))
        return [hop for name in names for hop in self._hops(name, "fallbacks", config, config, _UNKNOWN)[0]] or None

    def _fallbacks(self, config: TranscriptionConfig) -> Sequence[RouteTarget]:
        if config.routing.fallbacks:
            return config.routing.fallbacks
        names = self._names(self.settings.fallbacks, self.table.name(config.model))
        return [RouteTarget(model=name) for name in names]

    def _names(self, configured: Mapping[str, Sequence[str]], group: str) -> list[str]:
        # LiteLLM's order: the group itself, its name without the provider, every group.
        for name in (group, group.partition("/")[2], "*"):
            if name in configured:
                # A configured name without a group was reported when the configuration was loaded.
                found = [other for other in configured[name] if other != group and self.table.knows(other)]
                return found[: self.settings.max_fallbacks]
        return []

    def _hops(
        self,
        model: str,
        param: str,
        config: TranscriptionConfig,
        asked: TranscriptionConfig,
        recording: Recording,
        target: RouteTarget | None = None,
    ) -> tuple[list[Hop], list[InvalidRequest | AudioTooLarge]]:
        """One hop per rank of the group's deployments."""
        group = self.table.group(model, param=param)
        able: dict[int, list[int]] = {}
        lenient: dict[int, list[int]] = {}
        refused: list[InvalidRequest | AudioTooLarge] = []
        for index, profile in enumerate(group.profiles):
            if error := refusal(profile.provider, config, model):
                refused.append(error)
            elif not fits(profile.provider, recording):
                refused.append(too_large(profile.provider, recording, self._who_takes(recording)))
            elif error := option_refusal(profile.provider, config, model):
                refused.append(error)
                if profile.drops_params:
                    lenient.setdefault(profile.order, []).append(index)
            else:
                able.setdefault(profile.order, []).append(index)
        chosen = able or lenient
        pools: dict[int, tuple[Deployment, ...]] = {rank: group.pool(tuple(chosen[rank])) for rank in sorted(chosen)}
        if self.settings.tag_filtering:
            tagged = self._tagged(group, asked)
            pools = {rank: tuple(one for one in pool if one.id in tagged) for rank, pool in pools.items()}
        timeout = _seconds(asked.routing.attempt_timeout) if asked.routing.HasField("attempt_timeout") else None
        if target is not None and target.HasField("attempt_timeout"):
            timeout = _seconds(target.attempt_timeout)
        retries = asked.routing.max_retries if asked.routing.HasField("max_retries") else self.settings.num_retries
        return [
            Hop(
                model,
                pool,
                config,
                timeout=timeout,
                retries=retries,
                timeout_by_caller=timeout is not None,
                lenient=not able,
                hedge_percentile=self.settings.hedging.get(self.table.name(model)),
            )
            for pool in pools.values()
            if pool
        ], refused

    def _who_takes(self, recording: Recording) -> list[str]:
        return [
            name for name, group in self.table.groups() if any(fits(one.provider, recording) for one in group.profiles)
        ]

    @staticmethod
    def _tagged(group: Group, config: TranscriptionConfig) -> set[str]:
        """Ids of deployments with one of the caller's tags; without tags those without, or marked `default`."""
        tags = set(config.labels.tags)
        found = {one.id for one in group if one.tags & tags} if tags else set()
        return found or {one.id for one in group if not one.tags or "default" in one.tags}


def target_model(target: RouteTarget, param: str = "fallbacks") -> str:
    """The model or group a target means. Raises InvalidRequest with `param` when it names none."""
    if not target.model:
        raise InvalidRequest("A fallback needs a model.", param=param)
    return f"{target.provider}/{target.model}" if target.provider else target.model


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _overridden(config: TranscriptionConfig, target: RouteTarget) -> TranscriptionConfig:
    if not target.HasField("extra_params"):
        return config
    copy = TranscriptionConfig()
    copy.CopyFrom(config)
    copy.extra_params.CopyFrom(target.extra_params)
    return copy
