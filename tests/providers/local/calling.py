"""How the tests of the embedded recogniser make a call."""

import asyncio
import itertools
import os
import re
import time
from dataclasses import dataclass, field

from google.protobuf import text_format
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import Spool, SpoolStore
from voxgate_server.providers.base import Attempt, Provider

_DIGITS = dict(
    zip("0123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True)
)


def attempt_at(spool: Spool, config: str = "", *, audio: str = "", seconds: float = 100) -> Attempt:
    """An attempt with a configuration and header in text format."""
    return Attempt(
        "req_1",
        text_format.Parse(config, TranscriptionConfig(model="pocketsphinx")),
        text_format.Parse(audio, AudioHeader()),
        spool,
        time.monotonic() + seconds,
    )


@dataclass
class Answer:
    """What came of a call."""

    attempt: Attempt
    deltas: list[str] = field(default_factory=list)
    transcription: Transcription | None = None

    @property
    def text(self) -> str:
        assert self.transcription is not None
        return self.transcription.text


async def follow(provider: Provider, attempt: Attempt) -> Answer:
    """Runs an attempt to its end and holds the order of events to the rules."""
    answer = Answer(attempt)
    async for event in provider.transcribe(attempt):
        assert answer.transcription is None, "an event after done"
        match event.WhichOneof("event"):
            case "delta":
                answer.deltas.append(event.delta.delta)
            case "done":
                answer.transcription = event.done.transcription
            case other:
                raise AssertionError(other)
    assert answer.transcription is not None
    return answer


async def transcribe(
    provider: Provider,
    store: SpoolStore,
    data: bytes,
    config: str = "",
    *,
    audio: str = "",
    cuts: tuple[int, ...] = (),
    seconds: float = 100,
) -> Answer:
    """Sends a recording, cut at the given places, while it is being recognised."""
    async with store.open(max_bytes=1 << 40) as spool, asyncio.TaskGroup() as tasks:
        attempt = attempt_at(spool, config, audio=audio, seconds=seconds)
        task = tasks.create_task(follow(provider, attempt))
        places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in itertools.pairwise(places):
            await spool.write(data[start:end])
            await asyncio.sleep(0)
        spool.finish()
        return await task


async def refused(
    provider: Provider, store: SpoolStore, data: bytes, config: str = "", *, audio: str = "", seconds: float = 100
) -> Exception:
    """The error a recording ends with."""
    async with store.open(max_bytes=1 << 40) as spool:
        await spool.write(data)
        spool.finish()
        try:
            answer = await follow(provider, attempt_at(spool, config, audio=audio, seconds=seconds))
        except Exception as error:
            return error
    raise AssertionError(f"not refused: {answer.text!r}")


async def gone(pid: int) -> None:
    """Waits until a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def plain_words(text: str) -> str:
    """Lower case, digits as words, no punctuation: what word error rates are computed on."""
    text = re.sub(r"\d", lambda digit: f" {_DIGITS[digit[0]]} ", text.lower()).replace("-", " ")
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())
