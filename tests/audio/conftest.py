"""A store, and a converter with processes of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from voxgate_server.audio.convert import Converter
from voxgate_server.audio.spool import SpoolStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpoolStore]:
    store = SpoolStore(directory=tmp_path, window_bytes=4096)
    yield store
    store.close()


@pytest.fixture
async def converter(store: SpoolStore) -> AsyncIterator[Converter]:
    converter = Converter(store, max_bytes=64 << 20, workers=2)
    yield converter
    await converter.aclose()
