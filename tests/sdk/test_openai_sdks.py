"""The real OpenAI SDKs and curl against the gateway, with the strict emulator behind it."""

import hashlib
import json

import openai
import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import KEY, Gateway
from tests.sdk.conftest import run

SPEECH = recording("demo-thanks.wav")
SHA256 = hashlib.sha256(SPEECH.data).hexdigest()


def client(gateway: Gateway, *, path: str = "/v1", key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.url + path, api_key=key, max_retries=0)


@pytest.mark.parametrize("path", ["/v1", "", "/openai/v1"])
async def test_python(gateway: Gateway, emulator: OpenAIEmulator, path: str):
    async with client(gateway, path=path) as sdk:
        answer = await sdk.audio.transcriptions.create(model="whisper-1", file=SPEECH.path)
    assert type(answer) is Transcription
    assert answer.text == emulator.text
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert emulator.records[0].file_sha256 == SHA256


async def test_python_formats(gateway: Gateway, emulator: OpenAIEmulator):
    async with client(gateway) as sdk:
        verbose = await sdk.audio.transcriptions.create(
            model="whisper-1",
            file=SPEECH.path,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert type(verbose) is TranscriptionVerbose
        assert verbose.words
        assert verbose.segments
        diarized = await sdk.audio.transcriptions.create(
            model="gpt-4o-transcribe-diarize",
            file=SPEECH.path,
            response_format="diarized_json",
            chunking_strategy="auto",
        )
        assert type(diarized) is TranscriptionDiarized
        assert diarized.segments[0].speaker
        for wanted in ("text", "srt", "vtt"):
            document = await sdk.audio.transcriptions.create(
                model="whisper-1", file=SPEECH.path, response_format=wanted
            )
            assert isinstance(document, str)
        logprobs = await sdk.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=SPEECH.path, include=["logprobs"]
        )
        assert logprobs.logprobs


async def test_python_translation(gateway: Gateway, emulator: OpenAIEmulator):
    async with client(gateway) as sdk:
        with pytest.warns(DeprecationWarning, match="deprecated"):
            answer = await sdk.audio.translations.create(model="whisper-1", file=SPEECH.path)
    assert answer.text


async def test_python_models(gateway: Gateway):
    async with client(gateway) as sdk:
        assert "whisper-1" in [model.id async for model in sdk.models.list()]
        assert (await sdk.models.retrieve("whisper-1")).owned_by == "openai"


async def test_python_fallbacks_in_the_extra_body(gateway: Gateway, emulator: OpenAIEmulator):
    async with client(gateway) as sdk:
        answer = await sdk.audio.transcriptions.create(
            model="fault-500", file=SPEECH.path, extra_body={"fallbacks": ["whisper-1"]}
        )
    assert answer.text == emulator.text
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]


async def test_python_errors_are_the_sdks_own(gateway: Gateway):
    async with client(gateway) as sdk:
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.audio.transcriptions.create(model="nothing", file=SPEECH.path)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        assert unknown.value.request_id is not None
        assert unknown.value.request_id.startswith("req_")
        with pytest.raises(openai.BadRequestError) as wrong:
            await sdk.audio.transcriptions.create(model="whisper-1", file=SPEECH.path, temperature=3)
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.InternalServerError) as failed:
            await sdk.audio.transcriptions.create(model="fault-500", file=SPEECH.path)
        assert failed.value.code == "provider_unavailable"
        with pytest.raises(openai.BadRequestError):
            await sdk.audio.transcriptions.create(model="whisper-1", file=("empty.wav", b""))
    async with client(gateway, key="wrong") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.audio.transcriptions.create(model="whisper-1", file=SPEECH.path)


async def test_the_azure_client(gateway: Gateway, emulator: OpenAIEmulator):
    sdk = openai.AsyncAzureOpenAI(azure_endpoint=gateway.url, api_key=KEY, api_version="2024-06-01", max_retries=0)
    async with sdk:
        answer = await sdk.audio.transcriptions.create(model="whisper-1", file=SPEECH.path)
    assert answer.text == emulator.text


@pytest.mark.parametrize(
    ("options", "key"),
    [({}, "text"), ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, "words")],
)
async def test_node(gateway: Gateway, emulator: OpenAIEmulator, node, options: dict[str, object], key: str):
    out = await node(
        "transcribe.mjs", f"{gateway.url}/v1", KEY, str(SPEECH.path), json.dumps({"model": "whisper-1", **options})
    )
    assert json.loads(out)["answer"][key]
    assert emulator.records[-1].file_sha256 == SHA256


async def test_node_text_and_errors(gateway: Gateway, node):
    arguments = (f"{gateway.url}/v1", KEY, str(SPEECH.path))
    out = await node("transcribe.mjs", *arguments, '{"model": "whisper-1", "response_format": "srt"}')
    assert json.loads(out)["answer"].startswith("1\n00:00:")
    error = json.loads(await node("transcribe.mjs", *arguments, '{"model": "nothing"}'))
    assert (error["error"], error["status"], error["code"]) == ("NotFoundError", 404, "model_not_found")


@pytest.mark.parametrize("order", [("model", "file"), ("file", "model")])
@pytest.mark.parametrize("encoding", [(), ("-H", "Transfer-Encoding: chunked")])
async def test_curl(gateway: Gateway, emulator: OpenAIEmulator, order: tuple[str, str], encoding: tuple[str, ...]):
    parts = {"model": "model=whisper-1", "file": f"file=@{SPEECH.path}"}
    forms = [argument for part in order for argument in ("-F", parts[part])]
    url = f"{gateway.url}/v1/audio/transcriptions"
    out = await run("curl", "-sS", "--fail", url, "-H", f"Authorization: Bearer {KEY}", *encoding, *forms)
    assert json.loads(out)["text"] == emulator.text
    assert emulator.records[0].file_sha256 == SHA256


async def test_curl_as_the_litellm_document_writes_it(gateway: Gateway, emulator: OpenAIEmulator):
    out = await run(
        "curl", "-sS", "--location", f"{gateway.url}/v1/audio/transcriptions",
        "--header", f"Authorization: Bearer {KEY}",
        "--form", f'file=@"{SPEECH.path}"', "--form", 'model="fault-500"', "--form", 'fallbacks[]="whisper-1"',
    )  # fmt: skip
    assert json.loads(out)["text"] == emulator.text
