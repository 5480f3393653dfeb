"""Portkey's queries: what holds for which call, and what is no query."""

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.errors import InvalidRequest
from voxgate_server.routing.conditions import Facts, parse_condition

FACTS = Facts(
    metadata={"tier": "gold", "age": "30", "empty": ""},
    params={"model": "whisper-1", "temperature": 0.5, "include": ["logprobs"], "flag": True},
    pathname="/v1/audio/transcriptions",
    size_bytes=1000,
)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({"metadata.tier": "gold"}, True),
        ({"metadata.tier": {"$eq": "silver"}}, False),
        ({"metadata.tier": {"$ne": "silver"}}, True),
        ({"metadata.none": {"$ne": "silver"}}, True),
        ({"metadata.none": {"$nin": ["silver"]}}, True),
        ({"metadata.none": {"$eq": "silver"}}, False),
        ({"metadata.age": {"$gt": 29, "$lte": 30}}, True),
        ({"metadata.age": {"$eq": 30.0}}, True),
        ({"metadata.tier": {"$gte": 1}}, False),
        ({"params.temperature": {"$lt": "0.6"}}, True),
        ({"params.include": "logprobs"}, True),
        ({"params.flag": True}, True),
        ({"params.flag": "true"}, True),
        ({"params.model": {"$in": ["a", "whisper-1"]}}, True),
        ({"params.model": {"$nin": ["a", "whisper-1"]}}, False),
        ({"params.model": {"$regex": "^whisper-[0-9]$"}}, True),
        ({"params.model": {"$regex": r"\(gpt"}}, False),
        ({"url.pathname": {"$regex": "/audio/.*"}}, True),
        ({"audio.size_bytes": {"$gte": 1000}}, True),
        ({"audio.duration_seconds": {"$gt": 0}}, False),
        ({"audio.duration_seconds": {"$ne": 5}}, False),
        ({"audio.duration_seconds": {"$nin": [5]}}, False),
        ({"metadata.tier": "gold", "params.model": "other"}, False),
        ({"$and": [{"metadata.tier": "gold"}, {"metadata.age": {"$lt": 31}}]}, True),
        ({"$or": [{"metadata.tier": "x"}, {"metadata.age": "30"}]}, True),
        ({"$or": [{"metadata.tier": "x"}, {"metadata.age": "31"}]}, False),
    ],
)
def test_what_holds(query: object, holds: bool):
    assert parse_condition(query, "query")(FACTS) is holds


def nested(depth: int) -> object:
    return {"metadata.a": "b"} if depth == 0 else {"$and": [nested(depth - 1)]}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        (None, "query"),
        ({}, "query"),
        ([], "query"),
        ({"tier": "gold"}, "query.tier"),
        ({"metadata.": "gold"}, "query.metadata."),
        ({"metadata.tier": {}}, "query.metadata.tier"),
        ({"metadata.tier": {"$like": "x"}}, "query.metadata.tier.$like"),
        ({"metadata.tier": {"$gt": "x"}}, "query.metadata.tier.$gt"),
        ({"metadata.tier": {"$gt": True}}, "query.metadata.tier.$gt"),
        ({"metadata.tier": {"$eq": None}}, "query.metadata.tier.$eq"),
        ({"metadata.tier": {"$in": "x"}}, "query.metadata.tier.$in"),
        ({"metadata.tier": {"$in": [[]]}}, "query.metadata.tier.$in"),
        ({"$and": []}, "query.$and"),
        ({"$or": [{"a": 1}]}, "query.$or[0].a"),
        ({"$or": {"metadata.a": 1}}, "query.$or"),
        (nested(9), "query"),
    ],
)
def test_what_is_no_query(query: object, place: str):
    with pytest.raises(InvalidRequest) as caught:
        parse_condition(query, "query")
    assert caught.value.param == "x-portkey-config"
    assert caught.value.metadata["path"].startswith(place)


@pytest.mark.parametrize(
    "pattern",
    ["", "a" * 201, "(a+)+$", "(a|a)*b", "(a*)*", "(?=a)", "a*a*a*b", "(a)\\1", "[", "a{2}{3}{4}", "((a)){2}",
     "[]a]*(b)*", "a{99999999999999999999}", 5, "(a)\\", "[[]*(x)+",
     "(a|aa)(a|aa)b", "((a|b))", "(a|b)c*d*"],
)  # fmt: skip
def test_patterns_that_could_take_long_or_are_none(pattern: object):
    with pytest.raises(InvalidRequest):
        parse_condition({"metadata.tier": {"$regex": pattern}}, "query")


@pytest.mark.parametrize("pattern", ["^(gold|silver)-[a-z]+$", "a|b|c*", r"\(a\)+\|(b)(c)[(|)]{2}", "^whisper-.*$"])
def test_patterns_that_are_taken(pattern: str):
    parse_condition({"metadata.tier": {"$regex": pattern}}, "query")


def test_a_pattern_sees_no_long_values():
    condition = parse_condition({"metadata.a": {"$regex": "a"}}, "query")
    assert condition(Facts({"a": "a" * 128}, {}))
    assert not condition(Facts({"a": "a" * 129}, {}))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_numbers_compare_as_numbers_also_as_texts(value: float, wanted: float):
    for name, compare in {
        "$eq": operator.eq, "$ne": operator.ne, "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt,
        "$lte": operator.le,
    }.items():  # fmt: skip
        condition = parse_condition({"metadata.n": {name: wanted}}, "query")
        assert condition(Facts({"n": repr(value)}, {})) is compare(value, wanted)
