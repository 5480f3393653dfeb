"""Keys, as they come in headers."""

import pytest
from voxgate_server.edges.identity import KEY_HEADERS, Identity
from voxgate_server.errors import Unauthenticated

KEY = "sk-master-0123456789"


@pytest.mark.parametrize("header", KEY_HEADERS)
@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"bearer  {KEY} ", f"BEARER {KEY}"])
def test_the_right_key_in_any_header(header: str, value: str):
    caller = Identity(KEY).caller({header: value})
    assert caller.is_admin
    assert KEY not in caller.key_id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x-api-key": f"{KEY}x"},
        {"x-api-key": KEY[:-1]},
        {"x-api-key": "\udcff"},
        {"authorization": "Bearer wrong", "x-api-key": KEY},
    ],
)
def test_anything_else_is_refused_without_telling_the_key(headers: dict[str, str]):
    with pytest.raises(Unauthenticated) as caught:
        Identity(KEY).caller(headers)
    assert KEY not in caught.value.message


def test_without_a_key_everybody_is_the_operator():
    identity = Identity(None)
    assert identity.open_to_everybody
    assert identity.caller({"authorization": "Bearer anything"}).is_admin


def test_which_bearer_is_a_key_for_a_provider():
    identity = Identity(KEY)
    portkey = {"x-portkey-api-key": KEY}
    assert identity.provider_key({**portkey, "authorization": "Bearer sk-provider"}) == "sk-provider"
    for value in ("Bearer OPENAI_API_KEY", f"Bearer {KEY}", "Bearer ", "Basic sk-provider", ""):
        assert identity.provider_key({**portkey, "authorization": value}) is None
    assert identity.provider_key({"authorization": f"Bearer {KEY}"}) is None
    assert identity.provider_key({"x-portkey-api-key": f"Bearer {KEY}", "authorization": f"Bearer {KEY}"}) is None
    assert Identity(None).provider_key({"authorization": "Bearer sk-provider"}) == "sk-provider"
    assert Identity(None).provider_key({"x-portkey-api-key": "k", "authorization": "Bearer k"}) is None
