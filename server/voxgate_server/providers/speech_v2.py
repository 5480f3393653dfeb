"""Google's Speech-to-Text v2: the chirp models and their elders, by the synchronous `recognize`.

Google wants the whole recording at once and takes one minute of it. So the recording is measured while it comes in,
and one that is longer is refused before anything is sent.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import partial

import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.audio.duration import DurationProbe
from voxgate_server.errors import AudioTooLarge, DeadlineExceeded, UnsupportedAudio
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.google_errors import google_refusal
from voxgate_server.providers.http_call import HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.options import is_translation
from voxgate_server.providers.speech_v2_answer import fill_from_results, speaker_turns
from voxgate_server.providers.speech_v2_languages import LANGUAGES
from voxgate_server.providers.speech_v2_request import (
    CALLERS_PARAMS,
    OPERATORS_PARAMS,
    RESERVED_NAMES,
    build_config,
    decoding_config,
    family_of,
)

__all__ = ["SpeechV2Provider"]

_MAX_SECONDS = 60.0
_MAX_BODY = 10 << 20
"""Bytes of a request; a recording is written in base64 and grows by a third."""
_MAX_AUDIO_BYTES = (_MAX_BODY - (64 << 10)) // 4 * 3
_MEDIA_TYPES = ("audio/amr", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm")


class SpeechV2Provider:
    """One deployment of a model of Google's Speech-to-Text v2.

    Args:
        model: By Google's name of it, e.g. `chirp_3`.
        project: Google project that is billed.
        location: Where it is served, e.g. `us` or `us-central1`.
        headers: What a request is authorised with, names in lower case; asked for every request. Headers the operator
            sets as well are the operator's.
        api_base: Address before `/v2/projects`; None means Google's own for the location.
        extra_headers: Sent with every request.
        timeout: Seconds Google may take to answer once it has the recording; None means until the attempt's deadline.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides the harmless ones.
        default_params: Parameters of every request whose caller does not set them, by Google's names.
        name: The provider's name in messages and reports.
        credential: Name of the parameter the operator has to check when Google refuses the credential.
        secrets: Strings that never appear in a message.
        transport: Instead of connections of its own, for tests.

    Raises:
        ValueError: `api_base` is not an http(s) address, a header is not one, or a parameter is not Google's.
    """

    def __init__(
        self,
        *,
        model: str,
        project: str,
        location: str,
        headers: Callable[[Attempt], Awaitable[Mapping[str, str]]],
        api_base: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        name: str = "vertex_ai",
        credential: str = "vertex_credentials",
        secrets: Iterable[str] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        host = "speech.googleapis.com" if location == "global" else f"{location}-speech.googleapis.com"
        base = checked_base(api_base or f"https://{host}", f"{name}/{model}")
        self._url = httpx.URL(f"{base}/v2/projects/{project}/locations/{location}/recognizers/_:recognize")
        self._allowed_extra_params = frozenset(allowed_extra_params)
        self._default_params = dict(default_params or {})
        if taken := sorted(self._allowed_extra_params & RESERVED_NAMES):
            raise ValueError(f"callers of {name}/{model} cannot be allowed {', '.join(taken)}: the gateway sets it")
        if unknown := sorted(self._default_params.keys() - OPERATORS_PARAMS):
            raise ValueError(
                f"{name}/{model} has no parameter {', '.join(unknown)[:200]}; it has "
                f"{', '.join(sorted(OPERATORS_PARAMS))}"
            )
        self._name = name
        self._model = model
        self._family = family_of(model)
        self._headers = headers
        self._drop_params = drop_params
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
        family = self._family
        self._capabilities = ModelCapabilities(
            response_formats=family.formats,
            timestamp_granularities=[
                TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
                TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
            ],
            languages=sorted(code for code in LANGUAGES if len(code) == 2),
            diarization=family.diarization is not None,
            translation=family.translation,
            max_audio_duration=Duration(seconds=int(_MAX_SECONDS)),
            max_audio_bytes=_MAX_AUDIO_BYTES,
            media_types=_MEDIA_TYPES,
            options=sorted({*family.options, "chunking_strategy", *CALLERS_PARAMS, *self._allowed_extra_params}),
            needs_length=True,
        )

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
        """Closes the connections."""
        await self._http.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt and yields exactly one event, `done`.

        Raises:
            UnsupportedParameter: The model cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: Google does not read such audio; nothing was sent.
            AudioTooLarge: More than a minute, or more bytes than a request may have.
            DeadlineExceeded: The time was over before anything was sent.
            ProviderError: Google did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        raw = attempt.audio.raw_format if attempt.audio.HasField("raw_format") else None
        config = build_config(
            attempt.config,
            model=self._model,
            family=self._family,
            defaults=self._default_params,
            allowed_extra_params=self._allowed_extra_params,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        config |= decoding_config(raw, str(self._upstream))
        self._check_kind(attempt)
        seconds = await self._measure(attempt)
        encoded = msgspec.json.encode(config)
        if attempt.config.debug.include_raw_request:
            attempt.raw_request = raw_payload("application/json", b'{"config":%b}' % encoded, self._upstream.secrets)
        body = AudioBody(
            attempt.spool,
            content_type="application/json",
            head=b'{"config":%b,"content":"' % encoded,
            tail=b'"}',
            in_base64=True,
        )
        answer = await self._http.send(attempt, self._url, body, headers=await self._authorised(attempt))
        event = TranscriptionEvent()
        transcription = event.done.transcription
        await self._http.parse(answer, lambda data: fill_from_results(transcription, data, self._upstream))
        transcription.task = "translate" if is_translation(attempt.config) else "transcribe"
        if attempt.config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
            speaker_turns(transcription)
        if seconds is not None:
            transcription.duration = seconds
        yield event

    def _check_kind(self, attempt: Attempt) -> None:
        kind = attempt.kind
        if kind is not None and kind.media_type not in _MEDIA_TYPES:
            raise UnsupportedAudio(
                f"{self._upstream} does not read {kind.name}. Send WAV, FLAC, MP3, M4A, or Opus in Ogg or WebM.",
                param="file",
                metadata={"detected": kind.name, "provider": self._name},
            )

    async def _measure(self, attempt: Attempt) -> float | None:
        """Waits for all of the recording; tells its length in seconds where it can be known.

        Raises:
            AudioTooLarge: It is more than Google takes.
            DeadlineExceeded: It was not there in time.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        raw = attempt.audio.raw_format if attempt.audio.HasField("raw_format") else None
        probe = DurationProbe(raw)
        size = 0
        self._check_size(max(attempt.audio.size_bytes, attempt.spool.size))
        try:
            async with asyncio.timeout(attempt.deadline - time.monotonic()) as limit:
                async for chunk in attempt.spool.cursor():
                    probe.feed(chunk)
                    size += len(chunk)
                    self._check_size(size)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                "The time for the call was over while the recording was still coming in. Send it faster, or allow the "
                "call more time."
            ) from None
        seconds = probe.seconds()
        if seconds is not None and seconds > _MAX_SECONDS:
            raise self._too_large(f"is {seconds:.1f} seconds long", "limit_seconds", f"{_MAX_SECONDS:g}", "seconds")
        return seconds

    def _check_size(self, size: int) -> None:
        if size > _MAX_AUDIO_BYTES:
            raise self._too_large(
                f"has more than {_MAX_AUDIO_BYTES} bytes", "limit_bytes", str(_MAX_AUDIO_BYTES), "bytes"
            )

    def _too_large(self, what: str, key: str, limit: str, unit: str) -> AudioTooLarge:
        return AudioTooLarge(
            f"The recording {what} and {self._upstream} takes at most {limit} {unit}. Send it in parts, or choose a "
            "model without this limit.",
            param="file",
            metadata={key: limit, "provider": self._name},
        )

    async def _authorised(self, attempt: Attempt) -> Mapping[str, str]:
        headers = await self._headers(attempt)
        return {header: value for header, value in headers.items() if header not in self._operators_headers}
