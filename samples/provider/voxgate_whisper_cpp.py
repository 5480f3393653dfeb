"""Transcribes with whisper.cpp's own server (`POST /inference`): an example of a provider in a package of its own."""

from collections.abc import AsyncGenerator

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors, providers

__all__ = ["build"]

_OPTIONS = frozenset({"language", "prompt", "temperature", "timestamp_granularities"})


class _Segment(msgspec.Struct):
    text: str
    start: float
    end: float


class _Answer(msgspec.Struct):
    segments: list[_Segment]
    language: str | None = None
    duration: float | None = None


class WhisperCppProvider:
    """One deployment: a server that has loaded one model, whose name it neither knows nor asks for."""

    def __init__(self, params: providers.ProviderParams) -> None:
        self.name, self.model = params.provider, params.model
        base = params.need("api_base", "WHISPER_CPP_API_BASE")
        self._url = httpx.URL(f"{providers.checked_base(base, f'{self.name}/{self.model}')}/inference")
        self._defaults = {name: str(value) for name, value in params.default_params.items()}
        self._drop_params = params.drop_params
        self._upstream = providers.Upstream.with_secrets(self.name, self.model, params.extra_headers.values())
        headers = providers.header_pairs({}, params.extra_headers)
        self._http = providers.HttpCall(self._upstream, headers=headers, transport=params.transport())
        self.capabilities = ModelCapabilities(
            response_formats=[
                ResponseFormat.RESPONSE_FORMAT_JSON,
                ResponseFormat.RESPONSE_FORMAT_TEXT,
                ResponseFormat.RESPONSE_FORMAT_SRT,
                ResponseFormat.RESPONSE_FORMAT_VERBOSE_JSON,
                ResponseFormat.RESPONSE_FORMAT_VTT,
            ],
            timestamp_granularities=[TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT],
            translation=True,
            options=sorted(_OPTIONS),
        )

    async def transcribe(self, attempt: providers.Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Sends the recording while it arrives and yields one event, `done`."""
        if attempt.audio.HasField("raw_format"):
            raise errors.UnsupportedAudio(f"{self._upstream} takes audio in a container only.", param="file")
        extension, media_type = "wav", "audio/wav"
        if attempt.kind is not None:
            extension, media_type = attempt.kind.extension, attempt.kind.media_type
        fields = self._fields(attempt)
        if attempt.config.debug.include_raw_request:
            attempt.raw_request = providers.raw_payload("application/json", msgspec.json.encode(fields))
        body = providers.MultipartBody(
            fields.items(), spool=attempt.spool, filename=f"audio.{extension}", media_type=media_type
        )
        answer = await self._http.send(attempt, self._url, body)
        event = TranscriptionEvent()
        await self._http.parse(answer, lambda data: self._fill(event.done.transcription, data))
        yield event

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    def _fields(self, attempt: providers.Attempt) -> dict[str, str]:
        config = attempt.config
        dropped = attempt.dropped_params if self._drop_params else None
        accepted = providers.accepted_options(config, _OPTIONS, dropped=dropped, who=str(self._upstream))
        # Without a language the server takes everything for English; codes of regions it does not know.
        language, _ = providers.language_hints(config, takes_several=False)
        code = language.partition("-")[0].lower() or "auto"
        fields = {**self._defaults, "response_format": "verbose_json", "language": code}
        if "prompt" in accepted:
            fields["prompt"] = config.prompt
        if "temperature" in accepted:
            fields["temperature"] = f"{config.temperature:g}"
        if providers.is_translation(config):
            fields["translate"] = "true"
        return fields

    def _fill(self, target: Transcription, data: bytes) -> None:
        try:
            answer = msgspec.json.decode(data, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise errors.ProviderGarbled(f"{self._upstream} sent an answer that is no transcript.") from None
        for number, segment in enumerate(answer.segments):
            target.segments.add(id=number, start=segment.start, end=segment.end, text=segment.text.strip())
        text = " ".join(segment.text for segment in target.segments)
        target.MergeFrom(Transcription(text=text, language=answer.language, duration=answer.duration))


def build(params: providers.ProviderParams) -> WhisperCppProvider:
    """What the entry point names: makes the adapter of a deployment. ValueError says why there can be none."""
    return WhisperCppProvider(params)
