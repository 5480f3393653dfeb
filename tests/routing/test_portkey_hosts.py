"""Reading the hosts callers name: refused, or one and the same host to every reader."""

from ipaddress import ip_network
from urllib.parse import urlsplit

import httpx
import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate_server.config.hosts import canonical_host
from voxgate_server.errors import PermissionDenied
from voxgate_server.providers.openai import OpenAIProvider
from voxgate_server.routing.portkey_hosts import PermittedHosts, permitted_place

INSIDE = (ip_network("10.0.0.0/8"),)
HOSTS: PermittedHosts = {
    "stt.example.com": (), "asr.internal": INSIDE, "asr.internal:9000": (), "127.0.0.1:8000": (), "[::1]:8000": (),
    "localhost:8000": (), "localhost:9000": INSIDE,
}  # fmt: skip
PIECES = st.sampled_from(
    [*HOSTS, *"@:/\\?#[]%.;,&=~!$'()*+|^`{}<>\" \t\n0", "http://", "https://", "HTTP://", "evil.com", "127.0.0.1",
     "[::1]", "%25lo", "%2f", "..", "\u3002", "\u2100", ":8000", ":9000", ":0", "user:pw@", "0x7f.1", "v1", "x" * 70]
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "url", "networks"),
    [
        ("https://stt.example.com", "https://stt.example.com", []),
        ("http://STT.example.com:81/v1/", "http://stt.example.com:81/v1/", []),
        ("http://asr.internal/v1", "http://asr.internal/v1", ["10.0.0.0/8"]),
        ("http://asr.internal:9000/v1", "http://asr.internal:9000/v1", []),
        ("http://127.0.0.1:08000/v1", "http://127.0.0.1:8000/v1", ["127.0.0.1/32"]),
        ("https://[0:0::1]:8000/v1", "https://[::1]:8000/v1", ["::1/128"]),
        ("http://localhost:8000", "http://localhost:8000", ["127.0.0.1/32", "::1/128"]),
        ("http://localhost:9000", "http://localhost:9000", ["10.0.0.0/8"]),
    ],
)
def test_permitted(text: str, url: str, networks: list[str]):
    place = permitted_place(text, HOSTS)
    assert (place.url, [str(network) for network in place.networks]) == (url, networks)


@pytest.mark.parametrize("text", ["http://127.0.0.1", "http://stt.example.com.", "http://[::ffff:127.0.0.1]:8000"])
def test_not_permitted(text: str):
    with pytest.raises(PermissionDenied, match=r"`.*`"):
        permitted_place(text, HOSTS)


def test_nobody_permits_anything_by_default():
    with pytest.raises(PermissionDenied):
        permitted_place("https://api.openai.com/v1", {})


@given(
    text=st.lists(PIECES, max_size=12).map("".join)
    | st.text(max_size=40).map("http://stt.example.com/".__add__)
    | st.lists(PIECES, max_size=4).map("".join).map("http://asr.internal".__add__)
)
@example("http://stt.example.com/" + "x" * 3000)
def test_every_reader_sees_the_same_permitted_host(text: str):
    try:
        place = permitted_place(text, HOSTS)
    except (ValueError, PermissionDenied):
        return
    host = urlsplit(place.url).hostname
    assert host is not None
    assert httpx.URL(place.url).host == yarl.URL(place.url, encoded=True).raw_host == host
    port = httpx.URL(place.url).port or (443 if place.url.startswith("https") else 80)
    assert yarl.URL(place.url, encoded=True).port == port
    assert {f"{canonical_host(host)}:{port}", canonical_host(host)} & set(HOSTS)
    OpenAIProvider(model="m", api_base=place.url)
