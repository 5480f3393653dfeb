"""Settings of all tests, and the check that none of them leaves a gRPC channel open."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from grpc import _channel, aio
from hypothesis import settings

# Other work on the same machine must not fail a test: no example has a time limit of its own.
settings.register_profile("voxgate", deadline=None)
settings.load_profile("voxgate")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and what they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

_open_channels: set[object] = set()


def _watch(kind: Any) -> None:
    make: Callable[..., None] = kind.__init__
    close: Callable[..., Any] = kind._close

    def made(self: object, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        _open_channels.add(self)

    def closed(self: object, *args: Any, **kwargs: Any) -> Any:
        _open_channels.discard(self)
        return close(self, *args, **kwargs)

    kind.__init__, kind._close = made, closed


_watch(aio._channel.Channel)
_watch(_channel.Channel)


@pytest.fixture(autouse=True)
def _channels_are_closed() -> Iterator[None]:
    """A channel that stays open goes on looking for its server, on a port that soon is another test's."""
    before = set(_open_channels)
    yield
    left = _open_channels - before
    _open_channels.difference_update(left)
    assert not left, f"{len(left)} gRPC channels were not closed"
