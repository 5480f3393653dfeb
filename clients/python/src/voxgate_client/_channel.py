"""Where a client connects to, and how: addresses, TLS, the key, and the options no user should have to know."""

import ipaddress
import os
import re
from dataclasses import dataclass, field
from importlib import resources

import grpc

from voxgate_client._mapping import Rpc
from voxgate_client._request import DEFAULT_TIMEOUT, checked_timeout
from voxgate_client._version import __version__

__all__ = ["DEFAULT_TARGET", "Connection", "TlsOptions", "connect"]

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where a server listens that was told nothing else."""

_DEFAULT_PORT = 50051
_HTTPS_PORT = 443
_RECEIVE_BYTES = 256 << 20
"""Largest answer: hours of words with times need tens of MiB; gRPC's own limit is 4 MiB."""

_RESOLVERS = ("dns", "unix", "unix-abstract", "ipv4", "ipv6", "xds", "vsock")
"""Schemes that gRPC resolves itself."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to connect by TLS. `TlsOptions()` trusts the public authorities that gRPC knows.

    Each value is PEM: its bytes, or the path of a file.
    """

    ca: bytes | str | os.PathLike[str] | None = None
    """Certificates of the authorities to trust instead."""
    certificate: bytes | str | os.PathLike[str] | None = None
    """This client's own certificate chain, for servers that demand one (mTLS)."""
    private_key: bytes | str | os.PathLike[str] | None = field(default=None, repr=False)
    """Its private key."""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC needs.

        Raises:
            ValueError: There is a certificate without its key, or the other way round.
            OSError: A file cannot be read.
        """
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("TlsOptions needs certificate and private_key together, or neither.")
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.private_key), _pem(self.certificate))


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a client knows about its server."""

    target: str
    """As the caller said it, for messages."""
    address: str
    """As gRPC wants it."""
    credentials: grpc.ChannelCredentials | None
    """None means plain text."""
    timeout: float
    """Limit of a call that has none of its own, in seconds."""
    api_key: str | None = field(repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Metadata of every call."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()

    @property
    def options(self) -> list[tuple[str, str | int]]:
        """Channel options."""
        return [
            ("grpc.primary_user_agent", f"voxgate-python/{__version__}"),
            ("grpc.service_config", resources.files("voxgate_client").joinpath("service_config.json").read_text()),
            ("grpc.max_receive_message_length", _RECEIVE_BYTES),
            ("grpc.max_send_message_length", -1),
            # Notices a peer that vanished without a word; ping_timeout is what makes keepalive do so.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.ping_timeout_ms", 10_000),
            ("grpc.http2.max_pings_without_data", 0),
            # gRPC waits up to 2 minutes before it looks again whether a server is back.
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]

    def rpc(self, method: str, timeout: float | None = None) -> Rpc:
        """A call that is about to be made."""
        limit = self.timeout if timeout is None else checked_timeout(timeout)
        return Rpc(target=self.target, method=method, timeout=limit, api_key=self.api_key)


def connect(
    target: str | None,
    *,
    api_key: str | None,
    tls: TlsOptions | None,
    timeout: float | None,
    allow_plaintext_key: bool,
) -> Connection:
    """Puts arguments, environment and defaults together, in this order of precedence.

    Raises:
        ValueError: The target cannot be understood, or the key would travel in the clear.
    """
    target = (target or os.environ.get("VOXGATE_SERVER") or DEFAULT_TARGET).strip()
    key = (api_key or os.environ.get("VOXGATE_API_KEY") or "").strip() or None
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        # gRPC refuses it as well, showing the key in its message.
        raise ValueError("The API key has characters that no header can carry; it must be printable ASCII.")
    address, secure, local = _parse(target, tls is not None)
    if key and not (secure or local or allow_plaintext_key):
        raise ValueError(
            f"The API key would travel unencrypted to {target}. Connect by TLS ('https://…' or tls=TlsOptions(…)), or "
            "say allow_plaintext_key=True if the network in between is encrypted by other means."
        )
    return Connection(
        target=target,
        address=address,
        credentials=(tls or TlsOptions()).credentials() if secure else None,
        timeout=DEFAULT_TIMEOUT if timeout is None else checked_timeout(timeout),
        api_key=key,
    )


def _parse(target: str, tls: bool) -> tuple[str, bool, bool]:
    """Address for gRPC, whether by TLS, whether it never leaves this machine."""
    if web := re.fullmatch(r"(https?)://([^/?#@]+)/?", target):
        secure = web[1] == "https"
        if tls and not secure:
            raise ValueError(f"{target} says plain text and tls= says TLS; write https:// or leave tls away.")
        address = _with_port(web[2], _HTTPS_PORT if secure else _DEFAULT_PORT)
        return f"dns:///{address}", secure, _is_loopback(address)
    scheme, colon, rest = target.partition(":")
    if colon and scheme in _RESOLVERS:
        hosts = rest.rpartition("/")[2].split(",")
        return target, tls, scheme.startswith("unix") or all(map(_is_loopback, hosts))
    if not target or re.search(r"[\s/?#@]", target):
        raise ValueError(
            f"{target!r:.200} is no address of a server. Write host:port, https://host:port, dns:///host:port or "
            "unix:/path/of/socket."
        )
    address = _with_port(target, _DEFAULT_PORT)
    return f"dns:///{address}", tls, _is_loopback(address)


def _with_port(host: str, port: int) -> str:
    if _is_ipv6(host):
        return f"[{host}]:{port}"
    return host if re.search(r":\d+$", host) else f"{host}:{port}"


def _is_loopback(address: str) -> bool:
    host = address if _is_ipv6(address) else re.sub(r":\d+$", "", address)
    host = host.removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _pem(value: bytes | str | os.PathLike[str] | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    with open(value, "rb") as file:  # noqa: PTH123  # takes every kind of path as it is
        return file.read()
