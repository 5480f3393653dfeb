"""ElevenLabs' API for recordings (`POST /v1/speech-to-text`).

One form with the recording last, passed on while the caller still sends it. Whatever the caller's format, words with
their times are asked for; speakers where the format needs them.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from urllib.parse import urlencode

import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import Include, ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.elevenlabs_answer import fill_from_elevenlabs, refusal
from voxgate_server.providers.elevenlabs_form import (
    FORBIDDEN_PARAMS,
    OPERATOR_FIRST_PARAMS,
    OPTIONS,
    QUERY_PARAMS,
    build_form,
)
from voxgate_server.providers.extra_params import operator_params
from voxgate_server.providers.http_call import HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size
from voxgate_server.providers.multipart_body import MultipartBody

__all__ = ["ElevenLabsProvider", "build"]

_DEFAULT_BASE = "https://api.elevenlabs.io"
_MAX_BYTES = 3_000_000_000
_MAX_SECONDS = 10 * 3600
_UNKNOWN = ("audio", "application/octet-stream")
_MEDIA_TYPES = (
    "audio/aac", "audio/aiff", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm",
)  # fmt: skip


class ElevenLabsProvider:
    """One deployment at ElevenLabs.

    Args:
        model: The model by ElevenLabs' name, e.g. `scribe_v2`.
        api_key: Sent as `xi-api-key`.
        api_base: Address before `/v1`, e.g. that of a region.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds ElevenLabs may take to answer once it has the recording; None means until the attempt's
            deadline.
        drop_params: Leave options ElevenLabs cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides those that are always permitted.
        default_params: Parameters of every request whose caller does not set them, by ElevenLabs' names.
        max_audio_bytes: Largest recording in bytes.
        name: The provider's name in messages and reports.
        transport: Instead of connections that go wherever `api_base` leads.

    Raises:
        ValueError: `api_base` is not an http(s) address, a header is not one, or a parameter must not be set.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: str,
        api_base: str = _DEFAULT_BASE,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        max_audio_bytes: int = _MAX_BYTES,
        name: str = "elevenlabs",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        who = f"{name}/{model}"
        allowed = frozenset(allowed_extra_params)
        if forbidden := sorted(allowed & FORBIDDEN_PARAMS):
            raise ValueError(f"extra parameters of {who} that nobody may set: {forbidden}")
        self._name = name
        self._model = model
        self._defaults = operator_params(default_params or {}, FORBIDDEN_PARAMS, who)
        self._known = (OPTIONS | allowed) - (OPERATOR_FIRST_PARAMS & self._defaults.keys())
        self._drop_params = drop_params
        self._max_audio_bytes = max_audio_bytes
        self._capabilities = _capabilities(max_audio_bytes, self._known)
        self._url = f"{checked_base(api_base, who)}/v1/speech-to-text"
        extra = extra_headers or {}
        self._upstream = Upstream.with_secrets(name, model, (api_key, *extra.values()))
        self._http = HttpCall(
            self._upstream,
            headers=header_pairs({"xi-api-key": api_key}, extra),
            timeout=timeout,
            refusal=partial(refusal, self._upstream),
            transport=transport,
        )

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._name

    @property
    def model(self) -> str:
        """The model, by ElevenLabs' name."""
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
            UnsupportedParameter: ElevenLabs cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: Headerless audio that ElevenLabs cannot read; nothing was sent.
            InvalidRequest: One of `extra_params` has the name of an option; nothing was sent.
            AudioTooLarge: For ElevenLabs.
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderError: ElevenLabs did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        config = attempt.config
        fields = build_form(
            config,
            attempt.audio,
            model=self._model,
            known=self._known,
            defaults=self._defaults,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        check_size(known_size(attempt), self._max_audio_bytes, self._upstream)
        query = urlencode([field for field in fields if field[0] in QUERY_PARAMS])
        form = [field for field in fields if field[0] not in QUERY_PARAMS]
        filename, media_type = _UNKNOWN
        if attempt.kind is not None:
            filename, media_type = f"audio.{attempt.kind.extension}", attempt.kind.media_type
        if config.debug.include_raw_request:
            shown = {"query": query, "fields": form, "file": {"filename": filename, "content_type": media_type}}
            attempt.raw_request = raw_payload("application/json", msgspec.json.encode(shown), self._upstream.secrets)
        body = MultipartBody(form, spool=attempt.spool, filename=filename, media_type=media_type)
        answer = await self._http.send(attempt, httpx.URL(f"{self._url}?{query}" if query else self._url), body)
        event = TranscriptionEvent()
        fill = partial(
            fill_from_elevenlabs,
            event.done.transcription,
            upstream=self._upstream,
            diarized=config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
            logprobs=Include.INCLUDE_LOGPROBS in config.include,
        )
        await self._http.parse(answer, fill)
        yield event


def build(params: ProviderParams) -> ElevenLabsProvider:
    """The adapter of a deployment of `elevenlabs`.

    Raises:
        ValueError: There is no key, or one of the parameters is wrong.
    """
    return ElevenLabsProvider(
        name=params.provider,
        model=params.model,
        api_key=params.need("api_key", "ELEVENLABS_API_KEY"),
        api_base=params.get("api_base", "ELEVENLABS_API_BASE") or _DEFAULT_BASE,
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )


def _capabilities(max_audio_bytes: int, options: frozenset[str]) -> ModelCapabilities:
    return ModelCapabilities(
        response_formats=(
            ResponseFormat.RESPONSE_FORMAT_JSON,
            ResponseFormat.RESPONSE_FORMAT_TEXT,
            ResponseFormat.RESPONSE_FORMAT_SRT,
            ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
            ResponseFormat.RESPONSE_FORMAT_VTT,
            ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
        ),
        timestamp_granularities=(
            TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
            TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
        ),
        diarization=True,
        logprobs=True,
        max_audio_bytes=max_audio_bytes,
        max_audio_duration=Duration(seconds=_MAX_SECONDS),
        media_types=_MEDIA_TYPES,
        options=sorted(options),
    )
