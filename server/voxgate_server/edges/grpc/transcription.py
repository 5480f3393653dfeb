"""TranscriptionService: thin shells around the gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

from grpc import aio
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate.transcription.v1.audio_pb2 import AudioHeader, AudioSource
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceServicer

from voxgate_server.call import Call
from voxgate_server.edges.grpc.fence import current_rpc
from voxgate_server.edges.grpc.status import abort
from voxgate_server.edges.grpc.upload import UploadBytes, UploadFinished, UploadSession, UploadStarted
from voxgate_server.edges.header_options import header_options
from voxgate_server.edges.intake import answer_while_receiving
from voxgate_server.errors import InvalidRequest, NotInThisRelease, Overloaded, UploadIdle, VoxgateError
from voxgate_server.gateway import Gateway
from voxgate_server.live import LiveRoom

__all__ = ["TranscriptionServicer"]

_Context: TypeAlias = "aio.ServicerContext[Any, Any]"
_DEADLINE_MARGIN = 0.25
"""Seconds before the caller's deadline at which work ends, so that the answer says why."""
_SLICE = 256 * 1024
"""Bytes of a whole recording that go into the spool before others have a turn."""


class TranscriptionServicer(TranscriptionServiceServicer):
    """Answers transcription calls."""

    def __init__(self, gateway: Gateway, live: LiveRoom) -> None:
        self._gateway = gateway
        self._live = live
        self._farewells: set[asyncio.Task[None]] = set()

    async def Transcribe(self, request: api.TranscribeRequest, context: _Context) -> api.TranscribeResponse:  # noqa: N802
        """A whole recording in, the whole transcript out."""
        with self._opened(request.config, _header(request.audio), context) as call:
            await _fill(call, request.audio)
            return api.TranscribeResponse(transcription=await self._gateway.transcription(call))

    async def TranscribeUpload(  # noqa: N802
        self, request_iterator: AsyncIterator[api.TranscribeUploadRequest], context: _Context
    ) -> api.TranscribeUploadResponse:
        """A recording in pieces in, the whole transcript out."""
        session = UploadSession()
        messages = aiter(request_iterator)
        first = await self._next(messages, session)
        assert isinstance(first, UploadStarted)
        with self._opened(first.config, first.audio, context) as call:
            transcription = await answer_while_receiving(
                self._receive(messages, session, call), self._gateway.transcription(call)
            )
        return api.TranscribeUploadResponse(transcription=transcription)

    async def TranscribeEvents(  # noqa: N802
        self, request: api.TranscribeEventsRequest, context: _Context
    ) -> AsyncIterator[api.TranscribeEventsResponse]:
        """A whole recording in, the transcript as it comes into being out."""
        with self._opened(request.config, _header(request.audio), context, streamed=True) as call:
            call.takes_resets = True
            await _fill(call, request.audio)
            async with contextlib.aclosing(self._gateway.transcribe(call)) as events:
                async for event in events:
                    # grpc comes back for the next one when this one was taken, and itself waits for ever.
                    with self._given_up_after(self._gateway.limits.unread_seconds, context):
                        yield api.TranscribeEventsResponse(event=event)

    async def TranscribeLive(  # noqa: N802
        self, request_iterator: AsyncIterator[api.TranscribeLiveRequest], context: _Context
    ) -> AsyncIterator[api.TranscribeLiveResponse]:
        """Speech in while it is spoken, the transcript of each turn out."""
        rpc = current_rpc()
        messages = _with_options(request_iterator, context)

        async def hang_up(error: VoxgateError) -> None:
            with contextlib.suppress(aio.AbortError):
                await abort(context, error, rpc.request_id)

        seconds_left = _seconds_left(context)
        events = self._live.run(messages, rpc, surface="grpc", seconds_left=seconds_left, hang_up=hang_up)
        async with contextlib.aclosing(events):
            async for event in events:
                with self._given_up_after(self._live.limits.unread_seconds, context):
                    yield event

    @contextlib.contextmanager
    def _given_up_after(self, seconds: float, context: _Context) -> Iterator[None]:
        """Ends the RPC of the current task when the block takes longer."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def give_up() -> None:
            task.cancel()
            # A cancelled handler alone leaves the stream open, and its caller waiting for more.
            farewell = loop.create_task(_farewell(context, current_rpc().request_id, seconds))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

        timer = loop.call_later(seconds, give_up)
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _opened(
        self, config: TranscriptionConfig, audio: AudioHeader, context: _Context, *, streamed: bool = False
    ) -> Iterator[Call]:
        rpc = current_rpc()
        _apply_options(config, context)
        call = self._gateway.open(
            request_id=rpc.request_id,
            caller=rpc.caller,
            audio=audio,
            seconds_left=_seconds_left(context),
            streamed=streamed,
            surface="grpc",
            method=rpc.method,
        )
        failure: BaseException | None = None
        try:
            self._gateway.plan(call, config)
            yield call
        except BaseException as error:
            failure = call.cause(error)
            if failure is not error:
                raise failure from error
            raise
        finally:
            self._gateway.close(call, failure)

    async def _receive(
        self, messages: AsyncIterator[api.TranscribeUploadRequest], session: UploadSession, call: Call
    ) -> None:
        try:
            while event := await self._next(messages, session):
                if isinstance(event, UploadBytes):
                    await call.spool.write(event.data)
                elif isinstance(event, UploadFinished):
                    call.spool.finish(size=event.size, sha256=event.sha256)
        except VoxgateError as error:
            call.spool.fail(error)
            raise

    async def _next(
        self, messages: AsyncIterator[api.TranscribeUploadRequest], session: UploadSession
    ) -> UploadStarted | UploadBytes | UploadFinished | None:
        limit = self._gateway.limits.upload_idle_seconds
        try:
            async with asyncio.timeout(None if session.finished else limit):
                message = await anext(messages, None)
        except TimeoutError:
            raise UploadIdle(
                f"No audio came for {limit:g} s, which is the limit. Send an empty chunk to keep a slow upload alive.",
                metadata={"limit_seconds": f"{limit:g}"},
            ) from None
        if message is None:
            session.end()
            return None
        return session.feed(message)


def _apply_options(config: TranscriptionConfig, context: _Context) -> None:
    headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    if options := header_options(headers):
        options.apply(config)


async def _with_options(
    messages: AsyncIterator[api.TranscribeLiveRequest], context: _Context
) -> AsyncIterator[api.TranscribeLiveRequest]:
    async for message in messages:
        if message.HasField("start"):
            _apply_options(message.start.config, context)
        yield message


def _seconds_left(context: _Context) -> float | None:
    remaining = context.time_remaining()
    return None if remaining is None else max(remaining - _DEADLINE_MARGIN, 0)


async def _farewell(context: _Context, request_id: str, seconds: float) -> None:
    """Tells a caller who does not read that it was given up; it hears of it when it reads on."""
    error = Overloaded(f"The stream was ended: nothing of it was read for {seconds:g} s, which is the limit.")
    with contextlib.suppress(aio.AbortError, aio.BaseError):
        await abort(context, error, request_id)


def _header(audio: AudioSource) -> AudioHeader:
    header = AudioHeader(filename=audio.filename, media_type=audio.media_type)
    if audio.HasField("raw_format"):
        header.raw_format.CopyFrom(audio.raw_format)
    return header


async def _fill(call: Call, audio: AudioSource) -> None:
    match audio.WhichOneof("source"):
        case "data":
            data = audio.data
            for start in range(0, len(data), _SLICE):
                if start:
                    await asyncio.sleep(0)
                await call.spool.write(data[start : start + _SLICE])
            call.spool.finish()
        case "uri":
            raise NotInThisRelease("Recordings by URL are not part of this release; send the bytes.")
        case "upload":
            raise NotInThisRelease("Recordings by upload name are not part of this release; use TranscribeUpload.")
        case None:
            raise InvalidRequest("There is no audio: set `audio.data`.", param="file")
