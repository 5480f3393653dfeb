"""OpenAI and every server that speaks its transcription API.

The recording is passed on while the caller still sends it. The format asked for upstream is the plainest that holds
what the caller wants: text, srt and vtt are rendered by the gateway, for all providers alike.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import RawPayload
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import (
    AudioTooLarge,
    DeadlineExceeded,
    ProviderGarbled,
    ProviderTimeout,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.http import AiohttpTransport
from voxgate_server.providers.http_errors import Upstream, passable_headers, redact
from voxgate_server.providers.multipart_body import MultipartBody
from voxgate_server.providers.openai_answer import fill_from_json
from voxgate_server.providers.openai_form import FORM_NAMES, build_form, form_fields, is_translation
from voxgate_server.providers.openai_models import family_of

__all__ = ["OpenAIProvider"]

_DEFAULT_BASE = "https://api.openai.com/v1"
_OPENAI_BYTES = 26_214_400
_CONNECT_SECONDS = 3.0
_WRITE_SECONDS = 15.0
_ERROR_BODY_SECONDS = 5.0
_ERROR_BODY_BYTES = 64 * 1024
_RAW_BYTES = 64 * 1024
_SMALL_BYTES = 256 * 1024
"""Recordings up to this size go out as one piece."""
_THREAD_BYTES = 512 * 1024
"""Answers above this size are read in a thread, so that the event loop does not stand still."""

_MEDIA_TYPES = {
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "mpeg": "audio/mpeg",
    "mpga": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "wav": "audio/wav",
    "webm": "audio/webm",
}


class OpenAIProvider:
    """One deployment at OpenAI or at a compatible server.

    Args:
        model: The model by the server's name of it.
        api_key: Sent as bearer token; None for servers that want none.
        api_base: Address up to and including `/v1`.
        organization: For the header `OpenAI-Organization`.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds the server may take to answer once it has the recording; None means until the attempt's
            deadline.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params`.
        default_params: Form fields of every request whose caller does not set them, by the server's names.
        max_audio_bytes: Largest recording in bytes; None means 26214400 at OpenAI itself and unknown elsewhere.
        name: The provider's name in messages and reports.
        transport: Instead of connections that go wherever `api_base` leads.

    Raises:
        ValueError: `api_base` is not an http(s) address, a header is not one, or an allowed extra parameter has the
            name of one of the API's own fields.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: str | None = None,
        api_base: str = _DEFAULT_BASE,
        organization: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        max_audio_bytes: int | None = None,
        name: str = "openai",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        base = httpx.URL(api_base.rstrip("/"))
        if base.scheme not in {"http", "https"} or not base.host:
            raise ValueError(f"api_base of {name}/{model} is not an http(s) address")
        if base.userinfo or base.query or base.fragment:
            raise ValueError(f"api_base of {name}/{model} must not contain a user, a query or a fragment")
        self._allowed_extra_params = frozenset(allowed_extra_params)
        if taken := sorted(self._allowed_extra_params & FORM_NAMES):
            raise ValueError(f"extra parameters of {name}/{model} have names of the API's own fields: {taken}")
        self._default_fields = form_fields(default_params or {})
        self._name = name
        self._api_base = str(base)
        self._model = model
        self._timeout = timeout
        self._drop_params = drop_params
        self._family = family_of(model)
        at_openai = base.host == "api.openai.com" or base.host.endswith(".api.openai.com")
        self._max_audio_bytes = (_OPENAI_BYTES if at_openai else 0) if max_audio_bytes is None else max_audio_bytes
        self._capabilities = self._family.capabilities(
            max_audio_bytes=self._max_audio_bytes,
            media_types=tuple(sorted(set(_MEDIA_TYPES.values()))) if at_openai else (),
        )
        self._transcriptions_url = httpx.URL(f"{base}/audio/transcriptions")
        self._translations_url = httpx.URL(f"{base}/audio/translations")
        self._headers = _headers(base, api_key, organization, extra_headers or {})
        secrets = [api_key or "", *(extra_headers or {}).values()]
        self._upstream = Upstream(name, model, tuple(secret for secret in secrets if len(secret) >= 6))
        self._transport = transport if transport is not None else AiohttpTransport()

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._name

    @property
    def model(self) -> str:
        """The model, by the server's name of it."""
        return self._model

    @property
    def api_base(self) -> str:
        """Address up to and including `/v1`."""
        return self._api_base

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway."""
        return self._capabilities

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt and yields exactly one event, `done`.

        Raises:
            UnsupportedParameter: The model cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: The audio has no container; nothing was sent.
            AudioTooLarge: For this server.
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderError: The server did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        fields = build_form(
            attempt.config,
            model=self._model,
            family=self._family,
            allowed_extra_params=self._allowed_extra_params,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        asked = {field for field, _ in fields}
        fields += [field for field in self._default_fields if field[0] not in asked]
        self._check_audio(attempt)
        seconds_left = attempt.deadline - time.monotonic()
        if seconds_left <= 0:
            raise DeadlineExceeded(f"The time for the call was over before {self._upstream} was asked.")
        body: MultipartBody | None = None
        event = TranscriptionEvent()
        try:
            async with asyncio.timeout(seconds_left) as limit:
                filename, media_type = _file_kind(attempt)
                body = MultipartBody(fields, spool=attempt.spool, filename=filename, media_type=media_type)
                if attempt.config.debug.include_raw_request:
                    attempt.raw_request = _raw_form(fields, filename, media_type)
                await self._exchange(attempt, body, event)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._too_late(body) from None
        except httpx.TransportError as error:
            raise self._upstream.breakdown(error) from error
        yield event

    def _check_audio(self, attempt: Attempt) -> None:
        if attempt.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                f"{self._upstream} takes audio in a container only, not headerless samples. Send it as WAV or FLAC.",
                param="file",
            )
        size = max(attempt.spool.size, attempt.audio.size_bytes)
        if self._max_audio_bytes and size > self._max_audio_bytes:
            raise AudioTooLarge(
                f"The recording has {size} bytes and {self._upstream} takes at most {self._max_audio_bytes}. Send a "
                "shorter or better compressed one, or choose a model without this limit.",
                param="file",
                metadata={"limit_bytes": str(self._max_audio_bytes), "provider": self._name},
            )

    async def _exchange(self, attempt: Attempt, body: MultipartBody, event: TranscriptionEvent) -> None:
        response = await self._transport.handle_async_request(await self._request(attempt, body))
        try:
            status = response.status_code
            attempt.report.http_status = status
            attempt.response_headers = passable_headers(response.headers)
            succeeded = 200 <= status < 300
            if succeeded and not body.complete:
                raise ProviderGarbled(f"{self._upstream} answered before it had the whole recording.")
            answer = await _read(response) if succeeded else await _read_error(response)
            if attempt.config.debug.include_raw_response:
                media_type = response.headers.get("content-type", "")[:256]
                attempt.raw_response = _raw(media_type, answer, self._upstream.secrets)
            if not succeeded:
                raise self._upstream.refusal(status, response.headers, answer)
        finally:
            await response.aclose()
        if len(answer) > _THREAD_BYTES:
            await asyncio.to_thread(self._fill, event, attempt, response.headers, answer)
        else:
            self._fill(event, attempt, response.headers, answer)

    async def _request(self, attempt: Attempt, body: MultipartBody) -> httpx.Request:
        whole = attempt.spool.finished and attempt.spool.size <= _SMALL_BYTES
        length = body.content_length
        return httpx.Request(
            "POST",
            self._translations_url if is_translation(attempt.config) else self._transcriptions_url,
            headers=[
                *self._headers,
                (b"content-type", body.content_type.encode()),
                (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length),
            ],
            stream=httpx.ByteStream(await body.read()) if whole else body,
            extensions={"timeout": {"connect": _CONNECT_SECONDS, "write": _WRITE_SECONDS, "read": self._timeout}},
        )

    def _fill(self, event: TranscriptionEvent, attempt: Attempt, headers: httpx.Headers, answer: bytes) -> None:
        if headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise ProviderGarbled(f"{self._upstream} sent a compressed answer that was not asked for.")
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        start = answer[:64].lstrip()
        if not start:
            raise ProviderGarbled(f"{self._upstream} sent an empty answer.")
        if media_type == "text/html" or start.startswith(b"<"):
            raise ProviderGarbled(f"{self._upstream} sent a web page instead of a transcript.")
        response_format = attempt.config.response_format
        transcription = event.done.transcription
        # Some compatible servers answer in plain text whatever they are asked for.
        if (
            response_format == ResponseFormat.RESPONSE_FORMAT_TEXT
            and media_type == "text/plain"
            and not start.startswith(b"{")
        ):
            transcription.text = answer.decode("utf-8", "replace").strip()
            return
        diarized = response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
        fill_from_json(transcription, answer, self._upstream, diarized=diarized)

    def _too_late(self, body: MultipartBody | None) -> VoxgateError:
        if body is None or body.waiting:
            sent = 0 if body is None else body.audio_bytes
            return DeadlineExceeded(
                f"The time for the call was over while the recording was still coming in; {sent} bytes of it had been "
                "passed on. Send it faster, or allow the call more time."
            )
        if body.complete:
            what = "did not answer in the time that was left"
        elif body.started:
            what = f"had taken {body.audio_bytes} bytes of the recording when the time was over"
        else:
            what = "could not be connected to in the time that was left"
        return ProviderTimeout(f"{self._upstream} {what}.", metadata={"provider": self._name})


def _headers(
    base: httpx.URL, api_key: str | None, organization: str | None, extra: Mapping[str, str]
) -> tuple[tuple[bytes, bytes], ...]:
    headers = {
        "host": base.netloc.decode("ascii"),
        "accept": "application/json",
        # Nothing is gained by compressing a transcript, and there is no bomb to be afraid of.
        "accept-encoding": "identity",
        "user-agent": "voxgate",
    }
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    if organization:
        headers["openai-organization"] = organization
    for name, value in extra.items():
        lower = name.lower()
        if lower in {"host", "accept-encoding", "content-type", "content-length", "transfer-encoding", "connection"}:
            raise ValueError(f"extra_headers must not contain {lower}: the gateway sets it")
        headers[lower] = value
    for name, value in headers.items():
        if not name.isascii() or not value.isascii() or not value.isprintable() or not name.isprintable():
            raise ValueError(f"the header {name!r} contains a character that is not printable ASCII")
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


def _file_kind(attempt: Attempt) -> tuple[str, str]:
    # OpenAI looks at the extension first: a wrong or missing one is refused although the bytes are fine.
    if attempt.kind is not None:
        return f"audio.{attempt.kind.extension}", attempt.kind.media_type
    extension = attempt.audio.filename.rpartition(".")[2].lower()
    if extension not in _MEDIA_TYPES:
        extension = "wav"
    return f"audio.{extension}", _MEDIA_TYPES[extension]


async def _read(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return b"".join([chunk async for chunk in response.stream])


async def _read_error(response: httpx.Response) -> bytes:
    # The status is what counts: a body that is slow, cut or endless must not take it away.
    assert isinstance(response.stream, httpx.AsyncByteStream)
    received = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for chunk in response.stream:
                received += chunk
                if len(received) >= _ERROR_BODY_BYTES:
                    break
    except (TimeoutError, httpx.TransportError):
        pass
    return bytes(received[:_ERROR_BODY_BYTES])


def _raw_form(fields: list[tuple[str, str]], filename: str, media_type: str) -> RawPayload:
    form: dict[str, object] = {}
    for name, value in fields:
        shown = f"{len(value)} characters" if name == "known_speaker_references[]" else value
        if name.endswith("[]"):
            values = form.setdefault(name, [])
            assert isinstance(values, list)
            values.append(shown)
        else:
            form[name] = shown
    form["file"] = {"filename": filename, "content_type": media_type}
    return _raw("application/json", msgspec.json.encode(form), ())


def _raw(media_type: str, data: bytes, secrets: tuple[str, ...]) -> RawPayload:
    shown = data[:_RAW_BYTES]
    if secrets:
        shown = redact(shown.decode("utf-8", "replace"), secrets).encode()[:_RAW_BYTES]
    return RawPayload(media_type=media_type, data=shown, truncated=len(data) > _RAW_BYTES)
