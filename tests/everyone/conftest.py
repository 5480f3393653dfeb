"""A house with all providers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.everyone.sides import House, house


@pytest.fixture
async def everyone(tmp_path: Path) -> AsyncIterator[House]:
    """All of them."""
    async with house(tmp_path) as found:
        yield found
