"""A running gateway as the backend of a command, through the Python client."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable
from types import TracebackType
from typing import Self

import click
from voxgate.transcription.v1.config_pb2 import ServerVad, TranscriptionConfig
from voxgate.transcription.v1.model_service_pb2 import Model
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeLiveResponse, TurnDetection
from voxgate_client import AsyncClient, CertificateError, TlsOptions, TranscriptionOptions, VoxgateError

from voxgate_server.cli.backend import BackendOptions, OnProgress
from voxgate_server.cli.messages import CallFailed
from voxgate_server.cli.recording import Recording

__all__ = ["RemoteBackend"]


class RemoteBackend:
    """A server.

    Args:
        options: How to connect.
        server: Where to.
        timeout: Limit of each transcription in seconds; None means the client's 600.

    Raises:
        UsageError: The address, or what is to be used for TLS, is wrong.
    """

    def __init__(self, options: BackendOptions, server: str, timeout: float | None) -> None:
        self.name = server
        tls = None
        if options.tls_ca or options.tls_cert:
            tls = TlsOptions(ca=options.tls_ca, certificate=options.tls_cert, private_key=options.tls_key)
        try:
            self._client = AsyncClient(
                server,
                api_key=options.api_key,
                tls=tls,
                timeout=timeout,
                allow_plaintext_key=options.allow_plaintext_key,
            )
        except ValueError as error:
            raise click.UsageError(f"{error} (Here: https:// or --tls-ca, or --allow-plaintext-key.)") from error
        except OSError as error:
            raise click.UsageError(f"{error.filename}: {error.strerror}") from error

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first call."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the connection."""
        await self._client.close()

    async def transcribe(
        self, recording: Recording, config: TranscriptionConfig, on_progress: OnProgress
    ) -> Transcription:
        """Sends the recording and waits for its transcript. See Backend."""
        sent = -1

        def progress(size: int, total: int | None) -> None:
            # Where no size is known, the end shows as a message that added nothing: the one that says it is the end.
            nonlocal sent
            on_progress(size, size == total if total is not None else size == sent)
            sent = size

        try:
            return await self._client.transcribe(
                # A file's size travels ahead, so that the server can refuse it before it is sent.
                recording.name if recording.size is not None else recording.pieces(),
                on_progress=progress,
                **_options(config, recording.filename),
            )
        except VoxgateError as error:
            raise _failed(error) from error

    async def live(
        self, audio: AsyncIterable[bytes], sample_rate: int, config: TranscriptionConfig, pause_ms: int | None
    ) -> AsyncGenerator[TranscribeLiveResponse]:
        """Sends speech while it is spoken. See Backend."""
        detection = TurnDetection(server_vad=ServerVad(silence_duration_ms=pause_ms))
        events = self._client.live(
            audio,
            sample_rate=sample_rate,
            turn_detection=detection,
            interim_results=True,
            **_options(config, ""),
        )
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    yield event
        except VoxgateError as error:
            raise _failed(error) from error

    async def models(self) -> list[Model]:
        """The server's models. See Backend."""
        try:
            return await self._client.models()
        except VoxgateError as error:
            raise _failed(error) from error


def _options(config: TranscriptionConfig, filename: str) -> TranscriptionOptions:
    return TranscriptionOptions(
        model=config.model,
        language=config.language if config.HasField("language") else None,
        prompt=config.prompt if config.HasField("prompt") else None,
        temperature=config.temperature if config.HasField("temperature") else None,
        response_format=config.response_format,
        timestamp_granularities=config.timestamp_granularities,
        fallbacks=config.routing.fallbacks,
        filename=filename or None,
    )


def _failed(error: VoxgateError) -> CallFailed:
    # The client speaks to programmers.
    hint = " (Here: --tls-ca, --tls-cert and --tls-key.)" if isinstance(error, CertificateError) else ""
    return CallFailed(error.message + hint, request_id=error.request_id, attempts=error.attempts)
