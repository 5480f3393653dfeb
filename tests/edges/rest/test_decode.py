"""Form fields in every spelling that real clients send, and a named refusal for the rest."""

import base64
import json
from collections.abc import Callable

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1 import config_pb2 as pb
from voxgate_server.edges.rest.decode import DecodedForm, decode_form, decode_object
from voxgate_server.errors import InvalidRequest

WORD, SEGMENT = pb.TIMESTAMP_GRANULARITY_WORD, pb.TIMESTAMP_GRANULARITY_SEGMENT
WAV = "data:audio/wav;base64," + base64.b64encode(b"RIFFvoice").decode()


def decode(*fields: tuple[str, str], complete: bool = True) -> DecodedForm:
    return decode_form([("model", "m"), *fields], complete=complete)


def refusal(*fields: tuple[str, str]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        decode(*fields)
    assert raised.value.http_status == 400
    return raised.value


def test_a_form_of_the_openai_sdk() -> None:
    form = decode_form([
        ("model", "whisper-1"),
        ("language", "de"),
        ("prompt", "Grüße"),
        ("response_format", "verbose_json"),
        ("temperature", "0.2"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("include[]", "logprobs"),
        ("stream", "true"),
    ])  # fmt: skip
    assert form.config == pb.TranscriptionConfig(
        model="whisper-1",
        language="de",
        prompt="Grüße",
        response_format=pb.RESPONSE_FORMAT_VERBOSE_JSON,
        temperature=0.2,
        timestamp_granularities=[WORD, SEGMENT],
        include=[pb.INCLUDE_LOGPROBS],
    )
    assert form.stream
    assert form.unknown == {}


def test_nothing_said_means_nothing_set() -> None:
    empty = [("language", ""), ("prompt", ""), ("temperature", ""), ("timeout", ""), ("fallbacks", ""), ("user", '""')]
    form = decode(*empty)
    assert form.config == pb.TranscriptionConfig(model="m")
    assert not form.stream


@pytest.mark.parametrize(
    "fields",
    [
        [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
        [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")],
        [("timestamp_granularities", '["word", "segment"]')],
        [("timestamp_granularities", "word,segment")],
        [("timestamp_granularities", '"word", "segment"')],
        [("timestamp_granularities[0]", "word"), ("timestamp_granularities[1]", "segment")],
        [("timestamp_granularities[1]", "segment"), ("timestamp_granularities[0]", "word")],
        [("timestamp_granularities", '"word"'), ("timestamp_granularities[]", '"segment"')],
        [("timestamp_granularities", "word,word,segment,word")],
    ],
)
def test_spellings_of_a_list(fields: list[tuple[str, str]]) -> None:
    assert list(decode(*fields).config.timestamp_granularities) == [WORD, SEGMENT]


@pytest.mark.parametrize(
    ("word", "value"),
    [(word, True) for word in ("true", "True", "TRUE", '"true"', "1", "yes", "on", " true ")]
    + [(word, False) for word in ("false", "False", "0", "no", "OFF")],
)
def test_spellings_of_a_boolean(word: str, value: bool) -> None:
    form = decode(("stream", word), ("disable_fallbacks", word), ("mock_testing_fallbacks", word))
    assert form.stream is value
    assert form.config.routing.disable_fallbacks is value
    assert form.config.routing.mock_testing_fallbacks is value


def test_granularities_are_taken_with_every_format() -> None:
    config = decode(("response_format", "json"), ("timestamp_granularities", "word")).config
    assert list(config.timestamp_granularities) == [WORD]


def test_one_pair_of_quotes_is_stripped() -> None:
    assert decode_form([("model", '"whisper"')]).config.model == "whisper"
    assert decode(("prompt", '"')).config.prompt == '"'
    assert decode(("prompt", 'say "hi"')).config.prompt == 'say "hi"'
    assert decode(("prompt", '"hi", she said, "you"')).config.prompt == '"hi", she said, "you"'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_format", "xml"),
        ("response_format", "JSON"),
        ("temperature", "abc"),
        ("temperature", "1.01"),
        ("temperature", "-0.1"),
        ("temperature", "nan"),
        ("temperature", "inf"),
        ("temperature", "1_0"),
        ("temperature", "9" * 5000),
        ("timestamp_granularities", "words"),
        ("timestamp_granularities", '["word"'),
        ("timestamp_granularities", "[[[1]]]"),
        ("timestamp_granularities", "word,"),
        ("include", "everything"),
        ("stream", "maybe"),
        ("stream", "2"),
        ("language", "\x00"),
        ("language", "x" * 65),
        ("prompt", "ä" * 8193),
        ("keywords", "a" * 256),
        ("keywords", "," * 1001),
        ("model", "other"),
        ("num_retries", "11"),
        ("num_retries", "1.5"),
        ("num_retries", "-1"),
        ("timeout", "0"),
        ("timeout", "-3"),
        ("timeout", "30s"),
        ("timeout", "1e9"),
        ("disable_fallbacks", "perhaps"),
        ("metadata", "{"),
        ("metadata", "[1]"),
        ("metadata", "plain"),
        ("metadata", '{"k": "' + "v" * 256 + '"}'),
        ("metadata", json.dumps({str(index): "v" for index in range(65)})),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", "[" * 50_000),
        ("metadata", '{"a":' * 17 + "1" + "}" * 17),
        ("litellm_metadata", "x"),
        ("tags", ",".join("t" * 65)),
        ("user", "u" * 256),
        ("chunking_strategy", "manual"),
        ("chunking_strategy", '{"type": "server_vad", "threshold": 2}'),
        ("chunking_strategy", '{"type": "server_vad", "speed": 2}'),
        ("chunking_strategy", '{"type": "auto", "threshold": 0.5}'),
        ("chunking_strategy", '{"threshold": 0.5}'),
        ("chunking_strategy", '{"type": ["auto"]}'),
        ("known_speaker_names", "A,B,C,D,E"),
        ("file", "@recording.wav"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    error = refusal((name, value))
    assert error.param is not None
    assert error.param.split("[")[0] == name
    assert name in error.message
    assert len(error.message) < 300


def test_the_model_is_required_only_of_the_whole_form() -> None:
    assert decode_form([("language", "en")], complete=False).config.model == ""
    for fields in ([], [("model", "")], [("model", "  ")]):
        with pytest.raises(InvalidRequest) as raised:
            decode_form(fields)
        assert raised.value.param == "model"


def test_the_model_of_the_path_wins() -> None:
    assert decode_form([], model="deployment").config.model == "deployment"
    assert decode_form([("model", "whisper-1")], model="deployment").config.model == "deployment"


def test_repeated_scalars_may_not_differ() -> None:
    assert decode(("language", "en"), ("language", '"en"')).config.language == "en"
    assert refusal(("language", "en"), ("language", "de")).param == "language"
    assert refusal(("language[]", "en")).param == "language"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("chunking_strategy", "auto")], {"auto": {}}),
        ([("chunking_strategy", '"auto"')], {"auto": {}}),
        ([("chunking_strategy", '{"type": "auto"}')], {"auto": {}}),
        (
            [("chunking_strategy", '{"type": "server_vad", "threshold": 0.25, "prefix_padding_ms": null}')],
            {"serverVad": {"threshold": 0.25}},
        ),
        (
            [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[silence_duration_ms]", "400")],
            {"serverVad": {"silenceDurationMs": 400}},
        ),
    ],
)
def test_chunking_strategies(fields: list[tuple[str, str]], expected: dict[str, object]) -> None:
    assert MessageToDict(decode(*fields).config.chunking_strategy) == expected


def test_half_a_chunking_strategy_waits_for_the_rest() -> None:
    half = ("chunking_strategy[threshold]", "0.5")
    assert not decode(half, complete=False).config.HasField("chunking_strategy")
    assert refusal(half).param == "chunking_strategy"


def test_known_speakers() -> None:
    fields = [("known_speaker_names[]", "Anna, the host"), ("known_speaker_names[]", "Ben")]
    references = [("known_speaker_references[]", WAV), ("known_speaker_references", WAV.replace("wav;", "WAV; x=1;"))]
    config = decode(*fields, *references).config
    assert [speaker.name for speaker in config.known_speakers] == ["Anna, the host", "Ben"]
    assert [speaker.reference.media_type for speaker in config.known_speakers] == ["audio/wav"] * 2
    assert {speaker.reference.data for speaker in config.known_speakers} == {b"RIFFvoice"}
    assert refusal(*fields, references[0]).param == "known_speaker_references"
    assert len(decode(*fields, references[0], complete=False).config.known_speakers) == 1
    for wrong in ("RIFF", "data:audio/wav,RIFF", "data:audio/wav;base64,!", WAV + "A" * 1_400_000):
        error = refusal(fields[1], ("known_speaker_references[]", wrong))
        assert error.param == "known_speaker_references"


def test_lists_of_texts() -> None:
    config = decode(("languages[]", "en"), ("languages[]", "de-AT"), ("keywords[]", "a, b"), ("keywords", "c,d")).config
    assert list(config.languages) == ["en", "de-AT"]
    assert sorted(config.keywords) == ["a, b", "c", "d"]


FALLBACKS = [{"model": "azure/whisper"}, {"model": "deepgram/nova-3"}]


@pytest.mark.parametrize(
    "fields",
    [
        [("fallbacks[]", "azure/whisper"), ("fallbacks[]", "deepgram/nova-3")],
        [("fallbacks", "azure/whisper"), ("fallbacks", "deepgram/nova-3")],
        [("fallbacks", '["azure/whisper", "deepgram/nova-3"]')],
        [("fallbacks", "azure/whisper, deepgram/nova-3")],
        [("fallbacks", '[{"model": "azure/whisper"}, "deepgram/nova-3"]')],
        [("fallbacks", '{"model": "azure/whisper"}'), ("fallbacks", "deepgram/nova-3")],
        [("fallbacks[]", '{"model": "azure/whisper"}'), ("fallbacks[]", "deepgram/nova-3")],
        [("fallbacks[][model]", "azure/whisper"), ("fallbacks[][model]", "deepgram/nova-3")],
        [("fallbacks[0][model]", "azure/whisper"), ("fallbacks[1]", "deepgram/nova-3")],
    ],
)
def test_spellings_of_fallbacks(fields: list[tuple[str, str]]) -> None:
    assert MessageToDict(decode(*fields).config.routing) == {"fallbacks": FALLBACKS}


def test_a_single_fallback_is_no_list_of_letters() -> None:
    assert [target.model for target in decode(("fallbacks", "backup")).config.routing.fallbacks] == ["backup"]


def test_a_fallback_with_overrides() -> None:
    entry = '[{"model": "nova-3", "provider": "deepgram", "timeout": 2.5, "smart_format": true, "n": 2, "x": null}]'
    (target,) = decode(("fallbacks", entry)).config.routing.fallbacks
    assert (target.provider, target.model) == ("deepgram", "nova-3")
    assert target.attempt_timeout.ToMilliseconds() == 2500
    assert dict(target.extra_params) == {"smart_format": True, "n": 2.0}
    fields = [
        ("fallbacks[][model]", "nova-3"),
        ("fallbacks[][keyterm][]", "a"),
        ("fallbacks[][keyterm][]", "b"),
        ("fallbacks[][model]", "whisper"),
    ]
    first, second = decode(*fields).config.routing.fallbacks
    assert (list(first.extra_params["keyterm"]), second.model) == (["a", "b"], "whisper")


@pytest.mark.parametrize(
    ("value", "index"),
    [
        ("a,,b", 1),
        ("a,/b", 1),
        ("openai/", 0),
        ('["a", 3]', 1),
        ('["a", ["b"]]', 1),
        ('["a", {"provider": "openai"}]', 1),
        ('["a", "b", {"model": ""}]', 2),
        ('[{"model": "a", "timeout": 0}]', 0),
        ('[{"whisper-primary": ["whisper-backup"]}]', 0),
        ('[{"model": "a", "seed": 9007199254740993}]', 0),
        ('{"model": "a"', 0),
        ('["a", "' + "b" * 256 + '"]', 1),
    ],
)
def test_a_malformed_fallback_is_refused_with_its_index(value: str, index: int) -> None:
    error = refusal(("fallbacks", value))
    assert (error.param or "").startswith(f"fallbacks[{index}]")
    assert f"fallbacks[{index}]" in error.message


def test_malformed_lists_of_fallbacks() -> None:
    for value in ('["a"', "a,b,c,d,e,f"):
        assert refusal(("fallbacks", value)).param == "fallbacks"


def test_routing() -> None:
    routing = decode(("num_retries", "2"), ("timeout", "1.5"), ("disable_fallbacks", "false")).config.routing
    assert MessageToDict(routing) == {"maxRetries": 2, "attemptTimeout": "1.500s"}
    assert decode(("num_retries", "0")).config.routing.HasField("max_retries")


def test_labels() -> None:
    labels = decode(
        ("user", "u1"),
        ("tags", "a,b"),
        ("tags[]", "c"),
        ("metadata", '{"tags": ["b", "d"], "team": "x", "n": 3, "deep": {"a": [1]}, "none": null}'),
        ("litellm_metadata", '{"team": "y", "user": "u2", "tags": "e"}'),
    ).config.labels
    assert labels.user == "u1"
    assert list(labels.tags) == ["a", "b", "c", "d", "e"]
    assert dict(labels.metadata) == {"team": "x", "n": "3", "deep": '{"a":[1]}', "user": "u2"}
    assert dict(decode(("metadata[team]", "x"), ("metadata[tags][]", "t")).config.labels.metadata) == {"team": "x"}


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ([("litellm_metadata", '{"user": "b"}'), ("metadata", '{"user_id": "c"}'), ("safety_identifier", "d")], "b"),
        ([("metadata", '{"user_id": "c"}'), ("safety_identifier", "d")], "c"),
        ([("safety_identifier", "d")], "d"),
    ],
)
def test_the_end_user_is_found_where_litellm_looks(fields: list[tuple[str, str]], user: str) -> None:
    assert decode(*fields).config.labels.user == user


@pytest.mark.parametrize(
    "name",
    [
        "api_base", "base_url", "custom_host", "api_key", "model_list", "vertex_credentials", "user_config",
        "aws_access_key_id", "AWS_Secret_Access_Key", "azure_ad_token", "s3_endpoint_url", "nvcf_function_id",
        "use_ssl", "API_BASE", "apiKey", "baseURL", "custom-host", "extra_headers", "openai_api_key", "api_key[]",
        "extra_body[api_base]", "extra_body[a][][baseUrl]", "client_secret", "litellm_credential_name",
    ],
)  # fmt: skip
def test_hosts_and_credentials_are_refused(name: str) -> None:
    error = refusal((name, "sk-very-secret"))
    assert error.param == name.partition("[")[0]
    assert "host or a credential" in error.message
    assert "sk-very-secret" not in error.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra_body", '{"api_base": "http://x"}'),
        ("extra_body", ' [{"deep": {"List": [{"Api-Key": "k"}]}}]'),
        ("anything", '{"text": "{\\"api_key\\": 1}"}'),
        ("fallbacks", '[{"model": "a", "api_key": "k"}]'),
        ("fallbacks", '[{"model": "a", "litellm_params": {"api_base": "k"}}]'),
        ("fallbacks[][api_base]", "http://x"),
    ],
)
def test_hosts_and_credentials_inside_values_are_refused(name: str, value: str) -> None:
    assert "host or a credential" in refusal((name, value)).message


def test_unknown_fields_come_back() -> None:
    form = decode(
        ("smart_format", "true"),
        ("keyterm", "a"),
        ("keyterm", "b"),
        ("list[]", "x"),
        ("object[a]", "1"),
        ("object[b][]", "2"),
        ("note", "[laughs]"),
        ("guardrails[]", "pii"),
    )
    assert form.unknown == {
        "smart_format": "true",
        "keyterm": ["a", "b"],
        "list": ["x"],
        "object": {"a": "1", "b": ["2"]},
        "note": "[laughs]",
        "guardrails": ["pii"],
    }


def test_contradictory_brackets_are_refused() -> None:
    for fields in (
        [("x", "1"), ("x[a]", "2")],
        [("x[]", "1"), ("x[a]", "2")],
        [("x[a]", "1"), ("x[a][b]", "2")],
    ):
        assert refusal(*fields).param == "x"


def test_a_json_object_brings_typed_values() -> None:
    form = decode_object({
        "model": "m", "temperature": 0, "stream": True, "timestamp_granularities": ["word"], "include[]": ["logprobs"],
        "fallbacks": [{"model": "a", "timeout": 1}], "num_retries": 2, "language": None, "metadata": {"a": 1},
        "chunking_strategy": {"type": "server_vad", "threshold": 0.5}, "prompt": '"quoted"', "extra": {"a": [1]},
    })  # fmt: skip
    assert form.config.HasField("temperature")
    assert form.config.prompt == '"quoted"'
    assert list(form.config.include) == [pb.INCLUDE_LOGPROBS]
    assert not form.config.HasField("language")
    assert form.stream
    assert form.unknown == {"extra": {"a": [1]}}
    for name, value in (
        ("temperature", True), ("temperature", 2**60), ("stream", 2), ("stream", []), ("prompt", 3), ("model", {}),
        ("timestamp_granularities", "words"), ("timestamp_granularities", [3]), ("fallbacks", 7), ("tags", {"a": 1}),
        ("num_retries", 10**30),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as raised:
            decode_object({"model": "m", name: value} if name != "model" else {"model": value})
        assert (raised.value.param or "").split("[")[0] == name


field_names = st.sampled_from([
    "model", "language", "prompt", "temperature", "response_format", "timestamp_granularities", "include", "stream",
    "fallbacks", "metadata", "chunking_strategy", "known_speaker_names", "known_speaker_references", "tags", "user",
    "num_retries", "timeout", "extra", "litellm_metadata",
])  # fmt: skip
suffixes = st.sampled_from(["", "", "[]", "[0]", "[model]", "[a][b]", "[][model]", "[", "]", "[[]]"])
values = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["word", "1", "true", "auto", '{"type":"auto"}', '["a"]', "[]", "{}", "null", '[{"model":"a"}]']),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    ).map(json.dumps),
)


def decoded_or_refused(decode: Callable[[], DecodedForm]) -> DecodedForm | InvalidRequest:
    try:
        return decode()
    except InvalidRequest as error:
        return error


@given(fields=st.lists(st.tuples(st.builds(str.__add__, field_names, suffixes), values), max_size=8))
def test_any_form_is_decoded_or_refused_by_name(fields: list[tuple[str, str]]) -> None:
    whole = decoded_or_refused(lambda: decode_form(fields))
    if isinstance(whole, InvalidRequest):
        assert whole.param
        assert len(whole.message) < 400
        return
    # A pure function of the fields: decoding early never says more than decoding at the end.
    assert decode_form(fields, complete=False).config == whole.config
    assert whole.config.SerializeToString() is not None


@given(fields=st.dictionaries(st.builds(str.__add__, field_names, suffixes), values, max_size=6))
def test_any_json_object_is_decoded_or_refused_by_name(fields: dict[str, str]) -> None:
    def typed(text: str) -> object:
        try:
            return json.loads(text)
        except ValueError:
            return text

    result = decoded_or_refused(lambda: decode_object({name: typed(value) for name, value in fields.items()}))
    assert isinstance(result, DecodedForm) or result.param
