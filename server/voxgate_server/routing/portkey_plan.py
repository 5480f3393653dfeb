"""From Portkey's config object to the hops of a call: its targets are groups of ours, or providers made for the call.

A provider is made from a credential the operator stored or, where permitted, from the caller's own. It is kept for
the next call with the same credential, and closed once nobody uses it and others need the place.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.config.hosts import Network
from voxgate_server.errors import AudioTooLarge, InvalidRequest, PermissionDenied, ProviderUnavailable
from voxgate_server.providers.registry import provider_names
from voxgate_server.routing.capabilities import option_refusal, refusal
from voxgate_server.routing.conditions import CONFIG_PARAM, Facts, refuse_config
from voxgate_server.routing.deployments import Deployment
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.portkey_config import DecodeOverrides, Target, overridden, parse_config
from voxgate_server.routing.portkey_hosts import PermittedHosts, Place, permitted_place
from voxgate_server.routing.portkey_pool import DeploymentFactory, DeploymentPool, Lease
from voxgate_server.routing.router import Router

__all__ = ["PortkeyPlanner", "PortkeySettings"]


_Statuses = frozenset[int] | None
_NOTHING_AFTER: _Statuses = frozenset()


@dataclass(frozen=True, slots=True)
class PortkeySettings:
    """What the operator allows callers who route by Portkey's headers."""

    configs: Mapping[str, object] = field(default_factory=dict)
    """Stored config objects by their ids (`pc-…`)."""
    allow_caller_credentials: bool = False
    """Callers may bring keys of their own for a provider."""
    custom_hosts: PermittedHosts = field(default_factory=dict)
    """Hosts callers may name, and the addresses these may lead to."""
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Stored credentials (LiteLLM's `credential_list`): `api_key`, `api_base` and `custom_llm_provider` by name."""


class PortkeyPlanner:
    """Plans calls that bring a config object. One per process.

    Args:
        settings: What the operator allows.
        router: Knows the model groups.
        make: Makes deployments from credentials.
        rng: Where chance comes from.
    """

    def __init__(
        self,
        settings: PortkeySettings,
        router: Router,
        make: DeploymentFactory,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self._router = router
        self._pool = DeploymentPool(make)
        self._rng = rng or random.Random()  # noqa: S311
        self._stored: dict[str, Target] = {}
        # Here and not during a call: it looks through the packages that are installed.
        self._providers = provider_names()

    def stored(self, name: str, decode_overrides: DecodeOverrides) -> Target:
        """The operator's config of that id.

        Raises:
            InvalidRequest: There is none, or it is wrong.
        """
        found = self._stored.get(name)
        if found is None:
            if name not in self.settings.configs:
                raise refuse_config("", f"names no stored config: there is no `{name[:100]}`.")
            value = self.settings.configs[name]
            if isinstance(value, str):
                try:
                    value = msgspec.json.decode(value)
                except (msgspec.MsgspecError, RecursionError):
                    raise refuse_config("", f"names a stored config that is no JSON: `{name[:100]}`.") from None
            found = self._stored[name] = parse_config(value, decode_overrides, trusted=True)
        return found

    def plan(self, root: Target, config: TranscriptionConfig, facts: Facts, lease: Lease) -> list[Hop]:
        """The hops of a call, in the order in which they are taken; at least one.

        Args:
            root: The config object.
            config: The call's options, without any target's.
            facts: What conditions can ask about.
            lease: Holds the deployments the plan needs, besides those it held before.

        Raises:
            InvalidRequest: A target cannot be used as it stands, or no condition holds.
            UnknownModel: A target names no model of ours.
            ProviderUnavailable: The operator knows the models, and none of their deployments can be used.
            PermissionDenied: The operator does not permit callers' keys, or not this host.
            UnsupportedParameter: No target can do what is asked for; the error is that of the first.
        """
        refused: list[InvalidRequest | AudioTooLarge] = []
        hops = self._hops(root, config, facts, lease, _NOTHING_AFTER, refused)
        if hops:
            return hops
        if refused:
            raise refused[0]
        raise ProviderUnavailable(
            f"No deployment that {CONFIG_PARAM} leads to is usable at present; the server's log says why.",
            metadata={"model": config.model},
        )

    def release(self, lease: Lease) -> None:
        """Gives back what a call used."""
        self._pool.release(lease)

    async def aclose(self) -> None:
        """Closes what was made for callers."""
        await self._pool.aclose()

    def _hops(
        self,
        target: Target,
        config: TranscriptionConfig,
        facts: Facts,
        lease: Lease,
        after: _Statuses,
        refused: list[InvalidRequest | AudioTooLarge],
    ) -> list[Hop]:
        """The hops of a target; `after` are the statuses after which what follows it is taken."""
        if target.strategy is None:
            return self._place(target, config, lease, after, refused)
        children, inner = list(target.targets), None
        match target.strategy.mode:
            case "single":
                children = children[:1]
            case "conditional":
                children = [children[self._chosen(target, facts)]]
            case "loadbalance":
                children.sort(key=self._lot)
            case "fallback":
                inner = target.strategy.statuses
        # A hop has one answer to a failure. Inside nested fallbacks it is the next target, whoever listed the status.
        between = None if inner is None or after is None else inner | after
        hops = []
        for child in children:
            follows = after if child is children[-1] else between
            hops += self._hops(child, config, facts, lease, follows, refused)
        return hops

    def _chosen(self, target: Target, facts: Facts) -> int:
        strategy = target.strategy
        assert strategy is not None
        for branch in strategy.branches:
            if branch.holds(facts):
                return branch.then
        if strategy.default is None:
            place = f"{target.path}.strategy".removeprefix("config.")
            raise refuse_config(place, "has no condition that holds for this call, and no default.")
        return strategy.default

    def _lot(self, target: Target) -> float:
        # Ordered like this, each place goes to a target in proportion to its weight; those of weight 0 come last.
        return self._rng.expovariate(1) / target.weight if target.weight else float("inf")

    def _place(
        self,
        target: Target,
        asked: TranscriptionConfig,
        lease: Lease,
        after: _Statuses,
        refused: list[InvalidRequest | AudioTooLarge],
    ) -> list[Hop]:
        config = overridden(asked, target.overrides)
        if target.retry is not None:
            retries = target.retry.attempts
        else:
            retries = asked.routing.max_retries if asked.routing.HasField("max_retries") else 0
        made = self._own(target, config, lease)
        if made is None:
            hops, errors = self._router.hops(self._group(target, config), CONFIG_PARAM, config)
            refused += errors
        elif error := refusal(made.provider, config, config.model) or option_refusal(
            made.provider, config, config.model
        ):
            refused.append(error)
            hops = []
        else:
            wanted = asked.routing.attempt_timeout if asked.routing.HasField("attempt_timeout") else None
            timeout = None if wanted is None else wanted.ToNanoseconds() / 1e9
            hops = [Hop(target.path, (made,), config, timeout=timeout, timeout_by_caller=timeout is not None)]
        return [
            dataclasses.replace(
                hop,
                name=target.path,
                param=None if made is not None else CONFIG_PARAM,
                timeout=hop.timeout if target.timeout is None else target.timeout,
                timeout_by_caller=hop.timeout_by_caller if target.timeout is None else not target.trusted,
                retries=retries,
                retry_statuses=None if target.retry is None else target.retry.statuses,
                # The ranks of a group are one target: all of them are asked before the next target.
                fallback_statuses=after if hop is hops[-1] else None,
            )
            for hop in hops
        ]

    def _group(self, target: Target, config: TranscriptionConfig) -> str:
        """The model group a target without a credential means."""
        provider = target.provider
        if provider is None:
            return config.model
        qualified = f"{provider}/{config.model.removeprefix(f'{provider}/')}"
        if self._router.table.knows(qualified):
            return qualified
        if self._router.table.knows(config.model):
            group = self._router.table.group(config.model)
            if group and all(deployment.provider.name == provider for deployment in group):
                return config.model
        raise refuse_config(
            _place_of(target),
            f"has no credential for the provider `{provider}`, and the operator serves no such model there. Name a "
            "stored credential (x-portkey-virtual-key, or @name as provider), or a model of GET /v1/models.",
        )

    def _own(self, target: Target, config: TranscriptionConfig, lease: Lease) -> Deployment | None:
        """The deployment made from the target's credential or host; None when it has neither."""
        slug, provider = target.virtual_key, target.provider
        if provider is not None and provider.startswith("@"):
            slug, provider = slug or provider[1:], None
        stored = self._credential(slug, target) if slug is not None else {}
        provider = provider or stored.get("custom_llm_provider")
        head, slash, tail = config.model.partition("/")
        if provider is None and slash and head in self._providers:
            provider = head
        if provider is not None and provider not in self._providers:
            raise refuse_config(
                _place_of(target),
                f"names the provider `{provider[:64]}`; this release has {', '.join(self._providers)}.",
            )
        if slug is None and target.api_key is None and target.custom_host is None:
            return None
        # LiteLLM takes a model without a provider for one of OpenAI's as well.
        provider = provider or "openai"
        if provider == "local":
            raise refuse_config(_place_of(target), "has a credential or a host for `local`, which takes none.")
        params = {key: stored[key] for key in ("api_key", "api_base") if stored.get(key)}
        if target.api_key is not None:
            if not (target.trusted or self.settings.allow_caller_credentials):
                raise PermissionDenied(
                    f"`{_place_of(target) or 'config'}` brings a key for a provider, which the operator does not "
                    "permit (voxgate.portkey.allow_caller_credentials). Name a stored credential instead.",
                    param=CONFIG_PARAM,
                )
            if slug is not None:
                raise refuse_config(_place_of(target), "has both a key and a stored credential; leave one of them out.")
            params["api_key"] = target.api_key
        networks: Sequence[Network] | None = None
        if target.custom_host is not None:
            if slug is not None and not target.trusted:
                raise refuse_config(
                    _place_of(target), "sends a stored credential to a custom host; its own api_base is where it goes."
                )
            place = self._host(target)
            params["api_base"], networks = place.url, place.networks
        model = tail if slash and head == provider else config.model
        try:
            return self._pool.lend(provider, model, params, lease, networks)
        except ValueError as error:
            raise refuse_config(_place_of(target), f"cannot be used: {error}.") from None

    def _credential(self, slug: str, target: Target) -> Mapping[str, str]:
        if slug not in self.settings.credentials:
            raise refuse_config(_place_of(target), f"names no stored credential: there is no `{slug[:100]}`.")
        return self.settings.credentials[slug]

    def _host(self, target: Target) -> Place:
        assert target.custom_host is not None
        try:
            return permitted_place(target.custom_host, self.settings.custom_hosts)
        except ValueError:
            raise refuse_config(
                _place_of(target, "custom_host"), "must be an http or https address without user, query or fragment."
            ) from None


def _place_of(target: Target, key: str = "") -> str:
    place = target.path.removeprefix("config").removeprefix(".")
    return f"{place}.{key}" if place and key else place or key
