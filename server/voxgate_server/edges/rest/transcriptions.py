"""POST …/audio/transcriptions and …/audio/translations."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from starlette.types import Receive, Scope, Send
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import (
    RESPONSE_FORMAT_JSON,
    RESPONSE_FORMAT_SRT,
    RESPONSE_FORMAT_VTT,
    TRANSCRIPTION_TASK_TRANSLATE,
    TranscriptionConfig,
)
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.call import Call, RequestContext
from voxgate_server.edges.header_options import HeaderOptions, header_options
from voxgate_server.edges.intake import answer_while_receiving
from voxgate_server.edges.rest.answer import Answer
from voxgate_server.edges.rest.decode import DecodedForm, decode_form
from voxgate_server.edges.rest.fence import request_context, request_headers
from voxgate_server.edges.rest.form import Field, FileData, FileStart, FormReader
from voxgate_server.edges.rest.headers import TRACE_HEADER
from voxgate_server.edges.rest.json_body import decode_json_body
from voxgate_server.edges.rest.portkey_headers import PortkeyHeaders, PortkeyRequest
from voxgate_server.edges.rest.sse import SseStream
from voxgate_server.errors import (
    AudioTooLarge,
    Cancelled,
    InvalidRequest,
    UnsupportedParameter,
    UploadIdle,
    UploadIncomplete,
    VoxgateError,
)
from voxgate_server.gateway import Gateway

__all__ = ["TranscriptionEndpoint"]

_JSON_BODY_BYTES = 44 << 20
"""The largest JSON body: 32 MiB of audio in base64, and its options."""
_SUBTITLES = frozenset({RESPONSE_FORMAT_SRT, RESPONSE_FORMAT_VTT})
_SLICE = 256 * 1024
"""Bytes of a whole recording that go into the spool before others have a turn."""


class TranscriptionEndpoint:
    """An ASGI endpoint that answers with a transcript.

    Args:
        gateway: Answers the calls.
        portkey: Reads Portkey's headers.
        translate: The path is one of the translations.
        with_extra_fields: JSON answers carry `extra_fields`, as on Bifrost's LiteLLM path.
    """

    def __init__(
        self, gateway: Gateway, portkey: PortkeyHeaders, *, translate: bool = False, with_extra_fields: bool = False
    ) -> None:
        self._gateway = gateway
        self._portkey = portkey
        self._translate = translate
        self._with_extra_fields = with_extra_fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        given = request_headers(scope)
        content_type = given.get("content-type", "")
        body = _Body(receive, self._gateway.limits.upload_idle_seconds)
        portkey = self._portkey.request(scope)
        answer = Answer(self._gateway, send, given.get(TRACE_HEADER, ""), with_extra_fields=self._with_extra_fields)
        request = _Request(self._gateway, request_context(scope), self._options(scope, given), body, portkey, answer)
        failure: BaseException | None = None
        try:
            if content_type.partition(";")[0].strip().lower() == "application/json":
                given_answer = await request.answer_json()
            else:
                given_answer = await request.answer_form(FormReader(content_type))
            await answer.finish(request.call, given_answer)
        except BaseException as error:
            scope["voxgate.call"] = request.opened
            failure = request.cause(error)
            await answer.finish_failed()
            if failure is not error:
                raise failure from error
            raise
        finally:
            request.close(failure)

    def _options(self, scope: Scope, headers: Mapping[str, str]) -> "_RequestOptions":
        return _RequestOptions(scope.get("path_params", {}).get("model"), self._translate, header_options(headers))


@dataclass(frozen=True, slots=True)
class _RequestOptions:
    """What path and headers of a request say about its options."""

    model: str | None
    translate: bool
    headers: HeaderOptions | None

    def apply(self, form: DecodedForm) -> TranscriptionConfig:
        """The options of the whole request."""
        config = form.config
        if form.stream and config.response_format in _SUBTITLES:
            raise UnsupportedParameter(
                "Subtitles cannot be streamed. Leave `stream` out, or ask for json, verbose_json or diarized_json.",
                param="response_format",
            )
        # Said or not said, it is the same request: fields behind the file must not restart it for nothing.
        config.response_format = config.response_format or RESPONSE_FORMAT_JSON
        if self.headers is not None:
            self.headers.apply(config)
        if self.translate:
            config.task = TRANSCRIPTION_TASK_TRANSLATE
        if form.unknown:
            # A field nobody here knows may be one of the provider's own; its adapter takes or refuses it by name.
            config.extra_params.update(form.unknown)  # type: ignore[arg-type]  # JSON values all of them
        return config


class _Body:
    """The bytes of a request as they arrive."""

    def __init__(self, receive: Receive, idle_seconds: float) -> None:
        self._receive = receive
        self._idle_seconds = idle_seconds
        self.complete = False

    async def next(self) -> bytes:
        """The next bytes.

        Raises:
            UploadIdle: None came for too long.
            UploadIncomplete: The client went away before the end.
        """
        try:
            async with asyncio.timeout(self._idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise UploadIdle(
                f"No bytes of the request came for {self._idle_seconds:g} s, which is the limit.",
                metadata={"limit_seconds": f"{self._idle_seconds:g}"},
            ) from None
        if message["type"] == "http.disconnect":
            raise UploadIncomplete("The client went away before the upload was complete.")
        self.complete = not message.get("more_body", False)
        return cast("bytes", message.get("body", b""))

    async def gone(self) -> None:
        """Waits until the client goes away. Returns never.

        Raises:
            Cancelled: It did.
        """
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise Cancelled("The client went away.")


class _Request:
    """One request: its call, and the form it is read from."""

    def __init__(
        self,
        gateway: Gateway,
        context: RequestContext,
        options: _RequestOptions,
        body: _Body,
        portkey: PortkeyRequest,
        answer: Answer,
    ) -> None:
        self._answer = answer
        self._gateway = gateway
        self._context = context
        self._options = options
        self._body = body
        self._portkey = portkey
        self._call: Call | None = None
        self._fields: list[tuple[str, str]] = []
        self._run: asyncio.Task[Transcription | SseStream] | None = None
        self._streamed = False
        self._superseded = False
        self._decided = -1
        """How many fields the options were decided with; -1 while they are not."""

    @property
    def opened(self) -> Call | None:
        """The call, if there is one."""
        return self._call

    @property
    def call(self) -> Call:
        """The call."""
        assert self._call is not None
        return self._call

    def close(self, error: BaseException | None) -> None:
        """Ends the call, if there is one."""
        self._portkey.close()
        if self._call is not None:
            self._gateway.close(self._call, error)

    def cause(self, error: BaseException) -> BaseException:
        """The error as the caller is to be told."""
        return error if self._call is None else self._call.cause(error)

    async def answer_json(self) -> Transcription | SseStream:
        """Answers a request whose body is a JSON document."""
        body = bytearray()
        while not self._body.complete:
            body += await self._body.next()
            if len(body) > _JSON_BODY_BYTES:
                raise AudioTooLarge(
                    f"A JSON body has at most {_JSON_BODY_BYTES} bytes. Send the recording as multipart/form-data.",
                    param="file",
                    metadata={"limit_bytes": str(_JSON_BODY_BYTES)},
                )
        # Base64 and JSON of a long recording take a while; the loop must not stand still for them.
        request = await asyncio.to_thread(decode_json_body, bytes(body), model=self._options.model)
        call = self._open(request.filename, request.media_type)
        config = self._portkey.apply(self._options.apply(request.form))
        call.streamed = request.form.stream
        for start in range(0, len(request.audio), _SLICE):
            if start:
                await asyncio.sleep(0)
            await call.spool.write(request.audio[start : start + _SLICE])
        self._gateway.plan(call, config, self._portkey.planner(call))
        call.spool.finish()
        return await answer_while_receiving(self._body.gone(), self._answer.run(call))

    async def answer_form(self, reader: FormReader) -> Transcription | SseStream:
        """Answers a request whose body is a form."""
        while not (self._body.complete or self._can_start()):
            await self._take(reader)
        if self._body.complete:
            call = self.call
            self._plan(call, self._decode())
            call.spool.finish()
            return await answer_while_receiving(self._body.gone(), self._answer.run(call))
        call = self.call
        self._plan(call, self._decode_early())
        return await answer_while_receiving(self._receive_rest(reader), self._rerun(call))

    def _can_start(self) -> bool:
        """The recording has begun and the model is known: the provider can begin to read."""
        if self._portkey.needs_audio:
            return False
        return self._call is not None and (
            self._options.model is not None or any(name == "model" for name, _ in self._fields)
        )

    async def _take(self, reader: FormReader) -> None:
        """Takes the next piece of the body apart."""
        for event in reader.feed(await self._body.next()):
            if isinstance(event, FileData):
                await self.call.spool.write(event.data)
            elif isinstance(event, Field):
                self._fields.append((event.name, event.value))
            elif isinstance(event, FileStart):
                self._open(event.filename, event.media_type)
        if self._body.complete:
            reader.close()

    async def _receive_rest(self, reader: FormReader) -> None:
        """Copies what is left of the body into the spool, then waits for the client to go away."""
        call = self.call
        try:
            while not self._body.complete:
                await self._take(reader)
            # Between the last byte and the provider's stands as little as possible.
            if self._decided != len(self._fields):
                config = self._decode()
                if config != call.config or self._streamed != call.streamed:
                    await self._restart(call, config)
            call.spool.finish()
        except VoxgateError as error:
            call.spool.fail(error)
            raise
        await self._body.gone()

    async def _restart(self, call: Call, config: TranscriptionConfig) -> None:
        """Fields came after the file that change the call: a provider that reads already gets a cut body.

        The end of the recording is withheld until the old run is over, so no provider ever answers the wrong request.
        """
        self._plan(call, config)
        if self._run is not None:
            self._superseded = True
            self._run.cancel()
            await asyncio.wait((self._run,))

    async def _rerun(self, call: Call) -> Transcription | SseStream:
        while True:
            self._run = asyncio.ensure_future(self._answer.run(call))
            try:
                return await self._run
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._superseded or (task is not None and task.cancelling()):
                    raise
                self._superseded = False

    def _decode(self, *, complete: bool = True) -> TranscriptionConfig:
        form = decode_form(self._fields, model=self._options.model, complete=complete)
        self._streamed = form.stream
        return self._portkey.apply(self._options.apply(form))

    def _decode_early(self) -> TranscriptionConfig:
        """The options as far as they are known; mostly they are all of them already."""
        try:
            config = self._decode()
        except InvalidRequest:
            return self._decode(complete=False)  # What is missing may still come.
        self._decided = len(self._fields)
        return config

    def _plan(self, call: Call, config: TranscriptionConfig) -> None:
        call.streamed = self._streamed
        self._gateway.plan(call, config, self._portkey.planner(call if self._body.complete else None))

    def _open(self, filename: str, media_type: str) -> Call:
        self._call = self._gateway.open(
            request_id=self._context.request_id,
            caller=self._context.caller,
            audio=AudioHeader(filename=filename, media_type=media_type),
            surface="rest",
            method=self._context.method,
        )
        return self._call
