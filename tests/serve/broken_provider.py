"""`voxgate serve` with a provider that fails in a way nobody foresaw.

Run as a module of its own, so that everything else is what runs in earnest: the command, the log, both surfaces.
"""

import sys
from collections.abc import AsyncGenerator

from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate_server.cli import main
from voxgate_server.providers import registry
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.openai_dialects import OPENAI

MESSAGE = "message-canary"
LOCAL = "local-canary"


class BrokenProvider:
    """Raises what no provider should."""

    name = "openai"
    model = "broken"
    capabilities = OPENAI.family_of("whisper-1").capabilities(OPENAI, max_audio_bytes=0, own_server=False)

    async def aclose(self) -> None:
        pass

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        transcript = "local" + "-canary"
        audio = await attempt.spool.head(64)
        if audio and transcript:
            raise KeyError("message" + "-canary")
        yield TranscriptionEvent()


if __name__ == "__main__":
    registry.PROVIDERS = {"openai": lambda _: BrokenProvider()}  # type: ignore[dict-item]
    main(["serve", *sys.argv[1:]], prog_name="voxgate")
