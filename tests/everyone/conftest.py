"""A house with all providers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.everyone.sides import House, house


@pytest.fixture
async def everyone(tmp_path: Path) -> AsyncIterator[House]:
    """All of them, with little patience."""
    async with house(tmp_path, timeout=0.4) as found:
        yield found
