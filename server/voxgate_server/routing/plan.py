"""What a call is going to try: hops, each a set of deployments that are equally good for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.routing.deployments import Deployment

__all__ = ["Hop", "Recording"]


_ENOUGH = 20
"""Calls below which a percentile says nothing."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What is known of the audio of a call when its way is planned."""

    size_bytes: int | None = None
    """Its size, or what has come of it so far; None when nothing is known."""
    seconds: float | None = None
    """Its length; None when it is not known yet."""
    media_type: str | None = None
    """What it is, once its first bytes have told; None before, and for headerless audio."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a plan. The next one is taken when this one is used up."""

    name: str
    """The model group, or the place in a routing object (`config.targets[1]`)."""
    deployments: Sequence[Deployment]
    """Never empty. Which of them comes first is the strategy's business."""
    config: TranscriptionConfig
    """The call's options as they are for this hop."""
    timeout: float | None = None
    """Limit of one attempt in seconds; None means each deployment's own."""
    retries: int | None = None
    """Attempts after the first. None: 2, and the same deployment again only when there is no further hop."""
    retry_statuses: frozenset[int] | None = None
    """HTTP statuses of the provider after which the hop is tried again; None means by the kind of the error."""
    fallback_statuses: frozenset[int] | None = None
    """HTTP statuses of the provider after which the next hop is taken; None means after every error."""
    timeout_by_caller: bool = False
    """The limit is the caller's own: exceeding it says nothing about the deployment's health."""
    lenient: bool = False
    """Its deployments leave out, and report, options of the call."""
    param: str | None = None
    """Where a caller's own routing object names it; None for what the operator configured or `fallbacks` lists."""
    hedge_percentile: float | None = None
    """A second attempt begins beside one that takes longer than this percentile of the hop's calls. None: never."""

    def hedge_after(self) -> float | None:
        """Seconds after which a second attempt begins; None when hedging is off or too little is known."""
        if self.hedge_percentile is None:
            return None
        seconds = sorted(value for deployment in self.deployments for value in deployment.health.recent)
        if len(seconds) < _ENOUGH:
            return None
        return seconds[min(int(len(seconds) * self.hedge_percentile / 100), len(seconds) - 1)]
