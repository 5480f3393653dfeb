"""Hosts that callers name: read strictly, compared in one spelling, and rebuilt from what was compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

from voxgate_server.config.hosts import Network, canonical_host, is_literal
from voxgate_server.errors import PermissionDenied

__all__ = ["PermittedHosts", "Place", "permitted_place"]

PermittedHosts = Mapping[str, Sequence[Network]]
"""By `host` (any port) or `host:port`, as `canonical_host` spells hosts: the addresses a name may lead to; none means
every public one, and for `localhost` those of the loopback."""

_LONGEST = 2048
_LOOPBACK = (ip_network("127.0.0.1"), ip_network("::1"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller's requests go."""

    url: str
    """Without user, query and fragment."""
    networks: Sequence[Network]
    """What its host may lead to; nothing means every public address."""


def permitted_place(text: str, hosts: PermittedHosts) -> Place:
    """The place a caller names.

    Args:
        text: As it was sent.
        hosts: What the operator permits.

    Raises:
        ValueError: It is no plain http or https address.
        PermissionDenied: The operator does not permit the host.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    parts = urlsplit(text)
    named = parts.hostname
    if parts.scheme not in ("http", "https") or not named or parts.port == 0:
        raise ValueError("not an http or https address")
    # What programs read in different ways has no place here, as little as a way out of the path.
    if not (text.isascii() and text.isprintable()) or any(sign in text for sign in (*" \\%?#@", "..")):
        raise ValueError("not a plain address")
    try:
        host = canonical_host(named)
    except ValueError:
        raise _refused(named) from None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    networks = hosts.get(f"{host}:{port}", hosts.get(host))
    if networks is None:
        raise _refused(named)
    if is_literal(host):
        networks = (ip_network(host.strip("[]")),)
    elif host == "localhost":
        networks = networks or _LOOPBACK
    # Not the text: another reader might find another host in it than the one that was compared.
    return Place(f"{parts.scheme}://{host}{'' if parts.port is None else f':{port}'}{parts.path}", networks)


def _refused(host: str) -> PermissionDenied:
    return PermissionDenied(
        f"The operator does not permit the host `{host[:100]}` (voxgate.portkey.custom_hosts lists what is permitted, "
        "as host or host:port).",
        param="x-portkey-custom-host",
        metadata={"host": host[:100]},
    )
