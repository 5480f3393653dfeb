"""What is in the package, and how it looks to a user's type checker."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients/python"

USER = """
import asyncio
from typing import assert_type
from voxgate_client import AsyncClient, Client, UnknownModelError
from voxgate_client.types import Model, Transcription, TranscriptionEvent

with Client("127.0.0.1:50051", timeout=5) as client:
    try:
        assert_type(client.transcribe("a.wav", model="m", fallbacks=["b"], on_progress=print), Transcription)
    except UnknownModelError as error:
        assert_type(error.request_id, str | None)
    assert_type(client.models(), list[Model])
    for event in client.events(b"", language="de"):
        assert_type(event, TranscriptionEvent)
    client.transcribe("a.wav", modle="m")  # type: ignore[call-arg]
    client.transcribe(42)  # type: ignore[arg-type]


async def main() -> None:
    async with AsyncClient() as client:
        assert_type(await client.transcribe(b"", temperature=0.5), Transcription)
        async for event in client.events("a.wav"):
            assert_type(event, TranscriptionEvent)
        await client.transcribe(b"", temperature="hot")  # type: ignore[arg-type]
"""


def test_service_config_is_the_one_of_the_api() -> None:
    ours = (PACKAGE / "src/voxgate_client/service_config.json").read_text()
    assert ours == (ROOT / "protos/service_config.json").read_text()
    assert json.loads(ours)["loadBalancingConfig"] == [{"round_robin": {}}]


def test_types_of_a_user(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "user.py"
    program.write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PACKAGE)],
        check=True,
        capture_output=True,
        timeout=110,
    )
    (wheel,) = tmp_path.glob("voxgate_client-0.1.0-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read("voxgate_client-0.1.0.dist-info/METADATA").decode()
    assert names >= {
        "voxgate/admin/py.typed",
        "voxgate/admin/v1/admin_service_pb2_grpc.py",
        "voxgate/transcription/py.typed",
        "voxgate/transcription/v1/transcription_service_pb2_grpc.pyi",
        "voxgate_client/py.typed",
        "voxgate_client/service_config.json",
        "voxgate_client-0.1.0.dist-info/licenses/LICENSE",
    }
    # A namespace: other distributions put packages beside `transcription`.
    assert "voxgate/__init__.py" not in names
    assert {name.partition("/")[0] for name in names} == {"voxgate", "voxgate_client", "voxgate_client-0.1.0.dist-info"}
    needs = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if "Requires-Dist" in line]
    assert needs == ["grpcio>=1.76", "protobuf<8,>=6.31.1"]
    assert "License-Expression: Apache-2.0" in metadata
