"""OpenAI and every server that speaks its transcription API.

The recording is passed on while the caller still sends it. The format asked for upstream is the plainest that holds
what the caller wants: text, srt and vtt are rendered by the gateway, for all providers alike.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.extra_fields_pb2 import RawPayload
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import AudioTooLarge, UnsupportedAudio
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.http_call import Answer, HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.multipart_body import MultipartBody
from voxgate_server.providers.openai_answer import fill_from_json
from voxgate_server.providers.openai_form import FORM_NAMES, build_form, form_fields
from voxgate_server.providers.openai_models import family_of
from voxgate_server.providers.options import is_translation

__all__ = ["OpenAIProvider", "build"]

_DEFAULT_BASE = "https://api.openai.com/v1"
_OPENAI_BYTES = 26_214_400

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
        base = checked_base(api_base, f"{name}/{model}")
        self._allowed_extra_params = frozenset(allowed_extra_params)
        if taken := sorted(self._allowed_extra_params & FORM_NAMES):
            raise ValueError(f"extra parameters of {name}/{model} have names of the API's own fields: {taken}")
        self._default_fields = form_fields(default_params or {})
        self._name = name
        self._api_base = str(base)
        self._model = model
        self._drop_params = drop_params
        self._family = family_of(model)
        at_openai = base.host == "api.openai.com" or base.host.endswith(".api.openai.com")
        self._max_audio_bytes = (_OPENAI_BYTES if at_openai else 0) if max_audio_bytes is None else max_audio_bytes
        self._capabilities = self._family.capabilities(
            max_audio_bytes=self._max_audio_bytes,
            media_types=tuple(sorted(set(_MEDIA_TYPES.values()))) if at_openai else (),
            extra_params=self._allowed_extra_params,
        )
        self._transcriptions_url = httpx.URL(f"{base}/audio/transcriptions")
        self._translations_url = httpx.URL(f"{base}/audio/translations")
        headers = {}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        if organization:
            headers["openai-organization"] = organization
        extra = extra_headers or {}
        self._upstream = Upstream.with_secrets(name, model, (api_key or "", *extra.values()))
        self._http = HttpCall(
            self._upstream, headers=header_pairs(headers, extra), timeout=timeout, transport=transport
        )

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
        await self._http.aclose()

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
        filename, media_type = _file_kind(attempt)
        body = MultipartBody(fields, spool=attempt.spool, filename=filename, media_type=media_type)
        if attempt.config.debug.include_raw_request:
            attempt.raw_request = _raw_form(fields, filename, media_type)
        url = self._translations_url if is_translation(attempt.config) else self._transcriptions_url
        answer = await self._http.send(attempt, url, body)
        event = TranscriptionEvent()
        await self._http.parse(answer, lambda _: self._fill(event, attempt, answer))
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

    def _fill(self, event: TranscriptionEvent, attempt: Attempt, answer: Answer) -> None:
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
        diarized = response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON
        fill_from_json(transcription, answer.body, self._upstream, diarized=diarized)


def build(params: ProviderParams) -> OpenAIProvider:
    """The adapter of a deployment of `openai` or `hosted_vllm`.

    Raises:
        ValueError: There is neither a key nor an address, or one of the parameters is wrong.
    """
    if params.provider == "openai":
        base = params.get("api_base", "OPENAI_BASE_URL", "OPENAI_API_BASE")
        key = params.get("api_key", "OPENAI_API_KEY") if base else params.need("api_key", "OPENAI_API_KEY")
    else:
        base, key = params.need("api_base", "HOSTED_VLLM_API_BASE"), params.get("api_key", "HOSTED_VLLM_API_KEY")
    return OpenAIProvider(
        name=params.provider,
        model=params.model,
        api_key=key,
        api_base=base or _DEFAULT_BASE,
        organization=params.get("organization"),
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )


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
        if name.endswith("[]"):
            values = form.setdefault(name, [])
            assert isinstance(values, list)
            values.append(shown)
        else:
            form[name] = shown
    form["file"] = {"filename": filename, "content_type": media_type}
    return raw_payload("application/json", msgspec.json.encode(form))
