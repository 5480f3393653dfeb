"""A gateway inside this process as the backend of a command: the same rooms as behind the listeners, without doors."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from types import TracebackType
from typing import Self

from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioEncoding, AudioHeader, AudioTrailer, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import ServerVad, TranscriptionConfig
from voxgate.transcription.v1.model_service_pb2 import Model
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import (
    LiveStart,
    TranscribeLiveRequest,
    TranscribeLiveResponse,
    TurnDetection,
)

from voxgate_server.app import App
from voxgate_server.call import Call, Caller, RequestContext, new_request_id
from voxgate_server.cli.backend import OnProgress
from voxgate_server.cli.loading import load
from voxgate_server.cli.messages import CallFailed
from voxgate_server.cli.recording import Recording
from voxgate_server.config import GatewayConfig
from voxgate_server.edges.intake import answer_while_receiving
from voxgate_server.errors import DeadlineExceeded, VoxgateError
from voxgate_server.telemetry import configure_logging

__all__ = ["InProcessBackend"]


class InProcessBackend:
    """A gateway of our own, with nobody else to serve.

    Args:
        config_file: Its configuration; None means what is served without one.
        timeout: Limit of each transcription in seconds, in place of the configured one (600 by default).

    Raises:
        SystemExit: The configuration cannot be used; what is wrong with it has been said.
    """

    def __init__(self, config_file: Path | None, timeout: float | None) -> None:
        # Before anything logs: the transcript alone belongs on standard output.
        configure_logging("warning")
        self.name = "voxgate"
        self._loaded = load(config_file)
        config = self._loaded.config
        self._config = config if timeout is None else _with_timeout(config, timeout)
        self._app: App

    async def __aenter__(self) -> Self:
        """Builds the gateway."""
        self._app = App(self._config, environ=self._loaded.environment)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives everything up that it held."""
        await self._app.stop(grace=0)

    async def transcribe(
        self, recording: Recording, config: TranscriptionConfig, on_progress: OnProgress
    ) -> Transcription:
        """Spools the recording while it is being transcribed. See Backend."""
        gateway = self._app.gateway
        request_id = new_request_id()
        call: Call | None = None
        failure: BaseException | None = None
        try:
            header = AudioHeader(filename=recording.filename, size_bytes=recording.size)
            call = gateway.open(request_id=request_id, caller=Caller(), audio=header)
            gateway.plan(call, config)
            return await answer_while_receiving(_receive(recording, call, on_progress), gateway.transcription(call))
        except VoxgateError as error:
            failure = error
            attempts = error.attempts or (call.attempts if call else ())
            raise CallFailed(error.message, request_id=request_id, attempts=attempts) from error
        except BaseException as error:
            failure = error
            raise
        finally:
            if call is not None:
                gateway.close(call, failure)

    async def live(
        self, audio: AsyncIterable[bytes], sample_rate: int, config: TranscriptionConfig, pause_ms: int | None
    ) -> AsyncGenerator[TranscribeLiveResponse]:
        """Transcribes speech while it is spoken. See Backend."""
        request = RequestContext(new_request_id(), Caller())
        raw = RawAudioFormat(
            encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=sample_rate, channel_count=1
        )
        start = LiveStart(
            config=config,
            audio=AudioHeader(raw_format=raw),
            turn_detection=TurnDetection(server_vad=ServerVad(silence_duration_ms=pause_ms)),
            interim_results=True,
        )
        events = self._app.live.run(_live_messages(start, audio), request, surface="command")
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
        except VoxgateError as error:
            raise CallFailed(error.message, request_id=request.request_id, attempts=error.attempts) from error

    async def models(self) -> list[Model]:
        """The configured models. See Backend."""
        return self._app.gateway.models(Caller())


async def _live_messages(start: LiveStart, audio: AsyncIterable[bytes]) -> AsyncGenerator[TranscribeLiveRequest]:
    size = 0
    yield TranscribeLiveRequest(start=start)
    async for piece in audio:
        size += len(piece)
        yield TranscribeLiveRequest(chunk=AudioChunk(data=piece))
    yield TranscribeLiveRequest(finish=AudioTrailer(size_bytes=size))


async def _receive(recording: Recording, call: Call, on_progress: OnProgress) -> None:
    spool = call.spool
    try:
        async with (
            asyncio.timeout(call.deadline - time.monotonic()),
            contextlib.aclosing(recording.pieces()) as pieces,
        ):
            async for piece in pieces:
                await spool.write(piece)
                on_progress(spool.size, False)
    except TimeoutError as error:
        seconds = round(call.deadline - call.started, 1)
        raise DeadlineExceeded(
            f"The limit of {seconds:g} s for this call passed before the end of the recording was read. Allow more "
            "time with --timeout."
        ) from error
    spool.finish()
    on_progress(spool.size, True)


def _with_timeout(config: GatewayConfig, seconds: float) -> GatewayConfig:
    """The configuration with another limit of a call; there are no other callers whom it would have to protect."""
    exactly = {"request_timeout_seconds": seconds, "request_timeout_per_audio_second": 0.0}
    limits = config.voxgate.limits.model_copy(update=exactly)
    return config.model_copy(update={"voxgate": config.voxgate.model_copy(update={"limits": limits})})
