"""The asynchronous client, twin of the synchronous one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc
from grpc import aio
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import GetModelRequest, Model
from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceStub
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import (
    TranscribeLiveRequest,
    TranscribeLiveResponse,
    TranscribeUploadRequest,
    TurnDetection,
)
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from voxgate_client._audio import AsyncAudio, off_loop
from voxgate_client._channel import TlsOptions, connect
from voxgate_client._errors import CallCancelledError
from voxgate_client._live import live_messages
from voxgate_client._mapping import map_errors, was_cancelled
from voxgate_client._request import (
    Progress,
    TranscriptionOptions,
    Upload,
    events_request,
    events_request_async,
    models_request,
    read_options,
)

if TYPE_CHECKING:
    from voxgate.transcription.v1.audio_pb2 import AudioEncoding
    from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceAsyncStub

    _Stubs = tuple[TranscriptionServiceAsyncStub, ModelServiceAsyncStub]

__all__ = ["AsyncClient"]

_SENDER_SECONDS = 1.0
"""How long the end of a call waits for an iterator that does not want to be cancelled."""


class AsyncClient:
    """An asynchronous client. One is enough for an event loop, and it belongs to the loop that first uses it.

    >>> async with AsyncClient("127.0.0.1:50051") as client:
    ...     print((await client.transcribe("meeting.flac", model="whisper-1")).text)

    Args:
        target: `host:port`, `https://host:port` (TLS), `dns:///host:port` or `unix:/path`. Default: the environment's
            VOXGATE_SERVER, else `127.0.0.1:50051`.
        api_key: Sent with every call. Default: the environment's VOXGATE_API_KEY, else none.
        tls: Turns TLS on and says how; `https://` turns it on as well.
        timeout: Limit of a call in seconds where the call has none of its own. Default 600.
        allow_plaintext_key: Send the key without TLS to another machine. For networks that encrypt by other means.
        channel: A channel to use instead of one of the client's own, e.g. with interceptors. It stays open, and
            `target`, `tls` and `allow_plaintext_key` do not concern it.

    Raises:
        ValueError: The target cannot be understood, or the key would travel unencrypted.
        OSError: A certificate cannot be read.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        tls: TlsOptions | None = None,
        timeout: float | None = None,
        allow_plaintext_key: bool = False,
        channel: aio.Channel | None = None,
    ) -> None:
        self._connection = connect(
            target,
            api_key=api_key,
            tls=tls,
            timeout=timeout,
            allow_plaintext_key=allow_plaintext_key or channel is not None,
        )
        self._channel = channel
        self._owns_channel = channel is None
        self._made: tuple[asyncio.AbstractEventLoop, _Stubs] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends calls that still run and closes the connection. May be called again."""
        self._closed = True
        if self._owns_channel and self._channel is not None:
            await self._channel.close()

    async def transcribe(
        self, audio: AsyncAudio, *, on_progress: Progress | None = None, **options: Unpack[TranscriptionOptions]
    ) -> Transcription:
        """Sends a recording of any length and waits for its transcript.

        The recording is sent in pieces: memory does not grow with it, and the provider hears it while it is sent.

        Args:
            audio: A path, bytes, a binary file, an iterable or an asynchronous iterable of bytes. Files and
                iterables are read in a thread, never on the loop. An exception of theirs is raised here as it is;
                the server then transcribes nothing.
            on_progress: Called on the loop with bytes sent and bytes in all (None when unknown).
            **options: See TranscriptionOptions: model, language, response_format, fallbacks, timeout …

        Raises:
            VoxgateError: The call failed; its subclasses say how.
            OSError: The file cannot be read; where it cannot even be opened, nothing was sent.
            ValueError: An option has a value that cannot be.
            TypeError: The audio, or an option, is of the wrong type.
        """
        read = read_options(**options)
        rpc = self._connection.rpc("TranscribeUpload", read.timeout)
        transcriptions, _ = self._stubs()
        upload = Upload(audio, read)
        messages = (
            upload.messages_async(audio) if isinstance(audio, AsyncIterable) else off_loop(upload.messages(), audio)
        )
        first = await anext(messages)  # Opens the file: what fails here fails before anything is sent.
        failure: list[BaseException] = []

        async def send() -> None:
            # grpc.aio would log what is raised here and tell the caller only that the call was cancelled.
            try:
                message: TranscribeUploadRequest | None = first
                while message is not None:
                    if not await _write(call, message):
                        return  # The call is over; awaiting it says how.
                    if on_progress is not None:
                        on_progress(upload.size, upload.total)
                    message = await anext(messages, None)
                await call.done_writing()
            except BaseException as error:
                if not sender.cancelling():
                    failure.append(error)
                    call.cancel()
            finally:
                await messages.aclose()

        try:
            with map_errors(rpc):
                call = transcriptions.TranscribeUpload(timeout=rpc.timeout, metadata=self._connection.metadata)
                sender = asyncio.create_task(send())
                try:
                    return (await call).transcription
                finally:
                    call.cancel()
                    sender.cancel()
                    await asyncio.wait({sender}, timeout=_SENDER_SECONDS)
        except CallCancelledError:
            if not failure:
                raise
        raise failure[0]

    async def events(
        self, audio: AsyncAudio, **options: Unpack[TranscriptionOptions]
    ) -> AsyncGenerator[TranscriptionEvent]:
        """Sends a recording of up to 31 MiB and gives its transcript as it comes into being.

        The call is made when iteration begins; leaving the loop early cancels it, at the latest when nothing refers
        to the iterator any more (`contextlib.aclosing` makes it at once).

        Args:
            audio: As for `transcribe`; read whole.
            **options: As for `transcribe`.

        Yields:
            Events: text to append (`delta`), segments, and at the end the whole transcript (`done`). A `reset` voids
            what came before.

        Raises:
            VoxgateError: The call failed.
            ValueError: The recording is too large, or an option has a value that cannot be.
            OSError: The file cannot be read.
            TypeError: The audio, or an option, is of the wrong type.
        """
        read = read_options(**options)
        rpc = self._connection.rpc("TranscribeEvents", read.timeout)
        transcriptions, _ = self._stubs()
        request = (
            await events_request_async(audio, read)
            if isinstance(audio, AsyncIterable)
            else await asyncio.to_thread(events_request, audio, read)
        )
        with map_errors(rpc):
            call = transcriptions.TranscribeEvents(request, timeout=rpc.timeout, metadata=self._connection.metadata)
            try:
                async for response in call:
                    yield response.event
            finally:
                call.cancel()

    async def live(
        self,
        audio: AsyncIterable[bytes | TranscribeLiveRequest],
        *,
        sample_rate: int,
        encoding: "str | AudioEncoding.ValueType" = "pcm_s16le",
        channels: int = 1,
        turn_detection: TurnDetection | None = None,
        interim_results: bool = False,
        **options: Unpack[TranscriptionOptions],
    ) -> AsyncGenerator[TranscribeLiveResponse]:
        """Sends speech while it is spoken, and gives the text of each turn.

        The session begins when iteration begins, and may last as long as the server allows: only `timeout`, where it
        is given, is a limit of this side. Leaving the loop early ends it.

        Args:
            audio: Headerless audio as it comes, 20 to 100 ms at a time; among it, messages for the session: `commit`,
                `clear` and `silence`. Its end is the end of the session. An exception of its own is raised here as it
                is.
            sample_rate: Samples per second and channel, in Hz.
            encoding: `pcm_s16le` (default), `mulaw` or `alaw`.
            channels: Interleaved channels. Default 1.
            turn_detection: Who decides that a turn is over. Default: pauses do.
            interim_results: Give `partial` events while a turn is spoken.
            **options: As for `transcribe`.

        Yields:
            Events, from `session_started` to `done`: `partial` replaces what the turn had before, `turn_completed` has
            its final text.

        Raises:
            VoxgateError: The session has failed.
            ValueError: An option has a value that cannot be.
            TypeError: An option is of the wrong type.
        """
        timeout = read_options(**options).timeout
        rpc = self._connection.rpc("TranscribeLive", timeout)
        transcriptions, _ = self._stubs()
        messages = live_messages(
            audio,
            sample_rate=sample_rate,
            encoding=encoding,
            channels=channels,
            turn_detection=turn_detection,
            interim_results=interim_results,
            **options,
        )
        failure: list[BaseException] = []

        async def send() -> None:
            try:
                async for message in messages:
                    if not await _write(call, message):
                        return  # The session is over; reading tells how.
                await call.done_writing()
            except BaseException as error:
                if not sender.cancelling():
                    failure.append(error)
                    call.cancel()
            finally:
                await messages.aclose()

        try:
            with map_errors(rpc):
                call = transcriptions.TranscribeLive(timeout=timeout, metadata=self._connection.metadata)
                sender = asyncio.create_task(send())
                try:
                    async for event in call:
                        yield event
                finally:
                    call.cancel()
                    sender.cancel()
                    await asyncio.wait({sender}, timeout=_SENDER_SECONDS)
        except CallCancelledError:
            if not failure:
                raise
        if failure:
            raise failure[0]

    async def models(self, *, provider: str | None = None, timeout: float | None = None) -> list[Model]:
        """All models this key may use, in order of their ids.

        Args:
            provider: Only models of this provider.
            timeout: Limit of each request in seconds, at most 30.

        Raises:
            VoxgateError: The call failed.
        """
        rpc = self._connection.rpc("ListModels", timeout)
        _, models_stub = self._stubs()
        request = models_request(provider)
        models: list[Model] = []
        with map_errors(rpc):
            while True:
                page = await models_stub.ListModels(request, timeout=rpc.timeout, metadata=self._connection.metadata)
                models += page.models
                if not page.next_page_token:
                    return models
                request.page_token = page.next_page_token

    async def model(self, id: str, *, timeout: float | None = None) -> Model:  # noqa: A002  # the API's own word
        """One model.

        Args:
            id: Its id or an alias.
            timeout: Limit in seconds, at most 30.

        Raises:
            UnknownModelError: There is none.
            VoxgateError: The call failed.
        """
        rpc = self._connection.rpc("GetModel", timeout)
        _, models_stub = self._stubs()
        with map_errors(rpc):
            response = await models_stub.GetModel(
                GetModelRequest(id=id), timeout=rpc.timeout, metadata=self._connection.metadata
            )
            return response.model

    def _stubs(self) -> "_Stubs":
        if self._closed:
            raise RuntimeError("This client is closed.")
        loop = asyncio.get_running_loop()
        if self._made is None:
            # Here and not in __init__, which may run before there is a loop.
            if self._channel is None:
                connection = self._connection
                self._channel = (
                    aio.insecure_channel(connection.address, connection.options)
                    if connection.credentials is None
                    else aio.secure_channel(connection.address, connection.credentials, connection.options)
                )
            self._made = loop, (TranscriptionServiceStub(self._channel), ModelServiceStub(self._channel))
        if self._made[0] is not loop:
            raise RuntimeError("This client belongs to another event loop. Make one AsyncClient for each.")
        return self._made[1]


async def _write(call: Any, message: TranscribeUploadRequest | TranscribeLiveRequest) -> bool:
    """Sends a message. False: the call has ended."""
    try:
        # A write that fails because the server has just ended the call makes grpc.aio replace the server's status by
        # INTERNAL (grpc/grpc#36066). Below that layer it only fails, and awaiting the call gives the true status. The
        # first message goes the public way, which also waits for the connection.
        core = getattr(call, "_cython_call", None)
        send = getattr(core, "send_serialized_message", None)
        if send is None or message.HasField("start"):
            await call.write(message)
        else:
            await send(message.SerializeToString())
    except (grpc.RpcError, asyncio.InvalidStateError, aio.InternalError):
        return False
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        return False
    return True
