"""How long a recording is, told by its packets while it streams in, without decoding any of them."""

from voxgate_server.audio.duration.probe import DurationProbe
from voxgate_server.audio.duration.raw import raw_seconds

__all__ = ["DurationProbe", "raw_seconds"]
