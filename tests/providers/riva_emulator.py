"""NVIDIA Riva's speech recognition on a loopback port: a real gRPC server, as strict as the real one.

async with RivaEmulator() as emulator:
    emulator.script(Behaviour(status=grpc.StatusCode.UNAVAILABLE))    # the next call; after that all goes well
    ... talk to emulator.target ...
    emulator.records[0].audio
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from voxgate_server.providers.riva import riva_asr_pb2 as riva
from voxgate_server.providers.riva import riva_asr_pb2_grpc

KEY = "nvapi-emulator-0123456789"
FUNCTION = "1598d209-5e27-4d3c-8079-4751568b1081"
TEXTS = ("Hello from Riva.", "It says two things.")
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_SPEAKERS = (4, 4, 4, 9, 9, 9, 4)


@dataclass(frozen=True)
class Behaviour:
    """How one call goes."""

    status: grpc.StatusCode | None = None
    """How it ends; None: well."""
    details: str = "it did not work"
    trailers: Sequence[tuple[str, str]] = ()
    early: bool = False
    """It ends at the first audio, without waiting for the rest."""
    hang: bool = False
    """It takes everything and never answers."""
    never_final: bool = False
    """The last stretch is not marked as final."""
    answer: Any = None
    """Instead of the usual one: a list of responses."""


@dataclass
class Record:
    """What the emulator saw of one call."""

    method: str
    metadata: dict[str, str]
    config: riva.RecognitionConfig | None = None
    audio: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    """The first audio has come."""
    answered: bool = False
    """It was answered as a whole recording."""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class RivaEmulator(riva_asr_pb2_grpc.RivaSpeechRecognitionServicer):
    """The server.

    Args:
        key: The only bearer token it takes; None takes every call.
        function: The only function it has; None for a server that is no cloud.
        credentials: Speaks TLS with them.
        max_message: Bytes of the largest request.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        function: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        max_message: int = 4 << 20,
    ) -> None:
        self.key, self.function = key, function
        self.records: list[Record] = []
        self._credentials = credentials
        self._max_message = max_message
        self._script: deque[Behaviour] = deque()
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", self._max_message)])
        riva_asr_pb2_grpc.add_RivaSpeechRecognitionServicer_to_server(self, self._server)
        if self._credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", self._credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Breaks off all calls."""
        await self._server.stop(grace=None)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def script(self, *behaviours: Behaviour) -> None:
        """Appends behaviours for the next calls."""
        self._script.extend(behaviours)

    async def record(self, number: int = 0) -> Record:
        """Waits until the call with this number (from 0) has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.records) > number)
        return self.records[number]

    async def Recognize(self, request: riva.RecognizeRequest, context: Any) -> riva.RecognizeResponse:  # noqa: N802
        async with self._call("Recognize", context) as (record, behaviour):
            record.config = request.config
            await self._judge(record.config, context)
            await self._take(record, request.audio, context)
            await self._misbehave(behaviour, context)
            record.answered = True
            results = [
                riva.SpeechRecognitionResult(alternatives=[one], channel_tag=1, audio_processed=2.5 * (number + 1))
                for number, one in enumerate(_alternatives(record.config))
            ]
            return riva.RecognizeResponse(results=results)

    async def StreamingRecognize(  # noqa: N802
        self, requests: AsyncIterator[riva.StreamingRecognizeRequest], context: Any
    ) -> AsyncIterator[riva.StreamingRecognizeResponse]:
        async with self._call("StreamingRecognize", context) as (record, behaviour):
            async for request in requests:
                kind = request.WhichOneof("streaming_request")
                if (kind == "streaming_config") != (record.config is None):
                    await context.abort(_INVALID, "the first message, and no other, has the configuration")
                if record.config is None:
                    record.config = request.streaming_config.config
                    await self._judge(record.config, context)
                    continue
                await self._take(record, request.audio_content, context)
                if behaviour.early:
                    await self._misbehave(behaviour, context)
                    return
            if record.config is None or not record.audio:
                await context.abort(_INVALID, "no audio")
            await self._misbehave(behaviour, context)
            if behaviour.answer is not None:
                for response in behaviour.answer:
                    yield response
                return
            for number, one in enumerate(_alternatives(record.config)):
                final = not (behaviour.never_final and number == len(TEXTS) - 1)
                result = riva.StreamingRecognitionResult(
                    alternatives=[one], is_final=final, channel_tag=1, audio_processed=2.5 * (number + 1)
                )
                yield riva.StreamingRecognizeResponse(results=[result])
            # Whoever cancelled looked like one who half-closed, until here.
            record.answered = True

    @contextlib.asynccontextmanager
    async def _call(self, method: str, context: Any) -> AsyncIterator[tuple[Record, Behaviour]]:
        metadata = {str(name): str(value) for name, value in context.invocation_metadata()}
        record = Record(method, metadata)
        async with self._arrived:
            self.records.append(record)
            self._arrived.notify_all()
        try:
            if self.key is not None and metadata.get("authorization") != f"Bearer {self.key}":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"bad key {metadata.get('authorization')}")
            if metadata.get("function-id") != self.function:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such function")
            yield record, self._script.popleft() if self._script else Behaviour()
        finally:
            record.over.set()

    async def _judge(self, config: riva.RecognitionConfig, context: Any) -> None:
        if not config.encoding or not 8000 <= config.sample_rate_hertz <= 48_000 or config.audio_channel_count < 1:
            await context.abort(_INVALID, "encoding, rate and channels have to be set")
        if len(config.language_code.split("-")) != 2 and config.language_code != "multi":
            await context.abort(_INVALID, f"Unavailable model requested. Lang: {config.language_code}, Type: online")
        if self.function is not None and config.model:
            await context.abort(_INVALID, "Unavailable model requested")
        if any(context.boost <= 0 or not context.phrases for context in config.speech_contexts):
            await context.abort(_INVALID, "a speech context without phrases or boost")

    async def _take(self, record: Record, audio: bytes, context: Any) -> None:
        assert record.config is not None
        magic = {riva.AudioEncoding.FLAC: b"fLaC", riva.AudioEncoding.OGGOPUS: b"OggS"}.get(record.config.encoding, b"")
        if not audio:
            await context.abort(_INVALID, "empty audio")
        if not record.audio and (not audio.startswith(magic) or (not magic and audio.startswith(b"RIFF"))):
            await context.abort(_INVALID, "not the encoding announced")
        if record.config.encoding == riva.AudioEncoding.LINEAR_PCM and len(audio) % 2:
            await context.abort(_INVALID, "half a sample")
        record.audio += audio
        record.sizes.append(len(audio))
        record.began.set()

    async def _misbehave(self, behaviour: Behaviour, context: Any) -> None:
        if behaviour.hang:
            await asyncio.Event().wait()
        if behaviour.status is not None:
            context.set_trailing_metadata(tuple(behaviour.trailers))
            await context.abort(behaviour.status, behaviour.details)


def _alternatives(config: riva.RecognitionConfig) -> list[riva.SpeechRecognitionAlternative]:
    """What is always said: words of 300 ms each, one after the other."""
    found = []
    number = 0
    for text in TEXTS:
        one = riva.SpeechRecognitionAlternative(transcript=f"{text} ", confidence=0.9, language_code=["en-US"])
        for word in text.split() if config.enable_word_time_offsets else ():
            start = 300 * number
            info = riva.WordInfo(start_time=start, end_time=start + 250, word=word, confidence=0.75)
            if config.diarization_config.enable_speaker_diarization:
                info.speaker_tag = _SPEAKERS[number]
            one.words.append(info)
            number += 1
        found.append(one)
    return found
