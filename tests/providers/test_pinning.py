"""Which addresses callers may lead us to, and that nothing but these is dialled, whatever names lead to."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.config.hosts import Network
from voxgate_server.errors import PermissionDenied
from voxgate_server.providers.http import AiohttpTransport
from voxgate_server.providers.pinning import PinningResolver, is_public

from tests.providers.catcher import catching
from tests.providers.scripted_resolver import ScriptedResolver

LOOPBACK = (ip_network("127.0.0.1"),)
NAME = "stt.example.com"

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1",
    "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "168.63.129.16",
]  # fmt: skip
PRIVATE6 = [
    "::1", "::", "::127.0.0.1", "::8.8.8.8", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "2001::1", "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
    "2002:808:808::1", "2002:7f00:1::1", "100::1", "64:ff9b:1::808:808", "5f00::1", "4000::1",
]  # fmt: skip
NETWORKS = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "::/96", "::ffff:7f00:0/104", "64:ff9b::a00:0/104",
    "64:ff9b:1::/48", "2001::/32", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "104.18.6.192", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700::6810:6c0"]


def wrapped(address: IPv4Address) -> list[IPv6Address]:
    """The forms of IPv6 that lead to an IPv4 address."""
    return [IPv6Address(f"{prefix}{address}") for prefix in ("::ffff:", "64:ff9b::")]


class TestAddresses:
    @pytest.mark.parametrize("address", PRIVATE + PRIVATE6)
    async def test_not_permitted_unless_named(self, address: str):
        resolver = PinningResolver(resolver=ScriptedResolver([address]))
        with pytest.raises(PermissionDenied) as caught:
            await resolver.resolve(NAME, 80)
        assert NAME in caught.value.message
        assert address not in f"{caught.value.message} {caught.value.metadata}"
        with pytest.raises(PermissionDenied):
            resolver.check_literal(address)
        if "." in address and ":" not in address:
            assert not any(is_public(form) for form in wrapped(IPv4Address(address)))

    @pytest.mark.parametrize("address", PUBLIC)
    async def test_permitted(self, address: str):
        resolver = PinningResolver(resolver=ScriptedResolver([address]))
        assert [answer["host"] for answer in await resolver.resolve(NAME, 80)] == [address]
        resolver.check_literal(address)

    @given(address=st.ip_addresses(v=4))
    def test_what_an_address_is_wrapped_in_changes_nothing(self, address: IPv4Address):
        assert {is_public(form) for form in wrapped(address)} == {is_public(address)}
        assert address.is_global or not is_public(address)

    @given(data=st.data())
    def test_nothing_inside_a_special_network_is_public(self, data: st.DataObject):
        network = data.draw(st.sampled_from(NETWORKS))
        assert not is_public(data.draw(st.ip_addresses(network=network)))

    @pytest.mark.parametrize("spelling", ["127.1", "2130706433", "0177.0.0.1", "::ffff:127.0.0.1", "127.0.0.1.", "1"])
    def test_other_spellings_of_addresses(self, spelling: str):
        with pytest.raises(PermissionDenied):
            PinningResolver().check_literal(spelling)

    async def test_named_addresses_are_all_there_is(self):
        resolver = PinningResolver(
            [ip_network("10.0.0.0/8")], resolver=ScriptedResolver(["10.1.2.3"], ["::ffff:10.1.2.3"]), pin_seconds=0
        )
        assert await resolver.resolve(NAME, 80)
        assert await resolver.resolve(NAME, 80)
        for address in ("8.8.8.8", "127.0.0.1", "11.0.0.1", "64:ff9b::a01:203", "::1"):
            with pytest.raises(PermissionDenied):
                resolver.check_literal(address)


class TestAnswers:
    async def test_public_first_and_private_then(self):
        times = iter([0.0, 30.0, 59.9, 60.0, 61.0])
        names = ScriptedResolver(["8.8.8.8"], ["127.0.0.1"])
        resolver = PinningResolver(resolver=names, clock=lambda: now, pin_seconds=60)
        for _ in range(3):
            now = next(times)
            assert [answer["host"] for answer in await resolver.resolve(NAME, 80)] == ["8.8.8.8"]
        assert len(names.asked) == 1
        for now in times:  # noqa: B007 (the clock)
            with pytest.raises(PermissionDenied):
                await resolver.resolve(NAME, 80)
        assert len(names.asked) == 3  # A refusal is not kept: the next answer may be right.

    @pytest.mark.parametrize("answers", [["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], ["8.8.8.8", "not an address"]])
    async def test_one_wrong_answer_spoils_all(self, answers: list[str]):
        with pytest.raises(PermissionDenied):
            await PinningResolver(resolver=ScriptedResolver(answers)).resolve(NAME, 80)

    async def test_no_answer(self):
        with pytest.raises(OSError, match="no address"):
            await PinningResolver(resolver=ScriptedResolver([])).resolve(NAME, 80)

    async def test_each_call_has_an_error_of_its_own(self):
        resolver = PinningResolver(resolver=ScriptedResolver(["10.0.0.1"]))
        errors = await asyncio.gather(*(resolver.resolve(NAME, 80) for _ in range(3)), return_exceptions=True)
        assert len({id(error) for error in errors}) == 3

    async def test_the_systems_resolver(self):
        resolver = PinningResolver(LOOPBACK)
        answers = await resolver.resolve("localhost", 80, socket.AF_INET)
        assert {answer["host"] for answer in answers} == {"127.0.0.1"}
        await resolver.close()
        assert await resolver.resolve("localhost", 80, socket.AF_INET)
        await resolver.close()


async def send(transport: AiohttpTransport, url: str) -> bytes:
    timeout = {"connect": 5.0, "write": 5.0, "read": 5.0}
    response = await transport.handle_async_request(
        httpx.Request("POST", url, content=b"x", extensions={"timeout": timeout})
    )
    try:
        return b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()


@asynccontextmanager
async def pinned(*answers: list[str], networks: Sequence[Network] = (), **options):
    names = ScriptedResolver(*answers)
    transport = AiohttpTransport(resolver=PinningResolver(networks, resolver=names, pin_seconds=0), **options)
    try:
        yield transport, names
    finally:
        await transport.aclose()


class TestConnections:
    @pytest.mark.parametrize(
        "answers",
        [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]],
    )
    async def test_nothing_is_dialled(self, answers: list[str]):
        async with catching() as catcher, pinned(answers) as (transport, names):
            for _ in range(2):
                with pytest.raises(PermissionDenied, match=NAME):
                    await send(transport, f"http://{NAME}:{catcher.port}/")
            assert names.asked == [NAME, NAME]
        assert catcher.connections == 0

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "127.1", "0x7f000001", "0"]
    )
    async def test_addresses_in_the_url_are_judged_too(self, host: str):
        async with catching() as catcher, pinned(["127.0.0.1"]) as (transport, _):
            with pytest.raises(PermissionDenied):
                await send(transport, f"http://{host}:{catcher.port}/")
        assert catcher.connections == 0

    async def test_a_name_that_moves_inside_between_two_connections(self):
        async with catching() as right, catching("127.0.0.2", port=right.port) as wrong:
            networks = [ip_network("127.0.0.1")]
            # Each request opens a connection: what was dialled once is no reason to dial it again.
            async with pinned(["127.0.0.1"], ["127.0.0.2"], networks=networks, keepalive_timeout=0) as (
                transport,
                names,
            ):
                url = f"http://{NAME}:{right.port}/v1"
                assert await send(transport, url) == b"ok"
                with pytest.raises(PermissionDenied):
                    await send(transport, url)
                assert names.asked == [NAME, NAME]
        assert (right.connections, wrong.connections) == (1, 0)
        assert right.heads[0].headers["host"] == f"{NAME}:{right.port}"

    async def test_exactly_the_judged_address_is_dialled(self):
        async with (
            catching() as right,
            catching("127.0.0.2", port=right.port) as wrong,
            pinned(["127.0.0.2"], networks=[ip_network("127.0.0.0/8")]) as (transport, names),
        ):
            assert await send(transport, f"http://localhost:{right.port}/") == b"ok"
            assert names.asked == ["localhost"]
        assert (right.connections, wrong.connections) == (0, 1)

    async def test_several_calls_at_once_are_refused_each(self):
        async with pinned(["10.0.0.1"]) as (transport, _):
            answers = await asyncio.gather(
                *(send(transport, f"http://{NAME}:9/") for _ in range(5)), return_exceptions=True
            )
        assert {type(answer) for answer in answers} == {PermissionDenied}
        assert len({id(answer) for answer in answers}) == 5

    async def test_no_address_is_a_failure_of_the_connection(self):
        async with pinned([]) as (transport, _):
            with pytest.raises(httpx.ConnectError):
                await send(transport, f"http://{NAME}:9/")

    async def test_without_a_resolver_everything_may_be_dialled(self):
        async with catching() as catcher:
            transport = AiohttpTransport()
            assert await send(transport, f"http://127.0.0.1:{catcher.port}/") == b"ok"
            await transport.aclose()


BUILDS = """
from voxgate_server.providers.registry import build_for_caller
for provider in ("openai", "hosted_vllm", "headstrong"):
    try:
        build_for_caller(provider, "m", {"api_base": "http://stt.example.com", "api_key": "k"}, ())
    except ValueError as error:
        print(error)
    else:
        print(provider)
"""


def test_an_adapter_that_dials_by_itself_is_not_built_for_a_callers_host(tmp_path: Path):
    (tmp_path / "headstrong.py").write_text("def build(params):\n    return object()\n")
    (tmp_path / "headstrong-1.dist-info").mkdir()
    (tmp_path / "headstrong-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: headstrong\nVersion: 1\n"
    )
    points = "[voxgate.providers]\nheadstrong = headstrong:build\n"
    (tmp_path / "headstrong-1.dist-info" / "entry_points.txt").write_text(points)
    # A process of its own: which packages are installed is looked up once.
    code = f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n{BUILDS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    lines = ["openai", "hosted_vllm", "'headstrong' goes to no host of a caller's choice in this release"]
    assert (done.stdout.splitlines(), done.returncode) == (lines, 0), done.stderr


class TestTls:
    @pytest.mark.parametrize("certified", [NAME, "other.example.com", "127.0.0.1"])
    async def test_name_and_certificate_stay_those_of_the_name(self, certified: str):
        authority, context, trusting = (
            trustme.CA(),
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            ssl.create_default_context(),
        )
        authority.issue_cert(certified).configure_cert(context)
        authority.configure_trust(trusting)
        async with (
            catching(context=context) as catcher,
            pinned(["127.0.0.1"], networks=LOOPBACK, ssl_context=trusting) as (transport, _),
        ):
            url = f"https://{NAME}:{catcher.port}/"
            if certified == NAME:
                assert await send(transport, url) == b"ok"
            else:
                with pytest.raises(httpx.ConnectError):
                    await send(transport, url)
        assert set(catcher.server_names) == {NAME}
        assert len(catcher.heads) == (certified == NAME)
