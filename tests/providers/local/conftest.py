"""A recogniser with one worker, so that tests know which process does what."""

from collections.abc import AsyncIterator

import pytest
from voxgate_server.providers.local import PocketsphinxProvider


@pytest.fixture
async def provider() -> AsyncIterator[PocketsphinxProvider]:
    provider = PocketsphinxProvider(workers=1)
    assert provider.worker_pids == []
    yield provider
    await provider.aclose()
    assert provider.worker_pids == []
