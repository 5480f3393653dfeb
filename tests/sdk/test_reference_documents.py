"""The commands of LiteLLM's documents, run as they stand there by the real curl and the real SDK.

Only what has to differ differs: host and port, the path of the recording, and where the providers are.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import Gateway, running
from tests.sdk.conftest import run

SPEECH = recording("demo-thanks.wav")
SHA256 = hashlib.sha256(SPEECH.data).hexdigest()
KEY = "sk-1234"

OPENAI = """
model_list:
- model_name: whisper
  litellm_params:
    model: whisper-1
    api_key: os.environ/OPENAI_API_KEY
  model_info:
    mode: audio_transcription

general_settings:
  master_key: sk-1234
"""
OPENAI_AND_AZURE = """
model_list:
- model_name: whisper
  litellm_params:
    model: whisper-1
    api_key: os.environ/OPENAI_API_KEY
  model_info:
    mode: audio_transcription
- model_name: whisper
  litellm_params:
    model: azure/azure-whisper
    api_version: 2024-02-15-preview
    api_base: os.environ/AZURE_EUROPE_API_BASE
    api_key: os.environ/AZURE_EUROPE_API_KEY
  model_info:
    mode: audio_transcription

general_settings:
  master_key: sk-1234
"""
# The document's backup is at Azure; here it is at a second OpenAI-like server.
PROXY_FALLBACKS = """
model_list:
- model_name: whisper-primary
  litellm_params:
    model: whisper-1
    api_key: os.environ/OPENAI_API_KEY
  model_info:
    mode: audio_transcription
- model_name: whisper-backup
  litellm_params:
    model: whisper-1
    api_base: os.environ/BACKUP_API_BASE
    api_key: os.environ/OPENAI_API_KEY
  model_info:
    mode: audio_transcription

router_settings:
  fallbacks: [{"whisper-primary": ["whisper-backup"]}]
  num_retries: 2

general_settings:
  master_key: sk-1234
"""
# The document asks for groq/whisper-large-v3 with openai/whisper-1 behind it.
CLIENT_FALLBACKS = """
model_list:
- model_name: groq/whisper-large-v3
  litellm_params:
    model: openai/whisper-large-v3
    api_key: os.environ/OPENAI_API_KEY
- model_name: openai/whisper-1
  litellm_params:
    model: openai/whisper-1
    api_base: os.environ/BACKUP_API_BASE
    api_key: os.environ/OPENAI_API_KEY

general_settings:
  master_key: sk-1234
"""


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(models={"whisper-large-v3"}) as emulator:
        yield emulator


@pytest.fixture
async def backup() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(text="From the backup.") as backup:
        yield backup


@pytest.fixture
async def gateway(
    request: pytest.FixtureRequest, emulator: OpenAIEmulator, backup: OpenAIEmulator, tmp_path: Path
) -> AsyncIterator[Gateway]:
    assert emulator.key == backup.key
    environ = {
        "OPENAI_API_KEY": emulator.key or "",
        "OPENAI_BASE_URL": emulator.url,
        "BACKUP_API_BASE": backup.url,
        "AZURE_EUROPE_API_BASE": backup.url,
        "AZURE_EUROPE_API_KEY": "azure-key",
    }
    async with running(tmp_path, request.param, environ) as gateway:
        yield gateway


async def curl(gateway: Gateway, *forms: str) -> tuple[dict[str, str], dict[str, object]]:
    """The document's command. Returns headers and body."""
    arguments = [argument for form in forms for argument in ("--form", form)]
    out = await run(
        "curl", "-sS", "--include", "--location", f"{gateway.url}/v1/audio/transcriptions",
        "--header", "Authorization: Bearer sk-1234", "--form", f'file=@"{SPEECH.path}"', *arguments,
    )  # fmt: skip
    *heads, body = out.replace("\r\n", "\n").split("\n\n")
    headers = dict(line.lower().split(": ", 1) for line in heads[-1].split("\n")[1:])
    return headers, json.loads(body)


def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=gateway.url, max_retries=0)


@pytest.mark.parametrize("gateway", [OPENAI, OPENAI_AND_AZURE], indirect=True, ids=["openai", "openai-and-azure"])
async def test_quick_start(gateway: Gateway, emulator: OpenAIEmulator):
    _, body = await curl(gateway, 'model="whisper"')
    assert body["text"] == emulator.text
    async with sdk(gateway) as client:
        with SPEECH.path.open("rb") as audio_file:
            transcript = await client.audio.transcriptions.create(model="whisper", file=audio_file)
    assert transcript.text == emulator.text
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


@pytest.mark.parametrize("gateway", [CLIENT_FALLBACKS], indirect=True)
async def test_fallbacks(gateway: Gateway, emulator: OpenAIEmulator, backup: OpenAIEmulator):
    forms = ('model="groq/whisper-large-v3"', 'fallbacks[]="openai/whisper-1"')
    headers, body = await curl(gateway, *forms)
    assert (body["text"], headers["x-litellm-attempted-fallbacks"]) == (emulator.text, "0")
    emulator.script("500")
    headers, body = await curl(gateway, *forms)
    assert (body["text"], headers["x-litellm-attempted-fallbacks"]) == (backup.text, "1")
    assert headers["x-litellm-model-group"] == "openai/whisper-1"
    emulator.script("500")
    async with sdk(gateway) as client:
        with SPEECH.path.open("rb") as audio_file:
            transcript = await client.audio.transcriptions.create(
                model="groq/whisper-large-v3", file=audio_file, extra_body={"fallbacks": ["openai/whisper-1"]}
            )
    assert transcript.text == backup.text
    assert {record.file_sha256 for record in (*emulator.records, *backup.records)} == {SHA256}


@pytest.mark.parametrize("gateway", [CLIENT_FALLBACKS], indirect=True)
async def test_mock_testing(gateway: Gateway, emulator: OpenAIEmulator, backup: OpenAIEmulator):
    headers, body = await curl(
        gateway, 'model="groq/whisper-large-v3"', 'fallbacks[]="openai/whisper-1"', "mock_testing_fallbacks=true"
    )
    assert (body["text"], headers["x-litellm-attempted-fallbacks"]) == (backup.text, "1")
    async with sdk(gateway) as client:
        with SPEECH.path.open("rb") as audio_file:
            raw = await client.audio.transcriptions.with_raw_response.create(
                model="groq/whisper-large-v3",
                file=audio_file,
                extra_body={"fallbacks": ["openai/whisper-1"], "mock_testing_fallbacks": True},
            )
    assert raw.parse().text == backup.text
    assert raw.headers["x-litellm-attempted-fallbacks"] == "1"
    assert not emulator.records
    assert [record.file_sha256 for record in backup.records] == [SHA256, SHA256]


@pytest.mark.parametrize("gateway", [PROXY_FALLBACKS], indirect=True)
async def test_mock_testing_of_configured_fallbacks(gateway: Gateway, emulator: OpenAIEmulator, backup: OpenAIEmulator):
    headers, body = await curl(gateway, 'model="whisper-primary"', 'mock_testing_fallbacks="true"')
    assert (body["text"], headers["x-litellm-model-group"]) == (backup.text, "whisper-backup")
    assert headers["x-litellm-attempted-fallbacks"] == "1"
    assert not emulator.records
    assert [record.file_sha256 for record in backup.records] == [SHA256]


@pytest.mark.parametrize("gateway", [OPENAI], indirect=True)
async def test_the_command_of_bifrosts_document(gateway: Gateway, emulator: OpenAIEmulator):
    """With values for its `<string>` placeholders; a streamed answer is not part of it."""
    fields = {
        "model": "whisper", "file": f"@{SPEECH.path}", "language": "en", "prompt": "Thanks", "response_format": "json",
        "temperature": "0.5", "timestamp_granularities": "word", "fallbacks": "whisper",
    }  # fmt: skip
    forms = [argument for name, value in fields.items() for argument in ("--form", f"{name}={value}")]
    out = await run(
        "curl", "-sS", "--request", "POST", "--url", f"{gateway.url}/litellm/v1/audio/transcriptions",
        "--header", f"Authorization: Bearer {KEY}", "--header", "Content-Type: multipart/form-data", *forms,
    )  # fmt: skip
    body = json.loads(out)
    assert body["text"] == emulator.text
    assert body["extra_fields"]["model_requested"] == "whisper"
    assert body["extra_fields"]["model_deployment"] == "whisper-1"
