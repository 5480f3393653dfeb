"""The Gemini emulator, spoken to as Google's own client does, and as nobody should."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.providers.calling import WAV
from tests.providers.gemini_calling import DEDICATED, GENERAL
from tests.providers.gemini_emulator import KEY, GeminiEmulator

URL_SAFE = base64.urlsafe_b64encode(WAV).decode()
START = {
    "x-goog-api-key": KEY,
    "X-Goog-Upload-Protocol": "resumable",
    "X-Goog-Upload-Command": "start",
    "X-Goog-Upload-Header-Content-Length": str(len(WAV)),
    "X-Goog-Upload-Header-Content-Type": "audio/wav",
}
SEND = {"X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: GeminiEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=emulator.origin, trust_env=False) as client:
        yield client


def body(text: str = "Transcribe this.", **more: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text}] if text else []
    parts.append({"inlineData": {"data": URL_SAFE, "mime_type": "audio/wav"}})
    return {"contents": [{"role": "user", "parts": parts}], **more}


async def generate(client: httpx.AsyncClient, content: Any, model: str = GENERAL, key: str = KEY, query: str = ""):
    path = f"/v1beta/models/{model}:generateContent{query}"
    return await client.post(path, json=content, headers={"x-goog-api-key": key})


async def test_it_takes_what_googles_client_sends(client: httpx.AsyncClient, emulator: GeminiEmulator):
    """Snake case among camel case, base64 for addresses."""
    assert "-" in URL_SAFE or "_" in URL_SAFE
    config = {"audioTranscriptionConfig": {"language_codes": ["en"], "word_timestamp": True, "diarization": True}}
    answer = await generate(client, body("", generationConfig=config), DEDICATED)
    assert answer.status_code == 200
    parts = answer.json()["candidates"][0]["content"]["parts"]
    assert parts[0]["audioTranscription"]["words"] == [{"word": "Hello", "startOffset": "0s", "endOffset": "1.5s"}]
    assert emulator.audio[0].size == len(WAV)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (body(generationConfig={"topQ": 1}), "topQ"),
        (body(generationConfig={"audioTimestamp": True}), "audioTimestamp"),
        (body(generationConfig={"audioTranscriptionConfig": {}}), "not enabled"),
        (body(language="de"), "language"),
        (body(""), "and a prompt"),
        ({"contents": [{"role": "user", "parts": [{"text": "x"}]}]}, "one recording"),
        ({"contents": [{"parts": [
            {"text": "x"}, {"inlineData": {"data": "UklGRg==", "mimeType": "audio/wav"}}]}]}, "role"),
        ({"contents": [{"role": "user", "parts": [
            {"text": "x"}, {"inlineData": {"data": "UklGR", "mimeType": "audio/wav"}}]}]}, "Base64"),
        ({"contents": [{"role": "user", "parts": [
            {"text": "x"}, {"inlineData": {"data": "UklGRg==", "mimeType": "video/webm"}}]}]}, "Unsupported MIME"),
    ],
)  # fmt: skip
async def test_it_refuses_what_google_does(client: httpx.AsyncClient, content: Any, said: str):
    answer = await generate(client, content)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert said in answer.json()["error"]["message"]


async def test_keys_and_models(client: httpx.AsyncClient):
    wrong = await generate(client, body(), key="AIzaWrong")
    assert wrong.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert (await generate(client, body(), query=f"?key={KEY}")).status_code == 400
    assert (await client.post(f"/v1beta/models/{GENERAL}:generateContent", json=body())).status_code == 403
    assert (await generate(client, body(), "gemini-3.5-transcribe-live")).status_code == 404
    assert (await client.get("/v1beta/files/other", headers={"x-goog-api-key": KEY})).status_code == 403


async def test_a_file(client: httpx.AsyncClient, emulator: GeminiEmulator):
    for name in [name for name in START if name.startswith("X-")]:
        lacking = {key: value for key, value in START.items() if key != name}
        refused = await client.post("/upload/v1beta/files", headers=lacking, json={"file": {"mime_type": "audio/wav"}})
        assert refused.status_code == 400
    started = await client.post(
        "/upload/v1beta/files", headers=START, json={"file": {"mime_type": "audio/wav", "size_bytes": len(WAV)}}
    )
    assert (started.status_code, started.content) == (200, b"")
    url = started.headers["x-goog-upload-url"]
    for headers, data in (({}, WAV), (SEND, WAV[:-1]), ({**SEND, "x-goog-api-key": KEY}, WAV)):
        assert (await client.post(url, headers=headers, content=data)).status_code == 400
    file = (await client.post(url, headers=SEND, content=WAV)).json()["file"]
    assert (file["state"], file["sizeBytes"]) == ("PROCESSING", str(len(WAV)))
    recording = {"fileData": {"file_uri": file["uri"], "mime_type": "audio/wav"}}
    content = {"contents": [{"role": "user", "parts": [{"text": "Transcribe this."}, recording]}]}
    assert (await generate(client, content)).json()["error"]["status"] == "FAILED_PRECONDITION"
    key = {"x-goog-api-key": KEY}
    assert (await client.get(f"/v1beta/{file['name']}", headers=key)).json()["state"] == "ACTIVE"
    assert (await generate(client, content)).status_code == 200
    assert (await client.delete(f"/v1beta/{file['name']}", headers=key)).json() == {}
    assert (await client.delete(f"/v1beta/{file['name']}", headers=key)).status_code == 403
