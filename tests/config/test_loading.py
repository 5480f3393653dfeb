"""Configurations that load: what they mean."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from voxgate_server.config import GatewayConfig, LoadedConfig, default_config, load_config, split_model

FIXTURES = Path(__file__).parent / "fixtures"
AZURE = {"AZURE_EUROPE_API_BASE": "https://eu.example.com/", "AZURE_EUROPE_API_KEY": "azure-key"}


def lines(loaded: LoadedConfig) -> list[str]:
    """The warnings as `line:col: what`."""
    return [f"{one.place.line}:{one.place.column}: {one.what}" for one in loaded.warnings]


def plain_key(key: SecretStr | None) -> str:
    assert key is not None
    return key.get_secret_value()


class TestTheDocumentsOfLitellm:
    def test_openai(self) -> None:
        loaded = load_config(FIXTURES / "litellm-openai.yaml", {"OPENAI_API_KEY": "openai-key"})
        (entry,) = loaded.config.model_list
        assert entry.model_name == "whisper"
        assert (entry.litellm_params.provider, entry.litellm_params.provider_model) == ("openai", "whisper-1")
        assert plain_key(entry.litellm_params.api_key) == "openai-key"
        assert entry.problems == ()
        assert plain_key(loaded.config.master_key) == "sk-1234"
        (warning,) = loaded.warnings
        assert warning.loud
        assert (warning.place.line, warning.place.column) == (10, 15)
        assert "general_settings.master_key" in warning.what

    def test_openai_and_azure(self) -> None:
        loaded = load_config(FIXTURES / "litellm-openai-azure.yaml", {"OPENAI_API_KEY": "openai-key", **AZURE})
        openai, azure = loaded.config.model_list
        assert openai.model_name == azure.model_name == "whisper"
        assert azure.litellm_params.api_version == "2024-02-15-preview"
        assert azure.litellm_params.api_base == "https://eu.example.com"
        assert openai.model_info.id != azure.model_info.id
        assert [place.line for place in loaded.model_places] == [4, 10]

    def test_a_deployment_without_its_variables_leaves_the_others_alone(self) -> None:
        loaded = load_config(FIXTURES / "litellm-openai-azure.yaml", {"OPENAI_API_KEY": "openai-key"})
        openai, azure = loaded.config.model_list
        assert openai.problems == ()
        assert azure.problems == (
            'model_list.1.litellm_params.api_base: the variable "AZURE_EUROPE_API_BASE" is not set',
            'model_list.1.litellm_params.api_key: the variable "AZURE_EUROPE_API_KEY" is not set',
        )
        assert azure.litellm_params.api_key is None
        assert [line for line in lines(loaded) if "this deployment is left out" in line] == [
            f"{place}: {problem}; this deployment is left out"
            for place, problem in zip(("12:15", "13:14"), azure.problems, strict=True)
        ]

    def test_fallbacks(self) -> None:
        loaded = load_config(FIXTURES / "litellm-fallbacks.yaml", {"OPENAI_API_KEY": "x"})
        assert loaded.config.fallbacks == {"whisper-primary": ("whisper-backup",)}
        assert any(
            line.startswith("19:3: router_settings.num_retries: works differently here") for line in lines(loaded)
        )


class TestDefaults:
    def test_without_a_file_the_embedded_recogniser_serves(self) -> None:
        config = default_config({}).config
        assert [entry.litellm_params.model for entry in config.model_list] == ["local/pocketsphinx"]
        assert config.aliases == {"local/pocketsphinx": "pocketsphinx", "whisper-1": "pocketsphinx"}
        assert config.fallbacks == {}
        assert config.master_key is None
        assert config.voxgate.listen.host == "127.0.0.1"

    def test_openai_first_where_its_key_is(self) -> None:
        config = default_config({"OPENAI_API_KEY": "openai-key"}).config
        assert {entry.model_name: entry.litellm_params.model for entry in config.model_list} == {
            "pocketsphinx": "local/pocketsphinx",
            "whisper-1": "openai/whisper-1",
        }
        assert "whisper-1" not in config.aliases
        assert config.fallbacks == {"whisper-1": ("pocketsphinx",)}

    def test_every_provider_whose_key_is_there(self) -> None:
        keys = ("GROQ_API_KEY", "FIREWORKS_AI_API_KEY", "OVHCLOUD_API_KEY", "MISTRAL_API_KEY", "AZURE_API_KEY")
        config = default_config({key: f"value of {key}" for key in keys}).config
        served = {entry.model_name: plain_key(entry.litellm_params.api_key) for entry in config.model_list[1:]}
        assert served == {
            "groq/whisper-large-v3": "value of GROQ_API_KEY",
            "groq/whisper-large-v3-turbo": "value of GROQ_API_KEY",
            "fireworks_ai/whisper-v3": "value of FIREWORKS_AI_API_KEY",
            "ovhcloud/whisper-large-v3": "value of OVHCLOUD_API_KEY",
            "voxtral-mini-latest": "value of MISTRAL_API_KEY",
        }
        assert config.fallbacks == dict.fromkeys(served, ("pocketsphinx",))
        assert config.aliases["whisper-1"] == "pocketsphinx"

    @pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
    def test_gemini_where_its_key_is(self, variable: str) -> None:
        config = default_config({variable: "google-key"}).config
        [_, entry] = config.model_list
        assert entry.model_name == "gemini-3.5-transcribe"
        assert entry.litellm_params.model == "gemini/gemini-3.5-transcribe"
        assert plain_key(entry.litellm_params.api_key) == "google-key"
        assert config.aliases["whisper-1"] == "pocketsphinx"
        assert config.fallbacks == {"gemini-3.5-transcribe": ("pocketsphinx",)}

    def test_deepgram_too_where_its_key_is(self) -> None:
        config = default_config({"DEEPGRAM_API_KEY": "deepgram-key"}).config
        assert [entry.litellm_params.model for entry in config.model_list] == ["local/pocketsphinx", "deepgram/nova-3"]
        assert plain_key(config.model_list[1].litellm_params.api_key) == "deepgram-key"
        assert config.aliases["whisper-1"] == "pocketsphinx"
        assert config.fallbacks == {"nova-3": ("pocketsphinx",)}
        both = default_config({"DEEPGRAM_API_KEY": "deepgram-key", "OPENAI_API_KEY": "openai-key"}).config
        assert [entry.model_name for entry in both.model_list] == ["pocketsphinx", "whisper-1", "nova-3"]
        assert both.fallbacks == {"whisper-1": ("pocketsphinx",), "nova-3": ("pocketsphinx",)}

    @pytest.mark.parametrize(
        ("variable", "model"),
        [
            ("ELEVENLABS_API_KEY", "elevenlabs/scribe_v2"),
            ("ASSEMBLYAI_API_KEY", "assemblyai/universal-3-5-pro"),
        ],
    )
    def test_other_providers_where_their_key_is(self, variable: str, model: str) -> None:
        config = default_config({variable: "their-key"}).config
        assert [entry.litellm_params.model for entry in config.model_list] == ["local/pocketsphinx", model]
        name = config.model_list[1].model_name
        assert name == model.partition("/")[2]
        assert plain_key(config.model_list[1].litellm_params.api_key) == "their-key"
        assert config.aliases["whisper-1"] == "pocketsphinx"
        assert config.fallbacks == {name: ("pocketsphinx",)}
        both = default_config({variable: "their-key", "OPENAI_API_KEY": "openai-key"}).config
        assert both.fallbacks == {"whisper-1": ("pocketsphinx",), name: ("pocketsphinx",)}

    def test_the_key_of_the_environment_is_not_forgotten(self, load) -> None:
        assert plain_key(default_config({"LITELLM_MASTER_KEY": "k" * 32}).config.master_key) == "k" * 32
        assert default_config({"LITELLM_MASTER_KEY": "sk-1234"}).warnings[0].loud
        loaded = load("general_settings:\n", {"LITELLM_MASTER_KEY": "k" * 32})
        assert plain_key(loaded.config.master_key) == "k" * 32

    @pytest.mark.parametrize(
        "text", ["", "# nothing\n", "---\n", "model_list:\n", "voxgate:\n", "general_settings: {}\n"]
    )
    def test_a_file_without_models(self, load, text: str) -> None:
        loaded = load(text)
        assert loaded.config == default_config({}).config
        assert any("embedded recogniser" in line for line in lines(loaded))

    def test_an_empty_list_is_no_models(self, load) -> None:
        assert load("model_list: []\n").config.model_list == ()

    def test_frozen(self) -> None:
        config = default_config({}).config
        with pytest.raises(ValidationError):
            config.voxgate.limits.drain_seconds = 1.0  # type: ignore[misc]
        with pytest.raises(ValidationError):
            config.model_list[0].litellm_params.model = "x"  # type: ignore[misc]


class TestValues:
    def test_as_people_write_them(self, load) -> None:
        loaded = load(
            """
            model_list:
              - model_name: 4711
                litellm_params:
                  model: azure/x
                  api_version: 2024-02-01
                  timeout: "30"
                  drop_params: "true"
                  tags: fast
                  rpm: 007
                  input_cost_per_second: 1e-4
                  extra_headers: {X-Team: 1}
                  smart: [1, 2.5, true, 2024-02-01]
            voxgate:
              limits: {max_audio_bytes: 25MB, spool_window_bytes: 1.5 MiB, spool_quota_bytes: 9000000, drain_seconds: 0}
            """
        )
        entry = loaded.config.model_list[0]
        params = entry.litellm_params
        assert entry.model_name == "4711"
        assert params.api_version == "2024-02-01"
        assert (params.timeout, params.drop_params, params.tags, params.rpm) == (30.0, True, ("fast",), 7)
        assert params.input_cost_per_second == 0.0001
        assert params.extra_headers["X-Team"].get_secret_value() == "1"
        assert params.extras == {"smart": [1, 2.5, True, "2024-02-01"]}
        limits = loaded.config.voxgate.limits
        assert (limits.max_audio_bytes, limits.spool_window_bytes, limits.spool_quota_bytes) == (
            25_000_000,
            1_572_864,
            9_000_000,
        )

    def test_only_keys_without_a_meaning_to_litellm_reach_the_provider(self, load) -> None:
        loaded = load(
            "model_list: [{model_name: a, litellm_params: {model: deepgram/nova-3, diarize: true, num_retries: 1,"
            " mock_response: x, guardrails: [y], extras: 1}}]"
        )
        assert loaded.config.model_list[0].litellm_params.extras == {"diarize": True, "extras": 1}

    def test_anchors_and_merge_keys(self, load) -> None:
        loaded = load(
            """
            shared: &shared
              api_base: https://host/v1
              timeout: 5
            model_list:
              - model_name: a
                litellm_params: {<<: *shared, model: openai/x, timeout: 7}
            """
        )
        params = loaded.config.model_list[0].litellm_params
        assert (params.api_base, params.timeout) == ("https://host/v1", 7.0)

    def test_time_and_leniency_of_an_attempt(self, load) -> None:
        config: GatewayConfig = load(
            """
            model_list:
              - {model_name: a, litellm_params: {model: openai/x, timeout: 7, drop_params: false}}
              - {model_name: b, litellm_params: {model: openai/y}}
            router_settings: {timeout: 20}
            litellm_settings: {request_timeout: 30, drop_params: true}
            """
        ).config
        assert [config.attempt_seconds(entry) for entry in config.model_list] == [7.0, 20.0]
        assert [config.drops_params(entry) for entry in config.model_list] == [False, True]

    def test_fallbacks_and_aliases_in_every_spelling(self, load) -> None:
        config: GatewayConfig = load(
            """
            model_list:
              - &x {model_name: a, litellm_params: {model: openai/x}}
              - {<<: *x, model_name: b}
              - {<<: *x, model_name: c}
            router_settings:
              model_group_alias: {first: second, second: {model: a, hidden: true}}
              fallbacks: [{a: [b, {model: c}]}, {b: c}]
              default_fallbacks: [c]
            litellm_settings:
              fallbacks: [{c: []}]
            """
        ).config
        assert config.fallbacks == {"a": ("b", "c"), "b": ("c",), "*": ("c",)}
        assert config.aliases == {"first": "a", "second": "a"}
        assert config.router_settings.model_group_alias["second"].hidden

    def test_ids_stay_from_start_to_start(self, load) -> None:
        text = """
            model_list:
              - {model_name: a, litellm_params: {model: openai/x}}
              - {model_name: a, litellm_params: {model: openai/x}}
              - {model_name: a, litellm_params: {model: openai/x}, model_info: {id: mine}}
            """
        first, second = load(text).config, load(text).config
        ids = [entry.model_info.id for entry in first.model_list]
        assert len(set(ids)) == 3
        assert ids[2] == "mine"
        assert ids == [entry.model_info.id for entry in second.model_list]

    def test_models_that_do_not_transcribe_are_left_out(self, load) -> None:
        loaded = load(
            """
            model_list:
              - {model_name: a, litellm_params: {model: gpt-4o}}
              - {model_name: b, litellm_params: {model: openai/gpt-4o}, model_info: {mode: chat}}
              - {model_name: c, litellm_params: {model: openai/whisper-1}}
            """
        )
        assert [bool(entry.problems) for entry in loaded.config.model_list] == [True, True, False]
        assert "3:45: model_list.0.litellm_params.model: does not say" in "\n".join(lines(loaded))


class TestSplitModel:
    @pytest.mark.parametrize(
        ("model", "custom", "expected"),
        [
            ("whisper-1", None, ("openai", "whisper-1")),
            ("gpt-4o-transcribe", None, ("openai", "gpt-4o-transcribe")),
            ("gpt-4o-mini-transcribe-2025-12-15", None, ("openai", "gpt-4o-mini-transcribe-2025-12-15")),
            ("gpt-transcribe", None, ("openai", "gpt-transcribe")),
            ("groq/whisper-large-v3", None, ("groq", "whisper-large-v3")),
            ("openai/*", None, ("openai", "*")),
            ("hosted_vllm/openai/whisper-large-v3", None, ("hosted_vllm", "openai/whisper-large-v3")),
            ("openai/whisper-large-v3", "hosted_vllm", ("hosted_vllm", "openai/whisper-large-v3")),
            ("azure/my-whisper", "azure", ("azure", "my-whisper")),
            ("my-whisper", "azure", ("azure", "my-whisper")),
        ],
    )
    def test_known(self, model: str, custom: str | None, expected: tuple[str, str]) -> None:
        assert split_model(model, custom) == expected

    @pytest.mark.parametrize("model", ["gpt-4o", "whisper", "/x", "openai/", ""])
    def test_unknown(self, model: str) -> None:
        with pytest.raises(ValueError, match="provider/model"):
            split_model(model)


class TestEnvironment:
    def test_anywhere(self, load) -> None:
        environ: Mapping[str, str] = {"T": "12", "H": "v", "ALIAS": "a", "PORT": "0", "DROP": "True"}
        loaded = load(
            """
            model_list:
              - model_name: a
                litellm_params: {model: openai/x, timeout: os.environ/T, extra_headers: {X: os.environ/H}}
            router_settings: {model_group_alias: {b: os.environ/ALIAS}}
            litellm_settings: {drop_params: os.environ/DROP}
            voxgate: {listen: {grpc_port: os.environ/PORT}}
            """,
            environ,
        )
        params = loaded.config.model_list[0].litellm_params
        assert params.timeout == 12.0
        assert params.extra_headers["X"].get_secret_value() == "v"
        assert loaded.config.aliases == {"b": "a"}
        assert loaded.config.litellm_settings.drop_params is True
        assert loaded.config.voxgate.listen.grpc_port == 0

    def test_variables_of_the_file(self, write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OUTER", "from-outside")
        monkeypatch.delenv("INNER", raising=False)
        path = write(
            """
            environment_variables: {INNER: os.environ/OUTER, NUMBER: 010, UNSET: os.environ/NOBODY_SETS_THIS}
            model_list:
              - {model_name: a, litellm_params: {model: openai/x, api_key: os.environ/INNER}}
            """
        )
        loaded = load_config(path)
        assert plain_key(loaded.config.model_list[0].litellm_params.api_key) == "from-outside"
        assert loaded.environment["INNER"] == "from-outside"
        assert loaded.environment["NUMBER"] == "010"
        assert "UNSET" not in loaded.environment
        assert any('"NOBODY_SETS_THIS" is not set' in line for line in lines(loaded))
        import os

        assert "INNER" not in os.environ

    def test_an_unset_variable_of_a_key_without_effect_is_no_error(self, load) -> None:
        loaded = load("general_settings: {database_url: os.environ/NOBODY}\nfoo: os.environ/NOBODY\n")
        assert any("general_settings.database_url: has no effect" in line for line in lines(loaded))

    def test_credentials(self, load) -> None:
        loaded = load(
            """
            credential_list:
              - credential_name: eu
                credential_values: {api_key: os.environ/EU_KEY, api_base: https://eu.example.com/v1, timeout: 3}
              - credential_name: us
                credential_values: {api_key: os.environ/US_KEY}
            model_list:
              - {model_name: a, litellm_params: {model: openai/x, litellm_credential_name: eu, timeout: 9}}
              - {model_name: b, litellm_params: {model: openai/x, litellm_credential_name: us}}
            """,
            {"EU_KEY": "eu-key"},
        )
        eu, us = loaded.config.model_list
        assert plain_key(eu.litellm_params.api_key) == "eu-key"
        assert eu.litellm_params.api_base == "https://eu.example.com/v1"
        assert eu.litellm_params.timeout == 9.0
        assert us.problems == ('model_list.1.litellm_params.api_key: the variable "US_KEY" is not set',)


class TestIncludes:
    def test_lists_are_appended_and_maps_overwritten(self, write) -> None:
        write(
            """
            include: [deeper/c.yaml]
            model_list:
              - {model_name: b, litellm_params: {model: openai/b}}
            """,
            "parts/b.yaml",
        )
        write(
            """
            model_list:
              - {model_name: c, litellm_params: {model: openai/c}}
            router_settings: {timeout: 3}
            """,
            "parts/deeper/c.yaml",
        )
        main = write(
            """
            include: [parts/b.yaml]
            model_list:
              - {model_name: a, litellm_params: {model: openai/a}}
            router_settings: {timeout: 1, num_retries: 1}
            litellm_settings: {request_timeout: 9}
            """
        )
        loaded = load_config(main, {})
        assert [entry.model_name for entry in loaded.config.model_list] == ["a", "b", "c"]
        assert [Path(place.file).name for place in loaded.model_places] == ["gw.yaml", "b.yaml", "c.yaml"]
        assert loaded.config.router_settings.timeout == 3.0
        assert loaded.config.litellm_settings.request_timeout == 9.0
        assert any(
            warning.what.startswith("router_settings: replaces the one at") and warning.place.file.endswith("c.yaml")
            for warning in loaded.warnings
        )

    def test_paths_are_relative_to_their_file(self, write) -> None:
        for name in ("chain.pem", "key.pem"):
            write("x", f"parts/{name}")
        write("voxgate: {tls: {certificate: chain.pem, private_key: ./key.pem}}", "parts/tls.yaml")
        (write("x", "spool/x").parent / "x").unlink()
        loaded = load_config(write("include: [parts/tls.yaml]\n"), {})
        assert loaded.config.voxgate.tls.certificate is not None
        assert loaded.config.voxgate.tls.certificate.is_absolute()
        assert loaded.config.voxgate.tls.certificate.read_text() == "x"
        loaded = load_config(write("voxgate: {limits: {spool_directory: spool}}\n"), {})
        assert loaded.config.voxgate.limits.spool_directory is not None
        assert loaded.config.voxgate.limits.spool_directory.is_dir()
