"""The dialects of OpenAI's API: where deployments are, what they need, and what the providers' limits are."""

import pytest
import structlog
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server import errors
from voxgate_server.providers import openai
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.openai_dialects import DIALECTS
from voxgate_server.providers.registry import PROVIDERS, build_for_caller

from tests.providers.calling import Asking, built
from tests.providers.dialect_emulator import FireworksEmulator, GroqEmulator

SERVERS = [name for name in DIALECTS if name != "azure"]
PROD, TURBO = "https://audio-prod.api.fireworks.ai", "https://audio-turbo.api.fireworks.ai"
OVH = "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"


@pytest.mark.parametrize(
    ("provider", "model", "environ", "base", "key"),
    [
        ("openai", "whisper-1", {"OPENAI_API_KEY": "k"}, "https://api.openai.com/v1", "k"),
        ("groq", "x", {"GROQ_API_KEY": "k"}, "https://api.groq.com/openai/v1", "k"),
        ("groq", "x", {"GROQ_API_KEY": "k", "GROQ_API_BASE": "http://h/v"}, "http://h/v", "k"),
        ("fireworks_ai", "whisper-v3", {"FIREWORKS_AI_API_KEY": "k"}, f"{PROD}/v1", "k"),
        ("fireworks_ai", "whisper-v3-turbo", {"FIREWORKSAI_API_KEY": "k"}, f"{TURBO}/v1", "k"),
        ("fireworks_ai", "turbo", {"FIREWORKS_AI_TOKEN": "k", "FIREWORKS_API_BASE": "http://h"}, "http://h", "k"),
        ("ovhcloud", "x", {"OVHCLOUD_API_KEY": "k"}, OVH, "k"),
        ("ovhcloud", "x", {"OVH_AI_ENDPOINTS_ACCESS_TOKEN": "k"}, OVH, "k"),
        ("ovhcloud", "x", {}, OVH, None),
        ("mistral", "x", {"MISTRAL_API_KEY": "k"}, "https://api.mistral.ai/v1", "k"),
        ("hosted_vllm", "x", {"HOSTED_VLLM_API_BASE": "http://h/v1/"}, "http://h/v1", None),
        ("hosted_vllm", "x", {"HOSTED_VLLM_API_BASE": "http://h", "HOSTED_VLLM_API_KEY": "k"}, "http://h", "k"),
        ("openai_like", "x", {"OPENAI_LIKE_API_BASE": "http://h", "OPENAI_LIKE_API_KEY": "k"}, "http://h", "k"),
        ("custom_openai", "x", {"OPENAI_API_BASE": "http://h"}, "http://h", None),
        ("litellm_proxy", "x", {"LITELLM_PROXY_API_BASE": "http://h"}, "http://h", None),
        ("lm_studio", "x", {"LM_STUDIO_API_BASE": "http://h"}, "http://h", None),
        ("xinference", "x", {"XINFERENCE_API_BASE": "http://h"}, "http://h", None),
        ("deepinfra", "x", {"DEEPINFRA_API_KEY": "k"}, "https://api.deepinfra.com/v1/openai", "k"),
        ("scaleway", "x", {"SCW_SECRET_KEY": "k"}, "https://api.scaleway.ai/v1", "k"),
        ("together_ai", "x", {"TOGETHERAI_API_KEY": "k"}, "https://api.together.xyz/v1", "k"),
    ],
)  # fmt: skip
def test_where_a_deployment_is(provider: str, model: str, environ: dict, base: str, key: str | None):
    built = openai.build(ProviderParams(provider=provider, model=model, environ=environ))
    assert built.name == provider
    assert built.api_base == base
    headers = dict(built._http._headers)
    assert headers.get(b"authorization") == (f"Bearer {key}".encode() if key else None)


@pytest.mark.parametrize("name", SERVERS)
def test_without_key_or_address_there_is_no_deployment(name: str):
    params = ProviderParams(provider=name, model="whisper", environ={"UNRELATED": "1"})
    if name == "ovhcloud":
        assert openai.build(params).capabilities.response_formats
        return
    with pytest.raises(ValueError, match=r"there is no api_(key|base), and [A-Z_]+.* is not set"):
        openai.build(params)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_host_of_a_callers_choice_is_dialled_as_judged(name: str):
    """Building fails for an adapter that would dial by itself."""
    params = {"api_base": "https://speech.example", "api_key": "k"}
    assert build_for_caller(name, "whisper", params, networks=()).name == name


def test_every_dialect_is_a_provider():
    assert set(DIALECTS) <= set(PROVIDERS)


async def test_a_deployment_without_a_key_at_an_address_of_the_operators(ask: Asking):
    async with GroqEmulator(key=None) as emulator:
        await ask(built(emulator, "whisper-large-v3"))
    assert "authorization" not in emulator.records[0].headers


LIMITS = [
    ("openai", "whisper-1", 26_214_400, 0),
    ("openai", "gpt-4o-transcribe", 26_214_400, 1500),
    ("openai", "gpt-4o-transcribe-diarize", 26_214_400, 1400),
    ("groq", "whisper-large-v3", 104_857_600, 0),
    ("fireworks_ai", "whisper-v3", 1_000_000_000, 0),
    ("ovhcloud", "whisper-large-v3", 2_048_000_000, 10_800),
    ("mistral", "voxtral-mini-latest", 0, 0),
    ("hosted_vllm", "whisper-large-v3", 0, 0),
]


@pytest.mark.parametrize(("name", "model", "size", "seconds"), LIMITS)
async def test_limits_are_kept_before_anything_is_sent(ask: Asking, name: str, model: str, size: int, seconds: int):
    values = {"api_key": "k"} | ({"api_base": "http://127.0.0.1:9/v1"} if name == "hosted_vllm" else {})
    provider = openai.build(ProviderParams(provider=name, model=model, values=values))
    assert provider.capabilities.max_audio_bytes == size
    assert provider.capabilities.max_audio_duration.seconds == seconds
    assert not provider.capabilities.needs_length
    if size:
        with pytest.raises(errors.AudioTooLarge, match=rf"{size + 1} bytes.*{name} \({model}\).*{size}") as caught:
            await ask(provider, audio=AudioHeader(size_bytes=size + 1))
        assert caught.value.http_status == 413
        assert caught.value.metadata == {"limit_bytes": str(size), "provider": name}
        assert ask.attempt is not None
        assert not ask.attempt.report.HasField("http_status")
    await provider.aclose()


def test_ovhcloud_takes_less_of_those_without_a_key():
    provider = openai.build(ProviderParams(provider="ovhcloud", model="whisper-large-v3"))
    assert provider.capabilities.max_audio_bytes == 10_000_000
    assert provider.capabilities.max_audio_duration.seconds == 60


def test_a_server_behind_openais_name_is_not_openai():
    params = ProviderParams(provider="openai", model="whisper-1", values={"api_base": "http://127.0.0.1:9/v1"})
    provider = openai.build(params)
    assert provider.capabilities.max_audio_bytes == 0
    assert not provider.capabilities.media_types
    elsewhere = openai.build(
        ProviderParams(
            provider="openai", model="whisper-1", values={"api_base": "https://eu.api.openai.com/v1", "api_key": "k"}
        )
    )
    assert elsewhere.capabilities.max_audio_bytes == 26_214_400


def test_the_base_model_says_what_a_deployment_is():
    params = ProviderParams(provider="litellm_proxy", model="ours", base_model="gpt-4o-transcribe-diarize",
                            values={"api_base": "http://127.0.0.1:9"})  # fmt: skip
    provider = openai.build(params)
    assert provider.model == "ours"
    assert provider.capabilities.diarization
    assert not openai.build(
        ProviderParams(provider="litellm_proxy", model="ours", values=params.values)
    ).capabilities.diarization


@pytest.mark.parametrize(("name", "said"), [("fireworks_ai", "2026-06-10"), ("ovhcloud", "2 requests a minute")])
def test_what_an_operator_should_know_is_said_once(monkeypatch: pytest.MonkeyPatch, name: str, said: str):
    logged = structlog.testing.LogCapture()
    monkeypatch.setattr(openai, "_log", structlog.wrap_logger(None, processors=[logged]))
    openai._warn_once.cache_clear()
    params = ProviderParams(provider=name, model="whisper-v3", environ={"FIREWORKS_API_KEY": "k"})
    for _ in range(3):
        openai.build(params)
    assert [said in entry["notice"] for entry in logged.entries] == [True]


async def test_the_right_host_for_each_of_fireworks_models(ask: Asking):
    async with FireworksEmulator("turbo") as emulator:
        assert (await ask(built(emulator, "whisper-v3-turbo"))).text == emulator.text
        with pytest.raises(errors.ProviderUnavailable, match="does not know the model"):
            await ask(built(emulator, "whisper-v3"))


async def test_organization_from_the_environment(ask: Asking):
    environ = {"OPENAI_API_KEY": "k", "OPENAI_ORG_ID": "org-1"}
    provider = openai.build(ProviderParams(provider="openai", model="whisper-1", environ=environ))
    assert dict(provider._http._headers)[b"openai-organization"] == b"org-1"
    async with GroqEmulator() as emulator:
        await ask(built(emulator, "whisper-large-v3", environ=environ))
    assert "openai-organization" not in emulator.records[0].headers
