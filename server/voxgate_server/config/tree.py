"""YAML as a tree that knows where everything stands.

The tree is built from libyaml's events and not by `yaml.compose`: composing recurses in C, so that a file of a
hundred thousand brackets ends the process. Aliases are not expanded but counted at the size they stand for, which
bounds what every later walk over the tree can cost.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from voxgate_server.config.problems import Place, Problem, quoted

__all__ = ["MAX_DEPTH", "MAX_NODES", "Budget", "Node", "Plain", "Scalar", "find", "parse", "plain"]

MAX_NODES = 200_000
"""Nodes of all files together, aliases counted at their full size."""
MAX_DEPTH = 64
"""Levels a value may be nested, aliases expanded."""

Scalar = str | int | float | bool | None
Plain = Scalar | dict[str, "Plain"] | list["Plain"]

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "null", "bool", "int", "float", "timestamp", "merge", "value"))
_COLLECTION_TAGS = frozenset({None, "!", _TAG + "map", _TAG + "seq"})
_TRUE = frozenset({"yes", "true", "on"})
# Octal, hexadecimal, base 60 and digit groups stay text: `1:30` is no 90 to anybody who writes a configuration.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. Its repr has no value, which may be a secret."""

    place: Place
    value: "Scalar | dict[str, Node] | tuple[Node, ...]" = field(repr=False)
    key: Place | None = None
    """Where its key stands, for the value of a map."""
    text: str | None = field(default=None, repr=False)
    """A scalar as it is written, without quotes."""
    variable: str | None = None
    """The environment variable the value came from. With None as value: the one that is not set."""
    size: int = 1
    """Nodes in it, itself included, aliases expanded."""
    depth: int = 1
    """Levels in it, itself included, aliases expanded."""

    @property
    def map(self) -> "dict[str, Node]":
        """The entries if it is a map, else nothing."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> "tuple[Node, ...]":
        """The items if it is a list, else nothing."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def children(self) -> "list[tuple[str | int, Node]]":
        """What is directly in a map or a list, with its key or index."""
        return [*self.map.items(), *enumerate(self.items)]

    def holding(self, value: "dict[str, Node] | tuple[Node, ...]") -> "Node":
        """The same place with other children."""
        children = value.values() if isinstance(value, dict) else value
        size = 1 + sum(child.size for child in children)
        return replace(self, value=value, size=size, depth=1 + max((child.depth for child in children), default=0))


def plain(node: Node) -> Plain:
    """The values without their places. A key with nothing behind it counts as absent."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items() if child.value is not None}
    if isinstance(node.value, tuple):
        return [plain(child) for child in node.value]
    return node.value


def find(root: Node, path: tuple[str | int, ...]) -> tuple[Node, bool]:
    """The node at a path, or the deepest one on the way; and whether the whole path exists."""
    node = root
    for part in path:
        if isinstance(part, str) and part in node.map:
            node = node.map[part]
        elif isinstance(part, int) and 0 <= part < len(node.items):
            node = node.items[part]
        else:
            return node, False
    return node, True


@dataclass(slots=True)
class Budget:
    """What is left of the nodes allowed, over all files of one configuration."""

    nodes: int = MAX_NODES


class _UnreadableError(Exception):
    """The rest of the file cannot be read; the problem is recorded."""


@dataclass(slots=True)
class _Frame:
    """A map or list whose end has not come yet."""

    place: Place
    anchor: str | None
    is_map: bool
    entries: dict[str, Node] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    merges: list[Node] = field(default_factory=list)
    key: Node | None = None

    def node(self) -> Node:
        value: dict[str, Node] | tuple[Node, ...] = tuple(self.items)
        if self.is_map:
            # What is written out wins over what `<<` brings along, an earlier `<<` over a later one.
            merged: dict[str, Node] = {}
            for source in reversed(self.merges):
                merged.update(source.map)
            value = {**merged, **self.entries}
        return Node(self.place, None).holding(value)


def parse(text: str, file: str, budget: Budget, problems: list[Problem]) -> Node | None:
    """Reads one YAML document.

    Args:
        text: The file's content.
        file: Its name, for places.
        budget: What is left of the nodes; shared by the files that include each other.
        problems: Takes what is wrong: a syntax error ends the reading, a duplicate key does not.

    Returns:
        The tree; None for an empty document, or when the text is not YAML.
    """
    return _Builder(text, file, budget, problems).run()


class _Builder:
    def __init__(self, text: str, file: str, budget: Budget, problems: list[Problem]) -> None:
        self.text = text
        self.file = file
        self.budget = budget
        self.problems = problems
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node | None] = {}
        self.root: Node | None = None
        self.resolver = Resolver()

    def run(self) -> Node | None:
        documents = 0
        try:
            for event in yaml.parse(self.text, Loader=yaml.CSafeLoader):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self.stop(event, "a second document begins here; a configuration is one document")
                elif isinstance(event, yaml.ScalarEvent):
                    self.add(self.scalar(event), event.anchor)
                elif isinstance(event, yaml.AliasEvent):
                    self.add(self.alias(event), None)
                elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                    self.open(event)
                elif isinstance(event, yaml.CollectionEndEvent):
                    frame = self.stack.pop()
                    self.add(frame.node(), frame.anchor)
        except yaml.YAMLError as error:
            self.problems.append(self.syntax(error))
            return None
        except _UnreadableError:
            return None
        return self.root

    def place(self, event: yaml.Event) -> Place:
        return self.at(event.start_mark)

    def at(self, mark: Any) -> Place:
        return Place(self.file, mark.line + 1, mark.column + 1)

    def stop(self, event: yaml.Event, what: str) -> NoReturn:
        self.problems.append(Problem(self.place(event), what))
        raise _UnreadableError

    def spend(self, nodes: int, event: yaml.Event) -> None:
        self.budget.nodes -= nodes
        if self.budget.nodes < 0:
            self.stop(event, f"more than {MAX_NODES:,} values, aliases counted at their full size; make it smaller")

    def open(self, event: "yaml.SequenceStartEvent | yaml.MappingStartEvent") -> None:
        self.spend(1, event)
        if len(self.stack) >= MAX_DEPTH:
            self.stop(event, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in _COLLECTION_TAGS:
            self.problems.append(Problem(self.place(event), "a YAML tag (`!…`) has no meaning here; remove it"))
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(self.place(event), event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def scalar(self, event: yaml.ScalarEvent) -> Node:
        self.spend(1, event)
        text: str = event.value
        tag = event.tag
        if tag is None:
            tag = self.resolver.resolve(ScalarNode, text, event.implicit)  # type: ignore[no-untyped-call]
        elif tag == "!":
            tag = _TAG + "str"
        if tag not in _SCALAR_TAGS:
            self.problems.append(Problem(self.place(event), "a YAML tag (`!…`) has no meaning here; remove it"))
        return Node(self.place(event), _value(tag.removeprefix(_TAG), text), text=text)

    def alias(self, event: yaml.AliasEvent) -> Node:
        node = self.anchors.get(event.anchor or "")
        if node is None:
            known = event.anchor in self.anchors
            self.stop(
                event, "the alias stands inside its own anchor" if known else "an alias (`*…`) without its anchor"
            )
        self.spend(node.size, event)
        if len(self.stack) + node.depth > MAX_DEPTH:
            self.stop(event, f"nested deeper than {MAX_DEPTH} levels")
        return replace(node, place=self.place(event), key=None)

    def add(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if not frame.is_map:
            frame.items.append(node)
        elif frame.key is None:
            if node.text is None:
                self.problems.append(Problem(node.place, "a key has to be text, not a map or a list"))
            frame.key = node
        else:
            key, frame.key = frame.key, None
            self.enter(frame, key, node)

    def enter(self, frame: _Frame, key: Node, node: Node) -> None:
        if key.text is None:
            return
        if key.text == "<<":
            sources = node.items if isinstance(node.value, tuple) else (node,)
            if all(isinstance(source.value, dict) for source in sources):
                frame.merges.extend(sources)
            else:
                self.problems.append(Problem(node.place, "`<<` takes a map, an alias of a map, or a list of them"))
        elif key.text in frame.entries:
            first = frame.entries[key.text].key
            line = first.line if first else 0
            self.problems.append(Problem(key.place, f"duplicate key {quoted(key.text)}, first given in line {line}"))
        else:
            frame.entries[key.text] = replace(node, key=key.place)

    def syntax(self, error: yaml.YAMLError) -> Problem:
        """Says in plain words what libyaml found; never any of the text, which may be a secret."""
        problem = getattr(error, "problem", None) or "this is not YAML"
        mark = getattr(error, "problem_mark", None)
        context_mark = getattr(error, "context_mark", None) or mark
        if mark is None:
            return Problem(Place(self.file, 1, 1), str(problem))
        lines = self.text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            place = Place(self.file, mark.line + 1, indent.index("\t") + 1)
            return Problem(place, "a tab in the indentation; YAML is indented with spaces")
        if problem == "could not find expected ':'":
            return Problem(self.at(context_mark), "a key without its colon; write `key: value`")
        if problem == "found unexpected end of stream":
            return Problem(self.at(context_mark), "a quotation mark is opened here and never closed")
        if problem == "mapping values are not allowed in this context":
            advice = "a colon where none may stand; indent the line like its neighbours, or put the value in quotes"
            return Problem(self.at(mark), advice)
        if problem == "found character that cannot start any token":
            return Problem(
                self.at(mark), f"a value cannot begin with {line[mark.column : mark.column + 1]!r}; quote it"
            )
        context = getattr(error, "context", None)
        return Problem(self.at(mark), f"{context}: {problem}" if context else str(problem))


def _value(kind: str, text: str) -> Scalar:
    """The value of a scalar. Dates, and numbers in other notations, stay the text they are written as."""
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in {*_TRUE, "no", "false", "off"}:
        return text.lower() in _TRUE
    if kind == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "float" and _DECIMAL.fullmatch(text):
        return float(text)
    return text
