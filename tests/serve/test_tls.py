"""TLS on both listeners, with and without certificates of the clients, and certificates that change."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.running import AUTH, openai_config
from tests.serve.processes import Server, configured, eventually, started

NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Client:
    """Whom a client trusts, and what it shows."""

    trusts: trustme.CA
    shows: trustme.LeafCert | None = None

    def context(self, *, alpn: str = "http/1.1") -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.set_alpn_protocols([alpn])
        self.trusts.configure_trust(context)
        if self.shows is not None:
            self.shows.configure_cert(context)
        return context

    def channel(self, server: Server) -> grpc.aio.Channel:
        key, chain = (pem_key(self.shows), pem_chain(self.shows)) if self.shows else (None, None)
        credentials = grpc.ssl_channel_credentials(self.trusts.cert_pem.bytes(), key, chain)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(server.target, credentials, options=options)

    async def rest(self, server: Server) -> None:
        """Raises when it is not served."""
        async with httpx.AsyncClient(verify=self.context(), base_url=f"https://127.0.0.1:{server.rest_port}") as client:
            assert (await client.get("/v1/models", headers=AUTH)).status_code == 200

    async def grpc(self, server: Server) -> None:
        """Raises when it is not served."""
        async with self.channel(server) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def serials(self, server: Server, host: str = "127.0.0.1") -> set[int]:
        """Of the certificates that the two listeners show, each in a new handshake."""
        return {
            await self._serial(host, server.rest_port, "http/1.1"),
            await self._serial(host, server.grpc_port, "h2"),
        }

    async def _serial(self, host: str, port: int, alpn: str) -> int:
        _, writer = await asyncio.open_connection(host, port, ssl=self.context(alpn=alpn))
        try:
            return int(writer.get_extra_info("peercert")["serialNumber"], 16)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def pem_key(leaf: trustme.LeafCert) -> bytes:
    return leaf.private_key_pem.bytes()


def pem_chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in leaf.cert_chain_pems)


def serial(leaf: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def install(directory: Path, leaf: trustme.LeafCert) -> None:
    (directory / "server.pem").write_bytes(pem_chain(leaf))
    (directory / "server.key").write_bytes(pem_key(leaf))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def leaf(authority: trustme.CA, tmp_path: Path) -> trustme.LeafCert:
    """The certificate that is installed."""
    leaf = authority.issue_cert(*NAMES)
    install(tmp_path, leaf)
    return leaf


def config(directory: Path, *, client_ca: str = "") -> Path:
    tls = f"certificate: server.pem, private_key: server.key{client_ca and f', client_ca: {client_ca}'}"
    return configured(directory, openai_config("http://127.0.0.1:9/v1", extra=f"voxgate: {{tls: {{{tls}}}}}"))


@contextlib.asynccontextmanager
async def serving(file: Path):
    async with started(["--config", file], file.parent) as server:
        await server.is_ready()
        yield server


async def test_both_listeners_speak_tls_and_nothing_else(
    authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    async with serving(config(tmp_path)) as server:
        assert any(f"REST on https://127.0.0.1:{server.rest_port}" in line for line in server.lines)
        client = Client(authority)
        await client.rest(server)
        await client.grpc(server)
        assert await client.serials(server) == {serial(leaf)}
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient() as plain:
                await plain.get(f"{server.url}/health/liveness")
        async with grpc.aio.insecure_channel(server.target) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        await refused(Client(trustme.CA()), server)


async def refused(client: Client, server: Server) -> None:
    # In TLS 1.3 a client learns only after its handshake that its certificate was not accepted.
    with pytest.raises(httpx.TransportError):
        await client.rest(server)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.grpc(server)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls(authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    async with serving(config(tmp_path, client_ca="clients.pem")) as server:
        known = Client(authority, clients.issue_cert("client@example.org"))
        await known.rest(server)
        await known.grpc(server)
        await refused(Client(authority), server)
        await refused(Client(authority, authority.issue_cert("client@example.org")), server)

        # Another authority for the clients: those of the old one are out, those of the new one are in.
        others = trustme.CA()
        others.cert_pem.write_to_path(tmp_path / "clients.pem")
        new = Client(authority, others.issue_cert("client@example.org"))
        await new.rest(server)
        await new.grpc(server)
        await refused(known, server)


async def test_sessions_do_not_outlive_the_authority_of_a_client(
    authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    clients = trustme.CA()
    clients.cert_pem.write_to_path(tmp_path / "clients.pem")
    async with serving(config(tmp_path, client_ca="clients.pem")) as server:
        context = Client(authority, clients.issue_cert("client@example.org")).context()

        def talk(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
            with (
                socket.create_connection(("127.0.0.1", server.rest_port)) as raw,
                context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
            ):
                connection.sendall(b"GET /health/liveness HTTP/1.1\r\nHost: voxgate\r\nConnection: close\r\n\r\n")
                return connection.recv(12), connection.session

        answer, session = await asyncio.to_thread(talk, None)
        assert answer == b"HTTP/1.1 200"
        trustme.CA().cert_pem.write_to_path(tmp_path / "clients.pem")
        with contextlib.suppress(OSError):
            assert (await asyncio.to_thread(talk, session))[0] == b""
        # TLS 1.2 cannot be kept from resuming.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match="SSL"):
            await asyncio.to_thread(talk, None)


@pytest.mark.parametrize("host", NAMES, ids=["without a server name", "with a server name"])
async def test_new_certificates_are_taken_at_the_next_handshake(
    host: str, authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    client = Client(authority)
    async with serving(config(tmp_path)) as server, client.channel(server) as old:
        check = health_pb2_grpc.HealthStub(old).Check
        await check(health_pb2.HealthCheckRequest(), timeout=30)
        for _ in range(2):
            new = authority.issue_cert(*NAMES)
            install(tmp_path, new)
            assert await client.serials(server, host) == {serial(new)}
        await client.rest(server)
        await client.grpc(server)
        # A connection that is there already stays.
        await check(health_pb2.HealthCheckRequest(), timeout=30)


async def test_new_certificates_may_come_as_a_link(authority: trustme.CA, tmp_path: Path) -> None:
    # As Kubernetes mounts secrets: a directory behind a link that is replaced.
    versions = [authority.issue_cert(*NAMES) for _ in range(2)]
    for number, leaf in enumerate(versions):
        (tmp_path / f"v{number}").mkdir()
        install(tmp_path / f"v{number}", leaf)
    link = tmp_path / "current"
    link.symlink_to("v0")
    for name in ("server.pem", "server.key"):
        (tmp_path / name).symlink_to(f"current/{name}")
    client = Client(authority)
    async with serving(config(tmp_path)) as server:
        assert await client.serials(server) == {serial(versions[0])}
        (tmp_path / "next").symlink_to("v1")
        (tmp_path / "next").rename(link)
        assert await client.serials(server) == {serial(versions[1])}


def truncate(directory: Path) -> None:
    file = directory / "server.pem"
    file.write_bytes(file.read_bytes()[:300])


def mismatch(directory: Path) -> None:
    (directory / "server.key").write_bytes(pem_key(trustme.CA().issue_cert(*NAMES)))


def remove(directory: Path) -> None:
    (directory / "server.pem").unlink()


def empty(directory: Path) -> None:
    (directory / "server.key").write_bytes(b"")


def garble(directory: Path) -> None:
    (directory / "clients.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n")


def encrypt(directory: Path) -> None:
    file = directory / "server.key"
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a password"),
        )
    )


FAULTS = pytest.mark.parametrize("spoil", [truncate, mismatch, remove, empty, encrypt, garble])


@FAULTS
async def test_new_certificates_that_are_of_no_use_are_not_taken(
    spoil: Callable[[Path], None], authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    client = Client(authority, authority.issue_cert("client@example.org"))
    async with serving(config(tmp_path, client_ca="clients.pem")) as server:
        spoil(tmp_path)
        for _ in range(3):
            assert await client.serials(server) == {serial(leaf)}
        await client.rest(server)
        await client.grpc(server)
        await server.wrote(lambda: len(warnings(server)) == 2)
        for line in warnings(server):
            assert line["level"] == "warning"
            assert "server.pem" in line["error"]
            assert str(tmp_path) not in line["error"]

        # As soon as they are of use again, they are used.
        authority.cert_pem.write_to_path(tmp_path / "clients.pem")
        new = authority.issue_cert(*NAMES)
        install(tmp_path, new)
        assert await client.serials(server) == {serial(new)}
        # One warning a listener was enough.
        assert len(warnings(server)) == 2


def warnings(server: Server) -> list[dict[str, str]]:
    return server.logged("new certificates are not usable, the old ones stay")


@FAULTS
async def test_certificates_that_are_of_no_use_at_the_start_are_an_error(
    spoil: Callable[[Path], None], authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    spoil(tmp_path)
    async with started(["--config", config(tmp_path, client_ca="clients.pem")], tmp_path) as server:
        code = await server.ended()
    [line] = [line for line in server.lines if line.lower().startswith("error: ")]
    # The configuration's loader sees itself that a file is missing.
    assert code == (2 if spoil is remove else 1)
    assert "server.pem" in line
    assert spoil is remove or "cannot be used for TLS" in line
    assert "Traceback" not in "".join(server.lines)


async def test_a_rewrite_under_load_fails_no_handshake(
    authority: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
) -> None:
    # Certificate and key are two files, so between the two writes they do not fit together.
    client = Client(authority)
    async with serving(config(tmp_path)) as server:
        known = {serial(leaf)}
        done = asyncio.Event()

        async def knock() -> None:
            while not done.is_set():
                assert await client.serials(server) <= known

        knocking = [asyncio.create_task(knock()) for _ in range(4)]
        for _ in range(20):
            new = authority.issue_cert(*NAMES)
            known.add(serial(new))
            install(tmp_path, new)
            await asyncio.sleep(0)
        done.set()
        await asyncio.gather(*knocking)

        async def newest() -> bool:
            return await client.serials(server) == {serial(new)}

        await eventually(newest)
