"""Patterns, tags, ranks and special fallbacks: which deployments a name means."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.config_pb2 import RequestLabels, RouteTarget, RoutingConfig, TranscriptionConfig
from voxgate_server.errors import (
    AudioTooLarge,
    ProviderRejected,
    ProviderUnavailable,
    UnknownModel,
)
from voxgate_server.routing.deployments import Deployment, DeploymentTable, Wildcard
from voxgate_server.routing.health import Health, HealthSettings
from voxgate_server.routing.router import Router, RouterSettings

from tests.routing.fakes import Silent


def one(group: str, name: str, **more) -> Deployment:
    return Deployment(name, group, Silent(name), **more)


def wildcard(pattern: str, mark: str = "") -> Wildcard:
    return Wildcard(pattern, lambda rest: one(pattern, f"{pattern}{mark}={rest}"))


def ids(table: DeploymentTable, model: str) -> list[str]:
    return [deployment.id for deployment in table.group(model)]


PATTERNS = DeploymentTable(
    [one("openai/exact", "exact")],
    wildcards=[
        wildcard("*"), wildcard("openai/*", "1"), wildcard("google/*"), wildcard("openai/*", "2"),
        wildcard("openai/*-mini"),
    ],
    created=Timestamp(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("openai/exact", ["exact"]),
        ("openai/whisper", ["openai/*1=whisper", "openai/*2=whisper"]),
        ("openai/gpt-mini", ["openai/*-mini=gpt"]),
        ("openai/-mini", ["openai/*1=-mini", "openai/*2=-mini"]),
        ("google/chirp", ["google/*=chirp"]),
        ("google/", ["*=google/"]),
        ("whatever", ["*=whatever"]),
    ],
)
def test_the_longest_pattern_that_fits(model: str, found: list[str]):
    assert ids(PATTERNS, model) == found
    assert PATTERNS.group(model)[0] is PATTERNS.group(model)[0]


def test_names_that_callers_make_up_are_not_kept_without_end():
    retired = []
    any_name = Wildcard("any/*", lambda rest: one("any/*", rest))
    table = DeploymentTable([], wildcards=[any_name], created=Timestamp(), retire=lambda old: retired.append(old.id))
    busy = table.group("any/busy")[0]
    busy.health.started(1)
    table.group("any/works")
    for number in range(2000):
        table.group(f"any/{number}")
        table.group("any/works")
    assert len(table.deployments()) == 512
    assert len(retired) == 2002 - 512
    assert not {"busy", "works"} & set(retired)
    assert table.group("any/busy")[0] is busy
    with pytest.raises(UnknownModel):
        table.group("other/x")


def hops(router: Router, model: str, *, tags: list[str] | None = None, **routing) -> list[list[str]]:
    config = TranscriptionConfig(model=model, labels=RequestLabels(tags=tags or []), routing=RoutingConfig(**routing))
    return [[deployment.id for deployment in hop.deployments] for hop in router.plan(config)]


def router(*deployments: Deployment, **settings) -> Router:
    return Router(DeploymentTable(deployments, created=Timestamp()), RouterSettings(**settings))


def test_ranks_come_one_after_the_other():
    ranked = router(
        one("g", "b", order=2), one("g", "a"), one("g", "c", order=2), one("f", "z"), fallbacks={"g": ["f"]}
    )
    assert hops(ranked, "g") == [["a"], ["b", "c"], ["z"]]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["eu"], ["eu", "both"]),
        (["eu", "us"], ["eu", "us", "both"]),
        ([], ["plain", "default"]),
        (["x"], ["plain", "default"]),
    ],
)
def test_tags(tags: list[str], found: list[str]):
    deployments = [
        one("g", "eu", tags=frozenset({"eu"})),
        one("g", "us", tags=frozenset({"us"})),
        one("g", "both", tags=frozenset({"eu", "us"})),
        one("g", "plain"),
        one("g", "default", tags=frozenset({"default"})),
    ]
    assert hops(router(*deployments, tag_filtering=True), "g", tags=tags) == [found]
    assert hops(router(*deployments), "g", tags=tags) == [["eu", "us", "both", "plain", "default"]]


def test_nobody_has_the_tag():
    with pytest.raises(ProviderUnavailable, match="the tags us"):
        hops(router(one("g", "eu", tags=frozenset({"eu"})), tag_filtering=True), "g", tags=["us"])


def test_as_many_fallbacks_as_are_allowed():
    groups = [one(name, name) for name in "gabcdef"]
    assert hops(router(*groups, fallbacks={"g": [*"abcdef"]}), "g") == [[name] for name in "gabcde"]
    assert hops(router(*groups, fallbacks={"g": [*"abcdef"]}, max_fallbacks=1), "g") == [["g"], ["a"]]


def test_names_of_fallbacks_in_litellms_order():
    groups = [one(name, name) for name in ("openai/w", "w", "other", "x", "y", "z")]
    fallbacks = {"openai/w": ["x"], "w": ["y"], "*": ["z"]}
    assert hops(router(*groups, fallbacks=fallbacks), "openai/w")[1:] == [["x"]]
    del fallbacks["openai/w"]
    assert hops(router(*groups, fallbacks=fallbacks), "openai/w")[1:] == [["y"]]
    assert hops(router(*groups, fallbacks=fallbacks), "other")[1:] == [["z"]]
    assert hops(router(*groups, fallbacks=fallbacks), "z") == [["z"]]


POLICY = ProviderRejected("no", metadata={"provider_code": "content_policy_violation"})
AZURE = ProviderRejected("no", metadata={"provider_code": "content_filter"})
WINDOW = ProviderRejected("no", metadata={"provider_code": "context_length_exceeded"})


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (AudioTooLarge("large"), ["long"]), (WINDOW, ["long"]), (POLICY, ["open"]), (AZURE, ["open"]),
        (ProviderRejected("no"), None),
    ],
)  # fmt: skip
def test_special_hops(error, found: list[str] | None):
    special = router(
        *(one(name, name) for name in ("g", "long", "open", "mine")),
        context_window_fallbacks={"g": ["long", "gone"]},
        content_policy_fallbacks={"*": ["open"]},
    )
    taken = special.special_hops(TranscriptionConfig(model="g"), error)
    assert (taken and [hop.deployments[0].id for hop in taken]) == found
    for routing in (RoutingConfig(fallbacks=[RouteTarget(model="mine")]), RoutingConfig(disable_fallbacks=True)):
        assert special.special_hops(TranscriptionConfig(model="g", routing=routing), error) is None


def test_a_deployment_with_fallbacks_is_not_all_there_is():
    deployments = [one(name, name, health=Health(HealthSettings(), alone=True)) for name in "gf"]
    router(*deployments, fallbacks={"*": ["f"]})
    assert [deployment.health.alone for deployment in deployments] == [False, True]
