"""Answers that come as server-sent events: what all providers that stream have in common."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import NoReturn, Protocol

from voxgate.transcription.v1.events_pb2 import TranscriptionEvent

from voxgate_server.errors import ProviderGarbled, ProviderUnavailable
from voxgate_server.providers.http_answer import Incoming
from voxgate_server.providers.http_errors import Upstream, excerpt, read_error_body
from voxgate_server.providers.sse_reader import Event, SseReader

__all__ = ["EventReader", "events_of", "is_event_stream", "stream_error", "stream_garbled"]

_THREAD_BYTES = 512 * 1024
"""Events above this size are read in a thread, so that the event loop does not stand still."""


class EventReader(Protocol):
    """Reads the events of one answer in a provider's own words. Sans-IO."""

    @property
    def ended(self) -> bool:
        """The provider has said that the answer is complete."""

    def read(self, event: Event) -> Iterator[TranscriptionEvent]:
        """What an event of the provider's says, but for the end.

        Raises:
            ProviderError: It is an error, or makes no sense.
        """

    def done(self) -> TranscriptionEvent:
        """The last event, once the answer has ended.

        Raises:
            ProviderError: It has not ended, or cannot be one.
        """


def is_event_stream(incoming: Incoming) -> bool:
    """Whether a provider that was asked to stream does so."""
    return incoming.media_type == "text/event-stream"


async def events_of(
    incoming: Incoming, reader: EventReader, upstream: Upstream
) -> AsyncGenerator[TranscriptionEvent, None]:
    """The events of an answer as they come, the last one excepted: that is `reader.done()`, afterwards.

    It ends when the body does, and not with the provider's last event: a body that is cut behind that is cut all the
    same. A server that leaves its connection open is waited for a second.

    Raises:
        ProviderError: The provider failed on the way.
    """
    sse = SseReader(str(upstream))
    async for piece in incoming:
        for event in sse.feed(piece):
            if len(event.data) > _THREAD_BYTES:
                said = await asyncio.to_thread(_all, reader, event)
            else:
                said = reader.read(event)
            for one in said:
                yield one
        if reader.ended:
            incoming.expect_end()


def _all(reader: EventReader, event: Event) -> Iterator[TranscriptionEvent]:
    return iter(list(reader.read(event)))


def stream_error(upstream: Upstream, data: bytes) -> ProviderUnavailable:
    """The error for an event that is one.

    Args:
        upstream: Who sent it.
        data: Its JSON.
    """
    said = excerpt(read_error_body(data).message, upstream.secrets)
    return ProviderUnavailable(
        f"{upstream} failed in the middle of its answer{': ' + said if said else '.'}",
        metadata={"provider": upstream.provider},
    )


def stream_garbled(upstream: Upstream, what: str) -> NoReturn:
    """Refuses a stream.

    Raises:
        ProviderGarbled: Always.
    """
    raise ProviderGarbled(f"{upstream} {what}.", metadata={"provider": upstream.provider})
