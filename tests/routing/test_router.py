"""Planning: which deployments, in which order, and why not."""

import dataclasses
import random
from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from voxgate.transcription.v1.config_pb2 import (
    INCLUDE_LOGPROBS,
    RESPONSE_FORMAT_DIARIZED_JSON,
    RESPONSE_FORMAT_JSON,
    RESPONSE_FORMAT_SRT,
    TRANSCRIPTION_TASK_TRANSLATE,
    RouteTarget,
    RoutingConfig,
    TranscriptionConfig,
)
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate_server.errors import AudioTooLarge, InvalidRequest, ProviderUnavailable, UnknownModel, UnsupportedParameter
from voxgate_server.providers.base import Attempt
from voxgate_server.routing.deployments import Deployment, DeploymentTable
from voxgate_server.routing.health import OperatorState
from voxgate_server.routing.plan import Recording
from voxgate_server.routing.route import Try
from voxgate_server.routing.router import Router, RouterSettings

PLAIN = ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON])
SUBTITLES = ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON, RESPONSE_FORMAT_SRT], translation=True)


class Silent:
    """A provider that has capabilities and is never asked."""

    def __init__(self, model: str, capabilities: ModelCapabilities) -> None:
        self.name, self.model, self.capabilities = "silent", model, capabilities

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        raise AssertionError(attempt)
        yield TranscriptionEvent()

    async def aclose(self) -> None:
        return


def deployment(group: str, name: str, *, weight: float = 1, capabilities: ModelCapabilities = PLAIN) -> Deployment:
    return Deployment(name, group, Silent(name, capabilities), weight=weight, timeout=7)


TABLE = DeploymentTable(
    [
        deployment("plain", "p1"),
        deployment("subtitles", "s1", capabilities=SUBTITLES),
        deployment("mixed", "m1"),
        deployment("mixed", "m2", capabilities=SUBTITLES),
        deployment("heavy", "h1", weight=3),
        deployment("heavy", "h2", weight=1),
        deployment("heavy", "h3", weight=0),
    ],
    groups=["dead"],
    aliases={"whisper": "plain", "nowhere": "gone"},
    created=Timestamp(),
)
ROUTER = Router(
    TABLE,
    RouterSettings(fallbacks={"plain": ("subtitles", "gone", "plain"), "dead": ("subtitles",), "*": ("plain",)}),
)


def plan(model: str, **config) -> list[str]:
    return [d.id for hop in ROUTER.plan(TranscriptionConfig(model=model, **config)) for d in hop.deployments]


def test_a_group_and_then_its_fallbacks():
    assert plan("plain") == ["p1", "s1"]
    assert plan("whisper") == ["p1", "s1"]
    assert plan("subtitles") == ["s1", "p1"]
    assert plan("dead") == ["s1"]


def test_the_callers_fallbacks_take_the_place_of_the_configured():
    routing = RoutingConfig(fallbacks=[RouteTarget(model="mixed")])
    assert plan("plain", routing=routing, response_format=RESPONSE_FORMAT_SRT) == ["m2"]
    assert plan("plain", routing=RoutingConfig(disable_fallbacks=True)) == ["p1"]


def test_a_target_that_cannot_is_left_out():
    assert plan("mixed", response_format=RESPONSE_FORMAT_SRT) == ["m2"]
    assert plan("plain", response_format=RESPONSE_FORMAT_SRT) == ["s1"]


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"response_format": RESPONSE_FORMAT_DIARIZED_JSON}, "response_format"),
        ({"include": [INCLUDE_LOGPROBS]}, "include"),
        ({"task": TRANSCRIPTION_TASK_TRANSLATE, "routing": RoutingConfig(disable_fallbacks=True)}, "task"),
        ({"known_speakers": [{"name": "A"}]}, "known_speaker_names"),
    ],
)
def test_nobody_can(config, param: str):
    with pytest.raises(UnsupportedParameter) as caught:
        plan("plain", **config)
    assert caught.value.param == param
    assert "plain" in caught.value.message


def test_unknown_names():
    with pytest.raises(UnknownModel) as caught:
        plan("plane")
    assert caught.value.metadata["nearest"].split(",")[0] == "plain"
    with pytest.raises(UnknownModel) as caught:
        plan("plain", routing=RoutingConfig(fallbacks=[RouteTarget(model="s" * 1000)]))
    assert caught.value.param == "fallbacks[0]"
    assert len(caught.value.message) < 300
    with pytest.raises(InvalidRequest):
        plan("plain", routing=RoutingConfig(fallbacks=[RouteTarget(provider="openai")]))
    with pytest.raises(UnknownModel):
        plan("nowhere")


def test_a_known_group_without_usable_deployments_is_the_operators_fault():
    with pytest.raises(ProviderUnavailable):
        plan("dead", routing=RoutingConfig(disable_fallbacks=True))
    assert "dead" not in [model.id for model in TABLE.models()]


def test_the_load_follows_the_weights():
    [hop, _] = ROUTER.plan(TranscriptionConfig(model="heavy"))
    first = Counter()
    for _ in range(4000):
        step = ROUTER.route([hop], deadline=100).next(0)
        assert isinstance(step, Try)
        first[step.deployment.id] += 1
    assert first["h3"] == 0
    assert 0.70 < first["h1"] / 4000 < 0.80


def test_limits_of_attempts():
    routing = RoutingConfig(fallbacks=[RouteTarget(model="subtitles")])
    assert [hop.timeout for hop in ROUTER.plan(TranscriptionConfig(model="plain", routing=routing))] == [None, None]
    routing.attempt_timeout.FromSeconds(3)
    routing.fallbacks[0].attempt_timeout.FromMilliseconds(500)
    assert [hop.timeout for hop in ROUTER.plan(TranscriptionConfig(model="plain", routing=routing))] == [3, 0.5]


def test_models_in_order_with_their_aliases():
    models = {model.id: model for model in TABLE.models()}
    assert list(models) == sorted(models)
    assert models["plain"].aliases == ["whisper"]
    assert TABLE.model("whisper").id == "plain"


SMALL = ModelCapabilities(response_formats=[RESPONSE_FORMAT_JSON], max_audio_bytes=1000, options=["language"])
SHORT = ModelCapabilities(
    response_formats=[RESPONSE_FORMAT_JSON], max_audio_duration=Duration(seconds=60), options=["language", "prompt"]
)
LIMITED = Router(
    DeploymentTable(
        [
            deployment("both", "small", capabilities=SMALL),
            deployment("both", "short", capabilities=SHORT),
            deployment("small", "s", capabilities=SMALL),
            dataclasses.replace(deployment("lenient", "l", capabilities=SMALL), drops_params=True),
            dataclasses.replace(deployment("mixed", "m1", capabilities=SMALL), drops_params=True),
            deployment("mixed", "m2", capabilities=SHORT),
        ],
        created=Timestamp(),
    )
)


def asked(model: str, recording: Recording | None = None, **options: object) -> list[str]:
    hops = LIMITED.plan(TranscriptionConfig(model=model, **options), recording or Recording())
    return [one.id for hop in hops for one in hop.deployments]


def test_a_recording_goes_where_it_fits():
    assert asked("both") == ["small", "short"]
    assert asked("both", Recording(size_bytes=1001)) == ["short"]
    assert asked("both", Recording(size_bytes=1000, seconds=61)) == ["small"]
    with pytest.raises(AudioTooLarge, match=r"1001 bytes and silent \(s\) takes at most 1000.*take it: both, mixed"):
        asked("small", Recording(size_bytes=1001))


def test_one_that_is_converted_first_is_measured_then():
    wav_only = ModelCapabilities(
        response_formats=[RESPONSE_FORMAT_JSON], max_audio_bytes=1000, media_types=["audio/wav"]
    )
    router = Router(DeploymentTable([deployment("g", "d", capabilities=wav_only)], created=Timestamp()))
    config = TranscriptionConfig(model="g")
    assert router.plan(config, Recording(size_bytes=2000, media_type="audio/webm"))
    for media_type in ("audio/wav", None):
        with pytest.raises(AudioTooLarge):
            router.plan(config, Recording(size_bytes=2000, media_type=media_type))


def test_an_option_goes_where_it_is_known():
    assert asked("both", language="de") == ["small", "short"]
    assert asked("both", prompt="names") == ["short"]
    with pytest.raises(UnsupportedParameter, match="'prompt'; it takes language") as caught:
        asked("small", prompt="names")
    assert caught.value.param == "prompt"


def test_options_are_left_out_only_where_nobody_takes_them():
    assert asked("lenient", prompt="names") == ["l"]
    assert asked("mixed", prompt="names") == ["m2"]
    assert asked("mixed", temperature=1.0) == ["m1"]


def test_no_fallback_makes_up_for_an_option_by_leaving_it_out():
    table = DeploymentTable(
        [
            deployment("strict", "s", capabilities=SMALL),
            dataclasses.replace(deployment("lenient", "l", capabilities=SMALL), drops_params=True),
            deployment("able", "a", capabilities=SHORT),
        ],
        created=Timestamp(),
    )
    router = Router(table, RouterSettings(fallbacks={"strict": ["lenient"], "lenient": ["able"], "able": ["lenient"]}))

    def chosen(model: str, **options: object) -> list[str]:
        hops = router.plan(TranscriptionConfig(model=model, **options))
        return [one.id for hop in hops for one in hop.deployments]

    assert chosen("strict", language="de") == ["s", "l"]
    with pytest.raises(UnsupportedParameter, match="'prompt'"):
        chosen("strict", prompt="names")
    assert chosen("able", prompt="names") == ["a", "l"]
    assert chosen("lenient", prompt="names") == ["l", "a"]


def test_a_recording_that_grows_leaves_deployments_behind():
    size = 500
    hops = LIMITED.plan(TranscriptionConfig(model="both"), Recording(size))
    route = LIMITED.route(hops, deadline=1e9, recording=lambda: Recording(size))
    size = 2000
    step = route.next(0.0)
    assert isinstance(step, Try)
    assert step.deployment.id == "short"
    assert LIMITED.size_refusal(hops, Recording(2000)) is None
    assert LIMITED.size_refusal(hops, Recording(2000, 100.0)) is not None


def test_many_are_drawn_by_weight():
    table = DeploymentTable(
        [deployment("many", f"d{number}", weight=number % 3) for number in range(30)], created=Timestamp()
    )
    router = Router(table, rng=random.Random(7))
    for one in table.group("many"):
        if one.id == "d1":
            one.health.operator_state = OperatorState.DISABLED
    drawn: Counter[float] = Counter()
    for _ in range(3000):
        step = router.route(router.plan(TranscriptionConfig(model="many")), deadline=9.0).next(0.0)
        assert isinstance(step, Try)
        assert step.deployment.id != "d1"
        drawn[step.deployment.weight or 0] += 1
    assert drawn[0] == 0
    # 9 of weight 1 are left beside 10 of weight 2.
    assert 0.64 < drawn[2] / drawn.total() < 0.74
