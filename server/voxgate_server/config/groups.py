"""Aliases and fallbacks as a graph: circles are errors, names that lead nowhere are warnings."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from voxgate_server.config.explain import shown
from voxgate_server.config.problems import Hints, Place, Problem, dotted, quoted
from voxgate_server.config.router import FALLBACK_MAPS, fallback_rules, meanings
from voxgate_server.config.tree import Node, find, plain

__all__ = ["check_groups"]

MAX_CIRCLES = 20
"""Circles that are reported."""

Graph = dict[str, dict[str, Place]]
"""For each name those it leads to, and where that is written."""


def check_groups(root: Node, served: Iterable[str], problems: list[Problem], warnings: list[Problem]) -> None:
    """Checks where aliases and fallbacks lead to, as far as they have the right form; the models tell the rest.

    Args:
        root: The tree.
        served: Names that are groups besides those of the tree's `model_list`.
        problems: Takes circles: an alias that means itself, a group that is its own fallback, also by way of others.
        warnings: Takes names that no group and no alias has.
    """
    groups = dict.fromkeys(served)
    for entry in find(root, ("model_list",))[0].items:
        name, exists = find(entry, ("model_name",))
        if exists and isinstance(name.value, str | int):
            groups[str(name.value)] = None
    wildcards = [name.partition("*")[::2] for name in groups if "*" in name]
    aliases = {alias: (node.map.get("model", node)) for alias, node in _section(root, "model_group_alias").map.items()}
    hints = Hints()

    def check(name: str, node: Node, path: tuple[str | int, ...]) -> None:
        if name in groups or name in aliases or name == "*":
            return
        if any(name.startswith(head) and name.endswith(tail) for head, tail in wildcards):
            return
        found = quoted(name) if node.value != name else shown(node, path, is_name=True)
        what = f"{dotted(path)}: no entry of model_list is called {found}{hints.hint(name, groups)}"
        warnings.append(Problem(node.place, what))

    means: Graph = {}
    for alias, node in aliases.items():
        if isinstance(node.value, str):
            means[alias] = {node.value: node.place}
            check(node.value, node, ("router_settings", "model_group_alias", alias))
    for circle, place in _circles(means):
        problems.append(Problem(place, f"router_settings.model_group_alias: the alias leads back to itself: {circle}"))

    in_the_end = meanings({alias: name for alias, names in means.items() for name in names})
    graphs: dict[str, Graph] = {kind: {} for kind in FALLBACK_MAPS}
    sources: set[tuple[str | int, ...]] = set()
    for kind, group, target, path, node in _rules(root):
        check(target, node, path)
        # `*` stands for every group without fallbacks of its own, among them the one it names.
        if group != "*":
            if path[:-1] not in sources:
                sources.add(path[:-1])
                written = find(root, path[:-1])[0]
                check(group, replace(written, place=written.key or written.place), path[:-1])
            source, destination = (in_the_end.get(name, name) for name in (group, target))
            graphs[kind].setdefault(source, {}).setdefault(destination, node.place)
    for kind, graph in graphs.items():
        for circle, place in _circles(graph):
            problems.append(Problem(place, f"{kind}: a group would be its own fallback: {circle}"))


def _section(root: Node, key: str) -> Node:
    """A key of `router_settings`, or an empty node."""
    node, exists = find(root, ("router_settings", key))
    return node if exists else root.holding({})


def _rules(root: Node) -> Iterable[tuple[str, str, str, tuple[str | int, ...], Node]]:
    """Kind, group, target, path and node of every fallback."""
    for section in ("router_settings", "litellm_settings"):
        for kind in FALLBACK_MAPS:
            listed, exists = find(root, (section, kind))
            for group, target, below in fallback_rules(plain(listed)) if exists else ():
                path = (section, kind, *below)
                node = find(root, path)[0]
                yield kind, group, target, path, node.map.get("model", node)
        listed, exists = find(root, (section, "default_fallbacks"))
        for number, node in enumerate((listed.items or (listed,)) if exists else ()):
            if isinstance(node.value, str):
                yield "fallbacks", "*", node.value, (section, "default_fallbacks", number), node


def _circles(graph: Mapping[str, Mapping[str, Place]]) -> list[tuple[str, Place]]:
    """Every edge that closes a circle: the circle written out, and where the edge stands."""
    found: list[tuple[str, Place]] = []
    done: set[str] = set()
    for start in graph:
        trail: dict[str, None] = {}
        waiting = [(start, iter(graph[start].items()))] if start not in done else []
        trail.update({start: None} if waiting else {})
        while waiting:
            name, edges = waiting[-1]
            for target, place in edges:
                if target in trail:
                    names = list(trail)
                    circle = [*names[names.index(target) :], target]
                    names = [*circle[:4], "…", circle[-1]] if len(circle) > 6 else circle
                    found.append((" → ".join(map(quoted, names)), place))
                    if len(found) == MAX_CIRCLES:
                        return found
                elif target in graph and target not in done:
                    trail[target] = None
                    waiting.append((target, iter(graph[target].items())))
                    break
            else:
                waiting.pop()
                trail.pop(name)
                done.add(name)
    return found
