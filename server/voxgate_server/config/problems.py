"""Where something stands in a configuration file, what is wrong with it, and how to say so."""

import difflib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ConfigError", "Hints", "Place", "Problem", "dotted", "quoted"]

LONGEST_KEY = 80
"""Characters of a key that are compared and shown."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file, as editors count: the first character is line 1, column 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """An error or a warning, and where it belongs."""

    place: Place
    what: str
    loud: bool = False
    """A warning about safety, to be shown so that nobody misses it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class ConfigError(Exception):
    """A configuration cannot be used. `str()` has one line `file:line:col: what` for each problem.

    Args:
        problems: All of them, not only the first; sorted by place here.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Iterable[str | int]) -> str:
    """`("model_list", 0, "model_name")` as `model_list.0.model_name`."""
    return ".".join(_shown(part) if isinstance(part, str) else str(part) for part in path)


def _shown(key: str) -> str:
    """A key as it may stand in a line of text: short, without control characters."""
    if len(key) > LONGEST_KEY:
        key = key[:LONGEST_KEY] + "…"
    return key if key.isprintable() and key else json.dumps(key)


def quoted(text: str, limit: int = 60) -> str:
    """Text in double quotes, escaped and cut after `limit` characters."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return json.dumps(text, ensure_ascii=not text.isprintable())


class Hints:
    """Finds the known name a wrong one was probably meant to be. Comparing costs time, so it stops after 100 names."""

    def __init__(self) -> None:
        self._left = 100

    def hint(self, name: str, known: Iterable[str]) -> str:
        """`; did you mean "…"?`, or nothing."""
        if self._left <= 0:
            return ""
        self._left -= 1
        candidates = [one for one in itertools.islice(known, 1000) if len(one) <= LONGEST_KEY]
        found = difflib.get_close_matches(name[:LONGEST_KEY], candidates, n=1, cutoff=0.7)
        return f"; did you mean {quoted(found[0])}?" if found else ""
