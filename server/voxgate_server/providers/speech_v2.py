"""Google's Speech-to-Text v2: the chirp models and their elders, by the synchronous `recognize`.

Google wants the whole recording at once and takes one minute of it. So the recording is measured while it comes in,
and one that is longer is cut at pauses and sent in pieces; so is one of which Google would not hear everything. Where
there is nobody to cut it (PyAV is not installed) it is refused before anything is sent.
"""

import asyncio
import binascii
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TimestampGranularity
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.audio.splitting import SAMPLE_RATE, Piece, Splitter
from voxgate_server.errors import (
    AudioTooLarge,
    ProviderRateLimited,
    ProviderUnavailable,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.google_errors import google_refusal
from voxgate_server.providers.http_call import Answer, HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size
from voxgate_server.providers.options import is_translation
from voxgate_server.providers.speech_v2_answer import fill_from_results, name_speakers
from voxgate_server.providers.speech_v2_audio import CONVERTED_MEDIA_TYPES, MEDIA_TYPES, Measured, measure
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
_PIECE_SECONDS = 55.0
"""Google has been seen to refuse recordings a little shorter than its minute."""
_MAX_BODY = 10 << 20
"""Bytes of a request; a recording is written in base64 and grows by a third."""
_MAX_AUDIO_BYTES = (_MAX_BODY - (64 << 10)) // 4 * 3
_MAX_SPLIT_SECONDS = 4 * 3600
_AT_A_TIME = 4
"""Pieces of one recording that are with Google at the same time."""
_PATIENCE_SECONDS = 0.5
"""Before a piece that failed is sent again, where Google does not say when."""
_LONGEST_WAIT_SECONDS = 10.0
_RAW_PIECE = RawAudioFormat(encoding=AudioEncoding.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=SAMPLE_RATE)
_JSON = {"content-type": "application/json"}


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
        splits: Cut and convert recordings Google does not take as they are; None means where PyAV is installed.
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
        splits: bool | None = None,
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
        splits = Splitter.is_available() if splits is None else splits
        self._splitter = (
            Splitter(piece_seconds=_PIECE_SECONDS, max_audio_seconds=_MAX_SPLIT_SECONDS) if splits else None
        )
        self._longest = _PIECE_SECONDS if splits else _MAX_SECONDS
        family = self._family
        self._capabilities = ModelCapabilities(
            response_formats=family.formats,
            timestamp_granularities=[
                TimestampGranularity.TIMESTAMP_GRANULARITY_WORD,
                TimestampGranularity.TIMESTAMP_GRANULARITY_SEGMENT,
            ],
            languages=sorted(code for code in LANGUAGES if len(code) == 2) if family.languages_listed else (),
            diarization=family.diarization is not None,
            translation=family.translation,
            max_audio_duration=Duration(seconds=_MAX_SPLIT_SECONDS if splits else int(_MAX_SECONDS)),
            max_audio_bytes=0 if splits else _MAX_AUDIO_BYTES,
            media_types=sorted(MEDIA_TYPES + CONVERTED_MEDIA_TYPES) if splits else MEDIA_TYPES,
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
        """Closes the connections, and ends the processes that cut recordings."""
        await self._http.aclose()
        if self._splitter is not None:
            await self._splitter.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt and yields exactly one event, `done`.

        Raises:
            UnsupportedParameter: The model cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: Google does not read such audio; nothing was sent.
            AudioTooLarge: Longer than four hours, or than a minute where it cannot be cut.
            DeadlineExceeded: The time was over before anything was sent.
            ProviderError: Google did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        who = str(self._upstream)
        raw = attempt.audio.raw_format if attempt.audio.HasField("raw_format") else None
        config = build_config(
            attempt.config,
            model=self._model,
            family=self._family,
            defaults=self._default_params,
            allowed_extra_params=self._allowed_extra_params,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=who,
        )
        decoding = decoding_config(raw, who)
        self._check_size(known_size(attempt))
        recording = await measure(attempt, raw, check=self._check_size)
        event = TranscriptionEvent()
        target = event.done.transcription
        if self._goes_as_it_is(recording, config):
            self._show(attempt, config | decoding)
            head, tail = _around(config | decoding)
            body = AudioBody(attempt.spool, content_type="application/json", head=head, tail=tail, in_base64=True)
            answer = await self._http.send(attempt, self._url, body, headers=await self._authorised(attempt))
            await self._http.parse(answer, lambda data: fill_from_results(target, data, self._upstream))
            if recording.seconds is not None:
                target.duration = recording.seconds
        else:
            self._show(attempt, config | decoding_config(_RAW_PIECE, who))
            await self._in_pieces(attempt, raw, config | decoding_config(_RAW_PIECE, who), target)
        target.task = "translate" if is_translation(attempt.config) else "transcribe"
        name_speakers(target)
        yield event

    def _check_size(self, size: int, *, whole: bool = False) -> None:
        if whole or self._splitter is None:
            check_size(size, _MAX_AUDIO_BYTES, self._upstream)

    def _check_length(self, seconds: float | None, *, whole: bool) -> None:
        if seconds is not None and seconds > self._longest:
            asked = ", its speakers or channels are asked for," if whole else ""
            raise AudioTooLarge(
                f"The recording is {seconds:.1f} seconds long{asked} and {self._upstream} takes at most "
                f"{self._longest:g} seconds. Send it in parts, or choose a model without this limit.",
                param="file",
                metadata={"limit_seconds": f"{self._longest:g}", "provider": self._name},
            )

    def _goes_as_it_is(self, recording: Measured, config: Mapping[str, Any]) -> bool:
        """Whether one request takes it, rather than pieces of it.

        Raises:
            AudioTooLarge: It has to be cut and cannot be.
            UnsupportedAudio: It has to be converted and cannot be.
        """
        channels = "multiChannelMode" in config["features"]
        # The speakers and the channels of one piece are not those of the next.
        whole = channels or "diarizationConfig" in config["features"]
        if self._splitter is None or whole:
            self._check_length(recording.seconds, whole=whole)
        if self._splitter is None or channels:
            self._check_size(recording.size, whole=True)
            if recording.heard_whole is False and not channels:
                raise UnsupportedAudio(
                    f"{self._upstream} does not hear all of this recording: it reads one channel, and few codecs. Send "
                    "mono WAV with 16 bits, FLAC, MP3, or Opus in Ogg or WebM.",
                    param="file",
                    metadata={"provider": self._name},
                )
            return True
        if not recording.heard_whole or recording.seconds is None:
            return False
        return recording.seconds <= self._longest and recording.size <= _MAX_AUDIO_BYTES

    async def _in_pieces(
        self, attempt: Attempt, raw: RawAudioFormat | None, config: Mapping[str, Any], target: Transcription
    ) -> None:
        """Sends the recording in pieces, a few at a time, and puts the answers together in order."""
        assert self._splitter is not None
        head, tail = _around(config)
        alone = "diarizationConfig" in config["features"]
        asked: deque[tuple[Piece, asyncio.Task[Answer]]] = deque()
        end = 0.0
        try:
            async with contextlib.aclosing(self._splitter.pieces(attempt.spool, raw, attempt.deadline)) as pieces:
                async for piece in pieces:
                    if alone:
                        self._check_length(piece.start + piece.seconds, whole=True)
                    body = head + binascii.b2a_base64(piece.pcm, newline=False) + tail
                    asked.append((piece, asyncio.create_task(self._ask(attempt, body), name="voxgate-speech-piece")))
                    end = piece.start + piece.seconds
                    if len(asked) >= _AT_A_TIME:
                        await self._take(target, *asked.popleft())
            while asked:
                await self._take(target, *asked.popleft())
        except VoxgateError as error:
            # The pieces share one report, and another one may have been answered since.
            if status := error.metadata.get("provider_status"):
                attempt.report.http_status = int(status)
            raise
        finally:
            for _, task in asked:
                task.cancel()
            await asyncio.gather(*(task for _, task in asked), return_exceptions=True)
        target.duration = end

    async def _ask(self, attempt: Attempt, body: bytes) -> Answer:
        try:
            return await self._send(attempt, body)
        except (ProviderUnavailable, ProviderRateLimited) as error:
            # Once more: with many pieces one such failure is likely, and the others are paid for.
            wait = _PATIENCE_SECONDS if error.retry_after is None else error.retry_after
            if wait > _LONGEST_WAIT_SECONDS:
                raise
        await self._http.pause(attempt, wait)
        return await self._send(attempt, body)

    async def _send(self, attempt: Attempt, body: bytes) -> Answer:
        headers = {**_JSON, **await self._authorised(attempt)}
        return await self._http.send(attempt, self._url, body, headers=headers)

    async def _take(self, target: Transcription, piece: Piece, task: "asyncio.Task[Answer]") -> None:
        answer = await task
        await self._http.parse(
            answer,
            lambda data: fill_from_results(target, data, self._upstream, offset=piece.start, seconds=piece.seconds),
        )

    def _show(self, attempt: Attempt, config: Mapping[str, Any]) -> None:
        if attempt.config.debug.include_raw_request:
            encoded = msgspec.json.encode({"config": config})
            attempt.raw_request = raw_payload("application/json", encoded, self._upstream.secrets)

    async def _authorised(self, attempt: Attempt) -> Mapping[str, str]:
        headers = await self._headers(attempt)
        return {header: value for header, value in headers.items() if header not in self._operators_headers}


def _around(config: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """What stands before and after the recording."""
    return b'{"config":%b,"content":"' % msgspec.json.encode(config), b'"}'
