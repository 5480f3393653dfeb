"""Live sessions: `intake` and `outbox` are the session's state machines, `session` drives them, `turns` recognises.

Every surface uses the same `LiveRoom`: messages of the API in, events of the API out.
"""

from voxgate_server.live.room import LiveLimits, LiveRoom

__all__ = ["LiveLimits", "LiveRoom"]
