"""The adapter of NVIDIA Riva: one RPC for each attempt.

A recording is passed on while the caller still sends it. The RPC is half-closed only after the upload was verified; an
upload that breaks off cancels it.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.json_format import MessageToJson
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.events_pb2 import TextDelta, TextDone, TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import DeadlineExceeded, EmptyAudio, ProviderGarbled, ProviderTimeout, VoxgateError
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.http_call import raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.riva.answer import Transcript
from voxgate_server.providers.riva.failures import Status, StatusWatch, failure_of
from voxgate_server.providers.riva.request import OPTIONS, RivaSettings, recognition_config
from voxgate_server.providers.riva.riva_asr_pb2 import (
    RecognitionConfig,
    RecognizeRequest,
    RecognizeResponse,
    StreamingRecognitionConfig,
    StreamingRecognizeRequest,
    StreamingRecognizeResponse,
)
from voxgate_server.providers.riva.riva_asr_pb2_grpc import RivaSpeechRecognitionStub
from voxgate_server.providers.riva.samples import MEDIA_TYPES, SampleFormat, sample_format, slices

if TYPE_CHECKING:
    from voxgate_server.providers.riva.riva_asr_pb2_grpc import RivaSpeechRecognitionAsyncStub

__all__ = ["RivaProvider", "build"]

_ANSWER_BYTES = 16 << 20
_OFFLINE_BYTES = 32 << 20
"""A recording in one message is held in memory, here and there."""
_ADDRESS = re.compile(r"(?:(https?)://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?/?", re.ASCII)
_METADATA = re.compile(r"[a-z0-9._-]{1,256}", re.ASCII)
_T = TypeVar("_T")


class RivaProvider:
    """One deployment on a Riva server, or one of NVIDIA's cloud functions.

    Args:
        model: By the server's name; `default` lets the server choose. With a function, that decides.
        api_base: `host:port`, or with `http://` or `https://` before it. Where nothing says whether to use TLS, it is
            used on port 443 and wherever there is a key.
        api_key: Sent as bearer token.
        function_id: Of NVIDIA's cloud; None for other servers.
        use_tls: Says so.
        roots: Certificates to trust, as PEM; None means gRPC's own.
        settings: Of recognition.
        extra_metadata: Sent with every RPC.
        drop_params: Leave options it cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params`.

    Raises:
        ValueError: The address is none, or a name in `extra_metadata`.
    """

    name = "nvidia_riva"

    def __init__(
        self,
        *,
        model: str,
        api_base: str,
        api_key: str | None = None,
        function_id: str | None = None,
        use_tls: bool | None = None,
        roots: bytes | None = None,
        settings: RivaSettings | None = None,
        extra_metadata: Mapping[str, str] | None = None,
        drop_params: bool = False,
        allowed_extra_params: frozenset[str] = frozenset(),
    ) -> None:
        self.model = model
        self._target, self._tls = _address(api_base, use_tls, has_key=bool(api_key))
        self._roots = roots
        self._settings = settings or RivaSettings()
        self._drop_params = drop_params
        self._extra_params = allowed_extra_params
        self._model_sent = "" if function_id or model == "default" else model
        extra = extra_metadata or {}
        self._metadata = _metadata(api_key, function_id, extra)
        self._upstream = Upstream.with_secrets(self.name, model, (api_key or "", *extra.values()))
        self._channel: grpc.aio.Channel | None = None
        offline = self._settings.offline
        self._max_audio_bytes = _OFFLINE_BYTES if offline else 0
        self.capabilities = ModelCapabilities(
            response_formats=[
                ResponseFormat.RESPONSE_FORMAT_JSON,
                ResponseFormat.RESPONSE_FORMAT_TEXT,
                ResponseFormat.RESPONSE_FORMAT_SRT,
                ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
                ResponseFormat.RESPONSE_FORMAT_VTT,
                ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
            ],
            timestamp_granularities=[
                TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
                TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
            ],
            streaming=not offline,
            diarization=True,
            max_audio_bytes=self._max_audio_bytes,
            media_types=MEDIA_TYPES,
            options=sorted(OPTIONS | allowed_extra_params),
        )

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt: a delta for each stretch that is final, then `done`.

        Raises:
            UnsupportedParameter: It cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: Riva does not take such audio; nothing was sent.
            EmptyAudio: There are no samples in it.
            AudioTooLarge: For one message.
            DeadlineExceeded: The time was over while the caller was still sending.
            ProviderError: Riva did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        body = AudioBody(attempt.spool, content_type="")
        body.limit(attempt.max_audio_bytes or self._max_audio_bytes, self._upstream)
        form = await self._in_time(attempt, body, sample_format(attempt, str(self._upstream)))
        config = recognition_config(
            attempt.config,
            form,
            self._settings,
            model=self._model_sent,
            extra_params=self._extra_params,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        debug = attempt.config.debug
        if debug.include_raw_request:
            attempt.raw_request = raw_payload("application/json", MessageToJson(config).encode())
        run = self._recognize if self._settings.offline else self._stream
        diarized = attempt.config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
        transcript = Transcript(diarized=diarized)
        shown: list[str] = []
        async with contextlib.aclosing(run(attempt, config, body, form)) as responses:
            async for response in responses:
                if debug.include_raw_response:
                    shown.append(MessageToJson(response))
                if text := transcript.add(response.results):
                    yield TranscriptionEvent(delta=TextDelta(delta=text))
        if debug.include_raw_response:
            joined = f"[{','.join(shown)}]".encode()
            attempt.raw_response = raw_payload("application/json", joined, self._upstream.secrets)
        text, result = transcript.finish()
        if text:
            yield TranscriptionEvent(delta=TextDelta(delta=text))
        yield TranscriptionEvent(done=TextDone(transcription=result))

    async def aclose(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close(grace=None)

    async def _recognize(
        self, attempt: Attempt, config: RecognitionConfig, body: AudioBody, form: SampleFormat
    ) -> AsyncGenerator[RecognizeResponse, None]:
        async def collect() -> bytes:
            return b"".join([piece async for piece in slices(body, form)])

        audio = await self._in_time(attempt, body, collect())
        if not audio:
            raise _empty()
        call = self._stub().Recognize(
            RecognizeRequest(config=config, audio=audio), metadata=self._metadata, timeout=_seconds_left(attempt)
        )
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise failure_of(Status.of(error), self._upstream, one_message=True) from error
        finally:
            call.cancel()
        yield response

    async def _stream(
        self, attempt: Attempt, config: RecognitionConfig, body: AudioBody, form: SampleFormat
    ) -> AsyncGenerator[StreamingRecognizeResponse, None]:
        call = self._stub().StreamingRecognize(metadata=self._metadata, timeout=_seconds_left(attempt))
        watch = StatusWatch(call)
        sender = asyncio.create_task(_send(call, config, body, form), name="voxgate-riva-send")
        try:
            while (response := await _read(call, sender)) is not None:
                yield response
            if not body.complete:
                raise self._too_early()
        except grpc.aio.AioRpcError as error:
            status = await watch.status(error)
            if status.code is grpc.StatusCode.OK:
                raise self._too_early() from error
            if status.code is grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() >= attempt.deadline - 0.1:
                raise self._too_late(body) from error
            raise failure_of(status, self._upstream, one_message=False) from error
        finally:
            call.cancel()
            sender.cancel()
            await asyncio.wait([sender])
            _error_of(sender)  # or asyncio complains that nobody asked

    def _stub(self) -> "RivaSpeechRecognitionAsyncStub":
        if self._channel is None:
            # Not before there is a call: a channel belongs to the event loop it is made in.
            options = [
                ("grpc.max_receive_message_length", _ANSWER_BYTES),
                ("grpc.primary_user_agent", "voxgate"),
                # Who is asked again, and how often, is the router's affair; and proxies are not looked for.
                ("grpc.enable_retries", 0),
                ("grpc.enable_http_proxy", 0),
                # Else a server that was away may be left alone for two minutes after it has come back.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5000),
            ]
            if self._tls:
                credentials = grpc.ssl_channel_credentials(self._roots)
                self._channel = grpc.aio.secure_channel(self._target, credentials, options)
            else:
                self._channel = grpc.aio.insecure_channel(self._target, options)
        return RivaSpeechRecognitionStub(self._channel)

    async def _in_time(self, attempt: Attempt, body: AudioBody, work: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(attempt.deadline - time.monotonic()):
                return await work
        except TimeoutError:
            raise self._too_late(body) from None

    def _too_early(self) -> ProviderGarbled:
        return ProviderGarbled(f"{self._upstream} answered before it had the whole recording.")

    def _too_late(self, body: AudioBody) -> VoxgateError:
        if not body.complete and (body.waiting or not body.started):
            return DeadlineExceeded(
                f"The time for the call was over while the recording was still coming in; {body.audio_bytes} bytes of "
                "it had been read. Send it faster, or allow the call more time."
            )
        return ProviderTimeout(
            f"{self._upstream} did not answer in the time that was left.", metadata={"provider": self.name}
        )


async def _send(call: Any, config: RecognitionConfig, body: AudioBody, form: SampleFormat) -> None:
    """Sends everything. What goes wrong with the recording cancels the RPC, so that no part is taken for the whole."""
    try:
        await _write(call, config, body, form)
    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        return  # the RPC is over; whoever reads from it learns how
    except BaseException:
        call.cancel()
        raise


async def _write(call: Any, config: RecognitionConfig, body: AudioBody, form: SampleFormat) -> None:
    first = StreamingRecognitionConfig(config=config)
    await call.write(StreamingRecognizeRequest(streaming_config=first))
    empty = True
    async for piece in slices(body, form):
        empty = False
        await call.write(StreamingRecognizeRequest(audio_content=piece))
    if empty:
        raise _empty()
    await call.done_writing()


async def _read(call: Any, sender: "asyncio.Task[None]") -> StreamingRecognizeResponse | None:
    """The next response, or None at the end. Raises what went wrong with sending, where that is why there is none."""
    try:
        response = await call.read()
    except asyncio.CancelledError:
        # Either this task is cancelled, or the RPC was, by the one that sends.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await asyncio.wait([sender])
        if (error := _error_of(sender)) is not None:
            raise error from None
        raise
    return None if response is grpc.aio.EOF else response


def _error_of(sender: "asyncio.Task[None]") -> BaseException | None:
    return sender.exception() if sender.done() and not sender.cancelled() else None


def _seconds_left(attempt: Attempt) -> float:
    return max(attempt.deadline - time.monotonic(), 0.001)


def _empty() -> EmptyAudio:
    return EmptyAudio("The recording has no audio in it.", param="file")


def _address(api_base: str, use_tls: bool | None, *, has_key: bool) -> tuple[str, bool]:
    found = _ADDRESS.fullmatch(api_base)
    if found is None or not 0 < int(found[3] or "1") < 65536:
        raise ValueError("api_base of nvidia_riva is not an address such as localhost:50051 or https://host:443")
    scheme, host, port = found.groups()
    if use_tls is None:
        # A key never goes out in the open unless somebody says so.
        use_tls = scheme == "https" if scheme else port == "443" or has_key
    return f"{host}:{port or (443 if use_tls else 50051)}", use_tls


def _metadata(api_key: str | None, function_id: str | None, extra: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    values = {}
    if api_key:
        values["authorization"] = f"Bearer {api_key}"
    if function_id:
        values["function-id"] = function_id
    for name, value in extra.items():
        values[name.lower()] = value
    for name, value in values.items():
        if not _METADATA.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
            raise ValueError(f"{name!r} cannot be the name of gRPC metadata")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the gRPC metadata {name!r} contains a character that is not printable ASCII")
    return tuple(values.items())


def build(params: ProviderParams) -> RivaProvider:
    """The adapter of a deployment of `nvidia_riva`.

    Raises:
        ValueError: There is no address, or one of the parameters is wrong.
    """
    use_ssl = params.get("use_ssl")
    return RivaProvider(
        model=params.model,
        api_base=params.need("api_base", "NVIDIA_RIVA_API_BASE"),
        api_key=params.get("api_key", "NVIDIA_RIVA_API_KEY"),
        function_id=params.get("nvcf_function_id"),
        use_tls=None if use_ssl is None else use_ssl == "true",
        settings=RivaSettings.read(params.default_params),
        extra_metadata=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
    )
