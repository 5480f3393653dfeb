"""From what is written to what is meant: variables of the environment, named credentials, relative paths."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from voxgate_server.config.explain import shown
from voxgate_server.config.keys import Standing, standing
from voxgate_server.config.problems import Hints, Problem, dotted, quoted
from voxgate_server.config.tree import MAX_NODES, Node, find

__all__ = ["Environment", "environment_of", "locate_paths", "merge_credentials", "settle_unset", "substitute"]

PREFIX = "os.environ/"

TreePath = tuple[str | int, ...]


class Environment(Mapping[str, str]):
    """Variables of the environment with those of the file on top. Shows names, never values."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"<Environment of {len(self)} variables>"


def environment_of(root: Node, environ: Mapping[str, str], warnings: list[Problem]) -> Environment:
    """The environment as the file's `environment_variables` change it; the process's own stays as it is.

    A value may be `os.environ/NAME` itself. It is looked up in `environ`, and left out with a warning when not set.
    """
    variables = dict(environ)
    section = root.map.get("environment_variables")
    for name, node in section.map.items() if section else ():
        value = node.text
        if value is None or node.value is None:
            continue
        if value.startswith(PREFIX):
            source = value.removeprefix(PREFIX)
            if not environ.get(source):
                what = f"{dotted(('environment_variables', name))}: the variable {quoted(source)} is not set"
                warnings.append(Problem(node.place, what))
                continue
            value = environ[source]
        variables[name] = value
    return Environment(variables)


def substitute(node: Node, environment: Mapping[str, str]) -> Node:
    """The tree with every `os.environ/NAME` replaced.

    A variable that is empty counts as not set: nobody means an empty key by one. The node is then left with None as
    its value, for `settle_unset`.
    """
    if isinstance(node.value, str):
        if not node.value.startswith(PREFIX):
            return node
        name = node.value.removeprefix(PREFIX)
        return replace(node, value=environment.get(name) or None, variable=name)
    if isinstance(node.value, dict):
        return node.holding({key: substitute(child, environment) for key, child in node.value.items()})
    if isinstance(node.value, tuple):
        return node.holding(tuple(substitute(child, environment) for child in node.value))
    return node


def merge_credentials(root: Node, problems: list[Problem]) -> Node:
    """Puts the values of a deployment's `litellm_credential_name` among its parameters; its own win."""
    credentials: dict[str, Node] = {}
    hints = Hints()
    room = MAX_NODES
    listed = root.map.get("credential_list")
    for index, entry in enumerate(listed.items if listed else ()):
        name = entry.map.get("credential_name")
        if name is None or not isinstance(name.value, str) or not name.value:
            what = f"credential_list.{index}.credential_name: is required, as text"
            problems.append(Problem(name.place if name else entry.place, what))
        elif name.value in credentials:
            what = f"credential_list.{index}.credential_name: a second credential of this name"
            problems.append(Problem(name.place, what))
        else:
            values = credentials[name.value] = entry.map.get("credential_values", entry.holding({}))
            if values.value is not None and not isinstance(values.value, dict):
                what = f"credential_list.{index}.credential_values: must be a map (lines of the form `key: value`)"
                problems.append(Problem(values.place, what))
    if listed is not None and not isinstance(listed.value, tuple) and listed.value is not None:
        problems.append(Problem(listed.place, "credential_list: must be a list (lines that begin with `- `)"))

    def merged(index: int, entry: Node) -> Node:
        params = entry.map.get("litellm_params")
        name = params.map.get("litellm_credential_name") if params else None
        if params is None or name is None or name.value is None:
            return entry
        credential = credentials.get(str(name.value))
        if credential is None:
            what = (
                f"model_list.{index}.litellm_params.litellm_credential_name: no entry of credential_list has this name"
            )
            problems.append(Problem(name.place, what + hints.hint(str(name.value), credentials)))
            return entry
        nonlocal room
        room -= credential.size
        if room < 0:
            what = f"model_list.{index}: more than {MAX_NODES:,} values with those of its credentials; make it smaller"
            problems.append(Problem(entry.place, what))
            return entry
        return entry.holding({**entry.map, "litellm_params": params.holding({**credential.map, **params.map})})

    models = root.map.get("model_list")
    if models is None or not models.items:
        return root
    entries = tuple(merged(index, entry) for index, entry in enumerate(models.items))
    return root.holding({**root.map, "model_list": models.holding(entries)})


def settle_unset(root: Node, problems: list[Problem]) -> tuple[Node, dict[int, list[Problem]]]:
    """Takes out every value whose variable is not set, and says what follows from it.

    For a parameter of a deployment: that deployment cannot be used, the others can. For a key that has no effect in
    this release: nothing. For any other: an error.

    Returns:
        The tree without these values, and for the index of each deployment concerned what is missing.
    """
    unusable: dict[int, list[Problem]] = {}

    def missing(node: Node, path: TreePath) -> bool:
        """Whether it is an error; the value then stays as it is written, so that nothing else seems to be missing."""
        what = f"{dotted(path)}: the variable {quoted(node.variable or '')} is not set"
        match path:
            case ("model_list", int(index), "litellm_params", key, *_) if key != "model":
                unusable.setdefault(index, []).append(Problem(node.place, what))
            case ("environment_variables" | "credential_list", *_):
                pass  # told where it is defined, and where it is used
            case _ if standing(path).standing in {Standing.HONOURED, Standing.DIFFERS}:
                problems.append(Problem(node.place, f"{what}; set it, or write the value"))
                return True
        return False

    def settled(node: Node, path: TreePath) -> Node:
        kept: dict[str | int, Node] = {}
        for key, child in node.children:
            if child.variable is not None and child.value is None:
                kept_anyway = missing(child, (*path, key))
                if kept_anyway:
                    kept[key] = replace(child, value=child.text)
            else:
                kept[key] = settled(child, (*path, key))
        if isinstance(node.value, dict):
            return node.holding({str(key): child for key, child in kept.items()})
        return node.holding(tuple(kept.values())) if isinstance(node.value, tuple) else node

    return settled(root, ()), unusable


_FILES = (
    ("voxgate", "tls", "certificate"),
    ("voxgate", "tls", "private_key"),
    ("voxgate", "tls", "client_ca"),
    ("voxgate", "limits", "spool_directory"),
)


def locate_paths(root: Node, problems: list[Problem]) -> Node:
    """Makes the paths under `voxgate:` relative to the file they stand in, and sees to it that they exist."""
    known = {problem.place for problem in problems}
    for path in _FILES:
        node, exists = find(root, path)
        if not exists or not isinstance(node.value, str) or node.place in known:
            continue
        target = Path(node.place.file).parent.absolute() / node.value
        is_directory = path[-1] == "spool_directory"
        if not _exists(target, is_directory):
            kind = "directory" if is_directory else "file"
            problems.append(
                Problem(node.place, f"{dotted(path)}: no such {kind} ({shown(node, path)}), seen from this file")
            )
        root = _with(root, path, replace(node, value=str(target)))
    return root


def _exists(path: Path, is_directory: bool) -> bool:
    try:
        return path.is_dir() if is_directory else path.is_file()
    except ValueError:  # a null character in it
        return False


def _with(root: Node, path: tuple[str, ...], value: Node) -> Node:
    if not path:
        return value
    return root.holding({**root.map, path[0]: _with(root.map[path[0]], path[1:], value)})
