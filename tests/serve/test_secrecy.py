"""What must not get out: exceptions to callers, what callers send and operators' keys to the log."""

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from tests.providers.openai_emulator import FAULTS, OpenAIEmulator
from tests.running import AUTH, KEY, METADATA
from tests.serve.broken_provider import LOCAL, MESSAGE
from tests.serve.processes import SPEECH, Server, channel, post, serving

BROKEN = ("tests.serve.broken_provider",)
REQUEST = api.TranscribeRequest(config=TranscriptionConfig(model="whisper-1"), audio=AudioSource(data=SPEECH))
TEXT = "The server failed. Tell its operator the request id."


async def test_an_unforeseen_error_is_in_the_log_and_not_in_the_answer(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config], tmp_path, module=BROKEN) as server, channel(server) as open_channel:
        answer = await post(server, headers=AUTH)
        assert answer.status_code == 500
        assert answer.json() == {"error": {"message": TEXT, "type": "server_error", "param": None, "code": None}}
        await logged(server, 1)
        assert_traceback(server, answer.headers["x-voxgate-request-id"])

        stub = TranscriptionServiceStub(open_channel)
        calls = [
            stub.Transcribe(REQUEST, metadata=METADATA),
            stub.TranscribeEvents(
                api.TranscribeEventsRequest(config=REQUEST.config, audio=REQUEST.audio), metadata=METADATA
            ),
            stub.TranscribeUpload(upload(), metadata=METADATA),
        ]
        for number, call in enumerate(calls, 2):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ended(call)
            error = caught.value
            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, TEXT)
            await logged(server, number)
            assert_traceback(server, dict(error.trailing_metadata() or ())["x-voxgate-request-id"])
            assert "canary" not in str(error.trailing_metadata())
        assert "canary" not in answer.text + str(answer.headers)
    assert LOCAL not in "".join(server.lines)


async def ended(call: Any) -> None:
    if isinstance(call, grpc.aio.UnaryStreamCall):
        await call.read()
    else:
        await call


async def logged(server: Server, count: int) -> None:
    await server.wrote(lambda: len(server.logged("unexpected error")) >= count)


def assert_traceback(server: Server, request_id: str) -> None:
    [line] = [line for line in server.logged("unexpected error") if line["request_id"] == request_id]
    [exception] = line["exception"]
    assert (exception["exc_type"], exception["exc_value"]) == ("KeyError", f"'{MESSAGE}'")
    assert exception["frames"][-1]["name"] == "transcribe"
    assert all("locals" not in frame for frame in exception["frames"])


async def upload():
    yield api.TranscribeUploadRequest(start=api.UploadStart(config=REQUEST.config, audio=AudioHeader()))
    yield api.TranscribeUploadRequest(chunk=AudioChunk(data=SPEECH))
    yield api.TranscribeUploadRequest(finish=AudioTrailer(size_bytes=len(SPEECH)))


async def test_lines_for_people_show_a_traceback_without_values(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config, "--log-text"], tmp_path, module=BROKEN) as server:
        answer = await post(server, headers=AUTH)
        await server.wrote(lambda: any(f"KeyError: '{MESSAGE}'" in line for line in server.lines))
    text = "\n".join(server.lines)
    assert answer.headers["x-voxgate-request-id"] in text
    assert "in transcribe" in text
    assert LOCAL not in text


@pytest.mark.parametrize("metadata", [METADATA, ()], ids=["with a key", "without"])
async def test_what_is_no_message_is_refused(metadata: object, config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config], tmp_path) as server, channel(server) as open_channel:

        async def garbage():
            yield b"\xff garbage-canary"

        service = "/voxgate.transcription.v1.TranscriptionService"
        for call in (
            open_channel.unary_unary(f"{service}/Transcribe")(b"\xff garbage-canary", metadata=metadata),
            open_channel.stream_unary(f"{service}/TranscribeUpload")(garbage(), metadata=metadata),
            open_channel.unary_stream(f"{service}/TranscribeEvents")(b"\xff garbage-canary", metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ended(call)
            code = grpc.StatusCode.INVALID_ARGUMENT if metadata else grpc.StatusCode.UNAUTHENTICATED
            assert caught.value.code() is code
            status = rpc_status.from_call(caught.value)
            assert status is not None
            info = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(info)
            assert info.metadata["request_id"].startswith("req_")
            assert "Error parsing" not in caught.value.details()
    assert "Traceback" not in "".join(server.lines)
    assert server.logged("unexpected error") == []


async def test_a_call_is_one_line_and_nothing_of_it_is_in_the_log(
    config: Path, tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    emulator.text = "transcript-canary"
    secrets = {"prompt-canary", "transcript-canary", "filename-canary", "wrong-key-canary", "label-canary"}
    wrong = {"authorization": "Bearer wrong-key-canary"}
    async with serving(["--config", config, "--log-level", "debug"], tmp_path) as server:
        fields = {"prompt": "prompt-canary", "filename": "filename-canary.wav"}
        good = await post(server, headers=AUTH, **fields)
        assert good.json()["text"] == "transcript-canary"
        assert emulator.records[0].field("prompt") == "prompt-canary"
        assert (await post(server, headers=wrong, **fields)).status_code == 401
        assert (await post(server, headers=AUTH, **fields, response_format="no")).status_code == 400
        async with httpx.AsyncClient(base_url=server.url) as client:
            unlike = {"file": ("filename-canary.wav", b"audio-canary" * 1000)}
            refused = await client.post(
                "/v1/audio/transcriptions", headers=AUTH, files=unlike, data={"model": "whisper-1"}
            )
            assert refused.status_code == 415
        for fault in ("500", "401", "html", "bad-json", "reset-answer"):
            emulator.script(FAULTS[fault])
            assert (await post(server, headers=AUTH, **fields, num_retries="0")).status_code >= 500
        async with channel(server) as open_channel:
            request = api.TranscribeRequest()
            request.CopyFrom(REQUEST)
            request.config.prompt = "prompt-canary"
            request.audio.filename = "filename-canary.wav"
            await TranscriptionServiceStub(open_channel).Transcribe(request, metadata=METADATA)
        calls = 9
        await server.wrote(lambda: len(server.logged("call")) == calls)
    text = "\n".join(server.lines)
    for secret in {*secrets, "audio-canary", KEY, "sk-upstream-canary-0001"}:
        assert secret not in text, secret
    assert str(SPEECH[1000:1010])[2:-1] not in text
    ids = [line["request_id"] for line in server.logged("call")]
    assert len(set(ids)) == calls
    [line] = [line for line in server.logged("call") if line["request_id"] == good.headers["x-voxgate-request-id"]]
    assert line["outcome"] == "ok"
    assert line["model"] == "whisper-1"
    assert line["provider"] == "openai"
    assert line["audio_bytes"] == len(SPEECH)
    assert line["key"] == "master"
    # Everything but what the command itself says is JSON, also what libraries have to say.
    spoken = ("voxgate is ready", "stopping;", "warning: ", "WARNING: ")
    assert [line for line in server.lines if not line.startswith(("{", *spoken))] == []
