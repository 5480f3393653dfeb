"""Gemini: generateContent, at AI Studio and (built by `vertex_ai`) on Vertex AI.

A recording goes inside the request, in base64, while the caller still sends it. That needs its size: a request has a
limit of 20 MB and must not be half sent when a recording turns out larger. So a recording whose size was announced
goes out at once, and one whose size is unknown is held back until it is whole, or too large. What is too large goes
through the Files API where there is one; that takes a length, and hence the whole recording.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from urllib.parse import quote

import httpx
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import DeadlineExceeded, UnsupportedAudio
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.gemini_answer import fill_from_answer
from voxgate_server.providers.gemini_files import GeminiFiles
from voxgate_server.providers.gemini_models import AI_STUDIO_MEDIA_TYPES, family_of
from voxgate_server.providers.gemini_request import GeminiRequest, RequestBuilder
from voxgate_server.providers.gemini_stream import GeminiStream
from voxgate_server.providers.google_errors import google_refusal
from voxgate_server.providers.http_call import HttpCall, Incoming, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size
from voxgate_server.providers.stream_answer import events_of, is_event_stream

__all__ = ["INLINE_BYTES", "GeminiProvider", "build"]

INLINE_BYTES = 20_000_000
"""The largest request, in bytes: Google says 20 MB and does not say which."""

_DEFAULT_BASE = "https://generativelanguage.googleapis.com"
_VERSION = "v1beta"
_FILE_BYTES = 2_000_000_000
_JSON = {"content-type": "application/json"}


class GeminiProvider:
    """One deployment of a Gemini model.

    Args:
        name: The provider's name in messages and reports: `gemini` or `vertex_ai`.
        model: The model by Google's name of it, without `models/`.
        base: Address before the provider's own path, without a slash at its end.
        path: The path of a method of the model, with a slash at its start: `path("generateContent")`.
        headers: What a request is authorised with, names in lower case; asked for every request. Headers the operator
            sets as well are the operator's.
        files_api: The place has the Files API, as AI Studio has. Without it (Vertex AI) recordings above the inline
            limit are refused, and `audioTimestamp` is asked for where times are, which AI Studio refuses.
        secrets: Strings that never appear in a message, besides the operator's headers.
        credential: Name of the parameter the operator has to check when Google refuses the credential.
        media_types: Media types the place takes.
        max_audio_seconds: Longest recording in seconds; None means as at AI Studio.
        max_inline_bytes: The largest request in bytes.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params`, by Google's names (`maxOutputTokens`, `mode` …).
        default_params: Parameters of every request whose caller does not set them, by Google's names.
        timeout: Seconds Google may take to answer once it has the recording; None means until the attempt's deadline.
        extra_headers: Sent with every request; must not name those the gateway sets itself.
        transport: Instead of connections that go wherever `base` leads.

    Raises:
        ValueError: The model cannot transcribe recordings, a header is not one, or a parameter's name is taken.
    """

    def __init__(
        self,
        *,
        name: str,
        model: str,
        base: httpx.URL,
        path: Callable[[str], str],
        headers: Callable[[Attempt], Awaitable[Mapping[str, str]]],
        files_api: bool,
        secrets: Iterable[str] = (),
        credential: str = "api_key",
        media_types: Collection[str] = AI_STUDIO_MEDIA_TYPES,
        max_audio_seconds: int | None = None,
        max_inline_bytes: int = INLINE_BYTES,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._name, self._model = name, model
        self._headers = headers
        self._max_inline_bytes = max_inline_bytes
        self._drop_params = drop_params
        self._media_types = frozenset(media_types)
        family = family_of(model)
        extra_params = frozenset(allowed_extra_params)
        self._builder = RequestBuilder(
            family, who=f"{name} ({model})", allowed_extra_params=extra_params, default_params=default_params or {},
            audio_timestamp=not files_api,
        )  # fmt: skip
        self._capabilities = family.capabilities(
            max_audio_bytes=_FILE_BYTES if files_api else max_inline_bytes // 4 * 3,
            max_audio_seconds=max_audio_seconds, media_types=self._media_types, extra_params=extra_params,
        )  # fmt: skip
        self._url = httpx.URL(f"{base}{path('generateContent')}")
        self._stream_url = httpx.URL(f"{base}{path('streamGenerateContent')}?alt=sse")
        extra = extra_headers or {}
        self._operators_headers = frozenset(header.lower() for header in extra)
        self._upstream = Upstream.with_secrets(name, model, (*secrets, *extra.values()))
        self._http = HttpCall(
            self._upstream,
            headers=header_pairs({}, extra),
            timeout=timeout,
            refusal=partial(google_refusal, self._upstream, credential=credential),
            transport=transport,
        )
        self._files = GeminiFiles(self._http, base, _VERSION, self._authorised) if files_api else None

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._name

    @property
    def model(self) -> str:
        """The model, by Google's name of it."""
        return self._model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway."""
        return self._capabilities

    async def aclose(self) -> None:
        """Waits, for a bounded time, until files that are no longer needed are deleted, and closes the connections."""
        if self._files is not None:
            await self._files.aclose()
        await self._http.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt: one event, `done`; for calls that are streamed, the text as it comes before it.

        Answers with times or speakers come whole: their JSON is of no use in pieces.

        Raises:
            UnsupportedParameter: The model cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: The audio is of a kind the place does not take; nothing was sent.
            AudioTooLarge: For this place.
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderError: Google did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        dropped = attempt.dropped_params if self._drop_params else None
        request = self._builder.build(attempt.config, self._media_type(attempt), dropped=dropped)
        if attempt.config.debug.include_raw_request:
            attempt.raw_request = raw_payload("application/json", request.shown())
        streamed = attempt.streamed and not request.timed
        async with self._asked(attempt, request, self._stream_url if streamed else self._url) as incoming:
            if streamed and is_event_stream(incoming):
                stream = GeminiStream(self._upstream, request)
                async with contextlib.aclosing(events_of(incoming, stream, self._upstream)) as events:
                    async for event in events:
                        yield event
                done = stream.done()
            else:
                answer = await incoming.read()
                done = TranscriptionEvent()
                await self._http.parse(
                    answer, lambda body: fill_from_answer(done.done.transcription, body, self._upstream, request)
                )
        yield done

    @contextlib.asynccontextmanager
    async def _asked(self, attempt: Attempt, request: GeminiRequest, url: httpx.URL) -> AsyncIterator[Incoming]:
        """The answer to a request, with the recording inside it or as a file of its own."""
        if await self._fits(attempt, request):
            headers = await self._authorised(attempt)
            async with self._http.stream(attempt, url, request.inline(attempt.spool), headers=headers) as incoming:
                yield incoming
            return
        assert self._files is not None
        await self._in_time(attempt, _until_larger(attempt, _FILE_BYTES))
        check_size(known_size(attempt), _FILE_BYTES, self._upstream)
        async with self._files.uploaded(attempt, request.wire_type) as uri:
            body = request.with_file(uri)
            if attempt.config.debug.include_raw_request:
                attempt.raw_request = raw_payload("application/json", body)
            headers = {**_JSON, **await self._authorised(attempt)}
            async with self._http.stream(attempt, url, body, headers=headers) as incoming:
                yield incoming

    async def _authorised(self, attempt: Attempt) -> Mapping[str, str]:
        headers = await self._headers(attempt)
        return {name: value for name, value in headers.items() if name not in self._operators_headers}

    def _media_type(self, attempt: Attempt) -> str:
        if attempt.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                f"{self._upstream} takes audio in a container only, not headerless samples. Send it as WAV or FLAC.",
                param="file",
            )
        media_type = attempt.kind.media_type if attempt.kind is not None else attempt.audio.media_type
        if media_type not in self._media_types:
            what = attempt.kind.name if attempt.kind is not None else "an unknown kind"
            raise UnsupportedAudio(
                f"The recording is {what}, and {self._upstream} takes {', '.join(sorted(self._media_types))} only. "
                "Convert it, or choose another model.",
                param="file",
                metadata={"provider": self._name},
            )
        return media_type

    async def _fits(self, attempt: Attempt, request: GeminiRequest) -> bool:
        """Whether the recording goes inside the request; waits where only its end, or its size, can tell."""
        limit = request.inline_audio_bytes(self._max_inline_bytes)
        if not attempt.audio.HasField("size_bytes"):
            await self._in_time(attempt, _until_larger(attempt, limit))
        size = known_size(attempt)
        check_size(size, limit if self._files is None else _FILE_BYTES, self._upstream)
        return size <= limit

    async def _in_time(self, attempt: Attempt, waiting: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(attempt.deadline - time.monotonic()) as limit:
                await waiting
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                f"The time for the call was over while the recording was still coming in; {self._upstream} is sent it "
                f"once it is whole, and {attempt.spool.size} bytes of it had come. Send it faster, or say its size."
            ) from None


async def _until_larger(attempt: Attempt, size: int) -> None:
    """Waits until the upload is complete, or larger than `size` bytes."""
    spool = attempt.spool
    while not spool.finished and spool.size <= size:
        await spool.read(spool.size)


def build(params: ProviderParams) -> GeminiProvider:
    """The adapter of a deployment of `gemini`.

    Raises:
        ValueError: There is no key, or one of the parameters is wrong.
    """
    key = params.need("api_key", "GOOGLE_API_KEY", "GEMINI_API_KEY")
    header_pairs({"x-goog-api-key": key}, {})
    base = checked_base(params.get("api_base", "GEMINI_API_BASE") or _DEFAULT_BASE, f"{params.provider}/{params.model}")

    async def headers(_: Attempt) -> Mapping[str, str]:
        # In a header and never in the address: addresses are logged by everybody on the way.
        return {"x-goog-api-key": key}

    return GeminiProvider(
        name=params.provider,
        model=params.model,
        base=base,
        path=lambda method: f"/{_VERSION}/models/{quote(params.model, safe='')}:{method}",
        headers=headers,
        files_api=True,
        secrets=(key,),
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        extra_headers=params.extra_headers,
        transport=params.transport(),
    )
