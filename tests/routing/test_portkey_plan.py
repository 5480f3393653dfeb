"""Planning by a config object: order, statuses and options of the hops, and what becomes of callers' deployments."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from ipaddress import ip_network

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1.config_pb2 import RESPONSE_FORMAT_JSON, RESPONSE_FORMAT_SRT, TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate_server.config.hosts import Network
from voxgate_server.edges.rest.portkey_headers import decode_overrides
from voxgate_server.errors import InvalidRequest, ProviderUnavailable, UnknownModel, UnsupportedParameter
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.conditions import Facts
from voxgate_server.routing.deployments import Deployment, DeploymentTable
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.portkey_config import parse_config
from voxgate_server.routing.portkey_plan import PortkeyPlanner, PortkeySettings
from voxgate_server.routing.portkey_pool import DeploymentPool, Lease
from voxgate_server.routing.router import Router

PLAIN = ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON])


class Silent:
    """A provider that is never asked and knows whether it was closed."""

    capabilities = PLAIN

    def __init__(self, name: str, model: str, params: Mapping[str, str]) -> None:
        self.name, self.model, self.params = name, model, params
        self.closed = False

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        raise AssertionError(attempt)
        yield TranscriptionEvent()

    async def aclose(self) -> None:
        assert not self.closed
        self.closed = True


def make(provider: str, model: str, params: Mapping[str, str], networks: Sequence[Network] | None = None) -> Deployment:
    if params.get("api_key") == "impossible":
        raise ValueError("it is impossible")
    return Deployment(f"{provider}/{model}/{params.get('api_key')}", "made", Silent(provider, model, params))


def of_ours(group: str, order: int = 1) -> Deployment:
    return Deployment(f"{group}-{order}", group, Silent("ours", group, {}), order=order, timeout=7)


TABLE = DeploymentTable(
    [of_ours("whisper"), of_ours("ranked", 1), of_ours("ranked", 2), of_ours("hosted_vllm/large")],
    groups=["dead"],
    created=Timestamp(),
)
SETTINGS = PortkeySettings(
    credentials={
        "prod": {"api_key": "sk-prod"},
        "vllm": {"api_base": "http://vllm", "custom_llm_provider": "hosted_vllm"},
        "impossible": {"api_key": "impossible"},
    }
)


def plan(value: object, *, seed: int = 1, model: str = "whisper", **options) -> list[Hop]:
    planner = PortkeyPlanner(SETTINGS, Router(TABLE), make, rng=random.Random(seed))
    root = parse_config(value, decode_overrides)
    return planner.plan(root, TranscriptionConfig(model=model, **options), Facts({}, {"model": model}), Lease())


def targets(mode: str, *entries: object, **strategy: object) -> dict[str, object]:
    return {"strategy": {"mode": mode, **strategy}, "targets": list(entries)}


A, B, C = ({"virtual_key": "prod", "override_params": {"model": name}} for name in "abc")


def models(hops: list[Hop]) -> list[str]:
    return [hop.deployments[0].provider.model for hop in hops]


def test_fallback_in_order():
    hops = plan(targets("fallback", A, {}, {**B, "retry": {"attempts": 2}, "request_timeout": 250}))
    assert models(hops) == ["a", "whisper", "b"]
    assert [hop.name for hop in hops] == ["config.targets[0]", "config.targets[1]", "config.targets[2]"]
    assert [hop.config.model for hop in hops] == ["a", "whisper", "b"]
    assert [(hop.retries, hop.timeout) for hop in hops] == [(0, None), (0, None), (2, 0.25)]
    assert [hop.timeout_by_caller for hop in hops] == [False, False, True]
    assert [hop.fallback_statuses for hop in hops] == [None, None, frozenset()]


def test_statuses_of_nested_fallbacks():
    inner = targets("fallback", B, C, on_status_codes=[429])
    hops = plan(targets("fallback", inner, A, on_status_codes=[500]))
    assert models(hops) == ["b", "c", "a"]
    assert [hop.fallback_statuses for hop in hops] == [{429, 500}, {500}, frozenset()]
    hops = plan(targets("fallback", inner, A))
    assert [hop.fallback_statuses for hop in hops] == [None, None, frozenset()]


def test_single_and_conditional():
    assert models(plan(targets("single", A, B))) == ["a"]
    conditions = [{"query": {"params.model": "x"}, "then": "b"}, {"query": {"params.model": "y"}, "then": "a"}]
    config = targets("conditional", {**A, "name": "a"}, {**B, "name": "b"}, conditions=conditions)
    assert models(plan(config, model="x")) == ["b"]
    assert models(plan(config, model="y")) == ["a"]
    with pytest.raises(InvalidRequest) as caught:
        plan(config, model="z")
    assert caught.value.metadata["path"] == "strategy"


def test_loadbalance_follows_the_weights_and_has_everybody():
    config = targets("loadbalance", {**A, "weight": 3}, B, {**C, "weight": 0})
    orders = [models(plan(config, seed=seed)) for seed in range(2000)]
    assert all(sorted(order) == ["a", "b", "c"] and order[2] == "c" for order in orders)
    first = Counter(order[0] for order in orders)
    assert 0.70 < first["a"] / 2000 < 0.80


def test_the_ranks_of_a_group_are_one_target():
    hops = plan(targets("fallback", {"override_params": {"model": "ranked"}}, {}, on_status_codes=[500]))
    assert [hop.name for hop in hops] == ["config.targets[0]", "config.targets[0]", "config.targets[1]"]
    assert [hop.fallback_statuses for hop in hops] == [None, {500}, frozenset()]


def test_which_provider():
    assert plan({"provider": "hosted_vllm", "override_params": {"model": "large"}})[0].deployments[0].timeout == 7
    made = plan({"virtual_key": "vllm"})[0].deployments[0].provider
    assert isinstance(made, Silent)
    assert (made.name, made.model, made.params) == ("hosted_vllm", "whisper", {"api_base": "http://vllm"})
    made = plan({"provider": "@prod"}, model="hosted_vllm/x")[0].deployments[0].provider
    assert (made.name, made.model) == ("hosted_vllm", "x")
    with pytest.raises(InvalidRequest, match="is impossible"):
        plan({"virtual_key": "impossible"})


def test_what_nobody_can():
    for config in ({}, A, targets("fallback", A, {})):
        with pytest.raises(UnsupportedParameter):
            plan(config, response_format=RESPONSE_FORMAT_SRT)
    with pytest.raises(ProviderUnavailable):
        plan({}, model="dead")
    with pytest.raises(UnknownModel):
        plan({}, model="nothing")


def test_the_calls_own_options_stay_as_they_are():
    config = TranscriptionConfig(model="whisper", language="en", keywords=["x"])
    config.extra_params.update({"a": 1, "b": 1})
    before = TranscriptionConfig()
    before.CopyFrom(config)
    planner = PortkeyPlanner(SETTINGS, Router(TABLE), make)
    value = {"override_params": {"language": "de", "keywords": ["y", "z"], "b": 2}}
    [hop] = planner.plan(parse_config(value, decode_overrides), config, Facts({}, {}), Lease())
    assert config == before
    assert (hop.config.language, list(hop.config.keywords)) == ("de", ["y", "z"])
    assert dict(hop.config.extra_params) == {"a": 1, "b": 2}


TREES = st.recursive(
    st.sampled_from([A, B, C, {}]),
    lambda inner: st.builds(
        lambda mode, entries, codes: targets(
            mode, *entries, **({"on_status_codes": codes} if mode == "fallback" else {})
        ),
        st.sampled_from(["single", "fallback", "loadbalance"]),
        st.lists(inner, min_size=1, max_size=3),
        st.none() | st.just([500, 503]),
    ),
    max_leaves=12,
)  # fmt: skip


@given(TREES, st.integers(0, 9))
def test_any_tree_gives_a_plan_that_ends(tree: dict[str, object], seed: int):
    try:
        hops = plan(tree, seed=seed)
    except InvalidRequest as error:
        assert "8 levels" in error.message  # noqa: PT017
        return
    assert hops
    assert len({hop.name for hop in hops}) == len(hops)
    assert hops[-1].fallback_statuses == frozenset()
    assert all(hop.fallback_statuses is None or hop.fallback_statuses == {500, 503} for hop in hops[:-1])


async def test_what_is_used_is_never_closed_and_what_is_not_goes_first():
    pool = DeploymentPool(make, keep=2)
    one, two = Lease(), Lease()
    made = {key: pool.lend("openai", "m", {"api_key": key}, one).provider for key in "abc"}
    assert pool.lend("openai", "m", {"api_key": "a"}, two).provider is made["a"]
    assert pool.lend("openai", "m", {"api_key": "a"}, two).provider is made["a"]
    await asyncio.sleep(0)
    closed = {key for key, provider in made.items() if isinstance(provider, Silent) and provider.closed}
    assert (len(pool), closed) == (3, set())
    pool.release(one)
    pool.release(one)
    await asyncio.sleep(0)
    closed = {key for key, provider in made.items() if isinstance(provider, Silent) and provider.closed}
    assert (len(pool), closed) == (2, {"b"})
    assert pool.lend("openai", "m", {"api_key": "c"}, one).provider is made["c"]
    await pool.aclose()
    assert all(isinstance(provider, Silent) and provider.closed for provider in made.values())


async def test_what_may_go_anywhere_is_not_lent_to_those_who_may_not():
    pool, lease = DeploymentPool(make), Lease()
    bounds: list[Sequence[Network] | None] = [None, (), (ip_network("10.0.0.0/8"),), (ip_network("10.0.0.0/9"),)]
    params = {"api_key": "k", "api_base": "http://asr.internal/v1"}
    lent = {id(pool.lend("openai", "m", params, lease, networks)) for networks in bounds}
    assert len(lent) == len(pool) == 4
    await pool.aclose()
