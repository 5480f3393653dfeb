"""What a provider with live recognition of its own offers, besides `providers.base.Provider`.

A stream belongs to one live session and one deployment. It takes plain samples (signed 16 bit little-endian, mono) and
gives the API's own events, without `sequence`, with times in seconds since the first sample *it* was sent and with item
ids that are unique in it: the session behind the API numbers the events, shifts the times and renames the items, so
that streams can follow one another in it. An adapter only translates.

`live.turns.TurnStream` is the stream for every provider that has none: it cuts turns itself.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeLiveResponse, TurnDetection

__all__ = ["LiveAttempt", "LiveProvider", "LiveStream"]


@dataclass(slots=True)
class LiveAttempt:
    """One try at live recognition at one provider."""

    request_id: str
    config: TranscriptionConfig
    """What the caller wants. Read-only."""
    sample_rate: int
    """Of the samples that will be sent, in Hz."""
    turn_detection: TurnDetection
    """Who decides that a turn is over; always with a kind. Read-only."""
    interim_results: bool
    """`partial` events are wanted."""
    deadline: float
    """When the stream has to be open, on the clock of `time.monotonic()`, in seconds."""
    report: ProviderAttempt = field(default_factory=ProviderAttempt)
    """What becomes of it; the adapter fills in `http_status`, the gateway the rest."""
    dropped_params: list[str] = field(default_factory=list)
    """REST names of options the adapter left out, where the operator chose leniency."""


class LiveStream(Protocol):
    """Speech on its way in, events on their way out. The methods are called one at a time, `events` beside them."""

    async def send(self, pcm: bytes) -> None:
        """Takes samples, at most a second of them; waits while there is no room for more.

        It takes all of them or, where it is cancelled, none.

        Raises:
            VoxgateError: The stream has failed; `events` raises the same.
        """

    async def commit(self) -> None:
        """Ends the turn now. Without a turn it does nothing."""

    async def clear(self) -> None:
        """Drops the audio of the turn that is not committed."""

    async def finish(self) -> None:
        """Says that no more audio comes: the last turn is committed, and `events` ends after its completion."""

    def events(self) -> AsyncGenerator[TranscribeLiveResponse, None]:
        """What happens: `speech_started`, `speech_stopped`, `turn_committed`, `partial`, `delta`, `segment`,
        `turn_completed` and `notice`; called once.

        Turns are completed in the order in which they were committed, each exactly once. `cursors.processed` and
        `cursors.final` are set where they are known: final is up to where audio has not to be sent to anybody again.

        Raises:
            VoxgateError: The provider was lost; what is not final has to be sent to another one.
        """

    async def aclose(self) -> None:
        """Ends everything at once. May be called again."""


@runtime_checkable
class LiveProvider(Protocol):
    """A provider with live recognition of its own; `capabilities.live` says whether its model has it."""

    async def open_live(self, attempt: LiveAttempt) -> LiveStream:
        """Connects, and comes back when audio may be sent.

        Raises:
            ProviderError: The provider cannot be reached, or refuses.
            CallerError: An option is refused before anything was sent.
        """
