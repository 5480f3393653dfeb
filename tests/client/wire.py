"""A gRPC server that writes down what arrives: it stands for the wire, not for how our server behaves."""

# ruff: noqa: N802  # methods are named by the protos

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from voxgate.transcription.v1 import model_service_pb2 as models
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2_grpc import (
    TranscriptionServiceServicer,
    add_TranscriptionServiceServicer_to_server,
)
from voxgate_client import AsyncClient, Client

GUARD = 30.0
"""Seconds after which a test is taken to hang."""


class Wire(TranscriptionServiceServicer, ModelServiceServicer):
    """What arrived, and how calls are answered."""

    def __init__(self) -> None:
        self.target = ""
        self.calls = 0
        self.metadata: dict[str, Any] = {}
        self.start: api.UploadStart | None = None
        self.chunks: list[int] = []
        self.digest = hashlib.sha256()
        self.finish: Any = None
        self.events_request: api.TranscribeEventsRequest | None = None
        self.pages: list[models.ListModelsRequest] = []
        self.received = threading.Event()
        """The first chunk came."""
        self.ended = threading.Event()
        """The call ended, however."""
        self.release = threading.Event()
        """Lets handlers go on that wait for it."""
        self.before: Callable[[Any], None] = lambda context: None
        """Runs when a call begins; may end it."""
        self.during: Callable[[Any], None] = lambda context: None
        """Runs after each chunk."""
        self.after: Callable[[Any], None] = lambda context: None
        """Runs when everything was received."""

    def _begin(self, context: Any) -> None:
        self.calls += 1
        self.metadata = {key: value for key, value in context.invocation_metadata()}  # noqa: C416
        context.add_callback(self.ended.set)
        self.before(context)

    def TranscribeUpload(self, requests: Any, context: Any) -> Any:
        self._begin(context)
        with contextlib.suppress(grpc.RpcError):  # The client went away; `finish` is missing then.
            for request in requests:
                match request.WhichOneof("payload"):
                    case "start":
                        self.start = request.start
                    case "chunk":
                        self.chunks.append(len(request.chunk.data))
                        self.digest.update(request.chunk.data)
                        self.received.set()
                        self.during(context)
                    case "finish":
                        self.finish = request.finish
        self.after(context)
        return api.TranscribeUploadResponse(transcription=Transcription(text="hello"))

    def TranscribeEvents(self, request: Any, context: Any) -> Any:
        self._begin(context)
        self.events_request = request
        for sequence in range(1000):
            event = TranscriptionEvent(sequence=sequence)
            event.delta.delta = "x" * 1000
            yield api.TranscribeEventsResponse(event=event)
            self.after(context)

    def Transcribe(self, request: Any, context: Any) -> Any:
        raise NotImplementedError  # these tests do not call it

    def TranscribeLive(self, requests: Any, context: Any) -> Any:
        raise NotImplementedError  # these tests do not call it

    def ListModels(self, request: Any, context: Any) -> Any:
        self._begin(context)
        copy = models.ListModelsRequest()
        copy.CopyFrom(request)
        self.pages.append(copy)
        page = int(request.page_token or 0)
        return models.ListModelsResponse(
            models=[models.Model(id=f"model-{page}")], next_page_token=str(page + 1) if page < 2 else ""
        )

    def GetModel(self, request: Any, context: Any) -> Any:
        self._begin(context)
        return models.GetModelResponse(model=models.Model(id=request.id))


@contextlib.contextmanager
def serving(wire: Wire, credentials: grpc.ServerCredentials | None = None) -> Iterator[Wire]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    add_TranscriptionServiceServicer_to_server(wire, server)
    add_ModelServiceServicer_to_server(wire, server)
    if credentials is None:
        wire.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        wire.target = f"https://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    try:
        yield wire
    finally:
        wire.release.set()
        server.stop(None).wait(GUARD)


class Twin:
    """Either client behind one asynchronous surface, so that each scenario is told once."""

    def __init__(self, kind: str, target: str, **options: Any) -> None:
        self.is_async = kind == "async"
        self.client: Any = (AsyncClient if self.is_async else Client)(target, **options)

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        bound = getattr(self.client, method)
        if self.is_async:
            return await asyncio.wait_for(bound(*args, **options), GUARD)
        return await asyncio.wait_for(asyncio.to_thread(bound, *args, **options), GUARD)

    async def transcribe(self, *args: Any, **options: Any) -> Transcription:
        transcription = await self.call("transcribe", *args, **options)
        assert isinstance(transcription, Transcription)
        return transcription

    async def events(self, *args: Any, **options: Any) -> AsyncIterator[TranscriptionEvent]:
        if self.is_async:
            async with contextlib.aclosing(self.client.events(*args, **options)) as events:
                async for event in events:
                    yield event
        else:
            events = self.client.events(*args, **options)
            try:
                while (event := await asyncio.to_thread(next, events, None)) is not None:
                    yield event
            finally:
                events.close()

    async def close(self) -> None:
        if self.is_async:
            await self.client.close()
        else:
            self.client.close()
