"""The synchronous client."""

import itertools
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self, Unpack

import grpc
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import GetModelRequest, Model
from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceStub
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeEventsRequest, TranscribeUploadRequest
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from voxgate_client._audio import Audio
from voxgate_client._channel import TlsOptions, connect
from voxgate_client._errors import CallCancelledError
from voxgate_client._mapping import Rpc, map_errors
from voxgate_client._request import Progress, TranscriptionOptions, Upload, events_request, models_request, read_options

__all__ = ["Client"]


class Client:
    """A synchronous client. One is enough for a process: threads may share it, and calls share its connection.

    >>> with Client("127.0.0.1:50051") as client:
    ...     print(client.transcribe("meeting.flac", model="whisper-1").text)

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
        channel: grpc.Channel | None = None,
    ) -> None:
        self._connection = connect(
            target,
            api_key=api_key,
            tls=tls,
            timeout=timeout,
            allow_plaintext_key=allow_plaintext_key or channel is not None,
        )
        self._owned: grpc.Channel | None = None
        self._closed = False
        if channel is None:
            connection = self._connection
            channel = self._owned = (
                grpc.insecure_channel(connection.address, connection.options)
                if connection.credentials is None
                else grpc.secure_channel(connection.address, connection.credentials, connection.options)
            )
        self._transcriptions = TranscriptionServiceStub(channel)
        self._models = ModelServiceStub(channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends calls that still run and closes the connection. May be called again."""
        self._closed = True
        if self._owned is not None:
            self._owned.close()

    def transcribe(
        self, audio: Audio, *, on_progress: Progress | None = None, **options: Unpack[TranscriptionOptions]
    ) -> Transcription:
        """Sends a recording of any length and waits for its transcript.

        The recording is sent in pieces: memory does not grow with it, and the provider hears it while it is sent.

        Args:
            audio: A path, bytes, a binary file or an iterable of bytes. Files and iterables are read in another
                thread. An exception of theirs is raised here as it is; the server then transcribes nothing.
            on_progress: Called with bytes sent and bytes in all (None when unknown), in that other thread.
            **options: See TranscriptionOptions: model, language, response_format, fallbacks, timeout …

        Raises:
            VoxgateError: The call failed; its subclasses say how.
            OSError: The file cannot be read; where it cannot even be opened, nothing was sent.
            ValueError: An option has a value that cannot be.
            TypeError: The audio, or an option, is of the wrong type.
        """
        read = read_options(**options)
        rpc = self._rpc("TranscribeUpload", read.timeout)
        upload = Upload(audio, read)
        messages = upload.messages()
        first = next(messages)  # Opens the file: what fails here fails before anything is sent.
        failure: list[BaseException] = []
        begun = threading.Event()

        def send() -> Iterator[TranscribeUploadRequest]:
            # gRPC would log what is raised here and tell the caller only that something was; so it is kept.
            try:
                for message in itertools.chain((first,), messages):
                    yield message
                    if on_progress is not None:
                        on_progress(upload.size, upload.total)
            except GeneratorExit:
                raise
            except BaseException as error:
                failure.append(error)
                begun.wait()
                call.cancel()  # Before this ends: an end would close the upload as if it were complete.

        try:
            with map_errors(rpc):
                call = self._transcriptions.TranscribeUpload.future(
                    send(), timeout=rpc.timeout, metadata=self._connection.metadata
                )
                begun.set()
                try:
                    return call.result().transcription
                finally:
                    call.cancel()  # For when waiting was interrupted (Ctrl-C).
        except CallCancelledError:
            if not failure:
                raise
        raise failure[0]

    def events(self, audio: Audio, **options: Unpack[TranscriptionOptions]) -> Iterator[TranscriptionEvent]:
        """Sends a recording of up to 31 MiB and gives its transcript as it comes into being.

        The call is made when iteration begins; leaving the loop early cancels it.

        Args:
            audio: As for `transcribe`; read whole, before this returns.
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
        return self._events(events_request(audio, read), self._rpc("TranscribeEvents", read.timeout))

    def _events(self, request: TranscribeEventsRequest, rpc: Rpc) -> Iterator[TranscriptionEvent]:
        with map_errors(rpc):
            call = self._transcriptions.TranscribeEvents(
                request, timeout=rpc.timeout, metadata=self._connection.metadata
            )
            try:
                for response in call:
                    yield response.event
            finally:
                call.cancel()

    def models(self, *, provider: str | None = None, timeout: float | None = None) -> list[Model]:
        """All models this key may use, in order of their ids.

        Args:
            provider: Only models of this provider.
            timeout: Limit of each request in seconds, at most 30.

        Raises:
            VoxgateError: The call failed.
        """
        rpc = self._rpc("ListModels", timeout)
        request = models_request(provider)
        models: list[Model] = []
        with map_errors(rpc):
            while True:
                page = self._models.ListModels(request, timeout=rpc.timeout, metadata=self._connection.metadata)
                models += page.models
                if not page.next_page_token:
                    return models
                request.page_token = page.next_page_token

    def model(self, id: str, *, timeout: float | None = None) -> Model:  # noqa: A002  # the API's own word
        """One model.

        Args:
            id: Its id or an alias.
            timeout: Limit in seconds, at most 30.

        Raises:
            UnknownModelError: There is none.
            VoxgateError: The call failed.
        """
        rpc = self._rpc("GetModel", timeout)
        with map_errors(rpc):
            return self._models.GetModel(
                GetModelRequest(id=id), timeout=rpc.timeout, metadata=self._connection.metadata
            ).model

    def _rpc(self, method: str, timeout: float | None) -> Rpc:
        if self._closed:
            raise RuntimeError("This client is closed.")
        return self._connection.rpc(method, timeout)
