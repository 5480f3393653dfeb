"""Calls routed by Portkey's headers, over real sockets, against the strict OpenAI emulator."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from voxgate_server.routing.portkey_plan import PortkeySettings

from tests.edges.portkey_gateway import PATH, PORTKEY, SPEECH, address_of, ask, serving, targets
from tests.edges.rest.http_client import END, FORM, Connection, field, file_start, form, post
from tests.providers.openai_emulator import OpenAIEmulator, failure
from tests.recordings import convert, recording
from tests.running import KEY, UPSTREAM_KEY, Gateway, openai_config, running

SECONDS = recording("demo-thanks.wav").seconds
SHA256 = hashlib.sha256(SPEECH).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"x-portkey-virtual-key": "main"},
        {"x-portkey-virtual-key": "main", "authorization": "Bearer OPENAI_API_KEY"},
        {"x-portkey-provider": "@main", "authorization": f"Bearer {KEY}"},
        {"x-portkey-config": '{"virtual_key": "main"}'},
        {"x-portkey-config": '{"provider": "@main"}', "x-portkey-strict-open-ai-compliance": "false"},
        {"x-portkey-config": "pc-two"},
        {"x-portkey-config": "pc-text"},
        {"x-portkey-config": "pc-own"},
        {"x-portkey-config": '{"retry": {"attempts": 1}}', "x-portkey-virtual-key": "main"},
        {"x-portkey-provider": "openai", "authorization": "Bearer OPENAI_API_KEY"},
        {"x-portkey-provider": "openai", "authorization": f"Bearer {KEY}"},
        {"x-portkey-config": "", "x-portkey-virtual-key": ""},
    ],
)
async def test_credentials_the_operator_holds(portkey: Gateway, emulator: OpenAIEmulator, headers: dict[str, str]):
    response = await ask(portkey, {**headers, "x-portkey-trace-id": "trace 7"})
    assert (response.status, response.json()["text"]) == (200, emulator.text)
    assert response.headers["x-portkey-trace-id"] == "trace 7"
    record = emulator.records[-1]
    assert record.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert record.file_sha256 == SHA256
    assert not [name for name in record.headers if "portkey" in name]


async def test_the_callers_own_key_and_host(portkey: Gateway, emulator: OpenAIEmulator):
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": emulator.url,
        "authorization": f"Bearer {UPSTREAM_KEY}",
    }
    assert (await ask(portkey, headers, model="openai/whisper-1")).status == 200
    assert emulator.records[0].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert emulator.records[0].field("model") == "whisper-1"
    wrong = await ask(portkey, {**headers, "authorization": "Bearer sk-callers-canary-77"})
    assert (wrong.status, wrong.error["code"]) == (502, "provider_credential_refused")
    assert b"canary" not in wrong.body
    # The gateway's own key is nobody else's business, also in a place where a provider's would be.
    await ask(portkey, {**headers, "authorization": f"Bearer {KEY}"})
    assert KEY not in str(emulator.records[-1].headers)


async def test_the_portkey_key_is_the_credential(portkey: Gateway, emulator: OpenAIEmulator):
    headers = {"x-portkey-api-key": "wrong", "authorization": f"Bearer {KEY}"}
    assert (await ask(portkey, headers)).status == 401
    assert (await ask(portkey, {"x-portkey-api-key": "", "authorization": f"Bearer {KEY}"})).status == 200
    assert (await ask(portkey, {"x-portkey-api-key": ""})).status == 401
    assert len(emulator.records) == 1


async def test_callers_keys_where_they_are_not_permitted(emulator: OpenAIEmulator, tmp_path: Path):
    async with serving(tmp_path, emulator, PortkeySettings(custom_hosts={address_of(emulator): ()})) as gateway:
        refused = await ask(gateway, {}, config={"provider": "openai", "api_key": "sk-callers-canary-77"})
        assert (refused.status, refused.error["param"]) == (403, "x-portkey-config")
        assert b"canary" not in refused.body
        ignored = {"x-portkey-provider": "openai", "authorization": "Bearer sk-callers-canary-77"}
        assert (await ask(gateway, ignored)).status == 200
        assert (await ask(gateway, {**ignored, "x-portkey-custom-host": emulator.url})).status == 502
    assert [record.headers.get("authorization") for record in emulator.records] == [f"Bearer {UPSTREAM_KEY}", None]


async def test_overrides_of_each_target_arrive(portkey: Gateway, emulator: OpenAIEmulator):
    first = {"override_params": {"model": "fault-500", "language": "de"}}
    second = {
        "virtual_key": "main",
        "override_params": {
            "model": "gpt-4o-transcribe", "prompt": "words", "temperature": 0.5, "chunking_strategy": "auto",
        },
    }  # fmt: skip
    response = await ask(portkey, {}, config=targets("fallback", first, second), language="en", temperature="0.1")
    assert response.status == 200
    one, two = emulator.records
    assert (one.field("model"), one.field("language"), one.field("prompt")) == ("fault-500", "de", None)
    assert (two.field("model"), two.field("language"), two.field("prompt")) == ("gpt-4o-transcribe", "en", "words")
    assert [float(record.field("temperature") or "nan") for record in emulator.records] == [0.1, 0.5]
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


@pytest.mark.parametrize(
    ("status", "codes", "expected"),
    [
        (400, None, 200),
        (500, None, 200),
        (500, [500], 200),
        (500, [429], 502),
        (429, [429, 503], 200),
        (429, [500], 429),
    ],
)
async def test_fallback_on_status_codes(
    portkey: Gateway, emulator: OpenAIEmulator, status: int, codes: list[int] | None, expected: int
):
    emulator.script(failure(status))
    listed = {} if codes is None else {"on_status_codes": codes}
    config = targets(
        "fallback",
        {"virtual_key": "main"},
        {"virtual_key": "main", "override_params": {"model": "gpt-4o-transcribe"}},
        **listed,
    )
    assert (await ask(portkey, {}, config=config)).status == expected
    assert len(emulator.records) == (2 if expected == 200 else 1)


async def test_a_timeout_of_the_target_counts_as_408(portkey: Gateway, emulator: OpenAIEmulator):
    slow = {"override_params": {"model": "fault-hang"}, "request_timeout": 300}
    config = targets("fallback", slow, {"virtual_key": "main"}, on_status_codes=[408])
    assert (await ask(portkey, {}, config=config)).status == 200
    headers = {"x-portkey-request-timeout": "300", "x-portkey-provider": "openai"}
    assert (await ask(portkey, headers, model="fault-hang")).status == 504
    headers = {"x-portkey-request-timeout": "300", "x-portkey-virtual-key": "main"}
    assert (await ask(portkey, headers, model="fault-hang")).status == 504
    assert (await ask(portkey, {"x-portkey-request-timeout": "300"}, model="fault-hang")).status == 504


async def test_retries(portkey: Gateway, emulator: OpenAIEmulator):
    config = {"virtual_key": "main", "retry": {"attempts": 2, "on_status_codes": [418]}}
    emulator.script(failure(418), failure(418))
    assert (await ask(portkey, {}, config=config)).status == 200
    assert len(emulator.records) == 3
    emulator.script(failure(500))
    assert (await ask(portkey, {}, config=config)).status == 502
    emulator.script(failure(503))
    assert (await ask(portkey, {"x-portkey-virtual-key": "main"})).status == 502
    assert len(emulator.records) == 5


async def test_loadbalance_fails_over(portkey: Gateway, emulator: OpenAIEmulator):
    config = targets(
        "loadbalance",
        {"virtual_key": "gone", "weight": 1e9},
        {"virtual_key": "main", "weight": 1e-9},
        {"override_params": {"model": "fault-hang"}, "weight": 0},
    )
    assert (await ask(portkey, {}, config=config)).status == 200
    assert [record.status for record in emulator.records] == [401, 200]


async def test_conditional(portkey: Gateway, emulator: OpenAIEmulator):
    conditions = [
        {"query": {"metadata.tier": "gold"}, "then": "gold"},
        {"query": {"params.language": {"$in": ["de", "fr"]}}, "then": "de"},
        {"query": {"audio.size_bytes": {"$gte": len(SPEECH) + 1}}, "then": "large"},
    ]
    names = ("gold", "de", "large")
    entries = [{"name": name, "virtual_key": "main", "override_params": {"prompt": name}} for name in names]
    config = targets("conditional", *entries, conditions=conditions)
    assert (await ask(portkey, {"x-portkey-metadata": '{"tier": "gold"}'}, config=config)).status == 200
    assert (await ask(portkey, {}, config=config, language="fr")).status == 200
    nothing = await ask(portkey, {}, config=config)
    assert (nothing.status, nothing.error["param"]) == (400, "x-portkey-config")
    assert [record.field("prompt") for record in emulator.records] == ["gold", "de"]


async def test_the_size_of_the_recording_is_waited_for(portkey: Gateway, emulator: OpenAIEmulator):
    query = {"audio.size_bytes": {"$eq": len(SPEECH)}}
    entries = [{"name": name, "virtual_key": "main", "override_params": {"prompt": name}} for name in ("a", "b")]
    config = targets("conditional", *entries, conditions=[{"query": query, "then": "b"}], default="a")
    async with Connection(portkey.rest_port) as connection:
        headers = {"content-type": FORM, "transfer-encoding": "chunked", "x-portkey-config": json.dumps(config)}
        await connection.head(PATH, {**headers, **PORTKEY})
        await connection.chunk(field("model", "whisper-1") + file_start() + SPEECH[:9000])
        await connection.chunk(SPEECH[9000:] + b"\r\n" + END)
        await connection.end()
        assert (await connection.response()).status == 200
    assert [(record.field("prompt"), record.file_sha256) for record in emulator.records] == [("b", SHA256)]


def by_duration(low: float, high: float) -> dict[str, object]:
    """A config that gives `between` as prompt to recordings of that length, and `other` to all others."""
    query = {"audio.duration_seconds": {"$gte": low, "$lte": high}}
    entries = [
        {"name": name, "virtual_key": "main", "override_params": {"prompt": name}} for name in ("other", "between")
    ]
    return targets("conditional", *entries, conditions=[{"query": query, "then": "between"}], default="other")


@pytest.mark.parametrize(
    ("container", "codec", "rate", "options"),
    [
        ("wav", "pcm_s16le", 16_000, {}),
        ("flac", "flac", 16_000, {}),
        ("mp3", "libmp3lame", 44_100, {}),
        ("ipod", "aac", 44_100, {}),  # with its index behind the sound
        ("ogg", "libopus", 48_000, {}),
        ("webm", "libopus", 48_000, {"live": "1"}),  # without a Duration
    ],
)
async def test_the_duration_of_the_recording_is_known_once_it_is_there(
    portkey: Gateway, emulator: OpenAIEmulator, container: str, codec: str, rate: int, options: dict[str, str]
):
    data = convert(SPEECH, container, codec, rate=rate, options=options)
    for low, high in ((SECONDS - 0.01, SECONDS + 0.01), (SECONDS + 0.02, 1e9), (0, SECONDS - 0.02)):
        async with Connection(portkey.rest_port) as connection:
            headers = {"content-type": FORM, "transfer-encoding": "chunked"}
            await connection.head(PATH, {**headers, **PORTKEY, "x-portkey-config": json.dumps(by_duration(low, high))})
            await connection.chunk(field("model", "whisper-1") + file_start("a." + container) + data[:9000])
            await connection.chunk(data[9000:] + b"\r\n" + END)
            await connection.end()
            assert (await connection.response()).status == 200
    assert [record.field("prompt") for record in emulator.records] == ["between", "other", "other"]
    assert {record.file_sha256 for record in emulator.records} == {hashlib.sha256(data).hexdigest()}


async def test_an_unknown_duration_fulfils_no_condition(portkey: Gateway, emulator: OpenAIEmulator):
    cut = convert(SPEECH, "ipod", "aac", rate=44_100)[:-2000]
    for data, expected in ((cut, "other"), (SPEECH, "between")):
        headers = {**PORTKEY, "x-portkey-config": json.dumps(by_duration(0, 1e9))}
        assert (await post(portkey.rest_port, PATH, form(data, model="whisper-1"), headers)).status == 200
        assert emulator.records[-1].field("prompt") == expected


async def test_the_duration_of_a_json_body(portkey: Gateway, emulator: OpenAIEmulator):
    body = json.dumps({"model": "whisper-1", "file": base64.b64encode(SPEECH).decode()}).encode()
    for low, expected in ((SECONDS - 0.01, "between"), (SECONDS + 0.01, "other")):
        config = json.dumps(by_duration(low, 1e9))
        headers = {**PORTKEY, "content-type": "application/json", "x-portkey-config": config}
        assert (await post(portkey.rest_port, PATH, body, headers)).status == 200
        assert emulator.records[-1].field("prompt") == expected


async def test_a_json_body(portkey: Gateway, emulator: OpenAIEmulator):
    query = {"audio.size_bytes": len(SPEECH)}
    config = targets("conditional", {"name": "a", "virtual_key": "main"}, conditions=[{"query": query, "then": "a"}])
    body = json.dumps({"model": "whisper-1", "file": base64.b64encode(SPEECH).decode()}).encode()
    headers = {**PORTKEY, "content-type": "application/json", "x-portkey-config": json.dumps(config)}
    assert (await post(portkey.rest_port, PATH, body, headers)).status == 200
    assert emulator.records[0].file_sha256 == SHA256


@pytest.mark.parametrize(
    ("headers", "status", "param"),
    [
        ({"x-portkey-config": "{"}, 400, "x-portkey-config"),
        ({"x-portkey-config": "pc-none"}, 400, "x-portkey-config"),
        ({"x-portkey-config": "pc-wrong"}, 400, "x-portkey-config"),
        ({"x-portkey-config": "pc-broken"}, 400, "x-portkey-config"),
        ({"x-portkey-config": '{"virtual_key": "main"}', "x-portkey-provider": "openai"}, 400, "x-portkey-provider"),
        ({"x-portkey-config": "{" + '"a":[' * 40 + "]" * 40 + "}"}, 400, "x-portkey-config"),
        ({"x-portkey-virtual-key": "none"}, 400, "x-portkey-config"),
        ({"x-portkey-provider": "@none"}, 400, "x-portkey-config"),
        ({"x-portkey-provider": "groq"}, 400, "x-portkey-config"),
        ({"x-portkey-provider": "hosted_vllm"}, 400, "x-portkey-config"),
        ({"x-portkey-provider": "hosted_vllm", "x-portkey-virtual-key": "bare"}, 400, "x-portkey-config"),
        ({"x-portkey-provider": "local", "x-portkey-virtual-key": "main"}, 400, "x-portkey-config"),
        ({"x-portkey-request-timeout": "0"}, 400, "x-portkey-request-timeout"),
        ({"x-portkey-request-timeout": "1e3"}, 400, "x-portkey-request-timeout"),
        ({"x-portkey-metadata": "tier"}, 400, "x-portkey-metadata"),
        ({"x-portkey-metadata": "[]"}, 400, "x-portkey-metadata"),
        ({"x-portkey-metadata": '{"a": {}}'}, 400, "x-portkey-metadata"),
        ({"x-portkey-metadata": json.dumps({"a": "x" * 256})}, 400, "x-portkey-metadata"),
        ({"x-portkey-trace-id": "x" * 256}, 400, "x-portkey-trace-id"),
        ({"x-portkey-config": '{"override_params": {"model": "nothing"}}'}, 404, "x-portkey-config"),
        ({"x-portkey-config": '{"virtual_key": "main", "api_key": "k"}'}, 400, "x-portkey-config"),
    ],
)  # fmt: skip
async def test_wrong_headers(
    portkey: Gateway, emulator: OpenAIEmulator, headers: dict[str, str], status: int, param: str
):
    response = await ask(portkey, headers)
    assert (response.status, response.error["param"]) == (status, param)
    assert not emulator.records


async def test_fallbacks_and_a_config_contradict_each_other(portkey: Gateway, emulator: OpenAIEmulator):
    response = await ask(portkey, {"x-portkey-virtual-key": "main"}, fallbacks="whisper-1")
    assert (response.status, response.error["param"]) == (400, "fallbacks")


async def test_a_large_config_and_a_too_large_one(portkey: Gateway):
    config = json.dumps({"virtual_key": "main", "override_params": {"prompt": "p" * 12_000}})
    assert (await ask(portkey, {"x-portkey-config": config})).status == 200
    many = targets("fallback", *[{"virtual_key": "main", "override_params": {"prompt": "p" * 1000}}] * 45)
    assert (await ask(portkey, {}, config=many)).status == 200
    config = json.dumps({"virtual_key": "main", "override_params": {"prompt": "p" * 65_536}})
    response = await ask(portkey, {"x-portkey-config": config})
    assert 400 <= response.status < 500


async def test_a_stored_credential_goes_to_its_own_host_only(portkey: Gateway, emulator: OpenAIEmulator):
    response = await ask(portkey, {"x-portkey-virtual-key": "main", "x-portkey-custom-host": emulator.url})
    assert response.status == 400
    assert not emulator.records


async def test_the_operators_settings_come_from_the_configuration(emulator: OpenAIEmulator, tmp_path: Path):
    extra = f"""
        credential_list:
          - credential_name: main
            credential_info: {{custom_llm_provider: openai}}
            credential_values: {{api_key: {UPSTREAM_KEY}, api_base: "{emulator.url}"}}
        voxgate:
          portkey: {{configs: {{pc-main: {{virtual_key: main}}}}, custom_hosts: ["{address_of(emulator)}"]}}
    """
    async with running(tmp_path, openai_config("http://127.0.0.1:9/v1", extra=extra)) as gateway:
        assert (await ask(gateway, {"x-portkey-config": "pc-main"})).status == 200
        assert (await ask(gateway, {"x-portkey-virtual-key": "main"})).status == 200
        assert (await ask(gateway, {"x-portkey-virtual-key": "other"})).status == 400
    assert len(emulator.records) == 2
