"""A port that somebody else has is refused with a word on what to do, and nothing is left behind."""

import re
import socket
from pathlib import Path

import pytest

from tests.serve.processes import Server, free_ports, serving, started


@pytest.mark.parametrize("workers", [1, 2], ids=["beside one", "beside workers"])
@pytest.mark.parametrize("own_workers", [1, 2], ids=["one", "workers"])
@pytest.mark.parametrize("clash", ["--grpc-port", "--rest-port"])
async def test_a_second_server_on_a_port_is_refused(
    workers: int, own_workers: int, clash: str, config: Path, tmp_path: Path
) -> None:
    async with serving(["--config", config, "--workers", workers], tmp_path) as first:
        grpc_port, rest_port = free_ports()
        ports = (first.grpc_port, rest_port) if clash == "--grpc-port" else (grpc_port, first.rest_port)
        async with started(["--config", config, "--workers", own_workers], tmp_path, ports=ports) as second:
            assert await second.ended() == 1
        assert error_of(second, ports) == (first.grpc_port if clash == "--grpc-port" else first.rest_port, clash)
        assert first.process.returncode is None
        # What it had taken before it noticed is free again.
        free = rest_port if clash == "--grpc-port" else grpc_port
        socket.create_server(("127.0.0.1", free)).close()


def error_of(server: Server, ports: tuple[int, int]) -> tuple[int, str]:
    [line] = [line for line in server.lines if line.startswith("Error: ")]
    match = re.fullmatch(
        r"Error: Cannot listen on 127\.0\.0\.1:(\d+)(?: \(Address already in use\))?\. "
        r"Is another server running there\? Choose another port with (--\S+)\.",
        line,
    )
    assert match, line
    assert "Traceback" not in "".join(server.lines)
    assert int(match[1]) in ports
    return int(match[1]), match[2]


async def test_an_address_that_is_not_ours_is_refused(config: Path, tmp_path: Path) -> None:
    async with started(["--config", config, "--host", "192.0.2.1"], tmp_path) as server:
        assert await server.ended() == 1
    assert any(line.startswith("Error: Cannot listen on 192.0.2.1:") for line in server.lines)


async def test_workers_need_ports_that_are_given(config: Path, tmp_path: Path) -> None:
    for ports in ((0, free_ports(1)[0]), (free_ports(1)[0], 0)):
        async with started(["--config", config, "--workers", 2], tmp_path, ports=ports) as server:
            assert await server.ended() == 2
        assert "Error: Workers share their ports, so the ports have to be given; 0 is none." in server.lines
