"""Portkey's config object: what is taken, and which place an error names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.edges.rest.portkey_headers import decode_overrides
from voxgate_server.errors import InvalidRequest
from voxgate_server.routing.portkey_config import Target, parse_config


def parse(value: object) -> Target:
    return parse_config(value, decode_overrides)


def fallback(*targets: object, **more: object) -> dict[str, object]:
    return {"strategy": {"mode": "fallback"}, "targets": list(targets), **more}


def chain(depth: int) -> dict[str, object]:
    return {"provider": "openai"} if depth == 0 else fallback(chain(depth - 1))


def test_everything_at_once():
    root = parse(
        fallback(
            {"provider": "openai", "api_key": "sk-a", "weight": 2, "override_params": {"model": "m", "language": "de"}},
            fallback({"virtual_key": "v", "retry": {"attempts": 0}}, {"custom_host": "http://h"}, request_timeout=500),
            retry={"attempts": 3, "on_status_codes": [429]},
            request_timeout=1500,
            override_params={"language": "en", "temperature": 0, "beam": 3},
            cache={"mode": "simple"},
        )
    )
    first, second = root.targets
    assert (root.path, first.path, second.targets[1].path) == (
        "config", "config.targets[0]", "config.targets[1].targets[1]",
    )  # fmt: skip
    assert (first.provider, first.api_key, first.weight, first.timeout) == ("openai", "sk-a", 2, 1.5)
    assert (first.overrides.model, first.overrides.language, first.overrides.temperature) == ("m", "de", 0)
    assert first.overrides.HasField("temperature")
    assert dict(first.overrides.extra_params) == {"beam": 3}
    assert first.retry is not None
    assert (first.retry.attempts, first.retry.statuses) == (3, {429})
    inner = second.targets[0]
    assert inner.retry is not None
    assert (inner.retry.attempts, inner.retry.statuses) == (0, {429, 500, 502, 503, 504})
    assert (inner.timeout, inner.overrides.language, inner.overrides.model) == (0.5, "en", "")
    assert "sk-a" not in repr(root)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ("x", ""),
        ({"targets": [{}]}, "strategy"),
        ({"strategy": {"mode": "fallback"}}, "targets"),
        ({"strategy": {"mode": "fallback"}, "targets": []}, "targets"),
        ({"strategy": {"mode": "fallback"}, "targets": {}}, "targets"),
        ({"strategy": {"mode": "roulette"}, "targets": [{}]}, "strategy.mode"),
        ({"strategy": "single", "targets": [{}]}, "strategy"),
        ({"strategy": {"mode": "loadbalance", "on_status_codes": [1]}, "targets": [{}]}, "strategy.on_status_codes"),
        (fallback(5), "targets[0]"),
        (fallback({}, {"retry": {"attempts": 6}}), "targets[1].retry.attempts"),
        (fallback({}, {"retry": {"attempts": 1.5}}), "targets[1].retry.attempts"),
        (fallback({}, {"retry": {"attempts": True}}), "targets[1].retry.attempts"),
        (fallback({}, {"retry": {}}), "targets[1].retry.attempts"),
        (fallback({}, {"retry": {"attempts": 1, "on_status_codes": [500, 99]}}), "targets[1].retry.on_status_codes[1]"),
        (fallback({}, {"retry": {"attempts": 1, "waits": 1}}), "targets[1].retry.waits"),
        (fallback({"request_timeout": 0}), "targets[0].request_timeout"),
        (fallback({"request_timeout": "5"}), "targets[0].request_timeout"),
        (fallback({"weight": -1}), "targets[0].weight"),
        (fallback({"weight": float("nan")}), "targets[0].weight"),
        (fallback({"api_key": "a\nb"}), "targets[0].api_key"),
        (fallback({"provider": ""}), "targets[0].provider"),
        (fallback({"provider": 5}), "targets[0].provider"),
        (fallback({}, api_key="k"), "api_key"),
        (fallback({"override_params": {"temperature": 3}}), "targets[0].override_params"),
        (fallback({"override_params": {"response_format": "srt"}}), "targets[0].override_params"),
        (fallback({"override_params": {"api_base": "http://x"}}), "targets[0].override_params"),
        (fallback({"override_params": {"a": {"custom_host": "x"}}}), "targets[0].override_params"),
        (fallback({"override_params": {"model": "m" * 300}}), "targets[0].override_params"),
        (fallback({"override_params": {"a": [{"b": [1]}] * 257}}), "targets[0].override_params"),
        (fallback({"override_params": []}), "targets[0].override_params"),
        (fallback({"override_params": "x"}), "targets[0].override_params"),
        ({"input_guardrails": ["x"]}, "input_guardrails"),
        (fallback({"forward_headers": ["x"]}), "targets[0].forward_headers"),
        (fallback(*[{}] * 51), "targets"),
        (fallback(*[fallback(*[{}] * 10)] * 5), "targets[4].targets"),
        (chain(9), "targets[0].targets[0]"),
        ({"strategy": {"mode": "conditional"}, "targets": [{}]}, "strategy.conditions"),
        (
            {"strategy": {"mode": "conditional", "conditions": [{"query": {"params.a": 1}, "then": "x"}]},
             "targets": [{"name": "y"}]},
            "strategy.conditions[0].then",
        ),
        (
            {"strategy": {"mode": "conditional", "conditions": [{"query": {"a": 1}, "then": "y"}]},
             "targets": [{"name": "y"}]},
            "strategy.conditions[0].query.a",
        ),
        (
            {"strategy": {"mode": "conditional", "default": "z",
                          "conditions": [{"query": {"params.a": 1}, "then": "y"}]}, "targets": [{"name": "y"}]},
            "strategy.default",
        ),
        (
            {"strategy": {"mode": "conditional",
                          "conditions": [{"query": {"params.a": {"$regex": "x"}}, "then": "y"}] * 9},
             "targets": [{"name": "y"}]},
            "strategy.conditions[8]",
        ),
    ],
)  # fmt: skip
def test_the_place_of_an_error(value: object, place: str):
    with pytest.raises(InvalidRequest) as caught:
        parse(value)
    assert caught.value.param == "x-portkey-config"
    assert caught.value.metadata["path"].startswith(place)
    assert f"`{place}" in caught.value.message
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("depth", [0, 1, 8])
def test_as_deep_as_allowed(depth: int):
    target = parse(chain(depth))
    for _ in range(depth):
        target = target.targets[0]
    assert target.provider == "openai"


def test_only_questions_about_the_audio_wait_for_it():
    def asking(query: object) -> object:
        branch = {"mode": "conditional", "conditions": [{"query": query, "then": "a"}]}
        return fallback({"strategy": branch, "targets": [{"name": "a"}]})

    assert not parse(asking({"params.language": "de"})).needs_audio
    assert parse(asking({"$or": [{"params.a": 1}, {"audio.size_bytes": {"$gt": 5}}]})).needs_audio


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([
                "strategy", "targets", "mode", "conditions", "query", "then", "default", "retry", "attempts", "weight",
                "override_params", "model", "name", "provider", "$and", "metadata.a", "$regex", "on_status_codes",
                "request_timeout", "language", "chunking_strategy",
            ]),
            inner,
        )
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON | st.dictionaries(st.sampled_from(["strategy", "targets", "retry", "override_params"]), JSON))
def test_anything_is_read_or_refused_with_its_place(value: object):
    refused: InvalidRequest | None = None
    try:
        assert parse(value).path == "config"
    except InvalidRequest as error:
        refused = error
    assert refused is None or (refused.param == "x-portkey-config" and "path" in refused.metadata)
