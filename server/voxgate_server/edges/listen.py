"""Where the listeners may listen, and what to say when they cannot."""

import ipaddress
import os

__all__ = ["ListenError", "check_host", "is_loopback", "join_host_port", "port_taken"]


class ListenError(Exception):
    """A listener cannot be opened; the message says why and what to do."""


def check_host(host: str, *, has_key: bool) -> None:
    """Refuses an address that others can reach while nothing protects it.

    Args:
        host: Where to listen.
        has_key: Callers have to show a key.

    Raises:
        ListenError: There is no key, and the address is not a loopback one.
    """
    if not has_key and not is_loopback(host):
        raise ListenError(
            f"Refusing to listen on {host} without a key: everybody who can reach it could use your providers. "
            "Set general_settings.master_key, or listen on 127.0.0.1."
        )


def port_taken(host: str, port: int, option: str, error: OSError | None = None) -> ListenError:
    """The error of a port that cannot be had.

    Args:
        host: Where to listen.
        port: The port.
        option: The option that chooses another one.
        error: What the system said, if it is known.
    """
    why = f" ({os.strerror(error.errno)})" if error is not None and error.errno else ""
    return ListenError(
        f"Cannot listen on {join_host_port(host, port)}{why}. Is another server running there? "
        f"Choose another port with {option}."
    )


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
