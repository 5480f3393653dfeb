"""Other people's clients, as their users run them."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.edges.conftest import emulator, gateway, portkey

__all__ = ["emulator", "gateway", "node", "portkey", "run"]

NODE = Path(__file__).parent.parent / "node"


async def run(*command: str, cwd: Path | None = None) -> str:
    """Runs a program to its end and returns what it printed; fails the test when the program fails."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture
def node() -> Callable[..., Awaitable[str]]:
    """Runs one of the programs in tests/node."""
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        assert os.environ.get("CI") != "true", "CI needs node, and `make node` before the tests"
        pytest.skip("there is no node here, or its packages are not installed (`make node`)")

    async def run_program(program: str, *arguments: str) -> str:
        return await run("node", program, *arguments, cwd=NODE)

    return run_program
