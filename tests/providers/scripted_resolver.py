"""Answers of a name server that does not always say the same."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["ScriptedResolver"]


class ScriptedResolver(AbstractResolver):
    """Gives each question the next answer; the last one again and again.

    Args:
        answers: The addresses of each answer.
    """

    def __init__(self, *answers: list[str]) -> None:
        self._answers = answers
        self.asked: list[str] = []
        """Names, one for each question."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""
