"""A secret is in the configuration and nowhere else."""

import traceback

import pytest
from voxgate_server.config import ConfigError, check, load_config

CANARY = "sk-CANARY7f3a9c2e51d84b60"


def test_a_configuration_that_loads(write) -> None:
    path = write(
        f"""
        environment_variables: {{OPENAI_API_KEY: {CANARY}}}
        credential_list:
          - {{credential_name: c, credential_values: {{api_key: {CANARY}}}}}
        model_list:
          - model_name: a
            litellm_params:
              model: openai/x
              api_key: {CANARY}
              client_secret: {CANARY}
              azure_ad_token: {CANARY}
              vertex_credentials: {{private_key: {CANARY}}}
              extra_headers: {{Authorization: Bearer {CANARY}}}
              vendor_secret: {CANARY}
          - {{model_name: b, litellm_params: {{model: openai/x, litellm_credential_name: c}}}}
          - model_name: d
            litellm_params: {{model: openai/x, api_key: os.environ/OPENAI_API_KEY, timeout: os.environ/NO}}
        router_settings:
          redis_password: {CANARY}
          model_group_alias: {{x: {CANARY}}}
          fallbacks: [{{a: [os.environ/E]}}]
        general_settings: {{master_key: {CANARY}, database_url: "postgresql://u:{CANARY}@h/d"}}
        unknown: {CANARY}
        voxgate: {{portkey: {{configs: {{pc-1: {{targets: [{{api_key: os.environ/E}}]}}}}}}}}
        """
    )
    loaded = load_config(path, {"E": CANARY})
    first, second, third = loaded.config.model_list
    for entry in (first, second, third):
        assert entry.litellm_params.api_key is not None
        assert entry.litellm_params.api_key.get_secret_value() == CANARY
    assert first.litellm_params.extras == {"vendor_secret": CANARY}
    assert loaded.config.credentials["c"]["api_key"] == CANARY
    assert loaded.config.voxgate.portkey.configs == {"pc-1": {"targets": [{"api_key": CANARY}]}}
    # An alias or a fallback is a name and part of the configuration's repr; the rest is not.
    names = loaded.config.model_copy(update={"router_settings": type(loaded.config.router_settings)()})
    shown = [repr(names), str(names), repr(loaded.environment), repr(first), str(first.litellm_params)]
    shown += [repr(loaded.config.credentials), repr(loaded.config.credentials["c"]), repr(loaded.config.voxgate)]
    shown += [repr(first.litellm_params.extra_headers), repr(loaded.warnings), *map(str, loaded.warnings)]
    shown += [
        repr(check(path)),
        names.model_dump_json(
            exclude={
                "model_list": {"__all__": {"litellm_params": {"extras"}}},
                "voxgate": {"portkey": {"configs"}},
            }
        ),
    ]
    assert [text for text in shown if CANARY in text] == []


@pytest.mark.parametrize(
    "text",
    [
        f"general_settings: {{master_key: [{CANARY}]}}",
        f"general_settings: {{master_key: {{a: {CANARY}}}}}",
        f'general_settings: {{master_key: "{CANARY}\\n"}}',
        f"general_settings: {CANARY}",
        f"general_settings:\n  master_key {CANARY}",
        f"general_settings:\n  master_key: *{CANARY}",
        f"general_settings:\n  master_key: !{CANARY} x",
        f"general_settings:\n  master_key: '{CANARY}",
        f"general_settings:\n  master_key: {CANARY}: x",
        f"general_settings:\n\tmaster_key: {CANARY}",
        f"general_settings: {{master_key: {CANARY}, master_key: {CANARY}}}",
        f"model_list: {CANARY}",
        f"model_list: [{CANARY}]",
        f"model_list: [{{model_name: a, litellm_params: {{model: openai/x, api_base: 'https://{CANARY}@h/'}}}}]",
        f"model_list: [{{model_name: a, litellm_params: {{model: openai/x, api_base: 'https://h/?key={CANARY}'}}}}]",
        f"model_list: [{{model_name: a, litellm_params: {{model: openai/x, timeout: {CANARY}}}}}]",
        "model_list: [{model_name: a, litellm_params: {model: openai/x, timeout: os.environ/T}}]",
        f"model_list: [{{model_name: a, litellm_params: {{model: openai/x, extra_headers: {CANARY}}}}}]",
        f'model_list: [{{model_name: a, litellm_params: {{model: openai/x, extra_headers: {{A: "{CANARY}\\n"}}}}}}]',
        f"voxgate: {{listen: {{grpc_port: {CANARY}}}}}",
        f"voxgate: {{tls: {{private_key: {CANARY}, certificate: {CANARY}}}}}",
        f"voxgate: {{limits: {{max_audio_bytes: {CANARY}}}}}",
        f"voxgate: {{portkey: {{configs: {{pc-1: {CANARY}}}}}}}",
        f"credential_list: [{{credential_name: c, credential_values: {CANARY}}}]",
        f"{CANARY}",
    ],
)
def test_a_configuration_that_does_not(write, text: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"T": CANARY})
    error = caught.value
    shown = [str(error), repr(error), repr(error.problems), "".join(traceback.format_exception(error))]
    assert [one for one in shown if CANARY in one] == []
