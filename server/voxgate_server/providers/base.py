"""What every provider adapter offers, and what it is given.

An adapter belongs to one deployment: it is built from the deployment's parameters, holds the connections to that
place and nobody else's, and translates between the API's own messages and the provider's. It yields events and
never a parallel result type: deltas and segments as they come, then exactly one `done`.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt, RawPayload
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.audio.sniff import AudioKind
from voxgate_server.audio.spool import Spool

if TYPE_CHECKING:
    import httpx

__all__ = ["Attempt", "Builder", "Provider", "ProviderParams"]


@dataclass(frozen=True, slots=True)
class ProviderParams:
    """What the configuration says of one deployment, for the adapter that is built for it."""

    provider: str
    """The provider, as it stands before the slash of `provider/model`."""
    model: str
    """The model, by the provider's name."""
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """LiteLLM's parameters of how a provider is reached, those that are set: `api_key`, `api_base`, `api_version`,
    `organization`, `region_name`, `tenant_id`, `client_id`, `client_secret`, `azure_ad_token`, `vertex_project`,
    `vertex_location`, `vertex_credentials`, `nvcf_function_id`, `use_ssl`. Secrets among them."""
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The operator's, sent with every request."""
    drop_params: bool = False
    """Leave options the model cannot take out and report them, instead of refusing the call."""
    allowed_extra_params: frozenset[str] = frozenset()
    """Names callers may use in `extra_params` besides those the adapter knows itself."""
    default_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Parameters of every request whose caller does not set them, by the provider's names."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where the provider's usual variables are looked up. Empty for deployments made for a caller."""
    local: Mapping[str, Any] = field(default_factory=dict)
    """`voxgate.local`, for engines inside this process."""
    base_model: str | None = None
    """Which model it is, where the name does not say; without the provider."""
    pinned: "Callable[[], httpx.AsyncBaseTransport] | None" = field(default=None, repr=False)
    """Makes the connections to an `api_base` that a caller chose; None: the operator did."""

    def get(self, name: str, *variables: str) -> str | None:
        """A parameter, else the first of the variables that is set; None when there is neither.

        Args:
            name: A key of `values`.
            variables: Names in the environment.
        """
        if value := self.values.get(name):
            return value
        return next((value for variable in variables if (value := self.environ.get(variable))), None)

    def transport(self) -> "httpx.AsyncBaseTransport | None":
        """What all requests to `api_base` have to go through; None where the adapter's own connections will do.

        An adapter that does not ask is never built for a host of a caller's choice.
        """
        return None if self.pinned is None else self.pinned()

    def need(self, name: str, *variables: str) -> str:
        """A parameter without which there can be no deployment.

        Raises:
            ValueError: It is not set; the message says how to.
        """
        value = self.get(name, *variables)
        if value is None:
            # A caller's deployment has no environment, and its caller no use for hearing of one.
            also = f", and {' or '.join(variables)} is not set" if variables and self.environ else ""
            raise ValueError(f"there is no {name}{also}")
        return value


@dataclass(slots=True)
class Attempt:
    """One try at one provider.

    The adapter reads the audio through `spool.cursor()`, always from byte 0 and possibly while the caller still
    sends. It must not complete the body it sends before the cursor has ended by itself: the cursor raises when the
    upload broke off or did not verify, and the provider then has to see a cut body, never a short one.
    """

    request_id: str
    config: TranscriptionConfig
    """What the caller wants. Read-only."""
    audio: AudioHeader
    """What the caller said about the audio: hints, not facts. Read-only."""
    spool: Spool
    deadline: float
    """When the attempt has to be over, on the clock of `time.monotonic()`, in seconds."""
    kind: AudioKind | None = None
    """What the audio is, told by its first bytes; None for headerless audio."""
    on_partial: Callable[[str, float], None] | None = None
    """Called while the recording still arrives: the whole text so far, and of how many seconds. None: nobody asks."""
    max_audio_bytes: int = 0
    """Bytes of the recording after which it is too large for the provider; 0 for no limit."""
    streamed: bool = False
    """The answer goes out as events: whoever can have it in pieces should yield them as they come."""
    report: ProviderAttempt = field(default_factory=ProviderAttempt)
    """What becomes of it; the adapter fills in `http_status`, the gateway the rest."""
    dropped_params: list[str] = field(default_factory=list)
    """REST names of options the adapter left out, where the operator chose leniency."""
    raw_request: RawPayload | None = None
    """What was sent, without the audio; filled in when `config.debug.include_raw_request` is set."""
    raw_response: RawPayload | None = None
    """What was answered; filled in when `config.debug.include_raw_response` is set."""
    response_headers: dict[str, str] = field(default_factory=dict)
    """Headers of the answer that may be passed on (an allow-list of the adapter's)."""


class Provider(Protocol):
    """An adapter for one deployment."""

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""

    @property
    def model(self) -> str:
        """The model, by the provider's name."""

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway. The router refuses or re-routes by it before a byte leaves."""

    def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt: `delta*`, `segment*`, then exactly one `done`.

        Closing the iterator early (`aclose`, cancellation) ends the provider's work at once.

        Raises:
            ProviderError: The provider did not answer well; the class says in what way.
            CallerError: The audio or an option is refused before anything was sent.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """

    async def aclose(self) -> None:
        """Gives up connections and processes. The adapter is not used afterwards."""


Builder = Callable[[ProviderParams], Provider]
"""Makes the adapter of a deployment. Raises ValueError where there can be none; the message says why.

Distributions can bring builders of their own as entry points of the group `voxgate.providers`, named like the provider.
"""
