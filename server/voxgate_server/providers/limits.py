"""What is larger than a provider takes is refused here, before it is sent or as soon as it is seen."""

from voxgate_server.errors import AudioTooLarge
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.http_errors import Upstream

__all__ = ["check_size", "known_size"]


def known_size(attempt: Attempt) -> int:
    """Bytes of the recording as far as they are known: what has come, or what was announced if that is more."""
    return max(attempt.spool.size, attempt.audio.size_bytes)


def check_size(size: int, most: int, upstream: Upstream) -> None:
    """Refuses a recording that is too large.

    Args:
        size: Its bytes, or those of it that have come.
        most: Bytes the provider takes; 0 for any number.
        upstream: The provider.

    Raises:
        AudioTooLarge: It is.
    """
    if most and size > most:
        raise AudioTooLarge(
            f"The recording has {size} bytes or more and {upstream} takes at most {most}. Send a shorter or better "
            "compressed one, or choose a model without this limit.",
            param="file",
            metadata={"limit_bytes": str(most), "provider": upstream.provider},
        )
