"""What a running server answers to those who look after it."""

import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.serve.processes import ROOT, channel, configured, serving, started

SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "voxgate.transcription.v1.ModelService",
    "voxgate.transcription.v1.TranscriptionService",
}
SERVING = health_pb2.HealthCheckResponse.SERVING


async def test_says_where_it_listens_and_that_it_lives(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config], tmp_path) as server, httpx.AsyncClient(base_url=server.url) as client:
        await server.is_ready()
        [line] = [line for line in server.lines if "is ready" in line]
        assert line == f"voxgate is ready: gRPC on {server.target}, REST on {server.url}"
        for path in ("/health/liveliness", "/health/liveness", "/health/readiness"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/health/readiness")).json() == {"status": "healthy"}
        # These need no key; everything else does.
        assert (await client.get("/v1/models")).status_code == 401


async def test_health_over_grpc(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config], tmp_path) as server, channel(server) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        for service in ("", *(name for name in SERVICES if name.startswith("voxgate."))):
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await stub.Check(request)).status == SERVING
            watch = stub.Watch(request)
            assert (await watch.read()).status == SERVING
            watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config], tmp_path) as server, channel(server) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        [answer] = [answer async for answer in call]
        assert {service.name for service in answer.list_services_response.service} == SERVICES


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_key_only_the_loopback_is_served(host: str, workers: int, tmp_path: Path) -> None:
    file = configured(tmp_path, "model_list: []")
    done = run("serve", "--config", str(file), "--host", host, "--workers", str(workers))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"Error: Refusing to listen on {host} without a key")
    assert "general_settings.master_key" in line


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
async def test_without_a_key_every_loopback_address_is_served(host: str, tmp_path: Path) -> None:
    file = configured(tmp_path, "model_list: []")
    async with started(["--config", file, "--host", host], tmp_path) as server:
        await server.is_ready()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_with_a_key_every_address_is_served(host: str, config: Path, tmp_path: Path) -> None:
    async with started(["--config", config, "--host", host], tmp_path) as server:
        await server.is_ready()


async def test_all_interfaces_are_those_of_both_families(config: Path, tmp_path: Path) -> None:
    async with serving(["--config", config, "--host", "::"], tmp_path) as server, httpx.AsyncClient() as client:
        for host in ("127.0.0.1", "[::1]"):
            answer = await client.get(f"http://{host}:{server.rest_port}/health/readiness")
            assert answer.status_code == 200
            target = f"{host}:{server.grpc_port}"
            async with grpc.aio.insecure_channel(target) as open_channel:
                stub = health_pb2_grpc.HealthStub(open_channel)
                assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING


def test_the_version_and_the_help_of_serve() -> None:
    assert run("--version").stdout == "voxgate, version 0.1.0\n"
    text = " ".join(run("serve", "--help").stdout.split())
    assert text.startswith("Usage: voxgate serve [OPTIONS]")
    for words in ("--log-level [debug|info|warning|error]", "--log-json / --log-text", "--workers", "drain_seconds"):
        assert words in text
    assert "--worker " not in text


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    path = f"{ROOT / 'server'}:{ROOT / 'clients/python/src'}"
    return subprocess.run(
        [sys.executable, "-m", "voxgate_server.cli", *arguments],
        env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
