"""Reads ElevenLabs' answers, transcripts and errors, into the API's own messages.

Words, the spaces between them and sounds that are no speech come in one list; spaces are left out. What several
channels say stands in `text` channel by channel, each on a line of its own; words are in order of time.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.errors import ProviderGarbled, ProviderQuotaExceeded, VoxgateError
from voxgate_server.providers.http_errors import Upstream, excerpt
from voxgate_server.providers.speakers import SpeakerNames
from voxgate_server.transcript.segments import speakers_from_words

__all__ = ["fill_from_elevenlabs", "refusal"]


class _Word(msgspec.Struct):
    text: str = ""
    start: float | None = None
    end: float | None = None
    type: str = "word"
    speaker_id: str | int | None = None
    logprob: float | None = None
    channel_index: int | None = None


class _Transcript(msgspec.Struct):
    text: str | None = None
    words: list[_Word] | None = None
    language_code: str | None = None
    audio_duration_secs: float | None = None
    channel_index: int | None = None
    transcripts: list["_Transcript"] | None = None
    """One for every channel, in place of all the others."""


class _Detail(msgspec.Struct):
    status: str | None = None
    code: str | None = None
    message: str | None = None


class _Invalid(msgspec.Struct):
    loc: list[str | int] | None = None
    msg: str = ""


class _Error(msgspec.Struct):
    detail: _Detail | list[_Invalid] | str


class _Heard(NamedTuple):
    start: float
    end: float
    channel: int | None
    word: _Word


_ANSWER = msgspec.json.Decoder(_Transcript, strict=False)
_ERROR = msgspec.json.Decoder(_Error)


def fill_from_elevenlabs(
    target: Transcription, body: bytes, upstream: Upstream, *, diarized: bool, logprobs: bool = False
) -> None:
    """Fills `target` from an answer.

    Args:
        target: An empty message.
        body: The whole answer.
        upstream: Who sent it, for messages.
        diarized: Segments with a speaker are what was asked for.
        logprobs: Log-probabilities are wanted.

    Raises:
        ProviderGarbled: It has no transcript, or no speakers although they were asked for.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProviderGarbled(
            f"{upstream} sent an answer that is no transcript: {excerpt(str(error), upstream.secrets)}"
        ) from error
    transcripts = [answer] if answer.transcripts is None else answer.transcripts
    texts = [transcript.text.strip() for transcript in transcripts if transcript.text is not None]
    if not texts or len(texts) < len(transcripts):
        raise ProviderGarbled(f"{upstream} sent an answer without a transcript.")
    target.text = "\n".join(text for text in texts if text)
    for code in dict.fromkeys(transcript.language_code for transcript in transcripts):
        if code:
            target.languages.add(code=code)
    if target.languages:
        target.language = target.languages[0].code
    _fill_duration(target, transcripts)
    heard = list(_heard(transcripts))
    _fill_words(target, heard)
    if logprobs:
        for item in heard:
            if item.word.logprob is not None and math.isfinite(item.word.logprob):
                text = item.word.text
                target.logprobs.add(token=text, logprob=item.word.logprob, token_bytes=text.encode())
    if diarized:
        if target.text and not any(word.HasField("speaker") for word in target.words):
            raise ProviderGarbled(f"{upstream} was asked to tell speakers apart and sent an answer without speakers.")
        target.diarized_segments.extend(speakers_from_words(target.words, target.text))
        target.extra_fields.synthesized_fields.append("diarized_segments")


def refusal(upstream: Upstream, status: int, headers: httpx.Headers, body: bytes) -> VoxgateError:
    """The error for an answer that is not 2xx.

    Args:
        upstream: Who sent it.
        status: HTTP status.
        headers: Of the answer.
        body: As much of it as arrived: `detail` with `status` and `message`, with a list of what is wrong, or text.
    """
    try:
        detail = _ERROR.decode(body).detail
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return upstream.refusal(status, headers, body)
    code, message = "", ""
    match detail:
        case _Detail():
            code, message = detail.status or detail.code or "", detail.message or ""
        case list():
            message = "; ".join(f"{'.'.join(map(str, item.loc or []))}: {item.msg}" for item in detail)
        case str():
            message = detail
    if code == "quota_exceeded":
        # Status 401 like a wrong key, and another thing altogether.
        said = excerpt(message, upstream.secrets)
        return ProviderQuotaExceeded(
            f"The operator's account at {upstream} has no credit left{': ' + said if said else '.'}",
            metadata={"provider": upstream.provider, "provider_status": str(status), "provider_code": code},
        )
    envelope = {"error": {"message": message or code, "code": code}}
    return upstream.refusal(status, headers, msgspec.json.encode(envelope))


def _fill_duration(target: Transcription, transcripts: list[_Transcript]) -> None:
    durations = [
        seconds
        for transcript in transcripts
        if (seconds := transcript.audio_duration_secs) is not None and 0 <= seconds < math.inf
    ]
    if durations:
        target.duration = max(durations)
        if len(transcripts) == 1:
            # What several channels cost is nowhere said.
            target.usage.duration.seconds = durations[0]


def _heard(transcripts: list[_Transcript]) -> Iterator[_Heard]:
    """All words, and the spaces between them, in order of time."""
    several = len(transcripts) > 1
    items: list[_Heard] = []
    for number, transcript in enumerate(transcripts):
        own = transcript.channel_index if transcript.channel_index is not None else number if several else None
        end = 0.0
        for word in transcript.words or []:
            start = end if word.start is None or not math.isfinite(word.start) else max(word.start, 0.0)
            end = start if word.end is None or not math.isfinite(word.end) else max(word.end, start)
            items.append(_Heard(start, end, own if word.channel_index is None else word.channel_index, word))
    # Sorting is stable: in one transcript without a wrong time nothing changes places.
    yield from sorted(items, key=lambda item: item.start) if several else items


def _fill_words(target: Transcription, heard: list[_Heard]) -> None:
    names = SpeakerNames()
    channels = {item.channel for item in heard}
    for item in heard:
        text = item.word.text.strip()
        if item.word.type == "spacing" or not text:
            continue
        word = target.words.add(word=text, start=item.start, end=item.end)
        if item.word.logprob is not None and item.word.logprob <= 0:
            word.confidence = math.exp(item.word.logprob)
        if len(channels) > 1 and item.channel is not None and 0 <= item.channel < 2**31:
            word.channel = item.channel
        if item.word.speaker_id is not None:
            word.speaker = names.name((item.channel, item.word.speaker_id))
        elif len(channels) > 1:
            # Channels are recorded one speaker each.
            word.speaker = names.name((item.channel, None))
