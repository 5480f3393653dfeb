"""What the application makes of a configuration."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate_server.app import App
from voxgate_server.config import load_config
from voxgate_server.errors import ProviderUnavailable, UnknownModel
from voxgate_server.routing.health import HealthSettings
from voxgate_server.routing.strategies import STRATEGIES

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import AUTH, KEY, Gateway, running

SPEECH = recording("demo-thanks.wav")
UPSTREAM = "sk-upstream-canary-0001"


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator(key=UPSTREAM) as emulator:
        yield emulator


def built(directory: Path, text: str, environ: dict[str, str] | None = None) -> App:
    """The application of a configuration; nothing of it is started."""
    file = directory / "gw.yaml"
    file.write_text(text, "utf-8")
    loaded = load_config(file, environ or {})
    return App(loaded.config, environ=loaded.environment)


def plan(app: App, model: str) -> list[str]:
    """The ids of the deployments a call for a model may be sent to."""
    hops = app.gateway.router.plan(TranscriptionConfig(model=model))
    return [deployment.id for hop in hops for deployment in hop.deployments]


async def post(gateway: Gateway, model: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(
            f"{gateway.url}/v1/audio/transcriptions",
            headers=AUTH,
            data={"model": model},
            files={"file": (SPEECH.path.name, SPEECH.data)},
        )


class TestSettings:
    async def test_deployments(self, tmp_path: Path) -> None:
        config = """
            model_list:
              - model_name: a
                litellm_params: {model: openai/x, api_key: k, order: 2, weight: 0, tags: [eu], rpm: 60, timeout: 7,
                                 max_parallel_requests: 4, cooldown_time: 9, input_cost_per_second: 0.1}
                model_info: {id: first}
              - {model_name: a, litellm_params: {model: openai/y, api_key: k}, model_info: {id: second}}
              - {model_name: b, litellm_params: {model: openai/z, api_key: k, cooldown_time: 0}}
              - {model_name: b, litellm_params: {model: openai/z}}
            router_settings: {allowed_fails: 1, cooldown_time: 2}
        """
        async with built(tmp_path, config) as app:
            first, second = app.gateway.router.table.group("a")
            assert (first.id, first.order, first.weight, first.timeout) == ("first", 2, 0.0, 7.0)
            assert (first.tags, first.cost_per_second) == ({"eu"}, 0.1)
            assert first.health.settings == HealthSettings(
                allowed_fails=1, cooldown_seconds=2, fixed_cooldown=9, rpm=60, max_parallel_requests=4
            )
            assert (second.order, second.weight, second.tags, second.cost_per_second) == (1, None, frozenset(), None)
            assert second.health.settings == HealthSettings(allowed_fails=1, cooldown_seconds=2)
            assert (first.health.alone, second.health.alone) == (False, False)
            # Of the two deployments of this group one has no key: the other is all there is.
            (only,) = app.gateway.router.table.group("b")
            assert only.health.alone
            assert only.health.settings.disabled

    async def test_router(self, tmp_path: Path) -> None:
        config = """
            model_list: []
            router_settings:
              routing_strategy: usage-based-routing-v2
              num_retries: 0
              max_fallbacks: 1
              enable_tag_filtering: true
              fallbacks: [{a: [b]}]
              context_window_fallbacks: [{a: [c]}]
              content_policy_fallbacks: [{a: [d]}]
            general_settings: {dangerously_allow_mock_testing_request_params: true}
            voxgate: {empty_transcript: fallback}
        """
        async with built(tmp_path, config) as app:
            settings = app.gateway.router.settings
            assert settings.empty_falls_back
            assert settings.strategy is STRATEGIES["usage-based-routing-v2"]
            assert (settings.num_retries, settings.max_fallbacks, settings.tag_filtering) == (0, 1, True)
            assert settings.fallbacks == {"a": ("b",)}
            assert settings.context_window_fallbacks == {"a": ("c",)}
            assert settings.content_policy_fallbacks == {"a": ("d",)}
            assert app.gateway.limits.allow_drills

    async def test_drills_need_permission(self, tmp_path: Path) -> None:
        async with built(tmp_path, "model_list: []") as app:
            assert not app.gateway.limits.allow_drills
            assert not app.gateway.router.settings.empty_falls_back

    @pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (1, 2)])
    async def test_retries(self, emulator: OpenAIEmulator, tmp_path: Path, retries: int, attempts: int) -> None:
        config = f"""
            model_list:
              - model_name: a
                litellm_params: {{model: openai/fault-500, api_base: "{emulator.url}", api_key: {UPSTREAM}}}
            router_settings: {{num_retries: {retries}}}
            general_settings: {{master_key: {KEY}}}
        """
        async with running(tmp_path, config) as gateway:
            answer = await post(gateway, "a")
        assert answer.status_code == 502
        assert len(emulator.records) == attempts


class TestWildcards:
    async def test_the_name_that_is_asked_for_is_sent(self, emulator: OpenAIEmulator, tmp_path: Path) -> None:
        config = f"""
            model_list:
              - model_name: cloud/*
                litellm_params: {{model: openai/*, api_base: "{emulator.url}", api_key: {UPSTREAM}}}
            router_settings:
              model_group_alias: {{speech: cloud/whisper-1}}
              default_fallbacks: [cloud/whisper-1]
              num_retries: 0
            general_settings: {{master_key: {KEY}}}
        """
        async with running(tmp_path, config) as gateway:
            for model in ("cloud/gpt-4o-transcribe", "speech", "cloud/fault-500"):
                answer = await post(gateway, model)
                assert answer.status_code == 200, answer.text
            unknown = await post(gateway, "elsewhere/whisper-1")
            assert unknown.status_code == 404
            assert "elsewhere/whisper-1" in unknown.text
            sent = [record.field("model") for record in emulator.records]
            assert sent == ["gpt-4o-transcribe", "whisper-1", "fault-500", "whisper-1"]
            made = gateway.app.gateway.router.table.deployments()
            assert sorted(deployment.group for deployment in made) == [
                "cloud/fault-500",
                "cloud/gpt-4o-transcribe",
                "cloud/whisper-1",
            ]
        # Connections that were not closed would now be warned about, and warnings are errors.
        del made, gateway
        gc.collect()

    async def test_several_with_one_pattern_share_the_load(self, tmp_path: Path) -> None:
        config = """
            model_list:
              - {model_name: openai/*, litellm_params: {model: openai/*, api_key: a}, model_info: {id: one}}
              - {model_name: others/*, litellm_params: {model: openai/*, api_key: a}}
              - {model_name: openai/*, litellm_params: {model: openai/*, api_key: b, order: 2}, model_info: {id: two}}
              - {model_name: openai/x, litellm_params: {model: openai/x, api_key: c}, model_info: {id: x}}
              - {model_name: openai/gpt-*, litellm_params: {model: openai/gpt-*, api_key: d}, model_info: {id: three}}
        """
        async with built(tmp_path, config) as app:
            assert plan(app, "openai/a") == ["one:a", "two:a"]
            assert plan(app, "openai/b") == ["one:b", "two:b"]
            assert plan(app, "openai/x") == ["x"]
            assert plan(app, "openai/gpt-4o-transcribe") == ["three:4o-transcribe"]
            table = app.gateway.router.table
            assert [one.health.alone for one in table.group("openai/a")] == [False, False]
            assert [one.health.alone for one in table.group("openai/gpt-4o-transcribe")] == [True]
            # What is made for a name is kept: its health is.
            assert table.group("openai/a")[0] is table.group("openai/a")[0]
            ids = [one.id for one in table.deployments()]
            assert len(set(ids)) == len(ids)

    async def test_names_do_not_pile_up(self, emulator: OpenAIEmulator, tmp_path: Path) -> None:
        config = f"""
            model_list:
              - model_name: openai/*
                litellm_params: {{model: openai/*, api_base: "{emulator.url}", api_key: {UPSTREAM}}}
            general_settings: {{master_key: {KEY}}}
        """
        async with running(tmp_path, config) as gateway:
            assert (await post(gateway, "openai/whisper-1")).status_code == 200
            assert (await post(gateway, "openai/gpt-4o-transcribe")).status_code == 200
            table = gateway.app.gateway.router.table
            kept, (busy,) = table.group("openai/whisper-1"), table.group("openai/gpt-4o-transcribe")
            probe = busy.health.started(0.0)
            for number in range(1000):
                plan(gateway.app, f"openai/{number}")
                assert table.group("openai/whisper-1") is kept  # It is asked for all the time.
            assert len(table.deployments()) == 512
            assert busy in table.deployments()
            busy.health.abandoned(0.0, probe=probe)
            for number in range(1000):
                plan(gateway.app, f"openai/{number}")
            assert busy not in table.deployments()
            assert kept[0] not in table.deployments()
            # The connections of both are closed, not dropped.
            async with asyncio.timeout(30):
                await asyncio.gather(*(record.peer_closed.wait() for record in emulator.records))

    async def test_every_model_of_every_provider(self, tmp_path: Path) -> None:
        config = 'model_list: [{model_name: "*", litellm_params: {model: "*"}, model_info: {id: any}}]'
        async with built(tmp_path, config, {"OPENAI_API_KEY": "k"}) as app:
            assert plan(app, "openai/x") == ["any:openai/x"]
            assert plan(app, "whisper-1") == ["any:whisper-1"]
            long = "openai/" + "x" * 300
            for unknown in ("whisper", "nobody/x", "*", "openai/*", "openai/../admin", "openai/a b", long):
                with pytest.raises(UnknownModel):
                    plan(app, unknown)
            with pytest.raises(ProviderUnavailable):
                plan(app, "hosted_vllm/x")

    @pytest.mark.parametrize("key", ["", ", api_key: os.environ/NOT_SET"])
    async def test_without_a_key_it_is_the_operators_fault(self, tmp_path: Path, key: str) -> None:
        config = f"model_list: [{{model_name: openai/*, litellm_params: {{model: openai/*{key}}}}}]"
        async with built(tmp_path, config) as app:
            with pytest.raises(ProviderUnavailable, match="openai/whisper-1"):
                plan(app, "openai/whisper-1")
