"""What travels with a call through all rooms."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt

from voxgate_server.audio.convert import Conversion
from voxgate_server.audio.duration import DurationProbe
from voxgate_server.audio.sniff import AudioKind
from voxgate_server.audio.spool import Spool
from voxgate_server.errors import CancelledByOperator, NotFound
from voxgate_server.routing.plan import Hop, Recording
from voxgate_server.routing.route import Try

_LONGEST_EXTENSION = 86400.0
"""Seconds; a header may claim anything."""

__all__ = ["ActiveCalls", "Call", "Caller", "RequestContext", "new_request_id"]


def new_request_id() -> str:
    """An id for a call: `req_` and 96 random bits in hex."""
    return f"req_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. An anonymous caller exists only where no key is configured (loopback)."""

    key_id: str = "anonymous"
    """Fingerprint of the key, never the key."""
    is_admin: bool = False
    models: tuple[str, ...] | None = None
    """Names of the models it may use, each with at most one `*` for any text; None: all of them."""

    def may_use(self, *names: str) -> bool:
        """Whether it may use a model that goes by any of these names."""
        return self.models is None or any(_matches(pattern, name) for pattern in self.models for name in names)


def _matches(pattern: str, name: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What is known about a call before its first byte."""

    request_id: str
    caller: Caller
    method: str = ""
    """What was called: a gRPC method, or a REST method and path."""


@dataclass(slots=True)
class Call:
    """One transcription, from the first message to the last."""

    request_id: str
    caller: Caller
    audio: AudioHeader
    spool: Spool
    deadline: float
    """When the call has to be answered, on the clock of `time.monotonic()`, in seconds."""
    patience: float = 0.0
    """Seconds the deadline is put off for every second of the recording."""
    probe: DurationProbe = field(default_factory=DurationProbe)
    """Sees every byte that is written to the spool, and tells how long the audio is."""
    config: TranscriptionConfig = field(default_factory=TranscriptionConfig)
    hops: list[Hop] = field(default_factory=list)
    """What is going to be tried; planned from `config`. A new plan replaces the list, so that a run keeps its own."""
    kind: AudioKind | None = None
    """What the audio is, once its first bytes have told; None for headerless audio."""
    converted: list[Conversion] = field(default_factory=list)
    """The audio in other containers, as far as providers needed it. Closed with the call."""
    streamed: bool = False
    """The answer goes out as events."""
    takes_resets: bool = False
    """Its caller understands the event that voids what was said before."""
    on_partial: Callable[[str, float], None] | None = None
    """Told what was understood of a recording that still arrives: the whole text so far, and of how many seconds."""
    started: float = field(default_factory=time.monotonic)
    attempts: list[ProviderAttempt] = field(default_factory=list)
    """What was tried so far, in order."""
    served_by: Try | None = None
    """The attempt that gave the answer."""
    last_try: Try | None = None
    """The attempt that was begun last."""
    empty: Callable[[], Awaitable[TranscriptionEvent]] | None = None
    """Makes the first transcript without text the answer, when nobody had a better one."""
    provider_headers: dict[str, str] = field(default_factory=dict)
    """What the provider asked last sent along with its answer (an allow-list of its adapter's)."""
    surface: str = ""
    """Where it came in: `grpc`, `rest` or `command`."""
    method: str = ""
    """What was called: a gRPC method, or a REST method and path."""
    task: asyncio.Task[Any] | None = None
    """What runs it, from its opening to its end."""
    cancelled: bool = False
    """An operator has ended it."""
    _measured: tuple[float | None] | None = None
    """What the probe said of the whole recording, once it was asked."""

    @property
    def audio_seconds(self) -> float | None:
        """Length of the recording in seconds; None while it is still coming, and when it cannot be known."""
        if self._measured is None and self.spool.finished:
            self._measured = (self.probe.seconds(),)
        return None if self._measured is None else self._measured[0]

    @property
    def declared_seconds(self) -> float | None:
        """Length in seconds that the recording's header claims, unchecked; None until it has come, or without one."""
        return self.probe.declared

    def extend_deadline(self) -> None:
        """Puts the deadline off by the length of the recording, as far as it is known. Once; later it does nothing."""
        seconds = self.audio_seconds or self.declared_seconds
        if seconds is not None:
            self.deadline += min(seconds * self.patience, _LONGEST_EXTENSION)
            self.patience = 0.0

    @property
    def recording(self) -> Recording:
        """What is known of the audio by now, or claimed by its header."""
        seconds = self.audio_seconds if self.spool.finished else self.declared_seconds
        media_type = None if self.kind is None else self.kind.media_type
        return Recording(max(self.spool.size, self.audio.size_bytes) or None, seconds, media_type)

    def cancel(self) -> None:
        """Ends the call from outside, with everything done for it. A second time it does nothing."""
        if not self.cancelled and self.task is not None:
            self.cancelled = True
            self.task.cancel()

    def cause(self, error: BaseException) -> BaseException:
        """The error as the caller is to be told: when an operator has cancelled the call, its task is not at an end."""
        if not (self.cancelled and isinstance(error, asyncio.CancelledError)):
            return error
        if self.task is not None:
            self.task.uncancel()
        return CancelledByOperator("An operator of this server cancelled the call.", attempts=self.attempts)


class ActiveCalls:
    """The calls in progress, oldest first."""

    def __init__(self) -> None:
        # By the identity of each: callers may choose their request ids, and choose the same one twice.
        self._calls: dict[int, Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls.values()))

    def add(self, call: Call) -> None:
        """A call begins."""
        self._calls[id(call)] = call

    def remove(self, call: Call) -> None:
        """A call is over."""
        del self._calls[id(call)]

    def cancel(self, request_id: str) -> None:
        """Ends the calls with this id, also at the provider; their callers are told.

        Raises:
            NotFound: No call in progress has it.
        """
        calls = [call for call in self if call.request_id == request_id]
        if not calls:
            raise NotFound(
                f"No call '{request_id[:100]}' is in progress in this process; it may be over.", param="request_id"
            )
        for call in calls:
            call.cancel()
