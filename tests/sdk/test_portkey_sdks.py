"""The real Portkey SDKs against the gateway: the four credential sets of their document, and a config object."""

import hashlib
import json
from typing import Any

import httpx
import portkey_ai
import pytest
from portkey_ai._vendor.openai import BadRequestError

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import KEY, UPSTREAM_KEY, Gateway

SPEECH = recording("demo-thanks.wav")
SHA256 = hashlib.sha256(SPEECH.data).hexdigest()

FALLBACK = {
    "strategy": {"mode": "fallback", "on_status_codes": [500]},
    "targets": [
        {"virtual_key": "main", "override_params": {"model": "fault-500"}},
        {"provider": "@main", "override_params": {"model": "gpt-4o-transcribe"}},
    ],
}
SETS: dict[str, tuple[dict[str, Any], str]] = {
    "virtual key": ({"virtual_key": "main"}, "whisper-1"),
    "slug": ({"provider": "@main"}, "whisper-1"),
    "bearer and provider": ({"provider": "openai", "Authorization": f"Bearer {UPSTREAM_KEY}"}, "whisper-1"),
    "provider": ({"provider": "openai"}, "whisper-1"),
    "stored config": ({"config": "pc-two"}, "whisper-1"),
    "config": ({"config": FALLBACK}, "gpt-4o-transcribe"),
    "custom host": (
        {"provider": "openai", "custom_host": "URL", "Authorization": f"Bearer {UPSTREAM_KEY}"}, "whisper-1",
    ),
}  # fmt: skip
JAVASCRIPT = {"virtual_key": "virtualKey", "custom_host": "customHost"}


def client_of(options: dict[str, Any], portkey: Gateway, emulator: OpenAIEmulator) -> dict[str, Any]:
    host = {"custom_host": emulator.url} if "custom_host" in options else {}
    if options.get("provider") == "openai" and "Authorization" in options:
        # Without a host the caller's key would go to OpenAI itself.
        host = {"custom_host": emulator.url}
    return {"api_key": KEY, "base_url": f"{portkey.url}/v1", **options, **host}


@pytest.mark.parametrize("name", SETS)
async def test_python(portkey: Gateway, emulator: OpenAIEmulator, name: str):
    options, model = SETS[name]
    # The SDK never closes a client it made itself.
    async with httpx.AsyncClient() as http:
        sdk = portkey_ai.AsyncPortkey(**client_of(options, portkey, emulator), http_client=http)
        with SPEECH.path.open("rb") as file:
            answer = await sdk.audio.transcriptions.create(model="whisper-1", file=file)
    assert answer.text == emulator.text
    record = emulator.records[-1]
    assert (record.file_sha256, record.field("model")) == (SHA256, model)
    assert record.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"


@pytest.mark.parametrize("name", SETS)
async def test_node(portkey: Gateway, emulator: OpenAIEmulator, node, name: str):
    options, model = SETS[name]
    client = {JAVASCRIPT.get(key, key): value for key, value in client_of(options, portkey, emulator).items()}
    client["apiKey"], client["baseURL"] = client.pop("api_key"), client.pop("base_url")
    out = json.loads(await node("portkey.mjs", str(SPEECH.path), json.dumps(client), '{"model": "whisper-1"}'))
    assert out["answer"]["text"] == emulator.text
    record = emulator.records[-1]
    assert (record.file_sha256, record.field("model")) == (SHA256, model)
    assert record.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"


async def test_errors(portkey: Gateway, emulator: OpenAIEmulator, node):
    options = client_of({"virtual_key": "none"}, portkey, emulator)
    async with httpx.AsyncClient() as http:
        sdk = portkey_ai.AsyncPortkey(**options, http_client=http)
        with SPEECH.path.open("rb") as file, pytest.raises(BadRequestError, match="no stored credential"):
            await sdk.audio.transcriptions.create(model="whisper-1", file=file)
    client = {"apiKey": "wrong", "baseURL": options["base_url"], "virtualKey": "main"}
    out = json.loads(await node("portkey.mjs", str(SPEECH.path), json.dumps(client), '{"model": "whisper-1"}'))
    assert out["status"] == 401
    assert not emulator.records
