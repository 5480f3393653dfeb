"""The dialects of OpenAI's API behind a whole gateway: from LiteLLM's configuration to the request on the wire."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import openai as sdk
import pytest

from tests.providers.azure_emulator import AzureEmulator, EntraEmulator
from tests.providers.calling import WAV
from tests.providers.dialect_emulator import EMULATORS
from tests.providers.emulator import Emulator
from tests.running import KEY, running

FILE = ("x.wav", WAV)


@contextlib.asynccontextmanager
async def configured(directory: Path) -> AsyncIterator[tuple[sdk.AsyncOpenAI, dict[str, Emulator], EntraEmulator]]:
    async with contextlib.AsyncExitStack() as stack:
        entra = await stack.enter_async_context(EntraEmulator())
        azure = await stack.enter_async_context(AzureEmulator(tokens=entra.tokens, deployments={"prod": "whisper-1"}))
        emulators: dict[str, Emulator] = {"azure": azure}
        models = f"""
          - model_name: azure
            litellm_params:
              model: azure/prod
              api_base: {azure.origin}
              api_version: 2024-02-01
              tenant_id: {entra.tenant}
              client_id: {entra.client}
              client_secret: os.environ/SECRET
            model_info: {{base_model: azure/whisper-1}}
          - {{model_name: azure-keyless, litellm_params: {{model: azure/prod, api_base: {azure.origin}}}}}"""
        for name, (kind, model) in EMULATORS.items():
            emulator = await stack.enter_async_context(kind())
            emulators[name] = emulator
            params = f"{{model: {name}/{model}, api_base: {emulator.url}, api_key: {emulator.key}}}"
            models += f"\n          - {{model_name: {name}, litellm_params: {params}}}"
        config = f"""\
        model_list:{models}
        general_settings: {{master_key: {KEY}}}
        """
        environ = {"SECRET": entra.secret, "AZURE_AUTHORITY_HOST": entra.origin}
        gateway = await stack.enter_async_context(running(directory, config, environ))
        base = f"{gateway.url}/v1"
        yield (
            await stack.enter_async_context(sdk.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0)),
            emulators,
            entra,
        )


async def test_every_format_of_every_provider(tmp_path: Path):
    async with configured(tmp_path) as (client, emulators, entra):
        create = client.audio.transcriptions.create
        for name, emulator in emulators.items():
            text = emulator.text
            plain = await create(model=name, file=FILE)
            assert plain.text == text
            assert set(plain.model_dump(exclude_none=True)) <= {"text", "usage"}
            assert (await create(model=name, file=FILE, response_format="text")).strip() == text
            srt = await create(model=name, file=FILE, response_format="srt")
            assert srt.startswith("1\n00:00:00,000 --> 00:00:01,500\nHello\n")
            assert (await create(model=name, file=FILE, response_format="vtt")).startswith("WEBVTT")
            verbose = await create(model=name, file=FILE, response_format="verbose_json")
            assert [segment.start for segment in verbose.segments] == [0.0, 1.5]
            if name in {"fireworks_ai", "ovhcloud", "mistral"}:
                diarized = await create(model=name, file=FILE, response_format="diarized_json")
                assert all(segment.speaker for segment in diarized.segments)
            else:
                with pytest.raises(sdk.BadRequestError):
                    await create(model=name, file=FILE, response_format="diarized_json")
        assert len(entra.records) == 1
        record = emulators["azure"].records[0]
        assert record.path == "/openai/deployments/prod/audio/transcriptions?api-version=2024-02-01"
        assert record.field("response_format") == "verbose_json"


async def test_a_deployment_without_credentials_leaves_the_others_alone(tmp_path: Path):
    async with configured(tmp_path) as (client, emulators, _):
        with pytest.raises(sdk.APIStatusError) as caught:
            await client.audio.transcriptions.create(model="azure-keyless", file=FILE)
        assert caught.value.status_code >= 500
        assert not emulators["azure"].connections
        assert (await client.audio.transcriptions.create(model="azure", file=FILE)).text
