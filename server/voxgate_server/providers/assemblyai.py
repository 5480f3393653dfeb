"""AssemblyAI's API for recordings (`POST /v2/upload`, `POST /v2/transcript`, `GET /v2/transcript/{id}`).

The recording is uploaded while the caller still sends it, a transcript of it is ordered, and then AssemblyAI is
asked again and again until it is there. Where nobody waits for it any longer, it is deleted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import Any

import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from voxgate.transcription.v1.config_pb2 import ResponseFormat, TimestampGranularity, TranscriptionConfig
from voxgate.transcription.v1.events_pb2 import TranscriptionEvent
from voxgate.transcription.v1.model_service_pb2 import ModelCapabilities

from voxgate_server.errors import (
    ProviderRateLimited,
    ProviderUnavailable,
    UnsupportedAudio,
    VoxgateError,
)
from voxgate_server.providers.assemblyai_answer import (
    Job,
    fill_from_assemblyai,
    heard_nothing,
    job_failure,
    read_job,
    read_upload_url,
    refusal,
)
from voxgate_server.providers.assemblyai_request import (
    FORBIDDEN_PARAMS,
    OPERATOR_FIRST_PARAMS,
    build_request,
    options_of,
)
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.extra_params import operator_params
from voxgate_server.providers.http_call import Answer, HttpCall, checked_base, header_pairs, raw_payload
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.limits import check_size, known_size
from voxgate_server.telemetry import get_logger

__all__ = ["POLL_SECONDS", "AssemblyAIProvider", "build"]

_log = get_logger("assemblyai")

POLL_SECONDS = (0.5, 3.0)
"""How long to wait before the first question whether a transcript is done, and at most before any other."""

_DEFAULT_BASE = "https://api.assemblyai.com"
_MAX_BYTES = 2_200_000_000
_MAX_SECONDS = 10 * 3600
_JSON = {"content-type": "application/json"}
_POLL_GROWTH = 1.5
_POLL_FAILURES = 3
"""Questions in a row that may fail: the recording is there and paid for, and an answer may still come."""
_DELETE_SECONDS = 10.0
_MEDIA_TYPES = (
    "audio/aac", "audio/aiff", "audio/amr", "audio/basic", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg",
    "audio/wav", "audio/webm", "audio/x-ms-wma",
)  # fmt: skip


class AssemblyAIProvider:
    """One deployment at AssemblyAI.

    Args:
        model: The model by AssemblyAI's name, e.g. `universal-3-5-pro`; `best` for what AssemblyAI would choose.
        api_key: Sent as it is.
        api_base: Address before `/v2`.
        extra_headers: Sent with every request; must not name those the adapter sets itself.
        timeout: Seconds AssemblyAI may take to answer one request; None means until the attempt's deadline.
        drop_params: Leave options the model cannot take out and report them, instead of refusing the call.
        allowed_extra_params: Names callers may use in `extra_params` besides those that are always permitted.
        default_params: Parameters of every order whose caller does not set them, by AssemblyAI's names.
        max_audio_bytes: Largest recording in bytes.
        poll_seconds: As POLL_SECONDS.
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
        poll_seconds: tuple[float, float] = POLL_SECONDS,
        name: str = "assemblyai",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        who = f"{name}/{model}"
        allowed = frozenset(allowed_extra_params)
        if forbidden := sorted(allowed & FORBIDDEN_PARAMS):
            raise ValueError(f"extra parameters of {who} that nobody may set: {forbidden}")
        self._name = name
        self._model = model
        self._defaults = operator_params(default_params or {}, FORBIDDEN_PARAMS, who)
        self._known = (options_of(model) | allowed) - (OPERATOR_FIRST_PARAMS & self._defaults.keys())
        self._drop_params = drop_params
        self._max_audio_bytes = max_audio_bytes
        self._poll_seconds = poll_seconds
        self._capabilities = _capabilities(max_audio_bytes, self._known)
        base = checked_base(api_base, who)
        self._upload_url = httpx.URL(f"{base}/v2/upload")
        self._transcript_url = httpx.URL(f"{base}/v2/transcript")
        self._deletions: set[asyncio.Task[None]] = set()
        extra = extra_headers or {}
        self._upstream = Upstream.with_secrets(name, model, (api_key, *extra.values()))
        self._http = HttpCall(
            self._upstream,
            headers=header_pairs({"authorization": api_key}, extra),
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
        """The model, by AssemblyAI's name."""
        return self._model

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the model can do behind this gateway."""
        return self._capabilities

    async def aclose(self) -> None:
        """Waits until what nobody wants any longer is deleted, at most about ten seconds, and closes connections."""
        await asyncio.gather(*self._deletions)
        await self._http.aclose()

    async def transcribe(self, attempt: Attempt) -> AsyncGenerator[TranscriptionEvent, None]:
        """Runs one attempt and yields exactly one event, `done`.

        Raises:
            UnsupportedParameter: The model cannot do what an option asks for; nothing was sent.
            UnsupportedAudio: The audio has no container; nothing was sent.
            InvalidRequest: One of `extra_params` has the name of an option; nothing was sent.
            AudioTooLarge: For AssemblyAI.
            DeadlineExceeded: The time was over before anything was sent, or while the caller was still sending.
            ProviderTimeout: AssemblyAI was still working when the time was over.
            ProviderError: AssemblyAI did not answer well; the class says in what way.
            VoxgateError: Whatever the spool's cursor raises, unchanged.
        """
        config = attempt.config
        order = build_request(
            config,
            model=self._model,
            known=self._known,
            defaults=self._defaults,
            dropped=attempt.dropped_params if self._drop_params else None,
            who=str(self._upstream),
        )
        self._check_audio(attempt)
        if config.debug.include_raw_request:
            attempt.raw_request = raw_payload("application/json", msgspec.json.encode(order), self._upstream.secrets)
        job, answer = await self._done(attempt, await self._ordered(attempt, order))
        event = TranscriptionEvent()
        if heard_nothing(job):
            event.done.transcription.text = ""
        elif job.status == "error":
            raise job_failure(self._upstream, job)
        else:
            fill = partial(
                fill_from_assemblyai,
                event.done.transcription,
                upstream=self._upstream,
                diarized=config.response_format == ResponseFormat.RESPONSE_FORMAT_DIARIZED_JSON,
            )
            await self._http.parse(answer, fill)
        yield event

    async def _ordered(self, attempt: Attempt, order: dict[str, Any]) -> tuple[Job, Answer]:
        body = AudioBody(attempt.spool, content_type="application/octet-stream")
        uploaded = await self._http.send(attempt, self._upload_url, body)
        order = {"audio_url": read_upload_url(uploaded.body, self._upstream), **order}
        answer = await self._http.send(attempt, self._transcript_url, msgspec.json.encode(order), headers=_JSON)
        return await self._job(answer), answer

    async def _done(self, attempt: Attempt, ordered: tuple[Job, Answer]) -> tuple[Job, Answer]:
        job, answer = ordered
        url = self._url_of(job)
        wait, longest = self._poll_seconds
        failures = 0
        try:
            while job.status not in {"completed", "error"}:
                await self._http.pause(attempt, wait)
                wait = min(wait * _POLL_GROWTH, longest)
                try:
                    answer = await self._http.send(attempt, url, method="GET")
                    job = await self._job(answer)
                    failures = 0
                except (ProviderUnavailable, ProviderRateLimited) as error:
                    failures += 1
                    if failures == _POLL_FAILURES:
                        raise
                    await self._http.pause(attempt, error.retry_after or 0)
        except BaseException:
            # Also when the caller has gone: nobody will ask for it any more.
            self._delete_later(attempt, url)
            raise
        return job, answer

    async def _job(self, answer: Answer) -> Job:
        jobs: list[Job] = []
        await self._http.parse(answer, lambda body: jobs.append(read_job(body, self._upstream)))
        return jobs[0]

    def _url_of(self, job: Job) -> httpx.URL:
        return httpx.URL(f"{self._transcript_url}/{job.id}")

    def _delete_later(self, attempt: Attempt, url: httpx.URL) -> None:
        task = asyncio.get_running_loop().create_task(self._delete(attempt, url))
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, attempt: Attempt, url: httpx.URL) -> None:
        # An attempt of its own: the one it is done for is over, and its report must not show how this went.
        deadline = time.monotonic() + _DELETE_SECONDS
        own = Attempt(attempt.request_id, TranscriptionConfig(), attempt.audio, attempt.spool, deadline)
        try:
            await self._http.send(own, url, method="DELETE")
        except VoxgateError as error:
            _log.warning("transcript_not_deleted", request_id=attempt.request_id, error=error.message)

    def _check_audio(self, attempt: Attempt) -> None:
        if attempt.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                f"{self._upstream} takes audio in a container only, not headerless samples. Send it as WAV or FLAC.",
                param="file",
            )
        check_size(known_size(attempt), self._max_audio_bytes, self._upstream)


def build(params: ProviderParams) -> AssemblyAIProvider:
    """The adapter of a deployment of `assemblyai`.

    Raises:
        ValueError: There is no key, or one of the parameters is wrong.
    """
    return AssemblyAIProvider(
        name=params.provider,
        model=params.model,
        api_key=params.need("api_key", "ASSEMBLYAI_API_KEY"),
        api_base=params.get("api_base", "ASSEMBLYAI_API_BASE") or _DEFAULT_BASE,
        extra_headers=params.extra_headers,
        drop_params=params.drop_params,
        allowed_extra_params=params.allowed_extra_params,
        default_params=params.default_params,
        poll_seconds=POLL_SECONDS,
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
        max_audio_bytes=max_audio_bytes,
        max_audio_duration=Duration(seconds=_MAX_SECONDS),
        media_types=_MEDIA_TYPES,
        options=sorted(options),
    )
