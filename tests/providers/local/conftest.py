"""A recogniser with two workers: one that a slow upload may have, and the last one, which it may not."""

from collections.abc import AsyncIterator

import pytest
from voxgate_server.providers.local import PocketsphinxProvider


@pytest.fixture
async def provider() -> AsyncIterator[PocketsphinxProvider]:
    provider = PocketsphinxProvider(workers=2)
    assert provider.worker_pids == []
    yield provider
    await provider.aclose()
    assert provider.worker_pids == []
