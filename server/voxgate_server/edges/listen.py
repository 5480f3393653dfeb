"""Where the listeners may listen, and what to say when they cannot."""

import ipaddress

__all__ = ["ListenError", "is_loopback", "join_host_port"]


class ListenError(Exception):
    """A listener cannot be opened; the message says why and what to do."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
