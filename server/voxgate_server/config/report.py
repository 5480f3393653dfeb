"""What becomes of every key of a file: the warnings at load, and the table of `voxgate config check`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from voxgate_server.config.files import read_source
from voxgate_server.config.keys import Key, Standing, siblings, standing
from voxgate_server.config.problems import ConfigError, Hints, Place, Problem, dotted
from voxgate_server.config.tree import Node

__all__ = ["KeyReport", "check", "key_warnings"]

TreePath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class KeyReport:
    """A key of the file, or an item of a list, and what becomes of it."""

    path: str
    """Dotted, for example `model_list.0.litellm_params.model`."""
    place: Place
    """Where the key stands; for an item of a list, where the item does."""
    standing: Standing
    note: str
    """Why it is ignored, how it differs, what it may have been meant to be; often empty."""
    leaf: bool
    """It has a value of its own and not further keys or items."""


def check(path: str | os.PathLike[str]) -> list[KeyReport]:
    """Tells for every key of a file, and of the files it includes, what becomes of it.

    Neither the values nor the environment are looked at: `load_config` does that.

    Args:
        path: The file.

    Returns:
        Every key and every item of a list that is not a map or list itself, in the order of the files. Indices count
        inside the file they stand in.

    Raises:
        ConfigError: A file cannot be read as a map of YAML, or has a key twice.
    """
    problems: list[Problem] = []
    source = read_source(path, problems)
    if problems:
        raise ConfigError(problems)
    hints = Hints()
    reports = []
    for document in source.documents:
        for keys, node, is_leaf in _walk(document.root):
            key = _standing(keys, hints)
            if keys[0] in document.replaced:
                key = Key(Standing.IGNORED, f"replaced by the one in {document.replaced[str(keys[0])]}")
            place = node.key or node.place
            reports.append(KeyReport(dotted(keys), place, key.standing, key.note, is_leaf))
    return reports


def key_warnings(root: Node) -> list[Problem]:
    """One warning for each key that has no effect, works differently or is not known, at the first of its places."""
    first: dict[TreePath, tuple[TreePath, Node]] = {}
    more: dict[TreePath, int] = {}

    def walk(node: Node, path: TreePath) -> None:
        for part, child in node.children:
            here = (*path, part)
            if isinstance(part, int) or standing(here).standing is Standing.HONOURED:
                walk(child, here)
                continue
            # The same key of another deployment is the same key; what is inside it needs no warning of its own.
            pattern = tuple("*" if isinstance(one, int) else one for one in here)
            if pattern in first:
                more[pattern] = more.get(pattern, 0) + 1
            else:
                first[pattern] = here, child

    walk(root, ())
    hints = Hints()
    warnings = []
    for pattern, (path, node) in first.items():
        key = _standing(path, hints)
        what = {
            Standing.IGNORED: "has no effect in this release",
            Standing.DIFFERS: "works differently here",
        }.get(key.standing, "is not known")
        note = f": {key.note}" if key.note else ""
        others = f" (the first of {more[pattern] + 1} places)" if pattern in more else ""
        warnings.append(Problem(node.key or node.place, f"{dotted(path)}: {what}{note}{others}"))
    return warnings


def _standing(path: TreePath, hints: Hints) -> Key:
    key = standing(path)
    if key.standing is Standing.UNKNOWN and isinstance(path[-1], str):
        hint = hints.hint(path[-1], siblings(path)).removeprefix("; ")
        return Key(key.standing, "; ".join(filter(None, (key.note, hint))))
    return key


def _walk(node: Node, path: TreePath = ()) -> Iterator[tuple[TreePath, Node, bool]]:
    """Every key and every leaf: path, node, whether it is a leaf. An empty map or list is one."""
    for part, child in node.children:
        here = (*path, part)
        is_leaf = not child.children
        if is_leaf or isinstance(part, str):
            yield here, child, is_leaf
        yield from _walk(child, here)
