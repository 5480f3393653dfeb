"""Pydantic's errors as problems with a place, in words for the person who wrote the file."""

import re
from collections.abc import Mapping, Set
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from voxgate_server.config.problems import Place, Problem, dotted, quoted
from voxgate_server.config.tree import Node, find
from voxgate_server.config.types import Section

__all__ = ["explain", "shown"]

_MAP = "must be a map (lines of the form `key: value`)"
_LIST = "must be a list (lines that begin with `- `)"
_SAYINGS: Mapping[str, str] = {
    "voxgate": "{what}",
    "missing": "is required",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of reasonable size",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt:,}",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than": "must be less than {lt:,}",
    "less_than_equal": "must be at most {le:,}",
    "dict_type": _MAP,
    "mapping_type": _MAP,
    "model_type": _MAP,
    "model_attributes_type": _MAP,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "literal_error": "must be {expected}",
    "path_type": "must be text, the path of a file",
}
"""What is allowed, by pydantic's type of error. Pydantic's own sentences are not used: some quote the value."""

_SECRET_KEY = re.compile(
    r"key|secret|token|pass|credential|auth|header|cookie|url|api_base|dsn|environment_variables", re.IGNORECASE
)
_MARKED = re.compile(r"\bsk-|\bbearer\b|://", re.IGNORECASE)
"""What a key looks like wherever it was put by mistake."""
_LONG_WORD = re.compile(r"(?<![\w+/=.-])(?=[\w+/=.-]*[0-9])[\w+/=.-]{16,}", re.ASCII)
"""A long word with a digit in it, which may be one as well."""


def explain(error: ValidationError, root: Node, model: type[Section], known: Set[Place]) -> list[Problem]:
    """A problem for each of pydantic's errors, one for a place.

    Args:
        error: What pydantic found.
        root: The tree that was validated.
        model: The model it was validated against, for the descriptions of its fields.
        known: Places of values that are known to be wrong already.
    """
    problems: dict[object, Problem] = {}
    for detail in error.errors(include_input=False, include_url=False):
        path = detail["loc"]
        node, exists = find(root, path)
        saying = _allowed(detail)
        what = f"{dotted(path)}: {saying}" if path else saying
        if exists and node.place in known:
            continue
        if exists and not (detail["type"] == "voxgate" and node.children):
            # Where a map or list belongs, a single value is a line gone wrong and may hold anything.
            scalar = "a single value" if node.value is not None else "nothing"
            found = scalar if saying in {_MAP, _LIST} and not node.children else shown(node, path)
            what += f" (found {found})"
        if description := _description(model, path):
            what += f". {description}"
        problem = Problem(node.place, what)
        problems.setdefault(problem.place if exists else problem, problem)
    return list(problems.values())


def _allowed(detail: ErrorDetails) -> str:
    saying = _SAYINGS.get(detail["type"], "is not a value that is allowed here")
    context = detail.get("ctx", {})
    whole = {key: int(value) for key, value in context.items() if isinstance(value, float) and value.is_integer()}
    return saying.format(**{**context, **whole})


def shown(node: Node, path: tuple[str | int, ...], *, is_name: bool = False) -> str:
    """What was found, as far as it may be shown.

    Args:
        node: What was found.
        path: Where; values of keys that sound like secrets are not shown.
        is_name: A name of the operator's own choice belongs there: long words are usual, and the path is no hint.
    """
    value = node.value
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, tuple):
        return "a list"
    if node.variable is not None:
        return f"the value of the variable {quoted(node.variable)}"
    if value is None:
        return "nothing"
    text = node.text or ""
    kind = "text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"
    by_key = any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path) or _LONG_WORD.search(text)
    if _MARKED.search(text) or (by_key and not is_name):
        return f"{kind} that is not shown here"
    return quoted(text) if isinstance(value, str) else text[:60]


def _description(model: type[Section], path: tuple[str | int, ...]) -> str:
    """The docstring of the field at a path, in one line."""
    section: Any = model
    info: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        if not (isinstance(section, type) and issubclass(section, Section)):
            return ""
        info = section.model_fields.get(part)
        section = _section_in(info.annotation) if info else None
    return " ".join((info.description or "").split()) if info else ""


def _section_in(annotation: Any) -> Any:
    """The section a field holds, or a list of them holds."""
    for inner in getattr(annotation, "__args__", ()):
        if isinstance(inner, type) and issubclass(inner, Section):
            return inner
    return annotation
