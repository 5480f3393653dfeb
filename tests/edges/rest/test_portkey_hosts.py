"""Hosts that callers name, over real sockets: nobody is led anywhere but where the operator permits."""

import contextlib
from pathlib import Path

import pytest
from voxgate_server.routing.portkey_plan import PortkeySettings

from tests.edges.portkey_gateway import address_of, ask, serving, targets
from tests.providers.catcher import catching
from tests.providers.openai_emulator import OpenAIEmulator
from tests.providers.scripted_resolver import ScriptedResolver
from tests.running import UPSTREAM_KEY, Gateway, openai_config, running


def forbidden_hosts(permitted: str, port: int) -> list[str]:
    """Addresses that lead to a port of the loopback or inside, or seem to lead to the permitted host, in one reading.

    Args:
        permitted: `host:port` callers may name.
        port: Another one.
    """
    hosts = [
        # the loopback, in every spelling some resolver or library takes
        "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1",
        "017700000001", "127.0.0.01", "127.0.0.1.", "127.0.0.1..", "0", "0.0.0.0", "localhost", "LOCALHOST",
        "localhost.", "localhost.localdomain", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]",
        # names that lead there
        "127.0.0.1.nip.io", "localtest.me", "app.localhost", "host.docker.internal",
        # inside
        "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.0.1", "[fc00::1]", "[fd00::1]", "[fe80::1]",
        "224.0.0.1", "255.255.255.255", "[ff02::1]",
        # what clouds tell about themselves
        "169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "168.63.129.16",
        "100.100.100.200", "192.0.0.192", "metadata.google.internal", "metadata", "instance-data",
        # characters that others read as digits, dots or nothing
        "%31%32%37.0.0.1", "127.0.0.1%2f", "127.0.0.1%00", "xn--fiq228c.com", "127.0.0.1 ",
    ]  # fmt: skip
    return [
        *(f"http://{host}:{port}/v1" for host in hosts),
        *("http://169.254.169.254/latest/meta-data", "http://metadata.google.internal/", "https://127.0.0.1"),
        # what is no address of the web
        *(f"ftp://127.0.0.1:{port}", f"//127.0.0.1:{port}", f"127.0.0.1:{port}", "file:///etc/passwd", "http://"),
        *("http:///v1", "http://[::1", "http://]", "gopher://127.0.0.1", f"http:127.0.0.1:{port}", "https://[v1.x]"),
        *("http://127.0.0.1:0/v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:-1/v1", "http://127.0.0.1:x/v1"),
        # one host for one reader and another for the next
        *(f"http://user:pw@127.0.0.1:{port}/v1", f"http://{permitted}@127.0.0.1:{port}", f"http://@{permitted}/v1"),
        *(f"http://{permitted}/v1#@127.0.0.1:{port}/", f"http://127.0.0.1:{port}\\@{permitted}"),
        *(f"http://127.0.0.1:{port}#@{permitted}/", f"http://127.0.0.1:{port}?@{permitted}/"),
        *(f"http://{permitted}:{port}", f"http://{permitted}.nip.io/v1", f"http://{permitted}\\.nip.io/v1"),
        *(f"http://{permitted}/v1/../x", f"http://{permitted}/v1?x=1", f"http://{permitted}/%2e%2e/x"),
        *(f"http://a[::1]:{port}/", f"http://[{permitted.partition(':')[0]}]:{port}/", f"http://{permitted}0/v1"),
        *(f"https://{permitted.partition(':')[0]}/v1", f"http://{permitted.partition(':')[0]}:{port}/v1"),
        "http://" + "a" * 300 + ".example.com/v1",
    ]


@pytest.mark.parametrize("by", ["header", "config", "nested"])
async def test_no_host_but_the_permitted(portkey: Gateway, emulator: OpenAIEmulator, by: str):
    async with catching() as catcher:
        for host in forbidden_hosts(address_of(emulator), catcher.port):
            target = {"provider": "openai", "custom_host": host, "api_key": "sk-callers-canary-77"}
            if by == "header":
                response = await ask(portkey, {"x-portkey-provider": "openai", "x-portkey-custom-host": host})
            else:
                response = await ask(portkey, {}, config=target if by == "config" else targets("single", target))
            assert response.status in (400, 403), host
            assert b"canary" not in response.body
            assert response.error["message"]
    assert not catcher.connections
    assert not emulator.records


@pytest.mark.parametrize("host", ["127\u30020.0.1", "\u2460\u2461\u2466.0.0.1", "f\u00fcr.example.com", "a\tb", "a\nb"])
async def test_hosts_that_are_no_plain_text(portkey: Gateway, emulator: OpenAIEmulator, host: str):
    target = {"provider": "openai", "custom_host": f"http://{host}/v1"}
    response = await ask(portkey, {}, config=targets("single", target))
    assert (response.status, response.error["param"]) == (400, "x-portkey-config")
    assert not emulator.records


async def test_other_spellings_of_the_permitted_host(portkey: Gateway, emulator: OpenAIEmulator):
    for text in (f"HTTP://{address_of(emulator)}/v1/", f"http://{address_of(emulator).replace(':', ':0')}/v1"):
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": text,
            "authorization": "Bearer " + UPSTREAM_KEY,
        }
        assert (await ask(portkey, headers)).status == 200
    assert {record.headers["host"] for record in emulator.records} == {address_of(emulator)}


@contextlib.asynccontextmanager
async def naming(directory: Path, emulator: OpenAIEmulator, *answers: list[str], addresses: str = "[]"):
    """A gateway whose callers may name stt.example.com, which leads where the answers say, at the emulator's port."""
    port = address_of(emulator).rpartition(":")[2]
    names = ScriptedResolver(*answers)
    extra = f"""
        voxgate:
          portkey:
            allow_caller_credentials: true
            custom_hosts: [{{host: "STT.example.com:{port}", addresses: {addresses}}}]
    """
    models = ("whisper-1", "fault-500")
    async with running(
        directory, openai_config(emulator.url, models=models, extra=extra), admin=True, resolver=names
    ) as gateway:
        yield gateway, names, {"provider": "openai", "custom_host": f"http://stt.EXAMPLE.com:{port}/v1"}


@pytest.mark.parametrize(
    ("addresses", "answers"),
    [
        ("[]", ["127.0.0.1"]),
        ("[]", ["8.8.8.8", "127.0.0.1"]),
        ("[]", ["::ffff:127.0.0.1"]),
        ("[]", ["10.9.8.7", "169.254.169.254"]),
        ("[10.0.0.0/8]", ["127.0.0.1", "10.0.0.1"]),
        ("[10.0.0.0/8]", ["8.8.8.8"]),
    ],
)
async def test_a_permitted_name_that_leads_elsewhere(
    emulator: OpenAIEmulator, tmp_path: Path, addresses: str, answers: list[str]
):
    async with naming(tmp_path, emulator, answers, addresses=addresses) as (gateway, names, target):
        target |= {"api_key": UPSTREAM_KEY, "retry": {"attempts": 3, "on_status_codes": [403, 502, 503]}}
        configs = (
            *[target] * 5,  # More than a failing provider is forgiven: nobody cools down.
            targets("fallback", target, {}),
            targets("fallback", {"override_params": {"model": "fault-500"}}, target, {}),
        )
        for count, config in enumerate(configs, 1):
            response = await ask(gateway, {}, config=config)
            assert (response.status, response.error["param"]) == (403, "x-portkey-custom-host")
            assert "`stt.example.com`" in response.error["message"]
            assert not [address for address in answers if address.encode() in response.body]
            assert names.asked == ["stt.example.com"] * count
        assert [record.status for record in emulator.records] == [500]
        # The same place as the operator's own is nobody's fault.
        assert (await ask(gateway, {})).status == 200


async def test_a_permitted_name_that_leads_where_it_should(emulator: OpenAIEmulator, tmp_path: Path):
    answers = (["127.0.0.1"], ["127.0.0.2"])
    port = int(address_of(emulator).rpartition(":")[2])
    async with (
        catching("127.0.0.2", port=port) as catcher,
        naming(tmp_path, emulator, *answers, addresses="127.0.0.1") as (gateway, names, target),
    ):
        for key in (UPSTREAM_KEY, UPSTREAM_KEY):
            assert (await ask(gateway, {}, config={**target, "api_key": key})).status == 200
        assert names.asked == ["stt.example.com"]
        # Another key is another deployment, whose connection is one of its own: it asks anew.
        assert (await ask(gateway, {}, config={**target, "api_key": UPSTREAM_KEY + "-2"})).status == 403
    assert {record.headers["host"] for record in emulator.records} == {f"stt.example.com:{port}"}
    assert (len(emulator.records), catcher.connections) == (2, 0)


async def test_localhost_by_the_systems_own_resolver(emulator: OpenAIEmulator, tmp_path: Path):
    host = address_of(emulator).replace("127.0.0.1", "localhost")
    async with serving(tmp_path, emulator, PortkeySettings(custom_hosts={host: ()})) as gateway:
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{host}/v1"}
        response = await ask(gateway, headers)
        # It was reached, and had no key to be content with.
        assert (response.status, response.error["code"]) == (502, "provider_credential_refused")
    assert [record.headers["host"] for record in emulator.records] == [host]
