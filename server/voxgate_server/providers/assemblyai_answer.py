"""Reads AssemblyAI's answers, transcripts and errors, into the API's own messages.

Times are milliseconds there and seconds here. Channels are counted from 1 there and from 0 here.
"""

import math
import re

import httpx
import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.errors import (
    AudioTooLarge,
    ProviderGarbled,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.providers.http_errors import Upstream, excerpt, read_error_body, retry_after
from voxgate_server.providers.speakers import SpeakerNames
from voxgate_server.transcript.segments import speakers_from_words

__all__ = ["Job", "fill_from_assemblyai", "heard_nothing", "job_failure", "read_job", "read_upload_url", "refusal"]

_NO_MONEY = re.compile(r"account balance|insufficient (?:funds|balance|credit)|top up", re.IGNORECASE)
_TOO_MANY = re.compile(r"rate.?limit|too many requests|thrott", re.IGNORECASE)
_WRONG_MODEL = re.compile(r"\bspeech_models?\b", re.IGNORECASE)
_LOST = re.compile(r"transcript lookup error|transcript id not found", re.IGNORECASE)
_NO_SPEECH = re.compile(r"no spoken audio", re.IGNORECASE)
_TOO_LONG = re.compile(r"too (?:long|large)|exceeds? the max", re.IGNORECASE)
_BAD_AUDIO = re.compile(
    r"too short|not appear to contain audio|transcoding failed|could not be processed|corrupt|unsupported"
    r"|not (?:supported|available)|confidence threshold",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_MAX_URL = 4096


class Job(msgspec.Struct):
    """How far a transcript is."""

    id: str
    status: str
    error: str | None = None


class _Upload(msgspec.Struct):
    upload_url: str


class _Word(msgspec.Struct):
    text: str = ""
    start: float | None = None
    end: float | None = None
    confidence: float | None = None
    speaker: str | int | None = None
    channel: int | None = None


class _Transcript(msgspec.Struct):
    text: str | None
    words: list[_Word] | None = None
    utterances: list[_Word] | None = None
    audio_duration: float | None = None
    language_code: str | None = None


_JOB = msgspec.json.Decoder(Job)
_UPLOAD = msgspec.json.Decoder(_Upload)
# Numbers in strings are taken for what they are.
_TRANSCRIPT = msgspec.json.Decoder(_Transcript, strict=False)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def read_upload_url(body: bytes, upstream: Upstream) -> str:
    """Where an upload was put.

    Raises:
        ProviderGarbled: It does not say.
    """
    try:
        url = _UPLOAD.decode(body).upload_url
    except _UNREADABLE:
        url = ""
    if not url.startswith(("https://", "http://")) or len(url) > _MAX_URL:
        raise ProviderGarbled(f"{upstream} did not say where it has put the recording.")
    return url


def read_job(body: bytes, upstream: Upstream) -> Job:
    """How far a transcript is.

    Raises:
        ProviderGarbled: It does not say, or gives it a name that fits into no address.
    """
    try:
        job = _JOB.decode(body)
    except _UNREADABLE as error:
        raise ProviderGarbled(
            f"{upstream} did not say how far the transcript is: {excerpt(str(error), upstream.secrets)}"
        ) from error
    if not _IDENTIFIER.fullmatch(job.id) or job.status not in {"queued", "processing", "completed", "error"}:
        raise ProviderGarbled(f"{upstream} sent a transcript with a strange id or status.")
    return job


def fill_from_assemblyai(target: Transcription, body: bytes, upstream: Upstream, *, diarized: bool) -> None:
    """Fills `target` from a completed transcript.

    Args:
        target: An empty message.
        body: The whole answer.
        upstream: Who sent it, for messages.
        diarized: Segments with a speaker are what was asked for.

    Raises:
        ProviderGarbled: It has no text, or no speakers although they were asked for.
    """
    try:
        answer = _TRANSCRIPT.decode(body)
    except _UNREADABLE as error:
        raise ProviderGarbled(
            f"{upstream} sent an answer that is no transcript: {excerpt(str(error), upstream.secrets)}"
        ) from error
    target.text = (answer.text or "").strip()
    if answer.language_code:
        target.language = answer.language_code
        target.languages.add(code=answer.language_code)
    words, utterances = answer.words or [], answer.utterances or []
    channels = {item.channel for item in [*words, *utterances] if item.channel is not None}
    seconds = answer.audio_duration
    if seconds is not None and 0 <= seconds < math.inf:
        target.duration = seconds
        if not channels:
            # What several channels cost is nowhere said.
            target.usage.duration.seconds = seconds
    if channels:
        # They may come channel by channel.
        words, utterances = (sorted(items, key=lambda item: _span(item)[0]) for items in (words, utterances))
    first_channel = 0 if 0 in channels else 1
    names = SpeakerNames()
    for item in words:
        start, end = _span(item)
        word = target.words.add(word=item.text.strip(), start=start, end=end)
        if item.confidence is not None and 0 <= item.confidence <= 1:
            word.confidence = item.confidence
        if item.speaker is not None or item.channel is not None:
            word.speaker = names.name((item.channel, item.speaker))
        if item.channel is not None and 0 <= item.channel - first_channel < 2**31:
            word.channel = item.channel - first_channel
    for number, item in enumerate(utterances):
        start, end = _span(item)
        text = item.text.strip()
        target.segments.add(id=number, start=start, end=end, text=text)
        speaker = names.name((item.channel, item.speaker))
        target.diarized_segments.add(id=f"seg_{number + 1:03d}", speaker=speaker, start=start, end=end, text=text)
    if diarized and target.text and not target.diarized_segments:
        if not any(word.HasField("speaker") for word in target.words):
            raise ProviderGarbled(f"{upstream} was asked to tell speakers apart and sent an answer without speakers.")
        target.diarized_segments.extend(speakers_from_words(target.words, target.text))
        target.extra_fields.synthesized_fields.append("diarized_segments")


def heard_nothing(job: Job) -> bool:
    """Whether a job failed for the sole reason that nobody speaks: that is an empty transcript and no failure."""
    return job.status == "error" and bool(_NO_SPEECH.search(job.error or ""))


def job_failure(upstream: Upstream, job: Job) -> VoxgateError:
    """The error for a job with the status `error`, by what it says: the recording's fault, or AssemblyAI's."""
    message = job.error or ""
    said = excerpt(message, upstream.secrets)
    metadata = {"provider": upstream.provider, "provider_status": "200"}
    if _TOO_LONG.search(message):
        return AudioTooLarge(f"The recording is larger than {upstream} takes: {said}", param="file", metadata=metadata)
    if _BAD_AUDIO.search(message):
        return ProviderRejected(f"{upstream} could not read the recording: {said}", metadata=metadata)
    return ProviderUnavailable(f"{upstream} failed{': ' + said if said else '.'}", metadata=metadata)


def refusal(upstream: Upstream, status: int, headers: httpx.Headers, body: bytes) -> VoxgateError:
    """The error for an answer that is not 2xx.

    Args:
        upstream: Who sent it.
        status: HTTP status.
        headers: Of the answer.
        body: As much of it as arrived: `error` with a text, which alone tells some things apart.
    """
    message = read_error_body(body).message
    said = excerpt(message, upstream.secrets)
    metadata = {"provider": upstream.provider, "provider_status": str(status)}
    if status == 400 and _NO_MONEY.search(message):
        return ProviderQuotaExceeded(
            f"The operator's account at {upstream} has no credit left: {said}", metadata=metadata
        )
    if status == 400 and _WRONG_MODEL.search(message):
        return ProviderUnavailable(
            f"{upstream} does not know the model. The operator has to check the deployment's model: {said}",
            metadata=metadata,
        )
    if status == 400 and _LOST.search(message):
        return ProviderUnavailable(f"{upstream} has lost the transcript: {said}", metadata=metadata)
    if status == 403 and _TOO_MANY.search(message):
        return ProviderRateLimited(
            f"{upstream} asks to slow down: {said}", metadata=metadata, retry_after=retry_after(headers)
        )
    return upstream.refusal(status, headers, body)


def _span(item: _Word) -> tuple[float, float]:
    start = item.start / 1000 if item.start is not None and 0 <= item.start < math.inf else 0.0
    return start, max(item.end / 1000, start) if item.end is not None and item.end < math.inf else start
