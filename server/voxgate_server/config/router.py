"""How calls find their deployment: LiteLLM's `router_settings`, and what `litellm_settings` says about the same."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from voxgate_server.config.types import Amount, Count, Seconds, Section, Text, Texts

__all__ = [
    "FALLBACK_MAPS",
    "Alias",
    "Cooldown",
    "LitellmSettings",
    "RouterSettings",
    "RoutingStrategy",
    "fallback_map",
    "fallback_rules",
    "meanings",
]

FALLBACK_MAPS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""The keys that hold fallbacks, all of one form."""

RoutingStrategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]
"""Which of several deployments comes first, by LiteLLM's names."""

Cooldown = Annotated[Amount, Field(le=86400)]
"""Seconds a deployment is left alone, from 0 (never) to a day."""

Retries = Annotated[Count, Field(le=10)]
"""Attempts after the first, at most 10."""


def fallback_rules(value: Any) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    """`(group, target, path)` of each target in a list of maps, in order, as far as it has that form.

    Args:
        value: `[{"group": ["target", …]}, …]`; a target may also be a map with `model`.
    """
    for index, rule in enumerate(value if isinstance(value, list | tuple) else ()):
        for group, targets in rule.items() if isinstance(rule, Mapping) else ():
            listed = [targets] if isinstance(targets, str) else targets if isinstance(targets, list | tuple) else []
            for number, target in enumerate(listed):
                name = target.get("model") if isinstance(target, Mapping) else target
                if isinstance(name, str):
                    yield group, name, (index, group, number)


def fallback_map(rules: Any) -> dict[str, tuple[str, ...]]:
    """What is tried after each group, in order and each once, of a list of maps as `fallback_rules` reads it."""
    found: dict[str, dict[str, None]] = {}
    for group, target, _ in fallback_rules(rules):
        found.setdefault(group, {})[target] = None
    return {group: tuple(targets) for group, targets in found.items()}


def meanings(direct: Mapping[str, str]) -> dict[str, str]:
    """What each name means in the end, where a name may mean another name. A circle ends where it is entered."""
    found: dict[str, str] = {}
    for name in direct:
        trail: dict[str, None] = {}
        end = name
        while end in direct and end not in found and end not in trail:
            trail[end] = None
            end = direct[end]
        found.update(dict.fromkeys(trail, found.get(end, end)))
    return found


def _target(value: Any) -> Any:
    return value["model"] if isinstance(value, dict) and "model" in value else value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Fallbacks = tuple[
    Mapping[str, Annotated[tuple[Annotated[Text, BeforeValidator(_target)], ...], BeforeValidator(_one_or_more)]], ...
]
"""LiteLLM's form: a list of maps from a group to the groups tried after it, in order."""


class Alias(Section):
    """Another name for a group."""

    model: Text
    """The group, or another alias."""
    hidden: bool = False
    """Not listed among the models. Default false."""


def _alias(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class _FallbackSettings(Section):
    fallbacks: Fallbacks = ()
    """Groups tried after a group has failed."""
    default_fallbacks: Texts = ()
    """Groups tried after a group without fallbacks of its own has failed."""
    context_window_fallbacks: Fallbacks = ()
    """Groups tried instead of `fallbacks` after a provider found the recording too large."""
    content_policy_fallbacks: Fallbacks = ()
    """Groups tried instead of `fallbacks` after a provider refused the content."""


class RouterSettings(_FallbackSettings):
    """How calls find their deployment."""

    routing_strategy: RoutingStrategy = "simple-shuffle"
    """Which deployment of a group comes first. Default simple-shuffle: at random, by `weight`, else by `rpm`."""
    timeout: Seconds | None = None
    """Seconds one attempt may take. Default: `litellm_settings.request_timeout`."""
    num_retries: Retries | None = None
    """Attempts after the first at each group, at most 10. Default: `litellm_settings.num_retries`."""
    max_fallbacks: Annotated[Count, Field(le=100)] = 5
    """The most groups tried after the first, at most 100. Default 5."""
    allowed_fails: Count | None = None
    """Failures in a row after which a deployment is not yet left alone. Default: `litellm_settings.allowed_fails`."""
    cooldown_time: Cooldown = 5.0
    """Seconds a failing deployment is left alone, 0 for never. Default 5."""
    disable_cooldowns: bool = False
    """No deployment is ever left alone. Default false."""
    enable_tag_filtering: bool = False
    """The tags of a call choose among the deployments of a group. Default false."""
    model_group_alias: Mapping[str, Annotated[Alias, BeforeValidator(_alias)]] = {}
    """Other names for groups. An alias wins over a group of the same name."""


class LitellmSettings(_FallbackSettings):
    """Settings of LiteLLM as a whole. Fallbacks, retries and fails of `router_settings` win over those here."""

    request_timeout: Seconds | None = None
    """Seconds one attempt may take. Default: the rest of the call's own time."""
    drop_params: bool = False
    """Leave out, and report, options a model cannot do. Default false: such a call is refused."""
    num_retries: Retries | None = None
    """Attempts after the first at each group, at most 10. Default: 2, and the same deployment again only when there
    is nothing else."""
    allowed_fails: Count = 3
    """Failures in a row after which a deployment is not yet left alone. Default 3."""
