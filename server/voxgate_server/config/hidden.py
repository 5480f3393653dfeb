"""Values that may be secrets and have no form of their own."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

__all__ = ["Hidden"]

Value = TypeVar("Value")


class Hidden(Mapping[str, Value]):
    """A map that shows its names and never its values.

    Args:
        values: What it holds; copied.
    """

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<hidden values of {', '.join(self._values) or 'nothing'}>"
