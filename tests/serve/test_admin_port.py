"""`voxgate serve --admin-port`: one admin listener a process, open until the last call is over."""

import asyncio
import signal
from pathlib import Path

from grpc import aio
from voxgate.admin.v1 import admin_service_pb2 as admin
from voxgate.admin.v1.admin_service_pb2_grpc import AdminServiceStub

from tests.providers.openai_emulator import OpenAIEmulator, hang
from tests.running import AUTH, METADATA, openai_config
from tests.serve.processes import PATIENCE, configured, free_ports, post, serving, started


async def test_each_worker_has_its_own(config: Path, tmp_path: Path) -> None:
    # The port behind a free one is free nearly always, and the server says so when it is not.
    (port,) = free_ports(1)
    arguments: list[object] = ["--config", config, "--workers", 2, "--admin-port", port]
    async with serving(arguments, tmp_path) as server:
        await server.wrote(lambda: sum("is ready" in line for line in server.lines) == 2)
        for worker in (1, 2):
            assert any(f"AdminService on 127.0.0.1:{port + worker - 1}" in line for line in server.lines)
            async with aio.insecure_channel(f"127.0.0.1:{port + worker - 1}") as channel:
                info = await AdminServiceStub(channel).GetServerInfo(admin.GetServerInfoRequest(), metadata=METADATA)
            assert info.worker == worker


async def test_the_configuration_chooses_it(tmp_path: Path, emulator: OpenAIEmulator) -> None:
    file = configured(tmp_path, openai_config(emulator.url, extra="voxgate: {admin: {host: localhost, port: 0}}"))
    async with serving(["--config", file], tmp_path) as server:
        await server.is_ready()
        assert any("AdminService on localhost:" in line for line in server.lines)


async def test_what_holds_up_the_end_can_be_seen_and_ended(
    config: Path, tmp_path: Path, emulator: OpenAIEmulator
) -> None:
    emulator.script(hang())
    async with serving(["--config", config, "--admin-port", 0], tmp_path) as server:
        await server.is_ready()
        (said,) = (line for line in server.lines if "is ready" in line)
        call = asyncio.create_task(post(server, headers=AUTH))
        record = await emulator.record()
        async with aio.insecure_channel(said.rpartition("AdminService on ")[2]) as channel:
            stub = AdminServiceStub(channel)
            await stub.GetServerInfo(admin.GetServerInfoRequest(), metadata=METADATA)
            server.signal(signal.SIGTERM)
            await server.wrote(lambda: any(line.startswith("stopping") for line in server.lines))
            listed = await stub.ListActiveRequests(
                admin.ListActiveRequestsRequest(), metadata=METADATA, timeout=PATIENCE
            )
            (request,) = listed.requests
            await stub.CancelRequest(admin.CancelRequestRequest(request_id=request.request_id), metadata=METADATA)
        assert (await call).status_code == 499
        await asyncio.wait_for(record.peer_closed.wait(), PATIENCE)
        assert await server.ended() == 0


async def test_a_port_that_is_taken_is_named(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config, "--admin-port", 0], tmp_path) as server:
        await server.is_ready()
        (said,) = (line for line in server.lines if "is ready" in line)
        async with started(["--config", config, "--admin-port", said.rpartition(":")[2]], tmp_path) as second:
            assert await second.ended() == 1
            assert any("--admin-port" in line for line in second.lines)
