"""Values of request fields: what a client may write for a number, a boolean, a list or an object.

Forms know only text, so every reader here takes the spellings that real clients send; JSON bodies bring typed values,
which the same readers take as they are. Whatever does not fit is refused with the field's name.
"""

import math
import re
from collections.abc import Mapping
from typing import NoReturn, TypeVar

import msgspec

from voxgate_server.errors import InvalidRequest

__all__ = [
    "FILE_HELP",
    "Entries",
    "Path",
    "boolean",
    "choice",
    "integer",
    "json_value",
    "named_items",
    "nested",
    "number",
    "refuse",
    "scalar",
    "shown",
    "string",
    "strings",
    "unquoted",
]

FILE_HELP = "Send the recording as a form: curl -F file=@recording.wav -F model=whisper-1 …"
"""What to tell somebody whose recording did not arrive."""

_MAX_DEPTH = 16
"""Levels of objects and lists inside a JSON value; far below what the decoder and protobuf can bear."""
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_SURROGATE = re.compile(r"[\ud800-\udfff]")

Path = tuple[str, ...]
"""What stands in brackets behind a field's name: `()` for `x`, `("",)` for `x[]`, `("", "model")` for `x[][model]`."""

Entries = list[tuple[Path, object]]
"""The occurrences of one field, in the order of the request."""

_Choice = TypeVar("_Choice")


def shown(value: object) -> str:
    """A value for an error message: printable and at most 64 characters of it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = "".join(character if character.isprintable() else "?" for character in str(value)[:65])
    return f"`{text}`" if len(text) <= 64 else f"`{text[:64]}…`"


def refuse(name: str, problem: str, param: str | None = None) -> NoReturn:
    """Raises InvalidRequest: the field `name`, then what is wrong with it."""
    raise InvalidRequest(f"`{name}` {problem}", param=param or name)


def unquoted(value: str) -> str:
    """The value without one pair of double quotes around it, which clients send that quote by hand."""
    if len(value) >= 2 and value[0] == '"' == value[-1] and '"' not in value[1:-1]:
        return value[1:-1]
    return value


def scalar(name: str, entries: Entries | None) -> object:
    """The value of a field that takes one; None when it was not sent or is empty.

    Raises:
        InvalidRequest: It was sent several times with different values, or as a list.
    """
    if not entries:
        return None
    path, value = entries[0]
    if path or any(entry[0] for entry in entries):
        refuse(name, "takes one value, not a list.")
    if any(type(other) is not type(value) or other != value for _, other in entries):
        refuse(name, "was sent several times with different values.")
    return None if value == "" else value


def string(name: str, value: object, *, max_bytes: int) -> str:
    """A text of at most `max_bytes` bytes of UTF-8."""
    if not isinstance(value, str):
        refuse(name, f"must be a text, not {shown(value)}.")
    # A text of n characters has at least n bytes: no need to encode a long one to refuse it.
    if len(value) > max_bytes or (not value.isascii() and len(value.encode("utf-8", "replace")) > max_bytes):
        refuse(name, f"is longer than {max_bytes} bytes.")
    return value


def choice(name: str, value: object, choices: Mapping[str, _Choice]) -> _Choice:
    """What one of several words stands for."""
    found = choices.get(value.strip()) if isinstance(value, str) else None
    if found is None:
        refuse(name, f"must be one of {', '.join(choices)}, not {shown(value)}.")
    return found


def boolean(name: str, value: object) -> bool:
    """True or false, also as a word in any case: true/false, 1/0, yes/no, on/off."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return refuse(name, f"must be true or false, not {shown(value)}.")


def number(name: str, value: object, *, low: float, high: float, above: bool = False) -> float:
    """A finite number from `low` (or, with `above`, above it) to `high`."""
    result = math.nan
    if isinstance(value, str):
        result = float(value) if _NUMBER.fullmatch(value.strip()) else result
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53:
        result = float(value)
    if not (low < result <= high if above else low <= result <= high):  # never true of NaN
        bounds = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        refuse(name, f"must be a number {bounds}, not {shown(value)}.")
    return result


def integer(name: str, value: object, *, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    result = number(name, value, low=low, high=high)
    if not result.is_integer():
        refuse(name, f"must be a whole number from {low} to {high}, not {shown(value)}.")
    return int(result)


def json_value(name: str, text: str | bytes, *, max_depth: int = _MAX_DEPTH) -> object:
    """A JSON text, at most 16 levels deep unless said otherwise.

    Raises:
        InvalidRequest: Not JSON, nested too deeply, a number beyond the range of a double, or half a character.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        why = "is nested too deeply" if isinstance(error, RecursionError) else "is not valid JSON"
        refuse(name, f"{why}.")
    if isinstance(value, dict | list) and not _sound(value, max_depth):
        refuse(name, f"is nested more than {max_depth} levels deep or has half a character (a lone surrogate).")
    return value


def _sound(value: object, depth: int) -> bool:
    if isinstance(value, str):
        return value.isascii() or not _SURROGATE.search(value)
    if isinstance(value, dict):
        return depth > 0 and all(_sound(key, 0) and _sound(item, depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_sound(item, depth - 1) for item in value)
    return True


def named_items(name: str, entries: Entries, *, commas: bool = True) -> list[object]:
    """The items of a list field in any spelling: `x[]`, `x[0]`, repeated `x`, a JSON array, a comma list.

    Args:
        name: The field, for the error.
        entries: Its occurrences in the order of the form.
        commas: Whether a plain value is cut at commas.
    """
    items: list[object] = []
    bracketed: Entries = []
    for path, value in entries:
        if path:
            bracketed.append((path, value))
        elif isinstance(value, list):
            items.extend(value)
        elif not isinstance(value, str):
            items.append(value)
        elif value.lstrip().startswith("["):
            array = json_value(name, value)
            items.extend(array if isinstance(array, list) else [array])
        elif value.lstrip().startswith("{") or not commas:
            items.append(value)
        elif value.strip():
            items.extend(unquoted(item.strip()) for item in value.split(","))
    if bracketed:
        built = nested(name, bracketed)
        if not isinstance(built, list):
            refuse(name, f"is a list: send `{name}[]` for each item, or a JSON array.")
        items.extend(built)
    return items


def strings(name: str, entries: Entries, *, max_items: int, max_bytes: int, commas: bool = True) -> list[str]:
    """A list of non-empty texts, in any spelling of a list."""
    items = named_items(name, entries, commas=commas)
    if len(items) > max_items:
        refuse(name, f"has more than {max_items} items.")
    texts = [string(name, item, max_bytes=max_bytes) for item in items]
    if not all(text.strip() for text in texts):
        refuse(name, "has an empty item.")
    return texts


def nested(name: str, entries: Entries) -> object:
    """The value that several fields `x[a]`, `x[b][]`, `x[][c]` describe together.

    `[]` appends to a list; behind it, a key that the last item already has starts the next item. Keys that are all
    numbers make a list in their order.
    """
    if all(not path for path, _ in entries):
        return entries[0][1] if len(entries) == 1 else [value for _, value in entries]
    groups: dict[str, Entries] = {}
    items: list[Entries] = []
    for (key, *rest), value in _bracketed(name, entries):
        entry = (tuple(rest), value)
        if key:
            groups.setdefault(key, []).append(entry)
        elif items and rest and _continues(items[-1], entry[0]):
            items[-1].append(entry)
        else:
            items.append([entry])
    if groups and items:
        refuse(name, "was sent both as a list and with keys in brackets.")
    if items:
        return [nested(name, item) for item in items]
    if all(key.isdecimal() and len(key) <= 4 for key in groups):
        return [nested(name, groups[key]) for key in sorted(groups, key=int)]
    return {key: nested(name, group) for key, group in groups.items()}


def _bracketed(name: str, entries: Entries) -> Entries:
    if not all(path for path, _ in entries):
        refuse(name, "was sent both as a plain value and with keys in brackets.")
    return entries


def _continues(item: Entries, path: Path) -> bool:
    """Whether `path` belongs to an item that has other keys so far; a list inside it may get another value."""
    return all(known and (known != path or known[-1] == "") for known, _ in item)
