"""Several processes behind the same two ports."""

import asyncio
import os
import signal
from pathlib import Path

import grpc
import httpx
import pytest
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from tests.providers.openai_emulator import OpenAIEmulator, hang, ok
from tests.running import AUTH, METADATA, openai_config
from tests.serve.processes import SPEECH, Server, channel, configured, eventually, gone, post, serving, started

REQUEST = api.TranscribeRequest(config=TranscriptionConfig(model="whisper-1"), audio=AudioSource(data=SPEECH))


@pytest.fixture
def workers(config: Path) -> list[object]:
    return ["--config", config, "--workers", 2]


async def all_ready(server: Server) -> list[int]:
    """Waits until both workers serve. Says their process ids."""
    await server.wrote(lambda: sum("is ready" in line for line in server.lines) == 2)
    pids = server.workers()
    for number in (1, 2):
        assert any(f"worker {number} (process {pid}) is ready" in line for pid in pids for line in server.lines)
    return pids


async def transcribe(server: Server) -> None:
    async with channel(server) as open_channel:
        await TranscriptionServiceStub(open_channel).Transcribe(REQUEST, metadata=METADATA, timeout=60)


async def test_both_serve_on_both_ports(workers: list[object], tmp_path: Path) -> None:
    async with serving(workers, tmp_path) as server:
        await all_ready(server)

        async def both_seen(call: object) -> bool:
            before = len(server.logged("call"))
            await asyncio.gather(*(transcribe(server) if call is transcribe else post(server, headers=AUTH)
                                   for _ in range(8)))  # fmt: skip
            await server.wrote(lambda: len(server.logged("call")) == before + 8)
            return {line["worker"] for line in server.logged("call")[before:]} == {1, 2}

        # The kernel chooses by the client's port: eight connections miss a worker once in 128 times.
        await eventually(lambda: both_seen(transcribe))
        await eventually(lambda: both_seen(post))


async def test_a_signal_to_the_parent_drains_both(
    workers: list[object], tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    thought = asyncio.Event()
    emulator.script(*[ok(until=thought)] * 16)
    async with serving(workers, tmp_path) as server:
        await all_ready(server)
        calls = [asyncio.create_task(post(server, headers=AUTH)) for _ in range(16)]
        await emulator.record(15)
        server.signal(signal.SIGTERM)
        await server.wrote(lambda: sum(line.startswith("stopping") for line in server.lines) == 2)
        thought.set()
        assert {(await call).status_code for call in calls} == {200}
        assert await server.ended() == 0
    assert [line["outcome"] for line in server.logged("call")] == ["ok"] * 16


async def test_a_second_signal_ends_all_at_once(
    workers: list[object], tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    emulator.script(hang())
    async with serving(workers, tmp_path) as server:
        await all_ready(server)
        call = asyncio.create_task(post(server, headers=AUTH))
        await emulator.record()
        server.signal(signal.SIGTERM)
        await server.wrote(lambda: sum(line.startswith("stopping") for line in server.lines) == 2)
        server.signal(signal.SIGINT)
        with pytest.raises(httpx.TransportError):
            await call
        assert await server.ended() == 1
    assert "Traceback" not in "".join(server.lines)


async def test_workers_end_when_their_parent_is_killed(workers: list[object], tmp_path: Path) -> None:
    async with serving(workers, tmp_path) as server:
        pids = await all_ready(server)
        server.signal(signal.SIGKILL)
        for pid in pids:
            await gone(pid)
        assert await server.ended() == -signal.SIGKILL
    assert sum(line.startswith("stopping") for line in server.lines) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_worker_that_dies_ends_all_and_is_named(
    number: signal.Signals, workers: list[object], tmp_path: Path
) -> None:
    async with serving(workers, tmp_path) as server:
        first, second = await all_ready(server)
        os.kill(second, number)
        assert await server.ended() == 1
        await gone(first)
    how = "ended with exit code 0" if number == signal.SIGTERM else f"was ended by {number.name}"
    [line] = [line for line in server.lines if line.startswith("error: ")]
    assert line.endswith(f"(process {second}) {how}; stopping the others")


async def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    # The parent does not read certificates, its workers do.
    config = openai_config("http://127.0.0.1:9", extra="voxgate: {tls: {certificate: a.pem, private_key: b.pem}}")
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("nothing")
    async with started(["--config", configured(tmp_path, config), "--workers", 2], tmp_path) as server:
        assert await server.ended() == 1
    assert any(line.startswith("Error: a.pem and b.pem cannot be used for TLS") for line in server.lines)
    assert any("ended with exit code 1; stopping the others" in line for line in server.lines)


async def test_a_wrong_configuration_is_told_once(tmp_path: Path) -> None:
    file = configured(tmp_path, "model_list: nothing")
    async with started(["--config", file, "--workers", 2], tmp_path) as server:
        assert await server.ended() == 2
    assert len([line for line in server.lines if line.startswith("error: ")]) == 1


async def test_calls_over_the_shared_grpc_port_end_well_while_draining(
    workers: list[object], tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    thought = asyncio.Event()
    emulator.script(ok(until=thought))
    async with serving(workers, tmp_path) as server, channel(server) as open_channel:
        await all_ready(server)
        call = TranscriptionServiceStub(open_channel).Transcribe(REQUEST, metadata=METADATA)
        await emulator.record()
        server.signal(signal.SIGTERM)
        await server.wrote(lambda: sum(line.startswith("stopping") for line in server.lines) == 2)
        thought.set()
        assert (await call).transcription.text == emulator.text
        assert await call.code() is grpc.StatusCode.OK
        assert await server.ended() == 0
