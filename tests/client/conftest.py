"""Both clients against a recording server."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.client.wire import Twin, Wire, serving


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOXGATE_SERVER", "VOXGATE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving(Wire()) as wire:
        yield wire


@pytest.fixture(params=["sync", "async"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Twin]]:
    """Makes clients of either kind, and closes them."""
    async with contextlib.AsyncExitStack() as stack:

        def make(target: str, **options: Any) -> Twin:
            twin = Twin(request.param, target, **options)
            stack.push_async_callback(twin.close)
            return twin

        yield make


@pytest.fixture
def client(connect: Callable[..., Twin], wire: Wire) -> Twin:
    return connect(wire.target)
