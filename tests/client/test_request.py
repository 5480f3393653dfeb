"""What the synchronous client asks for and makes of answers, without a network (grpcio-testing).

Cancelling is tested over a real connection: grpcio-testing's futures hold the lock that `cancel` needs while they wait.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1 import model_service_pb2, transcription_service_pb2
from voxgate.transcription.v1.config_pb2 import (
    INCLUDE_LOGPROBS,
    RESPONSE_FORMAT_SRT,
    RESPONSE_FORMAT_VERBOSE_JSON,
    TIMESTAMP_GRANULARITY_WORD,
    RouteTarget,
    TranscriptionConfig,
)
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_client import Client, VoxgateError
from voxgate_client import _errors as errors
from voxgate_client._audio import PIECE_BYTES, open_audio
from voxgate_client._details import read_details
from voxgate_client._request import read_options

GUARD = 30.0
UPLOAD = transcription_service_pb2.DESCRIPTOR.services_by_name["TranscriptionService"].methods_by_name[
    "TranscribeUpload"
]
GET_MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].methods_by_name["GetModel"]


class Bench:
    """A client whose calls the test answers itself."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel(
            [UPLOAD.containing_service, GET_MODEL.containing_service], grpc_testing.strict_real_time()
        )
        self.client = Client(channel=self.channel, api_key="key")
        self.pool = ThreadPoolExecutor(1)

    def start(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.pool.submit(call, *args, **options)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.pool:
        yield bench


def test_messages_of_an_upload(bench: Bench) -> None:
    answer = bench.start(bench.client.transcribe, b"audio", filename="a.wav")
    metadata, call = bench.channel.take_stream_unary(UPLOAD)
    messages = [call.take_request() for _ in range(3)]
    call.requests_closed()
    reply = transcription_service_pb2.TranscribeUploadResponse(transcription=Transcription(text="hello"))
    call.terminate(reply, (), grpc.StatusCode.OK, "")
    assert answer.result(GUARD).text == "hello"
    assert ("authorization", "Bearer key") in metadata
    start, chunk, finish = messages
    assert (start.start.audio.filename, start.start.audio.size_bytes) == ("a.wav", 5)
    assert start.start.config == TranscriptionConfig(model="whisper-1", response_format="RESPONSE_FORMAT_JSON")
    assert chunk.chunk.data == b"audio"
    assert (finish.finish.size_bytes, finish.finish.sha256) == (5, hashlib.sha256(b"audio").digest())


REASONS = [
    (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", errors.InvalidRequestError),
    (grpc.StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_CONFLICT", errors.InvalidRequestError),
    (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE", errors.UploadInterruptedError),
    (grpc.StatusCode.ABORTED, "AUDIO_IDLE_TIMEOUT", errors.UploadInterruptedError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "AUDIO_TOO_LARGE", errors.AudioTooLargeError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", errors.RateLimitedError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_TOO_LARGE", errors.UnavailableError),
    (grpc.StatusCode.UNAUTHENTICATED, "INVALID_API_KEY", errors.AuthenticationError),
    (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", errors.PermissionDeniedError),
    (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", errors.UnknownModelError),
    (grpc.StatusCode.NOT_FOUND, "SOMETHING_NEW", errors.NotFoundError),
    (grpc.StatusCode.UNAVAILABLE, "ALL_PROVIDERS_FAILED", errors.UnavailableError),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "PROVIDER_TIMEOUT", errors.DeadlineExceededError),
    (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", errors.UnimplementedError),
    (grpc.StatusCode.CANCELLED, "", errors.CallCancelledError),
    (grpc.StatusCode.INTERNAL, "INTERNAL", errors.ServerError),
    (grpc.StatusCode.DATA_LOSS, "", errors.ServerError),
]


@pytest.mark.parametrize(("code", "reason", "kind"), REASONS, ids=[f"{code.name}-{why}" for code, why, _ in REASONS])
def test_class_of_an_error(bench: Bench, code: grpc.StatusCode, reason: str, kind: type[VoxgateError]) -> None:
    status = status_pb2.Status(code=code.value[0], message="What happened.")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, metadata={"request_id": "req_1", "a": "b"}))
    status.details.add().Pack(
        error_details_pb2.BadRequest(field_violations=[error_details_pb2.BadRequest.FieldViolation(field="language")])
    )
    answer = bench.start(bench.client.model, "m")
    _, request, call = bench.channel.take_unary_unary(GET_MODEL)
    assert request.id == "m"
    call.terminate(None, (("grpc-status-details-bin", status.SerializeToString()),), code, "What happened.")
    error = answer.exception(GUARD)
    assert type(error) is kind
    assert (error.message, error.code, error.reason) == ("What happened.", code, reason or None)
    assert (error.request_id, error.metadata, error.param) == ("req_1", {"a": "b"}, "language")


def test_every_option_has_its_place() -> None:
    options = read_options(
        model="openai/whisper-1",
        language="de",
        prompt="p",
        temperature=0.0,
        response_format="verbose_json",
        timestamp_granularities=["word", TIMESTAMP_GRANULARITY_WORD],
        include="logprobs",
        fallbacks=["groq/whisper-large-v3", "local", RouteTarget(provider="azure", model="w")],
        user="u",
        tags="one",
        metadata={"k": "v"},
        extra_params={"a": {"b": [1, None, True, "x"]}},
        timeout=5,
    )
    config = options.config
    assert options.timeout == 5.0
    assert (config.model, config.language, config.prompt) == ("openai/whisper-1", "de", "p")
    assert config.HasField("temperature")
    assert config.response_format == RESPONSE_FORMAT_VERBOSE_JSON
    assert list(config.timestamp_granularities) == [TIMESTAMP_GRANULARITY_WORD] * 2
    assert list(config.include) == [INCLUDE_LOGPROBS]
    assert list(config.routing.fallbacks) == [
        RouteTarget(model="groq/whisper-large-v3"),
        RouteTarget(model="local"),
        RouteTarget(provider="azure", model="w"),
    ]
    assert (config.labels.user, list(config.labels.tags), dict(config.labels.metadata)) == ("u", ["one"], {"k": "v"})
    assert config.extra_params["a"]["b"][3] == "x"
    assert read_options(response_format=RESPONSE_FORMAT_SRT).config.response_format == RESPONSE_FORMAT_SRT


def test_what_is_not_said_is_not_sent() -> None:
    assert read_options().config == TranscriptionConfig(model="whisper-1", response_format="RESPONSE_FORMAT_JSON")


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="response_format has no 'xml'; there are json, text, srt, verbose_json"):
        read_options(response_format="xml")
    with pytest.raises(ValueError, match="there are word, segment"):
        read_options(timestamp_granularities=["words"])
    with pytest.raises(ValueError, match="unspecified"):
        read_options(response_format="unspecified")
    with pytest.raises(ValueError, match="needs a model"):
        read_options(fallbacks=[""])
    with pytest.raises(TypeError, match="modle"):
        read_options(modle="m")  # type: ignore[call-arg]


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 3))
def test_any_way_of_giving_audio_gives_the_same_bytes(items: list[bytes], factor: int) -> None:
    items = [item * (1 + factor * (PIECE_BYTES // 37)) for item in items]
    whole = b"".join(items)
    for audio in (items, iter(items), whole, bytearray(whole), memoryview(whole)):
        with open_audio(audio) as source:
            pieces = list(source.pieces)
        assert b"".join(pieces) == whole
        assert all(type(piece) is bytes and len(piece) <= PIECE_BYTES for piece in pieces)


@given(
    st.text(max_size=30),
    st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=4),
    st.integers(-5, 2**40),
    st.integers(0, 999_999_999),
)
def test_details_are_read_as_google_writes_them(
    reason: str, metadata: dict[str, str], seconds: int, nanos: int
) -> None:
    metadata.pop("request_id", None)
    status = status_pb2.Status(code=8, message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="voxgate.dev", metadata=metadata))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds, retry.retry_delay.nanos = seconds, nanos
    status.details.add().Pack(retry)
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id="req_1"))
    status.details.add().Pack(error_details_pb2.Help())
    found = read_details([("other", "x"), ("grpc-status-details-bin", status.SerializeToString())])
    assert (found.reason, found.metadata, found.request_id) == (reason or None, metadata, "req_1")
    assert found.retry_after == max(0.0, seconds + nanos / 1e9)


@given(st.binary(max_size=60))
def test_broken_details_never_hide_the_error(garbage: bytes) -> None:
    read_details([("grpc-status-details-bin", garbage)])
    status = status_pb2.Status()
    for kind in ("ErrorInfo", "RetryInfo", "BadRequest", "RequestInfo"):
        status.details.add(type_url=f"type.googleapis.com/google.rpc.{kind}", value=garbage)
    status.details.add(type_url="x/voxgate.transcription.v1.RoutingFailure", value=garbage)
    read_details([("grpc-status-details-bin", status.SerializeToString())])
