"""Where a client connects to, and when it refuses to."""

from typing import Any

import pytest
import voxgate_client
from voxgate_client import AsyncClient, Client, TlsOptions
from voxgate_client._channel import Connection, connect


def made(target: str | None = None, **options: Any) -> Connection:
    defaults: dict[str, Any] = {"api_key": None, "tls": None, "timeout": None, "allow_plaintext_key": False}
    return connect(target, **{**defaults, **options})


@pytest.mark.parametrize(
    ("target", "address", "secure"),
    [
        (None, "dns:///127.0.0.1:50051", False),
        ("gate", "dns:///gate:50051", False),
        ("gate:1234", "dns:///gate:1234", False),
        ("[::1]:1234", "dns:///[::1]:1234", False),
        ("::1", "dns:///[::1]:50051", False),
        ("http://gate:1234/", "dns:///gate:1234", False),
        ("https://gate", "dns:///gate:443", True),
        ("https://gate:1234", "dns:///gate:1234", True),
        ("dns:///gate:1234", "dns:///gate:1234", False),
        ("unix:/run/voxgate.sock", "unix:/run/voxgate.sock", False),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1", False),
    ],
)
def test_targets(target: str | None, address: str, secure: bool) -> None:
    connection = made(target)
    assert (connection.address, connection.credentials is not None) == (address, secure)


@pytest.mark.parametrize("target", ["ftp://gate", "https://gate/path", "https://user@gate", "a b", "/run/sock"])
def test_targets_that_cannot_be(target: str) -> None:
    with pytest.raises(ValueError, match="is no address of a server"):
        made(target)


def test_tls_turns_tls_on() -> None:
    assert made("gate:1", tls=TlsOptions()).credentials is not None
    assert made("dns:///gate:1", tls=TlsOptions()).credentials is not None
    with pytest.raises(ValueError, match="says plain text"):
        made("http://gate:1", tls=TlsOptions())
    with pytest.raises(ValueError, match="together"):
        made("gate:1", tls=TlsOptions(certificate=b"x"))
    with pytest.raises(FileNotFoundError):
        made("gate:1", tls=TlsOptions(ca="/no/such/ca.pem"))
    assert "secret" not in repr(TlsOptions(certificate=b"x", private_key=b"secret"))


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXGATE_SERVER", "https://gate:1")
    monkeypatch.setenv("VOXGATE_API_KEY", "from-environment")
    connection = made()
    assert (connection.target, connection.api_key) == ("https://gate:1", "from-environment")
    assert made("127.0.0.1:2", api_key="mine").metadata == (("authorization", "Bearer mine"),)
    monkeypatch.setenv("VOXGATE_API_KEY", "")
    assert made().metadata == ()


@pytest.mark.parametrize("target", ["gate:1", "10.0.0.1:1", "dns:///gate:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "http://g"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_key_never_travels_in_the_clear(target: str, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"unencrypted to .*allow_plaintext_key") as caught:
        kind(target, api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)
    assert made(target, api_key="sk-secret", allow_plaintext_key=True).credentials is None


@pytest.mark.parametrize(
    "target",
    [
        "localhost",
        "127.0.0.1:1",
        "127.8.8.8:1",
        "[::1]:1",
        "unix:/a",
        "dns:///localhost:1",
        "ipv6:[::1]:1",
        "https://g",
    ],
)
def test_key_stays_on_this_machine_or_is_encrypted(target: str) -> None:
    assert made(target, api_key="k").api_key == "k"


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk-sécret", "sk secret"])
def test_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        made(api_key=key)
    assert key not in str(caught.value)


def test_what_is_exported() -> None:
    names = [name for name in voxgate_client.__all__ if not name.startswith("__")]
    assert sorted(names) == sorted(name for name in vars(voxgate_client) if not name.startswith("_"))
    tree = voxgate_client._errors.__doc__
    assert tree is not None
    for name in voxgate_client._errors.__all__:
        assert name in names
        assert name in tree
