"""Names for speakers whom a provider tells apart: `A`, `B` … in the order in which they are first heard.

As OpenAI names them, whatever the provider's own numbers and labels are.
"""

from collections.abc import Hashable

__all__ = ["SpeakerNames"]


class SpeakerNames:
    """The names of one transcript's speakers."""

    def __init__(self) -> None:
        self._names: dict[Hashable, str] = {}

    def name(self, key: Hashable) -> str:
        """The name of a speaker: `A` to `Z`, then `AA` and so on.

        Args:
            key: What the provider calls this speaker.
        """
        if key not in self._names:
            number, name = len(self._names) + 1, ""
            while number:
                number, letter = divmod(number - 1, 26)
                name = chr(ord("A") + letter) + name
            self._names[key] = name
        return self._names[key]
