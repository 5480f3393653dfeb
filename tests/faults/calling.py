"""One way to call for every door, and what came of it."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import RouteTarget, RoutingConfig, TranscriptionConfig
from voxgate.transcription.v1.error_reason_pb2 import RoutingFailure

from tests.edges.rest import http_client
from tests.recordings import recording
from tests.running import AUTH, METADATA, Gateway

SPEECH = recording("vm-goodbye.wav").data
SHA256 = hashlib.sha256(SPEECH).hexdigest()
REST_PATH = "/litellm/v1/audio/transcriptions"
PIECE = 8192
GUARD = 30.0
"""Seconds after which a test gives up waiting for something that should have happened."""


@dataclass
class Outcome:
    """How a call ended, in the words of its door."""

    status: int | grpc.StatusCode
    text: str = ""
    message: str = ""
    reason: str = ""
    """REST: `error.code`. gRPC: ErrorInfo's reason."""
    retry_after: float | None = None
    model: str = ""
    """The provider's name of the model that gave the answer."""
    usage: str = ""
    """What is said about use: `duration`, `tokens` or nothing."""
    attempts: list[str] = field(default_factory=list)
    """The models' outcomes as far as the door tells them: `succeeded`, or a reason."""

    @property
    def ok(self) -> bool:
        return self.status in (200, grpc.StatusCode.OK)

    def matches(self, rest: int, code: grpc.StatusCode) -> bool:
        """Whether this is the status of either door."""
        return self.status in (rest, code)


Ask = Callable[..., Awaitable[Outcome]]


def routing(*, retries: int | None = None, fallbacks: tuple[str, ...] = ()) -> RoutingConfig:
    return RoutingConfig(max_retries=retries, fallbacks=[RouteTarget(model=name) for name in fallbacks])


async def rest(
    gateway: Gateway, model: str, data: bytes = SPEECH, *, retries: int | None = None, fallbacks: tuple[str, ...] = ()
) -> Outcome:
    """POST by multipart/form-data."""
    fields = {"model": model}
    if retries is not None:
        fields["num_retries"] = str(retries)
    if fallbacks:
        fields["fallbacks"] = json.dumps(fallbacks)
    response = await http_client.post(gateway.rest_port, REST_PATH, http_client.form(data, **fields), AUTH)
    return rest_outcome(response)


def rest_outcome(response: http_client.Response) -> Outcome:
    """What a response says."""
    retry_after = response.headers.get("retry-after")
    outcome = Outcome(response.status, retry_after=None if retry_after is None else float(retry_after))
    if response.status == 200:
        body = response.json()
        extra = body["extra_fields"]
        outcome.text, outcome.model = body["text"], extra["resolved_model_used"]
        outcome.usage = body.get("usage", {}).get("type", "")
        outcome.attempts = [attempt.get("error_code") or "succeeded" for attempt in extra["attempts"]]
    else:
        outcome.message, outcome.reason = response.error["message"], response.error["code"] or ""
    return outcome


async def unary(
    gateway: Gateway, model: str, data: bytes = SPEECH, *, retries: int | None = None,
    fallbacks: tuple[str, ...] = (), timeout: float = GUARD,
) -> Outcome:  # fmt: skip
    """Transcribe."""
    config = TranscriptionConfig(model=model, routing=routing(retries=retries, fallbacks=fallbacks))
    request = api.TranscribeRequest(config=config, audio=AudioSource(data=data))
    return await grpc_outcome(gateway.stub.Transcribe(request, metadata=METADATA, timeout=timeout))


async def upload(
    gateway: Gateway, model: str, data: bytes = SPEECH, *, retries: int | None = None,
    fallbacks: tuple[str, ...] = (), timeout: float = GUARD,
) -> Outcome:  # fmt: skip
    """TranscribeUpload."""
    start = upload_start(model, retries=retries, fallbacks=fallbacks)

    async def messages() -> AsyncIterator[api.TranscribeUploadRequest]:
        yield start
        for at in range(0, len(data), PIECE):
            yield upload_chunk(data[at : at + PIECE])
        yield upload_finish(data)

    return await grpc_outcome(gateway.stub.TranscribeUpload(messages(), metadata=METADATA, timeout=timeout))


def upload_start(
    model: str, *, retries: int | None = None, fallbacks: tuple[str, ...] = ()
) -> api.TranscribeUploadRequest:
    config = TranscriptionConfig(model=model, routing=routing(retries=retries, fallbacks=fallbacks))
    return api.TranscribeUploadRequest(start=api.UploadStart(config=config, audio=AudioHeader()))


def upload_chunk(data: bytes) -> api.TranscribeUploadRequest:
    return api.TranscribeUploadRequest(chunk=AudioChunk(data=data))


def upload_finish(data: bytes) -> api.TranscribeUploadRequest:
    return api.TranscribeUploadRequest(finish=AudioTrailer(size_bytes=len(data), sha256=hashlib.sha256(data).digest()))


async def grpc_outcome(call: Awaitable[Any]) -> Outcome:
    """How a call over gRPC ended."""
    try:
        transcription = (await call).transcription
    except grpc.aio.AioRpcError as error:
        outcome = Outcome(error.code(), message=error.details() or "")
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info, retry, failure = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), RoutingFailure()
            if detail.Unpack(info):
                outcome.reason = info.reason
            elif detail.Unpack(retry):
                outcome.retry_after = _seconds(retry.retry_delay)
            elif detail.Unpack(failure):
                outcome.attempts = [attempt.error_code for attempt in failure.attempts]
        return outcome
    extra = transcription.extra_fields
    return Outcome(
        grpc.StatusCode.OK,
        transcription.text,
        model=extra.resolved_model_used,
        usage=transcription.usage.WhichOneof("kind") or "",
        attempts=[attempt.error_code or "succeeded" for attempt in extra.attempts],
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


DOORS: dict[str, Ask] = {"rest": rest, "unary": unary, "upload": upload}
