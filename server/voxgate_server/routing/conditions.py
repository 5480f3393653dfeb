"""Conditions by which a routing object chooses a target: Portkey's queries, checked when read, evaluated per call."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from voxgate_server.errors import InvalidRequest

__all__ = ["CONFIG_PARAM", "Condition", "Facts", "parse_condition", "refuse_config"]

CONFIG_PARAM = "x-portkey-config"
"""The header that errors of a routing object name."""

_MAX_DEPTH = 8
_MAX_ITEMS = 100
_MAX_PATTERN = 200
_MAX_REPEATS = 2
_MAX_SUBJECT = 128
_FIELDS = re.compile(
    r"(?:metadata|params)\..{1,255}|url\.pathname|audio\.size_bytes|audio\.duration_seconds", re.DOTALL
)

Condition = Callable[["Facts"], bool]
"""Whether a call fulfils a query."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions can ask about a call."""

    metadata: Mapping[str, object]
    params: Mapping[str, object]
    """The request's options by their REST names; what was not sent is absent."""
    pathname: str = ""
    """Path of the request's URL."""
    size_bytes: int | None = None
    """Size of the recording; None while it is still coming."""
    duration_seconds: float | None = None
    """None when unknown."""

    def value(self, name: str) -> object:
        """The value of a field such as `metadata.tier`; None when there is none."""
        room, _, rest = name.partition(".")
        if room == "metadata":
            return self.metadata.get(rest)
        if room == "params":
            return self.params.get(rest)
        if name == "url.pathname":
            return self.pathname
        return self.size_bytes if rest == "size_bytes" else self.duration_seconds


def refuse_config(path: str, problem: str) -> InvalidRequest:
    """The error for a place in a routing object, e.g. `targets[1].retry.attempts`."""
    place = "".join(character if character.isprintable() else "?" for character in path[:200])
    where = f"`{CONFIG_PARAM}`: `{place}`" if place else f"`{CONFIG_PARAM}`"
    return InvalidRequest(f"{where} {problem}", param=CONFIG_PARAM, metadata={"path": place})


def parse_condition(query: object, path: str) -> Condition:
    """Reads a query.

    Operators are `$eq $ne $gt $gte $lt $lte $in $nin $regex`, joined by `$and` and `$or`; a bare value means `$eq`.
    Numbers and texts that are numbers compare as numbers. What is not known about the audio fulfils no condition;
    any other absent value fulfils `$ne` and `$nin` only. A `$regex` sees values of at most 128 characters.

    Args:
        query: The JSON value.
        path: Where it stands, for errors.

    Raises:
        InvalidRequest: It is no query; the message names the place.
    """
    return _query(query, path, _MAX_DEPTH)


def _query(query: object, path: str, depth: int) -> Condition:
    if not isinstance(query, dict) or not query:
        raise refuse_config(path, "must be an object with at least one condition.")
    if depth == 0:
        raise refuse_config(path, f"is nested more than {_MAX_DEPTH} levels deep.")
    parts = []
    for key, operand in query.items():
        place = f"{path}.{key}"
        if key in ("$and", "$or"):
            if not isinstance(operand, list) or not 0 < len(operand) <= _MAX_ITEMS:
                raise refuse_config(place, f"must be a list of 1 to {_MAX_ITEMS} conditions.")
            inner = [_query(item, f"{place}[{index}]", depth - 1) for index, item in enumerate(operand)]
            parts.append(_any(inner) if key == "$or" else _all(inner))
        elif _FIELDS.fullmatch(key):
            parts.append(_field(key, operand, place))
        else:
            raise refuse_config(
                place,
                "is no field. There are metadata.*, params.*, url.pathname, audio.size_bytes and "
                "audio.duration_seconds, and $and and $or to join them.",
            )
    return _all(parts)


def _all(parts: list[Condition]) -> Condition:
    return lambda facts: all(part(facts) for part in parts)


def _any(parts: list[Condition]) -> Condition:
    return lambda facts: any(part(facts) for part in parts)


def _field(name: str, operand: object, path: str) -> Condition:
    if not isinstance(operand, dict):
        operand = {"$eq": operand}
    if not operand:
        raise refuse_config(path, f"has no operator; there are {', '.join(_OPERATORS)}.")
    return _all([_operation(name, operator, wanted, f"{path}.{operator}") for operator, wanted in operand.items()])


def _operation(name: str, operator: str, wanted: object, path: str) -> Condition:
    if operator not in _OPERATORS:
        raise refuse_config(path, f"is no operator; there are {', '.join(_OPERATORS)}.")
    if operator in ("$in", "$nin"):
        if not isinstance(wanted, list) or len(wanted) > _MAX_ITEMS or not all(_scalar(item) for item in wanted):
            raise refuse_config(path, f"must be a list of at most {_MAX_ITEMS} texts, numbers or booleans.")
    elif operator == "$regex":
        wanted = _pattern(wanted, path)
    elif not _scalar(wanted):
        raise refuse_config(path, "must be a text, a number or a boolean.")
    elif operator not in ("$eq", "$ne") and math.isnan(_number(wanted)):
        raise refuse_config(path, "must be a number.")
    compare = _OPERATORS[operator]
    absent = operator in ("$ne", "$nin") and not name.startswith("audio.")

    def condition(facts: Facts) -> bool:
        value = facts.value(name)
        return absent if value is None else compare(value, wanted)

    return condition


def _scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _number(value: object) -> float:
    """The value as a number; NaN, which compares with nothing, when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _equal(value: object, wanted: object) -> bool:
    if isinstance(value, list | tuple):
        return any(_equal(item, wanted) for item in value)
    if isinstance(value, bool) or isinstance(wanted, bool):
        return str(value).lower() == str(wanted).lower()
    return str(value) == str(wanted) or _number(value) == _number(wanted)


def _one_of(value: object, wanted: object) -> bool:
    assert isinstance(wanted, list)
    return any(_equal(value, item) for item in wanted)


def _matches(value: object, wanted: object) -> bool:
    assert isinstance(wanted, re.Pattern)
    text = str(value)
    return len(text) <= _MAX_SUBJECT and wanted.search(text) is not None


def _pattern(wanted: object, path: str) -> "re.Pattern[str]":
    """Compiles a pattern that cannot take long, whatever it is matched with."""
    if not isinstance(wanted, str) or not 0 < len(wanted) <= _MAX_PATTERN:
        raise refuse_config(path, f"must be a pattern of 1 to {_MAX_PATTERN} characters.")
    # Backtracking explodes where a repeated group has choices of its own, and with many choices in a row.
    plain = re.sub(r"\\[^0-9]", "_", wanted)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "_", plain)
    if "\\" in plain or "(?" in plain or re.search(r"\)[*+?{]", plain):
        raise refuse_config(path, "has a repeated group, a back reference or a `(?…)`, which are not taken here.")
    most = _MAX_REPEATS - 1 if "|" in plain else _MAX_REPEATS
    if len(re.findall(r"[*+?{]", plain)) > most:
        raise refuse_config(path, f"has more than {most} repetitions (`*`, `+`, `?`, `{{…}}`).")
    if "|" in plain and plain.count("(") > 1:
        raise refuse_config(path, "has a `|` and more than one group. Say `$or` instead.")
    try:
        return re.compile(wanted)
    except (re.error, OverflowError, RecursionError):
        raise refuse_config(path, "is no regular expression.") from None


_OPERATORS: Mapping[str, Callable[[object, object], bool]] = {
    "$eq": _equal,
    "$ne": lambda value, wanted: not _equal(value, wanted),
    "$gt": lambda value, wanted: _number(value) > _number(wanted),
    "$gte": lambda value, wanted: _number(value) >= _number(wanted),
    "$lt": lambda value, wanted: _number(value) < _number(wanted),
    "$lte": lambda value, wanted: _number(value) <= _number(wanted),
    "$in": _one_of,
    "$nin": lambda value, wanted: not _one_of(value, wanted),
    "$regex": _matches,
}
