"""TranscriptionService over a real channel, against the strict OpenAI emulator."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from voxgate.transcription.v1 import model_service_pb2 as api_models
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import DebugOptions, RouteTarget, RoutingConfig, TranscriptionConfig
from voxgate.transcription.v1.error_reason_pb2 import RoutingFailure
from voxgate.transcription.v1.extra_fields_pb2 import ATTEMPT_OUTCOME_FAILED, ATTEMPT_OUTCOME_SUCCEEDED
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub
from voxgate_server.edges.grpc.status import DOMAIN

from tests.providers.openai_emulator import OpenAIEmulator
from tests.recordings import recording
from tests.running import METADATA, Gateway

SPEECH = recording("demo-thanks.wav").data
SHA256 = hashlib.sha256(SPEECH).hexdigest()


def details(error: grpc.RpcError) -> dict[type, Any]:
    """The details of an error, by their type."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    found: dict[type, Message] = {}
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RequestInfo,
        RoutingFailure,
    ):
        for detail in status.details:
            message = kind()
            if detail.Unpack(message):
                found[kind] = message
    return found


def reason(error: grpc.RpcError) -> str:
    info = details(error)[error_details_pb2.ErrorInfo]
    assert info.domain == DOMAIN
    assert info.metadata["request_id"].startswith("req_")
    return str(info.reason)


def request(model: str = "whisper-1", data: bytes = SPEECH, **config: Any) -> api.TranscribeRequest:
    return api.TranscribeRequest(config=TranscriptionConfig(model=model, **config), audio=AudioSource(data=data))


def start(model: str = "whisper-1", size: int | None = None) -> api.TranscribeUploadRequest:
    return api.TranscribeUploadRequest(
        start=api.UploadStart(config=TranscriptionConfig(model=model), audio=AudioHeader(size_bytes=size))
    )


def chunk(data: bytes) -> api.TranscribeUploadRequest:
    return api.TranscribeUploadRequest(chunk=AudioChunk(data=data))


def finish(size: int, sha256: bytes | None = None) -> api.TranscribeUploadRequest:
    return api.TranscribeUploadRequest(finish=AudioTrailer(size_bytes=size, sha256=sha256))


def upload(data: bytes = SPEECH, size: int = 10_000) -> list[api.TranscribeUploadRequest]:
    chunks = [chunk(data[at : at + size]) for at in range(0, len(data), size)]
    return [start(size=len(data)), *chunks, finish(len(data), hashlib.sha256(data).digest())]


async def sending(messages: Iterable[api.TranscribeUploadRequest]) -> AsyncIterator[api.TranscribeUploadRequest]:
    for message in messages:
        yield message


async def test_a_recording_in_a_transcript_out(gateway: Gateway, emulator: OpenAIEmulator):
    response = await gateway.stub.Transcribe(request(), metadata=METADATA)
    transcription = response.transcription
    assert transcription.text == emulator.text
    assert emulator.records[0].file_sha256 == SHA256
    assert emulator.records[0].complete
    extra = transcription.extra_fields
    assert extra.request_id.startswith("req_")
    assert (extra.request_type, extra.provider) == ("transcription", "openai")
    assert (extra.original_model_requested, extra.resolved_model_used) == ("whisper-1", "whisper-1")
    assert extra.latency.ToNanoseconds() > 0
    assert [attempt.outcome for attempt in extra.attempts] == [ATTEMPT_OUTCOME_SUCCEEDED]
    assert extra.attempts[0].http_status == 200


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 20])
async def test_an_upload_arrives_byte_for_byte(gateway: Gateway, emulator: OpenAIEmulator, size: int):
    response = await gateway.stub.TranscribeUpload(sending(upload(size=size)), metadata=METADATA)
    assert response.transcription.text == emulator.text
    assert emulator.records[0].file_sha256 == SHA256


async def test_the_provider_reads_while_the_caller_still_sends(gateway: Gateway, emulator: OpenAIEmulator):
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(start())
    await call.write(chunk(SPEECH[:8192]))
    record = await emulator.record()
    await asyncio.wait_for(record.first_file_byte.wait(), 10)
    assert not record.complete
    await call.write(chunk(SPEECH[8192:]))
    await call.write(finish(len(SPEECH)))
    await call.done_writing()
    assert (await call).transcription.text == emulator.text
    assert record.complete
    assert record.file_sha256 == SHA256


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (finish(len(SPEECH) - 1), "CHECKSUM_MISMATCH"),
        (finish(len(SPEECH), bytes(32)), "CHECKSUM_MISMATCH"),
        (finish(len(SPEECH), b"short"), "INVALID_REQUEST"),
        (start(), "CONFIG_EXPECTED_FIRST"),
        (api.TranscribeUploadRequest(), "CONFIG_EXPECTED_FIRST"),
        (None, "UPLOAD_INCOMPLETE"),
    ],
)
async def test_an_upload_that_does_not_end_well_is_never_whole_upstream(
    gateway: Gateway, emulator: OpenAIEmulator, last: api.TranscribeUploadRequest | None, expected: str
):
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(start())
    await call.write(chunk(SPEECH))
    record = await emulator.record()
    await asyncio.wait_for(record.first_file_byte.wait(), 10)
    if last is not None:
        await call.write(last)
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert reason(caught.value) == expected
    await asyncio.wait_for(record.body_ended.wait(), 10)
    assert not record.complete
    assert gateway.app.gateway.calls_in_progress == 0


async def test_an_upload_that_breaks_off_before_its_kind_is_known_reaches_nobody(
    gateway: Gateway, emulator: OpenAIEmulator
):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.TranscribeUpload(sending([start(), chunk(b"RI")]), metadata=METADATA)
    assert reason(caught.value) == "UPLOAD_INCOMPLETE"
    assert not emulator.connections


async def test_a_caller_that_goes_away_leaves_a_cut_body(gateway: Gateway, emulator: OpenAIEmulator):
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(start())
    await call.write(chunk(SPEECH[:8192]))
    record = await emulator.record()
    await asyncio.wait_for(record.first_file_byte.wait(), 10)
    call.cancel()
    await asyncio.wait_for(record.peer_closed.wait(), 10)
    assert not record.complete


async def test_a_caller_that_goes_away_while_waiting_ends_the_providers_work(
    gateway: Gateway, emulator: OpenAIEmulator
):
    call = gateway.stub.Transcribe(request("fault-hang"), metadata=METADATA)
    record = await emulator.record()
    await asyncio.wait_for(record.body_ended.wait(), 10)
    call.cancel()
    await asyncio.wait_for(record.peer_closed.wait(), 10)


async def test_a_paused_upload_ends_with_its_own_reason(gateway: Gateway):
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(start())
    await call.write(chunk(SPEECH[:8192]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert reason(caught.value) == "AUDIO_IDLE_TIMEOUT"


async def test_too_large_is_refused_before_the_end(gateway: Gateway, emulator: OpenAIEmulator):
    def endless() -> Iterator[api.TranscribeUploadRequest]:
        yield start()
        yield chunk(SPEECH)
        while True:
            yield chunk(bytes(100_000))

    def upload_by_thread() -> None:
        # The asynchronous client of grpc loses the status when it comes in the middle of a write (grpc/grpc#36066).
        with grpc.insecure_channel(gateway.target) as channel:
            TranscriptionServiceStub(channel).TranscribeUpload(endless(), metadata=METADATA)

    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(upload_by_thread)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(caught.value) == "AUDIO_TOO_LARGE"
    assert details(caught.value)[error_details_pb2.ErrorInfo].metadata["limit_bytes"] == str(2 << 20)
    assert not emulator.records[0].complete


async def test_an_announced_size_is_judged_before_the_first_byte(gateway: Gateway, emulator: OpenAIEmulator):
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(start(size=3 << 20))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert reason(caught.value) == "AUDIO_TOO_LARGE"
    assert emulator.records == []


@pytest.mark.parametrize(
    ("message", "expected", "field"),
    [
        (request(model=""), "INVALID_REQUEST", "model"),
        (request(data=b""), "AUDIO_EMPTY", "file"),
        (request(data=b"%PDF-1.7 and so on"), "UNSUPPORTED_FORMAT", "file"),
        (request(temperature=1.5), "INVALID_REQUEST", "temperature"),
        (request(response_format=99), "INVALID_REQUEST", "response_format"),
        (request(timestamp_granularities=[0]), "INVALID_REQUEST", "timestamp_granularities"),
        (request(response_format=6), "UNSUPPORTED_PARAMETER", "response_format"),
        (request(idempotency_key="k"), "UNSUPPORTED_PARAMETER", "idempotency_key"),
        (api.TranscribeRequest(config=TranscriptionConfig(model="whisper-1")), "INVALID_REQUEST", "file"),
        (request(routing=RoutingConfig(fallbacks=[RouteTarget()])), "INVALID_REQUEST", "fallbacks[0]"),
    ],
)
async def test_bad_input_is_named_and_nothing_is_sent(
    gateway: Gateway, emulator: OpenAIEmulator, message: api.TranscribeRequest, expected: str, field: str
):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(message, metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == expected
    assert details(caught.value)[error_details_pb2.BadRequest].field_violations[0].field == field
    assert emulator.records == []
    assert gateway.app.gateway.calls_in_progress == 0


async def test_an_unknown_model_names_similar_ones(gateway: Gateway, emulator: OpenAIEmulator):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request(model="wisper-1"), metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason(caught.value) == "UNKNOWN_MODEL"
    assert details(caught.value)[error_details_pb2.ErrorInfo].metadata["nearest"].split(",")[0] == "whisper-1"
    assert details(caught.value)[error_details_pb2.ResourceInfo].resource_name == "wisper-1"
    assert emulator.records == []


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "sk-test"),)])
async def test_without_the_key_nothing_is_answered(gateway: Gateway, emulator: OpenAIEmulator, metadata):
    for call in (
        gateway.stub.Transcribe(request(), metadata=metadata),
        gateway.stub.TranscribeUpload(sending(upload()), metadata=metadata),
        gateway.models.ListModels(api_models.ListModelsRequest(), metadata=metadata),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert reason(caught.value) == "INVALID_API_KEY"
    assert emulator.records == []


async def test_the_callers_deadline_comes_back_with_its_reason(gateway: Gateway):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request("fault-hang"), metadata=METADATA, timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(caught.value) == "DEADLINE_EXCEEDED"
    assert details(caught.value)[RoutingFailure].attempts[0].provider == "openai"


async def test_an_attempt_has_a_limit_of_its_own(gateway: Gateway):
    config = RoutingConfig()
    config.attempt_timeout.FromMilliseconds(200)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request("fault-hang", routing=config), metadata=METADATA)
    assert reason(caught.value) == "PROVIDER_TIMEOUT"


async def test_a_fallback_gets_the_same_bytes(gateway: Gateway, emulator: OpenAIEmulator):
    routing = RoutingConfig(fallbacks=[RouteTarget(model="whisper-1")])
    response = await gateway.stub.Transcribe(request("fault-500", routing=routing), metadata=METADATA)
    assert response.transcription.text == emulator.text
    assert [record.file_sha256 for record in emulator.records] == [SHA256, SHA256]
    attempts = response.transcription.extra_fields.attempts
    assert [attempt.outcome for attempt in attempts] == [ATTEMPT_OUTCOME_FAILED, ATTEMPT_OUTCOME_SUCCEEDED]
    assert [attempt.http_status for attempt in attempts] == [500, 200]


async def test_a_fallback_starts_at_byte_0_while_the_caller_still_sends(gateway: Gateway, emulator: OpenAIEmulator):
    config = TranscriptionConfig(
        model="fault-early-401", routing=RoutingConfig(fallbacks=[RouteTarget(model="whisper-1")])
    )
    call = gateway.stub.TranscribeUpload(metadata=METADATA)
    await call.write(api.TranscribeUploadRequest(start=api.UploadStart(config=config)))
    await call.write(chunk(SPEECH[:100_000]))
    second = await emulator.record(1)
    await asyncio.wait_for(second.first_file_byte.wait(), 10)
    await call.write(chunk(SPEECH[100_000:]))
    await call.write(finish(len(SPEECH)))
    await call.done_writing()
    assert (await call).transcription.text == emulator.text
    assert second.file_sha256 == SHA256


async def test_a_failing_provider_is_reported_with_its_attempts(gateway: Gateway):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request("fault-500"), metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert reason(caught.value) == "PROVIDER_UNAVAILABLE"
    attempt = details(caught.value)[RoutingFailure].attempts[0]
    assert (attempt.provider, attempt.http_status) == ("openai", 500)


async def test_the_providers_refusal_of_our_key_is_not_the_callers(gateway: Gateway, emulator: OpenAIEmulator):
    emulator.key = "sk-another-one-altogether"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request(), metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "canary" not in str(caught.value)


async def test_more_calls_than_the_limit_are_refused_with_a_wait(gateway: Gateway, emulator: OpenAIEmulator):
    hanging = [gateway.stub.Transcribe(request("fault-hang"), metadata=METADATA) for _ in range(4)]
    await emulator.record(3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(request(), metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(caught.value) == "SERVER_OVERLOADED"
    assert details(caught.value)[error_details_pb2.RetryInfo].retry_delay.seconds == 1
    for call in hanging:
        call.cancel()


async def test_events_end_with_done(gateway: Gateway, emulator: OpenAIEmulator):
    message = api.TranscribeEventsRequest(config=TranscriptionConfig(model="whisper-1"), audio=AudioSource(data=SPEECH))
    events = [response.event async for response in gateway.stub.TranscribeEvents(message, metadata=METADATA)]
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [event.WhichOneof("event") for event in events] == ["done"]
    assert events[-1].done.transcription.text == emulator.text
    assert events[-1].extra_fields.request_type == "transcription_stream"


async def test_raw_payloads_are_shown_where_the_operator_allows(gateway: Gateway):
    debug = DebugOptions(include_raw_request=True, include_raw_response=True, include_provider_headers=True)
    response = await gateway.stub.Transcribe(request(debug=debug), metadata=METADATA)
    extra = response.transcription.extra_fields
    assert b'"model":"whisper-1"' in extra.raw_request.data.replace(b" ", b"")
    assert b'"text"' in extra.raw_response.data
    assert b"canary" not in extra.raw_request.data


async def test_what_is_not_in_this_release_says_so(gateway: Gateway):
    by_url = api.TranscribeRequest(
        config=TranscriptionConfig(model="whisper-1"), audio=AudioSource(uri="https://example.com/a.wav")
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.stub.Transcribe(by_url, metadata=METADATA)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
