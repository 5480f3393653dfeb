"""Deepgram's API for recordings (`POST /v1/listen`).

The recording is the body, passed on while the caller still sends it; everything else stands in the query. Whatever
the caller's format, the answer is asked for in full: words, utterances, and the language where it was found out.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from urllib.parse import quote, urlencode

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.deepgram_answer import fill_from_deepgram, refusal
from voxgate_server.providers.deepgram_models import family_of
from voxgate_server.providers.deepgram_options import (
    FORBIDDEN_PARAMS,
    OPERATOR_FIRST_PARAMS,
    build_query,
    operator_params,
)
from voxgate_server.providers.http_call import HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size

__all__ = ["DeepgramProvider", "build"]

_DEFAULT_BASE = "https://api.deepgram.com/v1"
_MAX_BYTES = 2_000_000_000
_UNKNOWN_TYPE = "application/octet-stream"


class DeepgramProvider:
    """One deployment at Deepgram, or at a server of its own that runs Deepgram's software.

    Args:
        model: The model by Deepgram's name.
        api_key: Sent as token.
        api_base: Address up to and including `/v1`.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds Deepgram may take to answer once it has the recording; None means until the attempt's
            deadline.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides those that are always permitted.
        default_params: Parameters of every request whose caller does not set them, by Deepgram's names.
        max_audio_bytes: Largest recording in bytes.
        name: The provider's name in messages and reports.
        transport: Instead of connections that go wherever `api_base` leads.

    Raises:
        ValueError: `api_base` is not an http(s) address, a header is not one, a parameter must not be set or does not
            fit into a query, or the model is for live speech only.
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
        name: str = "deepgram",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        who = f"{name}/{model}"
        if model.startswith("flux"):
            raise ValueError(f"{who} is a model for live speech and cannot transcribe recordings; nova-3 can")
        allowed = frozenset(allowed_extra_params)
        if forbidden := sorted(allowed & FORBIDDEN_PARAMS):
            raise ValueError(f"extra parameters of {who} that nobody may set: {forbidden}")
        self._name = name
        self._model = model
        self._family = family_of(model)
        self._defaults = operator_params(default_params or {}, who)
        self._known = (self._family.options | allowed) - (OPERATOR_FIRST_PARAMS & self._defaults.keys())
        self._drop_params = drop_params
        self._max_audio_bytes = max_audio_bytes
        self._capabilities = self._family.capabilities(max_audio_bytes=max_audio_bytes, options=self._known)
        self._listen_url = f"{checked_base(api_base, who)}/listen"
        extra = extra_headers or {}
        self._upstream = Upstream.with_secrets(name, model, (api_key, *extra.values()))
        self._http = HttpCall(
            self._upstream,
            headers=header_pairs({"authorization": f"Token {api_key}"}, extra),
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
        """The model, by Deepgram's name."""
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
            UnsupportedAudio: Headerless audio that Deepgram cannot read; nothing was sent.
            InvalidRequest: One of `extra_params` fits into no query; nothing was sent.
            AudioTooLarge: For Deepgram.
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderError: Deepgram did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        query = build_query(
            attempt.config,
            attempt.audio,
            model=self._model,
            family=self._family,
            known=self._known,
            defaults=self._defaults,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        check_size(known_size(attempt), self._max_audio_bytes, self._upstream)
        media_type = attempt.kind.media_type if attempt.kind is not None else _UNKNOWN_TYPE
        if attempt.config.debug.include_raw_request:
            shown = {**query, "body": {"content_type": media_type}}
            attempt.raw_request = raw_payload("application/json", msgspec.json.encode(shown), self._upstream.secrets)
        url = httpx.URL(f"{self._listen_url}?{urlencode(query, doseq=True, quote_via=quote)}")
        answer = await self._http.send(attempt, url, AudioBody(attempt.spool, content_type=media_type))
        event = TranscriptionEvent()
        fill = partial(
            fill_from_deepgram,
            event.done.transcription,
            upstream=self._upstream,
            diarized=attempt.config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
            paragraphs=query.get("paragraphs") == ["true"],
        )
        await self._http.parse(answer, fill)
        yield event


def build(params: ProviderParams) -> DeepgramProvider:
    """The adapter of a deployment of `deepgram`.

    Raises:
        ValueError: There is no key, or one of the parameters is wrong.
    """
    return DeepgramProvider(
        name=params.provider,
        model=params.model,
        api_key=params.need("api_key", "DEEPGRAM_API_KEY"),
        api_base=params.get("api_base", "DEEPGRAM_API_BASE") or _DEFAULT_BASE,
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )
