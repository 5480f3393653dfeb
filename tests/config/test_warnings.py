"""What an operator is told about a configuration that loads."""

import pytest
from voxgate_server.config import LoadedConfig


def lines(loaded: LoadedConfig) -> list[str]:
    """The warnings as `line:col: what`."""
    return [f"{one.place.line}:{one.place.column}: {one.what}" for one in loaded.warnings]


class TestWarnings:
    def test_each_key_once_with_its_place_and_the_key_it_may_mean(self, load) -> None:
        loaded = load(
            """\
            model_list:
              - model_name: a
                litellm_params: {model: openai/x, tpm: 1, api_bse: 1}
                model_inf: {}
              - model_name: b
                litellm_params: {model: openai/y, tpm: 2}
            router_setings: {timeout: 1}
            voxgate: {limits: {max_audio_byte: 3}}
            litellm_settings: {cache_params: {type: redis}, request_timeout: 3}
            """
        )
        assert lines(loaded) == [
            (
                "3:39: model_list.0.litellm_params.tpm: has no effect in this release: planned: limits in tokens;"
                " rpm and max_parallel_requests are kept"
                " (the first of 2 places)"
            ),
            (
                "3:47: model_list.0.litellm_params.api_bse: is not known: sent to the provider with every"
                ' request, unless the caller sets it; did you mean "api_base"?'
            ),
            '4:5: model_list.0.model_inf: is not known: did you mean "model_info"?',
            '7:1: router_setings: is not known: did you mean "router_settings"?',
            '8:20: voxgate.limits.max_audio_byte: is not known: did you mean "max_audio_bytes"?',
            "9:20: litellm_settings.cache_params: has no effect in this release: planned: cache",
            (
                "9:49: litellm_settings.request_timeout: works differently here: seconds of one attempt;"
                " see router_settings.timeout"
            ),
        ]

    @pytest.mark.parametrize("key", ["sk-1234", "changeme", "CHANGE-ME", '""', "1234", "short", "sk-my-master-key"])
    def test_weak_keys_are_loud(self, load, key: str) -> None:
        loaded = load(f"model_list: []\ngeneral_settings:\n  master_key: {key}\n")
        assert lines(loaded)[0].startswith("3:15: general_settings.master_key: ")
        assert loaded.warnings[0].loud
        assert (loaded.config.master_key is None) == (key == '""')

    def test_a_strong_key_is_quiet(self, load) -> None:
        assert load("model_list: []\ngeneral_settings: {master_key: 9f86d081884c7d659a2feaa0c55ad015}").warnings == ()

    def test_names_that_lead_nowhere(self, load) -> None:
        loaded = load(
            """\
            model_list:
              - {model_name: whisper, litellm_params: {model: openai/x}}
              - {model_name: groq/*, litellm_params: {model: groq/*}}
            router_settings:
              fallbacks: [{whisper: [groq/large, whispr, whisper-large-v3-turbo]}, {"*": [whisper]}]
              model_group_alias: {a: whisperr}
            """
        )
        assert lines(loaded) == [
            (
                '5:38: router_settings.fallbacks.0.whisper.1: no entry of model_list is called "whispr";'
                ' did you mean "whisper"?'
            ),
            '5:46: router_settings.fallbacks.0.whisper.2: no entry of model_list is called "whisper-large-v3-turbo"',
            (
                '6:26: router_settings.model_group_alias.a: no entry of model_list is called "whisperr";'
                ' did you mean "whisper"?'
            ),
        ]
