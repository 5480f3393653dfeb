"""Where callers may lead us: a name is judged by its addresses, and those that were judged are the ones dialled.

A list of permitted names alone is not enough: who runs a name's zone decides where it leads, and can decide anew
between two questions (DNS rebinding). So the question is asked here, once for a connection, every answer has to be
permitted, and the connection goes to one of these answers. Host header, SNI and certificate stay with the name.
"""

import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import DefaultResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from voxgate_server.config.hosts import Network
from voxgate_server.errors import PermissionDenied

__all__ = ["PinningResolver", "is_public"]

_PIN_SECONDS = 60.0
"""How long answers are used again. The next ones are judged like the first, so this is about speed, not safety."""

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_TUNNELS = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))
"""Teredo and 6to4: retired, and what is inside them is another address."""
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # for protocols, and the metadata of a cloud at .192
    IPv4Network("192.88.99.0/24"),  # the other end of 6to4
    IPv4Network("168.63.129.16/32"),  # a public address that is a cloud's own inside of it
)
"""What older versions of Python, or all of them, take for global."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one host's on the public internet, whatever form of IPv6 an IPv4 address comes in."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        return address in _GLOBAL_UNICAST and address.is_global and not any(address in one for one in _TUNNELS)
    special = address.is_multicast or address.is_reserved or any(address in one for one in _NOT_PUBLIC)
    return address.is_global and not special


class PinningResolver(AbstractResolver):
    """Finds addresses, and lets out none that is not permitted.

    Args:
        networks: What is permitted; nothing means every public address.
        resolver: Asked for the addresses; None means the system's. It stays open when this one is closed.
        pin_seconds: How long answers are used again.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolver: AbstractResolver | None = None,
        pin_seconds: float = _PIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._networks = networks
        self._given = resolver
        self._own: AbstractResolver | None = None
        self._pin_seconds = pin_seconds
        self._clock = clock
        self._pinned: dict[tuple[str, int, int], tuple[float, list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            PermissionDenied: One of them is not permitted.
            OSError: It has none, or nobody could tell.
        """
        key = (host, port, family)
        until, answers = self._pinned.get(key, (0.0, []))
        if not answers or self._clock() >= until:
            # A transport has one host; whatever else comes is not kept.
            self._pinned.clear()
            answers = await self._resolver().resolve(host, port, family)
            if not answers:
                raise OSError(None, "the name has no address")
            for answer in answers:
                self._check(host, answer["host"])
            self._pinned[key] = (self._clock() + self._pin_seconds, answers)
        return list(answers)

    def check_literal(self, host: str) -> None:
        """Judges a host that is an address itself: no resolver is asked for those. Names are not looked at.

        Raises:
            PermissionDenied: It is not permitted.
        """
        if ":" in host or host.replace(".", "").isdecimal():
            self._check(host, host)

    async def close(self) -> None:
        """Gives up what it holds; it can be used again."""
        self._pinned.clear()
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    def _resolver(self) -> AbstractResolver:
        # Here and not in __init__: the system's belongs to the loop it was made in.
        if self._given is not None:
            return self._given
        self._own = self._own or DefaultResolver()
        return self._own

    def _check(self, host: str, text: str) -> None:
        try:
            address = ip_address(text)
        except ValueError:  # 127.1 and the like
            permitted = False
        else:
            plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
            inside = any(plain in network for network in self._networks)
            permitted = inside if self._networks else is_public(plain)
        if not permitted:
            # The address itself stays out of it: it would tell callers how the inside looks.
            raise PermissionDenied(
                f"The host `{host[:100]}` leads to an address that the operator does not permit "
                "(voxgate.portkey.custom_hosts: a host that is not public needs its `addresses`).",
                param="x-portkey-custom-host",
                metadata={"host": host[:100]},
            )
