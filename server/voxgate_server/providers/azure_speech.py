"""Azure AI Speech, its REST API for short audio: at most 60 seconds, as WAV or as Opus in Ogg.

The recording is the body and goes out once it is whole: Azure wants to be asked first (`Expect: 100-continue`) by
whoever does not know the length, and what is too long would be cut off without a word. Everything else stands in
the query, and the language has to: it is not found out.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity, TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.audio.duration import DurationProbe
from voxgate_server.errors import AudioTooLarge, DeadlineExceeded, UnsupportedAudio, UnsupportedParameter
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.azure_speech_answer import fill_from_azure_speech
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.extra_params import caller_params, operator_params
from voxgate_server.providers.http_call import HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.options import accepted_options, is_translation, language_hints, refused_option

__all__ = ["AzureSpeechProvider", "build"]

_PATH = "/speech/recognition/conversation/cognitiveservices/v1"
_MAX_SECONDS = 60
_LATE_SECONDS = 0.5
"""Longer by so much is no reason to refuse: encoders pad what they write."""
_CONTENT_TYPES = {"wav": "audio/wav", "ogg": "audio/ogg; codecs=opus"}
_OPTIONS = frozenset({"chunking_strategy", "language", "profanity", "timestamp_granularities"})
_FORBIDDEN_PARAMS = frozenset({"format", "wordLevelTimestamps"})
_DEFAULT_LANGUAGE = "en-US"
_REGIONS = dict(
    tag.split("-") for tag in (
        "ar-SA", "bg-BG", "ca-ES", "cs-CZ", "da-DK", "de-DE", "el-GR", "en-US", "es-ES", "fi-FI", "fr-FR", "he-IL",
        "hi-IN", "hr-HR", "hu-HU", "id-ID", "it-IT", "ja-JP", "ko-KR", "nb-NO", "nl-NL", "pl-PL", "pt-BR", "ro-RO",
        "ru-RU", "sk-SK", "sv-SE", "th-TH", "tr-TR", "uk-UA", "vi-VN", "zh-CN",
    )
)  # fmt: skip
"""The region most are from, for languages given without one; Azure knows none without."""
_REGION_NAME = re.compile(r"[a-z][a-z0-9]{2,40}", re.ASCII)
_PORTAL_BASE = re.compile(r"https://([a-z][a-z0-9]{2,40})\.api\.cognitive\.microsoft\.com", re.ASCII)
_FORMATS = (
    ResponseFormat.RESPONSE_FORMAT_JSON,
    ResponseFormat.RESPONSE_FORMAT_TEXT,
    ResponseFormat.RESPONSE_FORMAT_SRT,
    ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
    ResponseFormat.RESPONSE_FORMAT_VTT,
)


class AzureSpeechProvider:
    """One deployment at Azure AI Speech.

    Args:
        model: A name of the operator's choice: Azure has one recogniser for each language.
        api_key: Sent as `Ocp-Apim-Subscription-Key`.
        api_base: Address before `/speech/recognition/…`, e.g. `https://westeurope.stt.speech.microsoft.com`.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds Azure may take to answer once it has the recording; None means until the attempt's deadline.
        drop_params: Leave options Azure cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides `profanity`.
        default_params: Parameters of every request whose caller does not set them, by Azure's names; `language` is
            `en-US` otherwise, `cid` names a model of the operator's own.
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
        api_base: str,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        drop_params: bool = False,
        allowed_extra_params: Iterable[str] = (),
        default_params: Mapping[str, object] | None = None,
        name: str = "azure_speech",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        who = f"{name}/{model}"
        allowed = frozenset(allowed_extra_params)
        if forbidden := sorted(allowed & _FORBIDDEN_PARAMS):
            raise ValueError(f"extra parameters of {who} that nobody may set: {forbidden}")
        self._name = name
        self._model = model
        self._defaults = operator_params(default_params or {}, _FORBIDDEN_PARAMS, who)
        self._known = _OPTIONS | allowed
        self._drop_params = drop_params
        self._capabilities = _capabilities(self._known)
        self._url = f"{checked_base(api_base, who)}{_PATH}"
        extra = extra_headers or {}
        self._upstream = Upstream.with_secrets(name, model, (api_key, *extra.values()))
        self._http = HttpCall(
            self._upstream,
            headers=header_pairs({"ocp-apim-subscription-key": api_key}, extra),
            timeout=timeout,
            transport=transport,
        )

    @property
    def name(self) -> str:
        """The provider, as it stands before the slash of `provider/model`."""
        return self._name

    @property
    def model(self) -> str:
        """The model, by the operator's name of it."""
        return self._model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What it can do behind this gateway."""
        return self._capabilities

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt and yields exactly one event, `done`.

        Raises:
            UnsupportedParameter: Azure cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: Neither WAV nor Ogg; nothing was sent.
            InvalidRequest: One of `extra_params` has the name of an option; nothing was sent.
            AudioTooLarge: Longer than 60 seconds; nothing was sent.
            DeadlineExceeded: The time was over before anything was sent.
            ProviderError: Azure did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        query = self._query(attempt)
        content_type = self._content_type(attempt)
        await self._whole(attempt)
        if attempt.config.debug.include_raw_request:
            shown = {**query, "body": {"content_type": content_type}}
            attempt.raw_request = raw_payload("application/json", msgspec.json.encode(shown), self._upstream.secrets)
        url = httpx.URL(f"{self._url}?{urlencode(query, quote_via=quote)}")
        answer = await self._http.send(attempt, url, AudioBody(attempt.spool, content_type=content_type))
        event = TranscriptionEvent()
        fill = partial(fill_from_azure_speech, event.done.transcription, upstream=self._upstream)
        await self._http.parse(answer, fill)
        yield event

    def _query(self, attempt: Attempt) -> dict[str, str]:
        config, known, who = attempt.config, self._known, str(self._upstream)
        if is_translation(config):
            raise refused_option(who, "task", known)
        if config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON:
            raise UnsupportedParameter(
                f"{who} cannot tell speakers apart. Choose another response_format or another model.",
                param="response_format",
                metadata={"parameter": "response_format"},
            )
        asked = self._asked(config, known, attempt.dropped_params if self._drop_params else None)
        query = {"language": _DEFAULT_LANGUAGE, **self._defaults, **asked}
        return {
            **{name: value if isinstance(value, str) else _json(value) for name, value in query.items()},
            "format": "detailed",
            "wordLevelTimestamps": "true",
        }

    def _asked(self, config: TranscriptionConfig, known: frozenset[str], dropped: list[str] | None) -> dict[str, Any]:
        if config.chunking_strategy.HasField("server_vad"):
            known -= {"chunking_strategy"}
        accepted = accepted_options(config, known, dropped=dropped, who=str(self._upstream))
        asked = caller_params(config, accepted)
        if "language" in accepted:
            asked["language"] = _language(language_hints(config, takes_several=False)[0])
        return asked

    def _content_type(self, attempt: Attempt) -> str:
        kind = attempt.kind
        # Bytes nobody knows are for Azure to judge.
        content_type = _CONTENT_TYPES.get("wav" if kind is None else kind.name)
        if content_type is None or attempt.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                f"{self._upstream} takes WAV and Opus in Ogg only. Send one of these, or choose another model.",
                param="file",
            )
        return content_type

    async def _whole(self, attempt: Attempt) -> None:
        """Waits for the end of the recording and measures it."""
        probe = DurationProbe()
        try:
            async with asyncio.timeout(attempt.deadline - time.monotonic()) as limit:
                async for chunk in attempt.spool.cursor():
                    probe.feed(chunk)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(
                f"The time for the call was over while the recording was still coming in; {self._upstream} is sent it "
                f"once it is whole, and {attempt.spool.size} bytes of it had come. Send it faster."
            ) from None
        seconds = probe.seconds()
        if seconds is not None and seconds > _MAX_SECONDS + _LATE_SECONDS:
            raise AudioTooLarge(
                f"The recording is {seconds:.0f} s long and {self._upstream} takes at most {_MAX_SECONDS} s. Send a "
                "shorter one, or choose a model without this limit.",
                param="file",
                metadata={"limit_seconds": str(_MAX_SECONDS), "provider": self._name},
            )


def build(params: ProviderParams) -> AzureSpeechProvider:
    """The adapter of a deployment of `azure_speech`, which LiteLLM's files name `azure/speech/…`.

    Raises:
        ValueError: There is no key or no address, or one of the parameters is wrong.
    """
    return AzureSpeechProvider(
        name=params.provider,
        model=params.model,
        api_key=params.need("api_key", "AZURE_SPEECH_API_KEY"),
        api_base=_base(params),
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        transport=params.transport(),
    )


def _base(params: ProviderParams) -> str:
    """The address: as written, of a region, or made of what Azure's portal shows, where this API is not."""
    written = params.get("api_base")
    region = params.get("region_name")
    if written is None and region is not None:
        if not _REGION_NAME.fullmatch(region):
            raise ValueError("region_name is no region of Azure's, e.g. westeurope")
        return f"https://{region}.stt.speech.microsoft.com"
    base = (written or params.need("api_base", "AZURE_SPEECH_API_BASE")).rstrip("/").removesuffix(_PATH)
    shown = _PORTAL_BASE.fullmatch(base)
    return f"https://{shown[1]}.stt.speech.microsoft.com" if shown else base


def _language(tag: str) -> str:
    """A language as Azure writes it, with a region in any case."""
    base, _, region = tag.replace("_", "-").partition("-")
    base = {"no": "nb"}.get(base.lower(), base.lower())
    region = region or _REGIONS.get(base, "")
    # Scripts are written like names, regions in capitals.
    parts = [part.title() if len(part) == 4 and part.isalpha() else part.upper() for part in region.split("-") if part]
    return "-".join([base, *parts])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _capabilities(options: frozenset[str]) -> ModelCapabilities:
    return ModelCapabilities(
        response_formats=_FORMATS,
        timestamp_granularities=(
            TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
            TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
        ),
        max_audio_duration=Duration(seconds=_MAX_SECONDS),
        media_types=("audio/ogg", "audio/wav"),
        options=sorted(options),
        needs_length=True,
    )
