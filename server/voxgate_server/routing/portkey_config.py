"""Portkey's config object, checked whole before anything is done with it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.errors import InvalidRequest
from voxgate_server.routing.conditions import Condition, parse_condition, refuse_config

__all__ = ["Branch", "DecodeOverrides", "Retry", "Strategy", "Target", "overridden", "parse_config"]

_MAX_TARGETS = 50
_MAX_DEPTH = 8
_MAX_REGEXES = 8
_MAX_VALUES = 256
_MAX_ATTEMPTS = 5
_MAX_TIMEOUT_MS = 86_400_000
_MAX_TEXT = 255
_MAX_SECRET = 4096
_RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})

DecodeOverrides = Callable[[Mapping[str, object]], TranscriptionConfig]
"""Reads `override_params` into the options they set. Raises InvalidRequest."""

Mode = Literal["single", "fallback", "loadbalance", "conditional"]

_KEYS = frozenset({
    "name", "provider", "api_key", "virtual_key", "weight", "override_params", "retry", "request_timeout",
    "custom_host", "strategy", "targets",
})  # fmt: skip
_IGNORED = frozenset({"cache", "cb_config", "strict_open_ai_compliance"})
"""Keys whose absence here changes no answer: there is no such cache, and health is this gateway's own business."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Repetitions of one target."""

    attempts: int
    """After the first."""
    statuses: frozenset[int] = _RETRY_STATUSES
    """After which."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition, and the target that is taken when it holds."""

    holds: Condition
    then: int
    """Index among the targets."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How targets are chosen."""

    mode: Mode
    statuses: frozenset[int] | None = None
    """Only after these is the next target of a fallback taken; None means after every failure."""
    branches: tuple[Branch, ...] = ()
    default: int | None = None
    """Index of the target that is taken when no condition holds."""


@dataclass(frozen=True, slots=True)
class Target:
    """A place to send a call to, or a strategy with targets of its own."""

    path: str
    """Where it stands: `config`, `config.targets[1]` …"""
    provider: str | None = None
    """The provider's name, or `@` and the name of a stored credential."""
    api_key: str | None = field(default=None, repr=False)
    virtual_key: str | None = None
    """Name of a stored credential."""
    custom_host: str | None = None
    weight: float = 1.0
    overrides: TranscriptionConfig = field(default_factory=TranscriptionConfig)
    """Options it sets, its parents' included. Read-only."""
    retry: Retry | None = None
    timeout: float | None = None
    """Limit of one attempt in seconds."""
    strategy: Strategy | None = None
    """None for a place."""
    targets: tuple["Target", ...] = ()
    trusted: bool = False
    """The operator wrote it."""
    needs_audio: bool = False
    """A condition asks about the recording, which therefore has to be there before a call is planned."""

    @property
    def bare(self) -> bool:
        """It names neither a provider nor a credential nor a host."""
        return not (self.provider or self.api_key or self.virtual_key or self.custom_host)


@dataclass(frozen=True, slots=True)
class _Inherited:
    overrides: TranscriptionConfig
    retry: Retry | None
    timeout: float | None


def parse_config(value: object, decode_overrides: DecodeOverrides, *, trusted: bool = False) -> Target:
    """Reads a config object.

    Args:
        value: The JSON value.
        decode_overrides: Reads `override_params`.
        trusted: The operator wrote it.

    Raises:
        InvalidRequest: Something in it is wrong; the message names the place, e.g. `targets[1].retry.attempts`.
    """
    return _Reader(decode_overrides, trusted).target(
        value, "", _Inherited(TranscriptionConfig(), None, None), _MAX_DEPTH
    )


def overridden(config: TranscriptionConfig, overrides: TranscriptionConfig) -> TranscriptionConfig:
    """A copy with other options where `overrides` sets any; of the extra parameters each replaces its own."""
    copy = TranscriptionConfig()
    copy.CopyFrom(config)
    for field_set, _ in overrides.ListFields():
        if field_set.name != "extra_params":
            copy.ClearField(field_set.name)  # type: ignore[arg-type]  # a field of this very message
    copy.MergeFrom(overrides)
    return copy


class _Reader:
    def __init__(self, decode_overrides: DecodeOverrides, trusted: bool) -> None:
        self._decode_overrides = decode_overrides
        self._trusted = trusted
        self._targets = 0
        self._regexes = 0

    def target(self, value: object, path: str, parent: _Inherited, depth: int) -> Target:
        entry = {key: item for key, item in _object(value, path).items() if item is not None}
        for key in entry:
            if key not in _KEYS and key not in _IGNORED:
                raise refuse_config(_join(path, str(key)), "is not known here, and nothing is left out silently.")
        timeout = entry.get("request_timeout")
        inherited = _Inherited(
            self._overrides(entry, parent.overrides, _join(path, "override_params")),
            parent.retry if entry.get("retry") is None else _retry(entry["retry"], _join(path, "retry")),
            parent.timeout
            if timeout is None
            else _number(timeout, _join(path, "request_timeout"), above=0, most=_MAX_TIMEOUT_MS) / 1000,
        )
        texts = {
            key: _text(entry[key], _join(path, key), _MAX_SECRET if key == "api_key" else _MAX_TEXT)
            for key in ("provider", "api_key", "virtual_key", "custom_host")
            if entry.get(key) is not None
        }
        strategy, targets, needs_audio = self._children(entry, path, inherited, depth)
        if targets and texts:
            raise refuse_config(_join(path, next(iter(texts))), "belongs into the targets, not beside them.")
        weight = entry.get("weight")
        return Target(
            path=f"config.{path}" if path else "config",
            provider=texts.get("provider"),
            api_key=texts.get("api_key"),
            virtual_key=texts.get("virtual_key"),
            custom_host=texts.get("custom_host"),
            weight=1.0 if weight is None else _number(weight, _join(path, "weight"), least=0, most=1e9),
            overrides=inherited.overrides,
            retry=inherited.retry,
            timeout=inherited.timeout,
            strategy=strategy,
            targets=targets,
            trusted=self._trusted,
            needs_audio=needs_audio,
        )

    def _overrides(self, entry: Mapping[str, object], parent: TranscriptionConfig, path: str) -> TranscriptionConfig:
        if "override_params" not in entry:
            return parent
        own = _object(entry["override_params"], path)
        # Fifty targets may inherit them, and each copies them for a call.
        if _size(own) > _MAX_VALUES:
            raise refuse_config(path, f"has more than {_MAX_VALUES} values.")
        try:
            return overridden(parent, self._decode_overrides(own))
        except InvalidRequest as error:
            raise refuse_config(path, f"cannot be taken: {error.message}") from None

    def _children(
        self, entry: Mapping[str, object], path: str, inherited: _Inherited, depth: int
    ) -> tuple[Strategy | None, tuple[Target, ...], bool]:
        listed, strategy = entry.get("targets"), entry.get("strategy")
        if listed is None:
            if strategy is not None and _object(strategy, _join(path, "strategy")).get("mode") != "single":
                raise refuse_config(_join(path, "targets"), "is missing; a strategy needs targets.")
            return None, (), False
        where = _join(path, "targets")
        if not isinstance(listed, list) or not listed:
            raise refuse_config(where, "must be a list of at least one target.")
        if strategy is None:
            raise refuse_config(_join(path, "strategy"), "is missing; it says how a target is chosen.")
        self._targets += len(listed)
        if self._targets > _MAX_TARGETS:
            raise refuse_config(where, f"goes beyond the limit of {_MAX_TARGETS} targets in one config.")
        if depth == 0:
            raise refuse_config(where, f"is nested more than {_MAX_DEPTH} levels deep.")
        targets = tuple(
            self.target(item, f"{where}[{index}]", inherited, depth - 1) for index, item in enumerate(listed)
        )
        names: dict[str, int] = {}
        for index, item in enumerate(listed):
            if item.get("name") is not None:
                names.setdefault(_text(item["name"], f"{where}[{index}].name", _MAX_TEXT), index)
        needs_audio = any(target.needs_audio for target in targets)
        return self._strategy(strategy, _join(path, "strategy"), targets, names, needs_audio)

    def _strategy(
        self, value: object, path: str, targets: tuple[Target, ...], names: Mapping[str, int], needs_audio: bool
    ) -> tuple[Strategy, tuple[Target, ...], bool]:
        entry = _object(value, path)
        mode = entry.get("mode")
        allowed = {"mode"}
        branches: list[Branch] = []
        default = statuses = None
        match mode:
            case "single" | "loadbalance":
                pass
            case "fallback":
                allowed.add("on_status_codes")
                if entry.get("on_status_codes") is not None:
                    statuses = _statuses(entry["on_status_codes"], f"{path}.on_status_codes")
            case "conditional":
                allowed |= {"conditions", "default"}
                listed = entry.get("conditions")
                if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_TARGETS:
                    raise refuse_config(f"{path}.conditions", f"must be a list of 1 to {_MAX_TARGETS} conditions.")
                for index, item in enumerate(listed):
                    place = f"{path}.conditions[{index}]"
                    branch = _object(item, place)
                    query = branch.get("query")
                    holds = parse_condition(query, f"{place}.query")
                    keys = list(_keys(query))
                    self._regexes += keys.count("$regex")
                    if self._regexes > _MAX_REGEXES:
                        raise refuse_config(place, f"goes beyond the limit of {_MAX_REGEXES} patterns in one config.")
                    needs_audio = needs_audio or any(key.startswith("audio.") for key in keys)
                    branches.append(Branch(holds, _named(branch.get("then"), f"{place}.then", names)))
                if entry.get("default") is not None:
                    default = _named(entry["default"], f"{path}.default", names)
            case _:
                raise refuse_config(f"{path}.mode", "must be single, fallback, loadbalance or conditional.")
        for key in entry:
            if key not in allowed:
                raise refuse_config(f"{path}.{key}", f"is no option of mode {mode}.")
        return Strategy(mode, statuses, tuple(branches), default), targets, needs_audio


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _keys(query: object) -> Iterator[str]:
    if isinstance(query, dict):
        for key, value in query.items():
            yield key
            yield from _keys(value)
    elif isinstance(query, list):
        for item in query:
            yield from _keys(item)


def _size(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(item) for item in value.values())
    return 1 + (sum(_size(item) for item in value) if isinstance(value, list) else 0)


def _object(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse_config(path, "must be an object.")
    return value


def _text(value: object, path: str, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= limit or not value.isprintable():
        raise refuse_config(path, f"must be a text of 1 to {limit} printable characters.")
    return value.strip()


def _number(value: object, path: str, *, least: float = -math.inf, above: float = -math.inf, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (least <= value <= most and value > above):
        low = f"above {above:g}" if above > -math.inf else f"from {least:g}"
        raise refuse_config(path, f"must be a number {low} to {most:g}.")
    return float(value)


def _whole(value: object, path: str, *, least: int, most: int) -> int:
    number = _number(value, path, least=least, most=most)
    if not number.is_integer():
        raise refuse_config(path, f"must be a whole number from {least} to {most}.")
    return int(number)


def _statuses(value: object, path: str) -> frozenset[int]:
    if not isinstance(value, list) or not 0 < len(value) <= 500:
        raise refuse_config(path, "must be a list of HTTP statuses.")
    return frozenset(_whole(item, f"{path}[{index}]", least=100, most=599) for index, item in enumerate(value))


def _retry(value: object, path: str) -> Retry:
    entry = _object(value, path)
    for key in entry:
        # A provider's wish to wait is always followed, within limits.
        if key not in ("attempts", "on_status_codes", "use_retry_after_header"):
            raise refuse_config(f"{path}.{key}", "is not known here, and nothing is left out silently.")
    if entry.get("attempts") is None:
        raise refuse_config(f"{path}.attempts", "is missing.")
    attempts = _whole(entry["attempts"], f"{path}.attempts", least=0, most=_MAX_ATTEMPTS)
    if entry.get("on_status_codes") is None:
        return Retry(attempts)
    return Retry(attempts, _statuses(entry["on_status_codes"], f"{path}.on_status_codes"))


def _named(value: object, path: str, names: Mapping[str, int]) -> int:
    name = _text(value, path, _MAX_TEXT)
    if name not in names:
        raise refuse_config(path, "names no target; a target is named by its `name`.")
    return names[name]
