"""What a configuration says about the way of a call, and about callers who bring a way of their own."""

from ipaddress import ip_network
from typing import get_args

import pytest
from voxgate_server.config import GatewayConfig, RoutingStrategy, Standing, check, default_config
from voxgate_server.routing.strategies import STRATEGIES


class TestRouterSettings:
    def test_every_strategy_has_its_name(self) -> None:
        assert set(get_args(RoutingStrategy)) == set(STRATEGIES)

    def test_defaults_are_those_of_litellm(self) -> None:
        config = default_config({}).config
        router = config.router_settings
        assert (router.routing_strategy, router.max_fallbacks, router.cooldown_time) == ("simple-shuffle", 5, 5.0)
        assert (config.num_retries, config.allowed_fails) == (None, 3)
        assert (router.disable_cooldowns, router.enable_tag_filtering) == (False, False)
        assert config.context_window_fallbacks == config.content_policy_fallbacks == {}
        assert not config.general_settings.dangerously_allow_mock_testing_request_params

    def test_as_written(self, load) -> None:
        config: GatewayConfig = load(
            """
            model_list: []
            router_settings:
              routing_strategy: least-busy
              num_retries: 0
              max_fallbacks: 0
              allowed_fails: 0
              cooldown_time: 0
              disable_cooldowns: true
              enable_tag_filtering: true
            litellm_settings: {num_retries: 4, allowed_fails: 9}
            general_settings: {dangerously_allow_mock_testing_request_params: true}
            """
        ).config
        router = config.router_settings
        assert (router.routing_strategy, router.max_fallbacks, router.cooldown_time) == ("least-busy", 0, 0.0)
        assert (config.num_retries, config.allowed_fails) == (0, 0)
        assert router.disable_cooldowns
        assert router.enable_tag_filtering
        assert config.general_settings.dangerously_allow_mock_testing_request_params

    def test_settings_of_litellm_as_a_whole_stand_in(self, load) -> None:
        config: GatewayConfig = load(
            """
            model_list: []
            litellm_settings:
              num_retries: 4
              allowed_fails: 9
              context_window_fallbacks: [{a: [b, c, b]}]
              content_policy_fallbacks: [{a: b}, {"*": [{model: c}]}]
            router_settings: {content_policy_fallbacks: [{d: [e]}]}
            """
        ).config
        assert (config.num_retries, config.allowed_fails) == (4, 9)
        assert config.context_window_fallbacks == {"a": ("b", "c")}
        assert config.content_policy_fallbacks == {"d": ("e",)}
        assert config.fallbacks == {}

    @pytest.mark.parametrize(
        ("setting", "what"),
        [
            ("routing_strategy: fastest", "must be 'simple-shuffle', 'least-busy', "),
            ("num_retries: 11", "must be at most 10 (found 11)"),
            ("num_retries: -1", "must be at least 0 (found -1)"),
            ("max_fallbacks: 101", "must be at most 100 (found 101)"),
            ("cooldown_time: 86401", "must be at most 86,400 (found 86401)"),
            ("allowed_fails: many", 'must be a whole number (found "many")'),
            ("context_window_fallbacks: {a: [b]}", "must be a list"),
        ],
    )
    def test_bounds(self, refusals, setting: str, what: str) -> None:
        (line,) = refusals(f"model_list: []\nrouter_settings:\n  {setting}\n")
        key = setting.partition(":")[0]
        assert line.startswith(f"gw.yaml:3:{len(key) + 5}: router_settings.{key}: {what}")

    def test_circles_in_each_map(self, refusals) -> None:
        assert refusals(
            """\
            model_list: []
            router_settings:
              model_group_alias: {x: c}
              context_window_fallbacks: [{a: [b]}, {b: [a]}]
            litellm_settings:
              content_policy_fallbacks: [{c: [x]}]
            """
        ) == [
            'gw.yaml:4:45: context_window_fallbacks: a group would be its own fallback: "a" → "b" → "a"',
            'gw.yaml:6:35: content_policy_fallbacks: a group would be its own fallback: "c" → "c"',
        ]

    def test_to_and_fro_in_different_maps_is_no_circle(self, load) -> None:
        config = load(
            "model_list: []\nrouter_settings: {fallbacks: [{a: [b]}], context_window_fallbacks: [{b: [a]}]}\n"
        ).config
        assert (config.fallbacks, config.context_window_fallbacks) == ({"a": ("b",)}, {"b": ("a",)})

    def test_targets_nobody_serves(self, load) -> None:
        loaded = load("model_list: []\nrouter_settings: {content_policy_fallbacks: [{a: [b]}]}")
        found = [one.what for one in loaded.warnings]
        assert 'router_settings.content_policy_fallbacks.0.a.0: no entry of model_list is called "b"' in found


class TestDeployments:
    def test_ranks_tags_and_limits(self, load) -> None:
        first, second = load(
            """
            model_list:
              - model_name: a
                litellm_params: {model: openai/x, order: 2, tags: [eu, fast], rpm: 60, max_parallel_requests: 4,
                                 cooldown_time: 0, weight: 0}
              - {model_name: a, litellm_params: {model: openai/x}}
            """
        ).config.model_list
        params = first.litellm_params
        assert (params.order, params.tags, params.rpm, params.max_parallel_requests) == (2, ("eu", "fast"), 60, 4)
        assert (params.cooldown_time, params.weight) == (0.0, 0.0)
        params = second.litellm_params
        assert (params.order, params.tags, params.rpm, params.cooldown_time, params.weight) == (1, (), None, None, None)

    @pytest.mark.parametrize(
        ("params", "info", "expected"),
        [
            ({}, {}, None),
            ({"input_cost_per_second": 0.1}, {}, 0.1),
            ({"input_cost_per_second": 0.1, "output_cost_per_second": 0.0}, {}, 0.1),
            ({"input_cost_per_second": 0.0, "output_cost_per_second": 0.2}, {}, 0.2),
            ({}, {"input_cost_per_second": 0.3}, 0.3),
            ({"input_cost_per_second": 0.1}, {"input_cost_per_second": 0.3}, 0.1),
            ({"input_cost_per_second": 0.0}, {"input_cost_per_second": 0.3}, 0.0),
            ({"output_cost_per_second": 0.0}, {}, 0.0),
            ({"input_cost_per_token": 0.1}, {"input_cost_per_audio_token": 0.1}, None),
        ],
    )
    def test_price_of_a_second(self, params: dict[str, float], info: dict[str, float], expected: float | None) -> None:
        entry = {"model_name": "a", "litellm_params": {"model": "openai/x", **params}, "model_info": info}
        config = GatewayConfig.model_validate({"model_list": [entry]})
        assert config.cost_per_second(config.model_list[0]) == expected


class TestWildcards:
    @pytest.mark.parametrize(
        ("name", "model", "asked", "expected"),
        [
            ("openai/*", "openai/*", "whisper-1", ("openai/whisper-1", "openai", "whisper-1")),
            ("whisper-*", "groq/whisper-large-*", "v3", ("whisper-v3", "groq", "whisper-large-v3")),
            ("*", "*", "openai/x", ("openai/x", "openai", "x")),
            ("*", "*", "whisper-1", ("whisper-1", "openai", "whisper-1")),
            ("vllm/*", "hosted_vllm/*", "org/model", ("vllm/org/model", "hosted_vllm", "org/model")),
        ],
    )
    def test_what_they_stand_for(self, load, name: str, model: str, asked: str, expected: tuple[str, ...]) -> None:
        loaded = load(f'model_list: [{{model_name: "{name}", litellm_params: {{model: "{model}"}}}}]')
        (entry,) = loaded.config.model_list
        assert loaded.warnings == ()
        assert entry.is_wildcard
        assert entry.problems == ()
        found = entry.concrete(asked)
        params = found.litellm_params
        assert (found.model_name, params.provider, params.provider_model) == expected
        assert found.model_info.id == f"{entry.model_info.id}:{asked}"
        assert not found.is_wildcard

    def test_a_star_stands_for_one_thing(self, refusals) -> None:
        assert refusals(
            """\
            model_list:
              - {model_name: openai/*, litellm_params: {model: openai/whisper-1}}
              - {model_name: whisper, litellm_params: {model: openai/*}}
              - {model_name: "*/*", litellm_params: {model: "*"}}
            """
        ) == [
            (
                "gw.yaml:2:18: model_list.0.model_name: has a `*`, and litellm_params.model has none; both need one,"
                " which stands for the same text in both (as in openai/*), or neither"
            ),
            (
                "gw.yaml:3:51: model_list.1.litellm_params.model: has a `*`, and model_name has none; both need one,"
                " which stands for the same text in both (as in openai/*), or neither"
            ),
            "gw.yaml:4:18: model_list.2.model_name: has 2 `*`; one stands for any text, more have no meaning",
        ]

    def test_fallbacks_to_what_fits(self, load) -> None:
        loaded = load(
            """
            model_list: [{model_name: "groq/*-v3", litellm_params: {model: "groq/*-v3"}}]
            router_settings: {default_fallbacks: [groq/large-v3, groq/large-v2]}
            """
        )
        (warning,) = loaded.warnings
        assert '"groq/large-v2"' in warning.what


class TestPortkey:
    def test_defaults(self) -> None:
        settings = default_config({}).config.voxgate
        assert (settings.portkey.configs, settings.portkey.custom_hosts) == ({}, ())
        assert not settings.portkey.allow_caller_credentials
        assert (settings.admin.host, settings.admin.port) == ("127.0.0.1", None)

    def test_as_written(self, load) -> None:
        loaded = load(
            """
            model_list: []
            credential_list:
              - {credential_name: eu, credential_values: {api_key: os.environ/EU, api_base: https://eu/v1, timeout: 3}}
              - {credential_name: us}
            voxgate:
              portkey:
                configs:
                  pc-one:
                    strategy: {mode: fallback, on_status_codes: [429, 503]}
                    targets: [{provider: openai, api_key: os.environ/EU, weight: 0.7, cache: true}]
                allow_caller_credentials: true
                custom_hosts:
                  - STT.Example.com
                  - 10.0.0.7:8000
                  - "[0:0::1]:9000"
                  - localhost
                  - {host: ASR.internal:08000, addresses: [10.0.0.0/8, "fd00::7"]}
                  - {host: one.internal, addresses: 10.0.0.7}
              admin: {host: 127.0.0.1, port: 9090}
            """,
            {"EU": "eu-key"},
        )
        assert loaded.warnings == ()
        settings = loaded.config.voxgate
        assert settings.portkey.configs == {
            "pc-one": {
                "strategy": {"mode": "fallback", "on_status_codes": [429, 503]},
                "targets": [{"provider": "openai", "api_key": "eu-key", "weight": 0.7, "cache": True}],
            }
        }
        assert settings.portkey.allow_caller_credentials
        hosts = [(one.host, one.addresses) for one in settings.portkey.custom_hosts]
        assert hosts == [
            ("stt.example.com", ()),
            ("10.0.0.7:8000", ()),
            ("[::1]:9000", ()),
            ("localhost", ()),
            ("asr.internal:8000", (ip_network("10.0.0.0/8"), ip_network("fd00::7"))),
            ("one.internal", (ip_network("10.0.0.7"),)),
        ]
        assert settings.admin.port == 9090
        assert loaded.config.credentials == {
            "eu": {"api_key": "eu-key", "api_base": "https://eu/v1", "timeout": 3},
            "us": {},
        }
        assert repr(loaded.config.credentials) == "<hidden values of eu, us>"

    @pytest.mark.parametrize(
        "host",
        [
            "https://host",
            "host/path",
            "user@host",
            "host:99999",
            "host:0",
            "a b",
            "*",
            "[nonsense]",
            "ho\u00dft",
            ":80",
            "",
            "host:",
            "host.",
            "a..b",
            "-host",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.256",
            "stt.example.1",
            "[fe80::1%eth0]",
            "[::1",
            "a[::1]",
            "h" * 254,
        ],
    )
    def test_what_is_no_host(self, refusals, host: str) -> None:
        (line,) = refusals(f'voxgate: {{portkey: {{custom_hosts: ["{host}"]}}}}\n')
        assert line.startswith("gw.yaml:1:36: voxgate.portkey.custom_hosts.0: must ")

    @pytest.mark.parametrize(
        ("entry", "what"),
        [
            ("{addresses: [10.0.0.0/8]}", ".0.host: is required"),
            ("{host: https://a}", ".0.host: must be a host"),
            ("{host: a, addresses: [10.0.0.1/8]}", ".0.addresses.0: must be an address or a network"),
            ("{host: a, addresses: [asr.internal]}", ".0.addresses.0: must be an address or a network"),
            ("{host: a, addresses: [7]}", ".0.addresses.0: must be an address or a network"),
            ('{host: a, addresses: ["::ffff:10.0.0.0/104"]}', ".0.addresses.0: must be an address or a network"),
            ("{host: a, addresses: {}}", ".0.addresses: must be a list"),
            ("{host: 10.0.0.7, addresses: [10.0.0.7]}", ".0: must not have `addresses`"),
            ('{host: "[::1]:80", addresses: ["::1"]}', ".0: must not have `addresses`"),
            ("[a]", ".0: must be a host"),
            ("7", ".0: must be a host"),
            ("A, {host: a, addresses: [10.0.0.0/8]}", ": must name each host once; a is there twice"),
        ],
    )
    def test_what_is_no_entry(self, refusals, entry: str, what: str) -> None:
        (line,) = refusals(f"voxgate: {{portkey: {{custom_hosts: [{entry}]}}}}\n")
        assert f"voxgate.portkey.custom_hosts{what}" in line

    def test_the_keys_of_an_entry_are_known(self, write) -> None:
        rows = check(write("voxgate: {portkey: {custom_hosts: [a, {host: b, addresses: [10.0.0.7], adresses: 7}]}}"))
        found = {row.path.removeprefix("voxgate.portkey.custom_hosts."): (row.standing, row.note) for row in rows}
        assert found["0"][0] == found["1.host"][0] == found["1.addresses.0"][0] == Standing.HONOURED
        assert found["1.adresses"] == (Standing.UNKNOWN, 'did you mean "addresses"?')

    def test_what_is_no_config(self, refusals) -> None:
        found = refusals(
            """\
            credential_list: [{credential_name: a, credential_values: [b]}]
            voxgate:
              portkey: {configs: {one: text}}
              listen: {grpc_port: 7000}
              admin: {port: 70000}
            """
        )
        assert [line.partition(" (found")[0] for line in found] == [
            "gw.yaml:1:59: credential_list.0.credential_values: must be a map (lines of the form `key: value`)",
            "gw.yaml:3:28: voxgate.portkey.configs.one: must be a map (lines of the form `key: value`)",
            "gw.yaml:5:17: voxgate.admin.port: must be at most 65,535",
        ]

    def test_operators_have_a_port_of_their_own(self, refusals) -> None:
        (line,) = refusals("voxgate: {admin: {port: 4000}}\n")
        assert line == ("gw.yaml:1:10: voxgate: must have a value for admin.port that is not one of listen's ports")
