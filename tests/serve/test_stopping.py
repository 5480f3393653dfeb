"""How a server stops: calls in progress end well, new ones are refused, and nothing makes it wait for ever."""

import asyncio
import signal
import socket
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from tests.providers.openai_emulator import OpenAIEmulator, hang, ok
from tests.running import AUTH, METADATA, openai_config
from tests.serve.processes import SPEECH, Server, channel, configured, eventually, gone, post, serving

CONFIG = TranscriptionConfig(model="whisper-1")
REQUEST = api.TranscribeRequest(config=CONFIG, audio=AudioSource(data=SPEECH))
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HALF = len(SPEECH) // 2


async def stopping(server: Server) -> None:
    await server.wrote(lambda: any(line.startswith("stopping") for line in server.lines))


async def test_calls_in_progress_end_well_and_new_ones_are_refused(
    config: Path, tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    thought = asyncio.Event()
    emulator.script(*[ok(until=thought)] * 3)
    async with (
        serving(["--config", config], tmp_path) as server,
        channel(server) as open_channel,
        channel(server) as newcomer,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        watch = health_pb2_grpc.HealthStub(open_channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        rest = asyncio.create_task(post(server, headers=AUTH))
        stub = TranscriptionServiceStub(open_channel)
        unary = stub.Transcribe(REQUEST, metadata=METADATA)
        events = stub.TranscribeEvents(
            api.TranscribeEventsRequest(config=CONFIG, audio=AudioSource(data=SPEECH)), metadata=METADATA
        )
        streamed = asyncio.create_task(events.read())
        await emulator.record(2)

        server.signal(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        await eventually(lambda: is_draining(client))
        refused = await client.post("/v1/audio/transcriptions", headers=AUTH, files={"file": ("a.wav", SPEECH)})
        assert refused.status_code == 503
        assert "stopping" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        for connection in (open_channel, newcomer):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await TranscriptionServiceStub(connection).Transcribe(REQUEST, metadata=METADATA)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(emulator.records) == 3

        thought.set()
        assert (await rest).json()["text"] == emulator.text
        assert (await unary).transcription.text == emulator.text
        assert (await streamed).event.done.transcription.text == emulator.text
        assert await server.ended() == 0
    assert [line["outcome"] for line in server.logged("call")] == ["ok"] * 3


async def is_draining(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/health/readiness")
    return answer.status_code == 503 and answer.json() == {"status": "draining"}


async def test_an_upload_in_progress_goes_on(config: Path, tmp_path: Path, emulator: OpenAIEmulator) -> None:
    async with serving(["--config", config], tmp_path) as server, channel(server) as open_channel:
        body = asyncio.Queue[bytes | None]()

        async def pieces():
            while (piece := await body.get()) is not None:
                yield piece

        head, tail = multipart()
        body.put_nowait(head + SPEECH[:HALF])
        headers = {**AUTH, "content-type": "multipart/form-data; boundary=xyz"}
        async with httpx.AsyncClient(base_url=server.url) as client:
            rest = asyncio.create_task(
                client.post("/v1/audio/transcriptions", headers=headers, content=pieces(), timeout=60)
            )
            upload = TranscriptionServiceStub(open_channel).TranscribeUpload(metadata=METADATA)
            start = api.UploadStart(config=CONFIG, audio=AudioHeader(filename="a.wav"))
            await upload.write(api.TranscribeUploadRequest(start=start))
            await upload.write(api.TranscribeUploadRequest(chunk=AudioChunk(data=SPEECH[:HALF])))
            for number in range(2):
                await (await emulator.record(number)).first_file_byte.wait()

            server.signal(signal.SIGTERM)
            await stopping(server)
            body.put_nowait(SPEECH[HALF:] + tail)
            body.put_nowait(None)
            await upload.write(api.TranscribeUploadRequest(chunk=AudioChunk(data=SPEECH[HALF:])))
            await upload.write(api.TranscribeUploadRequest(finish=AudioTrailer(size_bytes=len(SPEECH))))
            await upload.done_writing()
            assert (await rest).json()["text"] == emulator.text
            assert (await upload).transcription.text == emulator.text
        assert await server.ended() == 0


async def test_calls_longer_than_the_grace_are_ended(tmp_path: Path, emulator: OpenAIEmulator) -> None:
    file = configured(tmp_path, openai_config(emulator.url, extra="voxgate: {limits: {drain_seconds: 0.5}}"))
    emulator.script(hang(), hang())
    async with serving(["--config", file], tmp_path) as server, channel(server) as open_channel:
        rest = asyncio.create_task(post(server, headers=AUTH))
        unary = TranscriptionServiceStub(open_channel).Transcribe(REQUEST, metadata=METADATA)
        await emulator.record(1)
        server.signal(signal.SIGTERM)
        answer = await rest
        assert answer.status_code == 503
        assert "stopping" in answer.json()["error"]["message"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await server.ended() == 0
        for record in emulator.records:
            await asyncio.wait_for(record.peer_closed.wait(), 60)
    assert [line["outcome"] for line in server.logged("call")] == ["CANCELLED"] * 2
    assert "Traceback" not in "".join(server.lines)


async def test_health_checks_reflection_and_idle_connections_hold_nothing_up(
    tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    # A grace far longer than a test may last.
    file = configured(tmp_path, openai_config(emulator.url, extra="voxgate: {limits: {drain_seconds: 3600}}"))
    async with serving(["--config", file], tmp_path) as server, channel(server) as open_channel:
        watch = health_pb2_grpc.HealthStub(open_channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        reflection = reflection_pb2_grpc.ServerReflectionStub(open_channel).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await reflection.read()
        with socket.create_connection(("127.0.0.1", server.rest_port)) as silent:
            async with httpx.AsyncClient(base_url=server.url) as idle:
                await idle.get("/health/liveness")
                server.signal(signal.SIGTERM)
                assert (await watch.read()).status == NOT_SERVING
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await watch.read()
                assert (caught.value.code(), caught.value.details()) == (
                    grpc.StatusCode.UNAVAILABLE, "This server is stopping.",
                )  # fmt: skip
                assert await server.ended() == 0
            assert silent.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_embedded_recognisers_end_with_their_server(number: signal.Signals, tmp_path: Path) -> None:
    async with serving([], tmp_path) as server:
        assert (await post(server, headers={})).status_code == 200
        recognisers = server.workers()
        assert recognisers
        server.signal(number)
        assert await server.ended() == (0 if number == signal.SIGTERM else -number)
        for pid in recognisers:
            await gone(pid)
    # gRPC has nothing to say about them, neither.
    assert [line for line in server.lines if not line.startswith(("{", "voxgate is ready", "stopping"))] == []


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(
    first: signal.Signals, second: signal.Signals, config: Path, tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    emulator.script(hang())
    async with serving(["--config", config], tmp_path) as server:
        call = asyncio.create_task(post(server, headers=AUTH))
        await emulator.record()
        server.signal(first)
        await stopping(server)
        server.signal(second)
        with pytest.raises(httpx.TransportError):
            await call
        assert await server.ended() == -second
    assert "Traceback" not in "".join(server.lines)


def multipart() -> tuple[bytes, bytes]:
    head = (
        b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    )
    return head, b"\r\n--xyz--\r\n"
