"""The emulators of OpenAI's dialect, judged by official clients."""

import groq
import openai as sdk
import pytest

from tests.providers.azure_emulator import AzureEmulator
from tests.providers.calling import WAV
from tests.providers.dialect_emulator import (
    DialectEmulator,
    FireworksEmulator,
    GroqEmulator,
    MistralEmulator,
    OvhcloudEmulator,
    VllmEmulator,
)
from tests.providers.emulator import raw

FILE = ("x.wav", WAV)


async def test_groqs_client_reads_the_emulator():
    async with (
        GroqEmulator() as emulator,
        groq.AsyncGroq(base_url=emulator.origin, api_key=emulator.key, max_retries=0) as client,
    ):
        plain = await client.audio.transcriptions.create(model="whisper-large-v3-turbo", file=FILE)
        assert plain.text == emulator.text
        assert plain.x_groq["id"] == "req_1"
        verbose = await client.audio.transcriptions.create(
            model="whisper-large-v3", file=FILE, response_format="verbose_json", language="en", temperature=0.5,
            prompt="x", timestamp_granularities=["word", "segment"],
        )  # fmt: skip
        assert verbose.text == emulator.text
        assert [word["word"] for word in verbose.words] == emulator.text.split()
        assert len(verbose.segments) == 2
        assert emulator.records[-1].values("timestamp_granularities[]") == ["word", "segment"]
        assert emulator.records[-1].order[-1] == "file"
        translated = await client.audio.translations.create(model="whisper-large-v3", file=FILE)
        assert translated.text == emulator.text
        with pytest.raises(groq.BadRequestError, match="response_format"):
            await client.audio.transcriptions.create(model="whisper-large-v3", file=FILE, response_format="srt")
        with pytest.raises(groq.BadRequestError, match="translate"):
            await client.audio.translations.create(model="whisper-large-v3-turbo", file=FILE)
        with pytest.raises(groq.NotFoundError):
            await client.audio.transcriptions.create(model="whisper-1", file=FILE)
        with pytest.raises(groq.BadRequestError, match="language"):
            await client.audio.transcriptions.create(model="whisper-large-v3", file=FILE, language="tlh")
        emulator.max_body = 1000
        with pytest.raises(groq.APIStatusError) as caught:
            await client.audio.transcriptions.create(model="whisper-large-v3", file=FILE)
        assert caught.value.status_code == 413
        emulator.max_body, emulator.key = None, "another"
        with pytest.raises(groq.AuthenticationError):
            await client.audio.transcriptions.create(model="whisper-large-v3", file=FILE)
        emulator.script(raw("{}", status=429, headers={"retry-after": "2"}))
        with pytest.raises(groq.RateLimitError):
            await client.audio.transcriptions.create(model="whisper-large-v3", file=FILE)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (GroqEmulator, "whisper-large-v3"),
        (OvhcloudEmulator, "whisper-large-v3"),
        (FireworksEmulator, "whisper-v3"),
        (VllmEmulator, "openai/whisper-large-v3"),
        (MistralEmulator, "voxtral-mini-latest"),
    ],
)
async def test_openais_client_reads_the_emulators(kind: type[DialectEmulator], model: str):
    """Where a server takes the same fields; what it does not take is refused or, at Fireworks, ignored."""
    async with (
        kind() as emulator,
        sdk.AsyncOpenAI(base_url=emulator.url, api_key=emulator.key, max_retries=0) as client,
    ):
        create = client.audio.transcriptions.create
        plain = await create(model=model, file=FILE)
        assert plain.text == emulator.text
        if kind is MistralEmulator:
            with pytest.raises(sdk.UnprocessableEntityError):
                await create(model=model, file=FILE, response_format="verbose_json")
            with pytest.raises(sdk.BadRequestError, match="Invalid model"):
                await create(model="voxtral-small-latest", file=FILE)
        else:
            verbose = await create(
                model=model, file=FILE, response_format="verbose_json", timestamp_granularities=["word"]
            )
            assert float(verbose.duration) == 3.25
            assert verbose.language in {"en", "English"}
            assert bool(verbose.words) == (kind is not FireworksEmulator)
            with pytest.raises(sdk.NotFoundError):
                await create(model="gpt-4o-transcribe", file=FILE)
        emulator.key = "another"
        with pytest.raises(sdk.AuthenticationError):
            await create(model=model, file=FILE)


async def test_ovhclouds_limits_without_a_key():
    async with (
        OvhcloudEmulator() as emulator,
        sdk.AsyncOpenAI(base_url=emulator.url, api_key="unused", max_retries=0) as client,
    ):
        create = client.audio.transcriptions.create
        headers = {"Authorization": sdk.Omit()}
        for _ in range(2):
            await create(model="whisper-large-v3", file=FILE, extra_headers=headers)
        with pytest.raises(sdk.RateLimitError):
            await create(model="whisper-large-v3", file=FILE, extra_headers=headers)


async def test_openais_azure_client_reads_the_emulator():
    async with AzureEmulator(tokens=["eyJ.token"]) as emulator:

        def client(**more) -> sdk.AsyncAzureOpenAI:
            return sdk.AsyncAzureOpenAI(
                **{"azure_endpoint": emulator.url, "api_version": "2024-10-21", "max_retries": 0, **more}
            )

        async with client(api_key=emulator.key) as with_key:
            create = with_key.audio.transcriptions.create
            verbose = await create(
                model="whisper", file=FILE, response_format="verbose_json", timestamp_granularities=["word"]
            )
            assert verbose.words
            assert emulator.records[0].path.startswith("/openai/deployments/whisper/audio/transcriptions?api-version=")
            assert emulator.records[0].headers["api-key"] == emulator.key
            with pytest.raises(sdk.NotFoundError) as caught:
                await create(model="nobody", file=FILE)
            assert caught.value.code == "DeploymentNotFound"
            assert caught.value.type is None
            with pytest.raises(sdk.NotFoundError, match="Resource not found"):
                await create(model="gpt-4o-transcribe", file=FILE)  # needs a version of 2025
            with pytest.raises(sdk.BadRequestError) as caught:
                await create(model="whisper", file=FILE, response_format="diarized_json")
            assert caught.value.code == "unsupported_value"
        async with client(azure_ad_token="eyJ.token", api_version="2025-04-01-preview") as with_token:
            plain = await with_token.audio.transcriptions.create(model="gpt-4o-transcribe", file=FILE)
            assert plain.text == emulator.text
        async with client(azure_ad_token="eyJ.other") as stranger:
            with pytest.raises(sdk.AuthenticationError, match="Access denied"):
                await stranger.audio.transcriptions.create(model="whisper", file=FILE)
        v1 = f"{emulator.url}/openai/v1"
        async with sdk.AsyncOpenAI(base_url=v1, api_key=emulator.key, max_retries=0) as plain_client:
            create = plain_client.audio.transcriptions.create
            assert (await create(model="gpt-transcribe", file=FILE)).text == emulator.text
            with pytest.raises(sdk.NotFoundError):
                await create(model="whisper", file=FILE)  # not on this path
