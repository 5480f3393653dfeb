"""`check` tells about every key, once."""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxgate_server.config import ConfigError, Standing, check, load_config
from voxgate_server.config.keys import siblings, standing
from voxgate_server.config.settings import VoxgateSettings

FIXTURES = Path(__file__).parent / "fixtures"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn", "Cf", "Zl", "Zp"]), max_size=8)
)
names = st.sampled_from(
    [
        "model_list",
        "litellm_params",
        "model_info",
        "model",
        "fallbacks",
        "router_settings",
        "voxgate",
        "limits",
        "x",
        "1",
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=25
)


stars = st.sampled_from(["*", "openai/*", "**"])
ordinary = ["a", "b", "os.environ/SET", "os.environ/UNSET", "openai/x", "whisper-1", "1", 3, True]
some = values | stars | st.sampled_from(ordinary)
rules = (
    st.lists(st.dictionaries(st.sampled_from("abc*"), some | st.lists(some, max_size=3), max_size=3), max_size=3) | some
)
parameters = st.dictionaries(
    st.sampled_from(
        [
            "model",
            "api_key",
            "api_base",
            "timeout",
            "tags",
            "extra_headers",
            "litellm_credential_name",
            "vertex_credentials",
            "x",
        ]
    ),
    some,
)
entries = st.fixed_dictionaries(
    {"model_name": some, "litellm_params": some | parameters}, optional={"model_info": some | st.just({"id": "a"})}
)
shaped = st.fixed_dictionaries(
    {},
    optional={
        "model_list": some | st.lists(some | entries, max_size=3),
        "credential_list": some
        | st.lists(
            st.fixed_dictionaries({"credential_name": some, "credential_values": some | parameters}), max_size=2
        ),
        "environment_variables": some,
        "router_settings": some
        | st.fixed_dictionaries(
            {},
            optional={
                "fallbacks": rules,
                "default_fallbacks": some,
                "context_window_fallbacks": rules,
                "routing_strategy": some | st.just("least-busy"),
                "num_retries": some,
                "timeout": some,
                "model_group_alias": some | st.dictionaries(st.sampled_from("abc"), some | st.just({"model": "a"})),
            },
        ),
        "litellm_settings": some | st.fixed_dictionaries({"fallbacks": rules}),
        "general_settings": some | st.fixed_dictionaries({"master_key": some}),
        "voxgate": some
        | st.fixed_dictionaries(
            {},
            optional={
                "tls": some | st.dictionaries(st.sampled_from(["certificate", "private_key"]), some),
                "limits": some | st.dictionaries(st.sampled_from(["max_audio_bytes", "spool_directory"]), some),
                "listen": some,
                "portkey": some
                | st.dictionaries(st.sampled_from(["configs", "custom_hosts"]), some | st.dictionaries(names, values)),
                "admin": some | st.dictionaries(st.sampled_from(["host", "port"]), some),
            },
        ),
    },
)
"""Files that are nearly right."""


def leaves(value: object) -> int:
    if isinstance(value, dict) and value:
        return sum(map(leaves, value.values()))
    if isinstance(value, list) and value:
        return sum(map(leaves, value))
    return 1


def keys(value: object) -> int:
    if isinstance(value, dict):
        return sum(1 + keys(inner) for inner in value.values())
    if isinstance(value, list):
        return sum(map(keys, value))
    return 0


class TestComplete:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.dictionaries(names, values, min_size=1, max_size=5), flow=st.booleans())
    def test_every_key_and_every_leaf_once(self, tmp_path: Path, data: dict[str, object], flow: bool) -> None:
        path = tmp_path / "gw.yaml"
        path.write_text(yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True), "utf-8")
        rows = check(path)
        assert sum(row.leaf for row in rows) == leaves(data)
        assert len({row.path for row in rows}) == len(rows)
        named = [row for row in rows if _is_key(data, row.path)]
        assert len(named) == keys(data)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
    @given(data=shaped)
    def test_whatever_its_shape_a_file_loads_or_is_refused(self, tmp_path: Path, data: dict[str, object]) -> None:
        path = tmp_path / "gw.yaml"
        path.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
        lines = path.read_text("utf-8").count("\n") + 1
        try:
            loaded = load_config(path, {"SET": "1"})
        except ConfigError as error:
            places = [problem.place for problem in error.problems]
            assert places
        else:
            places = [warning.place for warning in loaded.warnings]
            # What loads is usable as it is: nothing that is derived from it fails.
            names = {target for targets in loaded.config.fallbacks.values() for target in targets}
            assert all(isinstance(name, str) for name in names | set(loaded.config.aliases.values()))
            for entry in loaded.config.model_list:
                usable = entry.concrete("openai/x") if entry.is_wildcard else entry
                assert entry.problems or usable.litellm_params.provider
                assert loaded.config.cost_per_second(entry) is None
                assert loaded.config.attempt_seconds(entry) is None or loaded.config.attempt_seconds(entry) > 0
        assert all(1 <= place.line <= lines and place.column >= 1 for place in places)

    @pytest.mark.parametrize("name", ["litellm-openai.yaml", "litellm-openai-azure.yaml", "litellm-fallbacks.yaml"])
    def test_the_documents_of_litellm(self, name: str) -> None:
        rows = check(FIXTURES / name)
        assert sum(row.leaf for row in rows) == leaves(yaml.safe_load((FIXTURES / name).read_text()))
        assert Standing.UNKNOWN not in {row.standing for row in rows}
        assert {row.path: row.place.line for row in rows}["model_list.0.litellm_params.model"] in {4, 5}

    def test_included_files_and_what_they_replace(self, write) -> None:
        write("router_settings: {timeout: 3}\n", "b.yaml")
        rows = check(write("include: [b.yaml]\nrouter_settings:\n  timeout: 1\nmodel_lst: []\n"))
        assert [(row.path, row.place.line, row.standing, row.leaf) for row in rows] == [
            ("include", 1, Standing.HONOURED, False),
            ("include.0", 1, Standing.HONOURED, True),
            ("router_settings", 2, Standing.IGNORED, False),
            ("router_settings.timeout", 3, Standing.IGNORED, True),
            ("model_lst", 4, Standing.UNKNOWN, True),
            ("router_settings", 1, Standing.HONOURED, False),
            ("router_settings.timeout", 1, Standing.DIFFERS, True),
        ]
        assert "b.yaml" in rows[2].note
        assert rows[4].note == 'did you mean "model_list"?'


def _is_key(data: object, path: str) -> bool:
    """Whether the last part of a dotted path is a key, and not the index of a list."""
    value = data
    parts = path.split(".")
    for part in parts[:-1]:
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    return isinstance(value, dict)


class TestTable:
    def test_every_key_of_litellm_has_a_standing(self) -> None:
        """Spot checks of each section, so that a lost row is noticed."""
        for path, expected in {
            ("model_list", 0, "litellm_params", "tpm"): Standing.IGNORED,
            ("model_list", 3, "model_info", "base_model"): Standing.DIFFERS,
            ("router_settings", "retry_policy", "TimeoutErrorRetries"): Standing.IGNORED,
            ("router_settings", "redis_host"): Standing.IGNORED,
            ("router_settings", "routing_strategy"): Standing.HONOURED,
            ("router_settings", "num_retries"): Standing.DIFFERS,
            ("litellm_settings", "content_policy_fallbacks", 0, "a", 0, "model"): Standing.HONOURED,
            ("model_list", 0, "litellm_params", "order"): Standing.HONOURED,
            ("model_list", 0, "model_info", "input_cost_per_second"): Standing.DIFFERS,
            ("voxgate", "portkey", "configs", "pc-1", "strategy", "mode"): Standing.HONOURED,
            ("litellm_settings", "cache_params", "type"): Standing.IGNORED,
            ("litellm_settings", "success_callback", 0): Standing.IGNORED,
            ("general_settings", "proxy_batch_write_at"): Standing.IGNORED,
            ("router_settings", "fallbacks", 0, "a", 0): Standing.HONOURED,
            ("router_settings", "fallbacks", 0, "a", 0, "model"): Standing.HONOURED,
            ("router_settings", "fallbacks", 0, "a", 0, "temperature"): Standing.UNKNOWN,
            ("router_settings", "model_group_alias", "a", "hidden"): Standing.HONOURED,
            ("environment_variables", "A"): Standing.HONOURED,
            ("model_list", 0, "litellm_params", "extra_headers", "X"): Standing.HONOURED,
            ("general_settings", "nonsense"): Standing.UNKNOWN,
        }.items():
            assert standing(path).standing is expected, path

    def test_ignored_and_differing_keys_say_why(self) -> None:
        for section in ("router_settings", "litellm_settings", "general_settings"):
            for name in siblings((section, "x")):
                key = standing((section, name))
                assert key.note or key.standing is Standing.HONOURED, name

    def test_a_typing_error_in_a_map_of_sections_is_found(self) -> None:
        assert standing(("voxgate", "hedging", "whisper", "percentile")).standing is Standing.HONOURED
        assert standing(("voxgate", "hedging", "whisper", "percentil")).standing is Standing.UNKNOWN
        assert siblings(("voxgate", "hedging", "whisper", "x")) == ["percentile"]

    def test_our_own_keys_say_their_unit_and_default(self) -> None:
        for key, setting in VoxgateSettings.model_fields.items():
            kinds = get_args(setting.annotation) or (setting.annotation,)
            inner = next((kind.model_fields for kind in kinds if hasattr(kind, "model_fields")), {key: setting})
            for name, field in inner.items():
                assert field.description, name
                assert field.is_required() or "efault" in field.description or field.default is None, name


def test_keys_of_single_adapters(write, load) -> None:
    text = """
        model_list:
          - model_name: m
            litellm_params: {model: faster_whisper/small, beam_size: 2, device: cpu, temprature: 0}
    """
    found = {report.path.rpartition(".")[2]: report for report in check(write(text))}
    assert found["beam_size"].standing is Standing.HONOURED
    assert found["beam_size"].note.startswith("for faster_whisper and sherpa_onnx; sent to the provider")
    assert found["temprature"].standing is Standing.UNKNOWN
    [entry] = load(text).config.model_list
    assert entry.litellm_params.extras == {"beam_size": 2, "device": "cpu", "temprature": 0}
