"""OpenAI and every server that speaks its transcription API.

The recording is passed on while the caller still sends it. The format asked for upstream is the one that serves best:
text, srt and vtt are rendered by the gateway, for all providers alike. What is different at each server stands in
`openai_dialects`.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from functools import cache

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import RawPayload
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import ProviderCredential, UnsupportedAudio
from voxgate_server.providers.azure_token import Token
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.http_call import Answer, HttpCall, Incoming, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size
from voxgate_server.providers.multipart_body import MultipartBody
from voxgate_server.providers.openai_answer import fill_from_json
from voxgate_server.providers.openai_dialects import DIALECTS, OPENAI, OPENAI_COMPATIBLE
from voxgate_server.providers.openai_form import FORM_NAMES, build_form, form_fields
from voxgate_server.providers.openai_models import Dialect
from voxgate_server.providers.openai_stream import OpenAIStream, unwrapped
from voxgate_server.providers.options import is_translation
from voxgate_server.providers.stream_answer import events_of, is_event_stream
from voxgate_server.telemetry import get_logger

__all__ = ["OpenAIProvider", "build"]

_log = get_logger("providers")

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
        dialect: How the server speaks.
        base_model: Which model that is, where its name does not say.
        api_key: Sent as bearer token, or as the dialect has it; None for servers that want none.
        token: Instead of a key, for what has to be fetched.
        api_base: What stands before the path. None means the dialect's own.
        path: Where transcriptions and translations are; `{task}` stands for either word.
        organization: For the header `OpenAI-Organization`.
        secrets: Further strings that must never appear in a message.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds the server may take to answer once it has the recording; None means until the attempt's
            deadline.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides those of the dialect.
        default_params: Form fields of every request whose caller does not set them, by the server's names.
        max_audio_bytes: Largest recording in bytes; None means the dialect's at the provider's own servers and unknown
            elsewhere.
        transport: Instead of connections that go wherever `api_base` leads.

    Raises:
        ValueError: `api_base` is not an http(s) address, a header is not one, or an allowed extra parameter has the
            name of one of the API's own fields.
    """

    def __init__(
        self,
        *,
        model: str,
        dialect: Dialect = OPENAI,
        base_model: str | None = None,
        api_key: str | None = None,
        token: Token | None = None,
        api_base: str | None = None,
        path: str = "/audio/{task}",
        organization: str | None = None,
        secrets: Iterable[str] = (),
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        max_audio_bytes: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        family = dialect.family_of(base_model or model)
        name = dialect.name
        base = checked_base(api_base or family.base or dialect.base, f"{name}/{model}")
        self._allowed_extra_params = frozenset(allowed_extra_params)
        if taken := sorted(self._allowed_extra_params & FORM_NAMES):
            raise ValueError(f"extra parameters of {name}/{model} have names of the API's own fields: {taken}")
        self._default_fields = form_fields(default_params or {}, dialect)
        self._dialect, self._family = dialect, family
        self._api_base = str(base)
        self._model = model
        self._drop_params = drop_params
        own_server = dialect.owns(base.host)
        if max_audio_bytes is None:
            max_audio_bytes = family.max_audio_bytes if own_server else 0
        self._max_audio_bytes = max_audio_bytes
        self._capabilities = family.capabilities(
            dialect,
            max_audio_bytes=max_audio_bytes,
            own_server=own_server,
            extra_params=self._allowed_extra_params,
        )
        self._transcriptions_url = httpx.URL(f"{base}{path.replace('{task}', 'transcriptions')}")
        self._translations_url = httpx.URL(f"{base}{path.replace('{task}', 'translations')}")
        headers = {}
        if api_key:
            headers[dialect.key_header or "authorization"] = api_key if dialect.key_header else f"Bearer {api_key}"
        if organization:
            headers["openai-organization"] = organization
        extra = extra_headers or {}
        self._token = token
        self._upstream = Upstream.with_secrets(name, model, (api_key or "", *secrets, *extra.values()))
        self._http = HttpCall(
            self._upstream, headers=header_pairs(headers, extra), timeout=timeout, transport=transport
        )

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._dialect.name

    @property
    def model(self) -> str:
        """The model, by the server's name of it."""
        return self._model

    @property
    def api_base(self) -> str:
        """What stands before the path."""
        return self._api_base

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway."""
        return self._capabilities

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._token is not None:
            await self._token.aclose()
        await self._http.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt: one event, `done`; for calls that are streamed, what the server streams before it.

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
            dialect=self._dialect,
            family=self._family,
            allowed_extra_params=self._allowed_extra_params,
            defaults=self._default_fields,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
            streamed=attempt.streamed,
        )
        self._check_audio(attempt)
        filename, media_type = _file_kind(attempt)
        body = MultipartBody(fields, spool=attempt.spool, filename=filename, media_type=media_type)
        if attempt.config.debug.include_raw_request:
            attempt.raw_request = _raw_form(fields, filename, media_type)
        url = self._translations_url if is_translation(attempt.config) else self._transcriptions_url
        words = self._dialect.granularities == "one" and ("timestamp_granularities", "word") in fields
        async with self._answer(attempt, url, body) as incoming:
            # Whoever was asked to stream may not know how; nobody streams who was not asked.
            if attempt.streamed and is_event_stream(incoming):
                stream = OpenAIStream(self._upstream, segments_are_words=words)
                async with contextlib.aclosing(events_of(incoming, stream, self._upstream)) as events:
                    async for event in events:
                        yield event
                done = stream.done()
            else:
                answer = await incoming.read()
                done = TranscriptionEvent()
                await self._http.parse(answer, lambda _: self._fill(done, attempt, answer, segments_are_words=words))
                if attempt.streamed:
                    done = unwrapped(done, self._upstream)
        yield done

    @contextlib.asynccontextmanager
    async def _answer(self, attempt: Attempt, url: httpx.URL, body: MultipartBody) -> AsyncIterator[Incoming]:
        headers = None
        if self._token is not None:
            token = await self._token.get(attempt.deadline)
            headers = {"authorization": f"Bearer {token}"}
        try:
            async with self._http.stream(attempt, url, body, headers=headers) as incoming:
                yield incoming
        except ProviderCredential:
            if self._token is not None:
                self._token.refused(token)
            raise

    def _check_audio(self, attempt: Attempt) -> None:
        if attempt.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                f"{self._upstream} takes audio in a container only, not headerless samples. Send it as WAV or FLAC.",
                param="file",
            )
        check_size(known_size(attempt), self._max_audio_bytes, self._upstream)

    def _fill(self, event: TranscriptionEvent, attempt: Attempt, answer: Answer, *, segments_are_words: bool) -> None:
        response_format = attempt.config.response_format
        transcription = event.done.transcription
        # Some compatible servers answer in plain text whatever they are asked for.
        if (
            response_format == ResponseFormat.RESPONSE_FORMAT_TEXT
            and answer.media_type == "text/plain"
            and not answer.body[:64].lstrip().startswith(b"{")
        ):
            transcription.text = answer.body.decode("utf-8", "replace").strip()
            return
        fill_from_json(transcription, answer.body, self._upstream, segments_are_words=segments_are_words)


def build(params: ProviderParams) -> OpenAIProvider:
    """The adapter of a deployment of any provider in `DIALECTS` but azure, which has a builder of its own.

    Raises:
        ValueError: There is neither a key nor an address, or one of the parameters is wrong.
    """
    dialect = DIALECTS[params.provider]
    base = params.get("api_base", *dialect.base_variables)
    if not base and not dialect.base:
        base = params.need("api_base", *dialect.base_variables)
    if dialect is OPENAI and base and not dialect.owns(checked_base(base, f"openai/{params.model}").host):
        dialect = OPENAI_COMPATIBLE
    find_key = params.need if dialect.needs_key and not base else params.get
    key = find_key("api_key", *dialect.key_variables)
    organization = params.get("organization", *(("OPENAI_ORGANIZATION", "OPENAI_ORG_ID") if dialect is OPENAI else ()))
    if dialect.without_key is not None and not key and not base:
        dialect = dialect.without_key
    if dialect.notice:
        _warn_once(dialect.name, dialect.notice)
    return OpenAIProvider(
        dialect=dialect,
        model=params.model,
        base_model=params.base_model,
        api_key=key,
        api_base=base,
        organization=organization,
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )


@cache
def _warn_once(provider: str, notice: str) -> None:
    _log.warning("about a provider", provider=provider, notice=notice)


def _file_kind(attempt: Attempt) -> tuple[str, str]:
    # OpenAI looks at the extension first: a wrong or missing one is refused although the bytes are fine.
    if attempt.kind is not None:
        return f"audio.{attempt.kind.extension}", attempt.kind.media_type
    extension = attempt.audio.filename.rpartition(".")[2].lower()
    if extension not in _MEDIA_TYPES:
        extension = "wav"
    return f"audio.{extension}", _MEDIA_TYPES[extension]


def _raw_form(fields: list[tuple[str, str]], filename: str, media_type: str) -> RawPayload:
    form: dict[str, object] = {}
    for name, value in fields:
        shown = f"{len(value)} characters" if name == "known_speaker_references[]" else value
        values = form.setdefault(name, [] if name.endswith("[]") else shown)
        if isinstance(values, list):
            values.append(shown)
        elif values is not shown:
            form[name] = [values, shown]
    form["file"] = {"filename": filename, "content_type": media_type}
    return raw_payload("application/json", msgspec.json.encode(form))
