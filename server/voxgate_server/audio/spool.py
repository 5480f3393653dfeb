"""The spool: an upload is written once and read through any number of independent cursors.

(interface; to be completed)
"""

from collections.abc import AsyncIterator


class Spool:
    """An upload on its way in."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """The upload is complete and verified."""
        raise NotImplementedError

    def cursor(self) -> AsyncIterator[bytes]:
        """Reads from byte 0 to the verified end, waiting for bytes that are not there yet."""
        raise NotImplementedError

    async def head(self, size: int) -> bytes:
        """The first `size` bytes; fewer only when the whole recording is shorter."""
        raise NotImplementedError
