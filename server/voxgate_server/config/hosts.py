"""Hosts an operator names: one spelling for each, and the addresses they may lead to."""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from voxgate_server.config.types import Section, Text, listed, wrong

__all__ = ["CustomHost", "CustomHosts", "Network", "canonical_host", "is_literal"]

Network = IPv4Network | IPv6Network
"""A network, or a single address as a network of one."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,251}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_WITH_PORT = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def canonical_host(host: str) -> str:
    """The one spelling of a host: names in lower case, IPv6 compressed and in brackets.

    Args:
        host: A name or an address, without port; brackets around IPv6 are not needed.

    Raises:
        ValueError: It is neither, or an address in a spelling that others read in another way: numbers in octal,
            hexadecimal or with less than four parts, zone ids.
    """
    host = host.lower()
    bare = host.removeprefix("[").removesuffix("]")
    if ":" in bare:
        address = IPv6Address(bare)
        if address.scope_id is not None:
            raise ValueError("has a zone id")
        return f"[{address.compressed}]"
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return str(ip_address(host))
    if not _NAME.fullmatch(host) or ".." in host:
        raise ValueError("is no name of a host")
    return host


def is_literal(host: str) -> bool:
    """Whether a host, as `canonical_host` gives it, is an address and not a name."""
    return host.startswith("[") or host.replace(".", "").isdecimal()


def _host(value: str) -> str:
    value = value.lower()
    try:
        parts = urlsplit(f"//{value}")
        if _WITH_PORT.fullmatch(value) and parts.port != 0:
            host = canonical_host(parts.hostname or "")
            return host if parts.port is None else f"{host}:{parts.port}"
    except ValueError:  # a port above 65535, or an address in a spelling of its own
        pass
    raise wrong("must be a host such as stt.example.com, or host:port")


def _network(value: Any) -> Network:
    try:
        network = ip_network(value) if isinstance(value, str) else None
    except ValueError:  # an address with a length that does not fit it, among others
        network = None
    if network is None or (isinstance(network, IPv6Network) and network.network_address.ipv4_mapped):
        raise wrong("must be an address or a network such as 10.0.0.0/8 or fd00::/8")
    return network


class CustomHost(Section):
    """A host callers may name. A bare text in its place is a host without `addresses`."""

    host: Annotated[Text, AfterValidator(_host)]
    """`host` (any port) or `host:port`."""
    addresses: Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], BeforeValidator(listed)] = ()
    """Addresses and networks its name may lead to, and no others. Default: every public address; for `localhost`
    127.0.0.1 and ::1."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, dict | CustomHost):
            return value
        return {"host": _host(value if isinstance(value, str) else "")}

    @model_validator(mode="after")
    def _either(self) -> Self:
        host = self.host if self.host.endswith("]") else self.host.rpartition(":")[0] or self.host
        if self.addresses and is_literal(host):
            raise wrong("must not have `addresses`: the host is an address itself")
        return self


def _distinct(hosts: tuple[CustomHost, ...]) -> tuple[CustomHost, ...]:
    names = [one.host for one in hosts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise wrong(f"must name each host once; {twice[0][:100]} is there twice")
    return hosts


CustomHosts = Annotated[tuple[CustomHost, ...], BeforeValidator(listed), AfterValidator(_distinct)]
"""Hosts, each with or without a port; one of them may stand there as bare text."""
