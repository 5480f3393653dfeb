"""Reads Deepgram's answers, transcripts and errors, into the API's own messages.

Speakers are numbers at Deepgram and begin anew in every channel; here they are `A`, `B` … in the order in which they
are first heard, as OpenAI names them. What several channels say stands in `text` channel by channel, each on a line
of its own; words and segments are in order of time.
"""

import math
from collections.abc import Iterable

import httpx
import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.errors import ProviderGarbled, ProviderUnavailable, VoxgateError
from voxgate_server.providers.http_errors import Upstream, excerpt
from voxgate_server.providers.speakers import SpeakerNames

__all__ = ["fill_from_deepgram", "refusal"]


class _Word(msgspec.Struct):
    word: str = ""
    punctuated_word: str | None = None
    start: float = 0.0
    end: float = 0.0
    confidence: float | None = None
    speaker: int | None = None


class _Sentence(msgspec.Struct):
    text: str = ""


class _Paragraph(msgspec.Struct):
    sentences: list[_Sentence] | None = None


class _Paragraphs(msgspec.Struct):
    paragraphs: list[_Paragraph] | None = None


class _Alternative(msgspec.Struct):
    transcript: str
    words: list[_Word] | None = None
    languages: list[str] | None = None
    paragraphs: _Paragraphs | None = None


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative]
    detected_language: str | None = None


class _Utterance(msgspec.Struct):
    transcript: str = ""
    start: float = 0.0
    end: float = 0.0
    channel: int = 0
    speaker: int | None = None


class _Results(msgspec.Struct):
    channels: list[_Channel]
    utterances: list[_Utterance] | None = None


class _Metadata(msgspec.Struct):
    duration: float | None = None


class _Answer(msgspec.Struct):
    results: _Results
    metadata: _Metadata | None = None


class _Error(msgspec.Struct):
    """Both of the shapes an error has in JSON."""

    err_code: str | None = None
    err_msg: str | None = None
    category: str | None = None
    message: str | None = None
    details: str | None = None


# Numbers in strings are taken for what they are.
_ANSWER = msgspec.json.Decoder(_Answer, strict=False)
_ERROR = msgspec.json.Decoder(_Error, strict=False)


def fill_from_deepgram(
    target: Transcription, body: bytes, upstream: Upstream, *, diarized: bool, paragraphs: bool = False
) -> None:
    """Fills `target` from an answer.

    Args:
        target: An empty message.
        body: The whole answer.
        upstream: Who sent it, for messages.
        diarized: Segments with a speaker are what was asked for.
        paragraphs: The text is wanted in paragraphs, with an empty line between them.

    Raises:
        ProviderGarbled: It has no transcript, or no speakers although they were asked for.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProviderGarbled(
            f"{upstream} sent an answer that is no transcript: {excerpt(str(error), upstream.secrets)}"
        ) from error
    channels = [channel for channel in answer.results.channels if channel.alternatives]
    if not channels:
        raise ProviderGarbled(f"{upstream} sent an answer without a transcript.")
    texts = [_text(channel.alternatives[0], paragraphs) for channel in channels]
    target.text = "\n".join(text for text in texts if text)
    _fill_languages(target, channels)
    duration = answer.metadata.duration if answer.metadata is not None else None
    if duration is not None and 0 <= duration < math.inf:
        target.duration = duration
        # Every channel that is heard by itself is billed by itself.
        target.usage.duration.seconds = duration * len(answer.results.channels)
    speakers = SpeakerNames()
    _fill_words(target, answer.results.channels, speakers)
    _fill_segments(target, answer.results.utterances or [], speakers)
    if diarized and target.text and not target.diarized_segments:
        raise ProviderGarbled(f"{upstream} was asked to tell speakers apart and sent an answer without speakers.")


def refusal(upstream: Upstream, status: int, headers: httpx.Headers, body: bytes) -> VoxgateError:
    """The error for an answer that is not 2xx.

    Args:
        upstream: Who sent it.
        status: HTTP status.
        headers: Of the answer.
        body: As much of it as arrived: bare text, `err_code` and `err_msg`, or `category`, `message` and `details`.
    """
    metadata = {"provider": upstream.provider, "provider_status": str(status)}
    if status == 411:
        # Nobody documents when; a recording that is whole by the next attempt goes out with its length.
        return ProviderUnavailable(
            f"{upstream} does not take a recording whose length is not known beforehand (status 411).",
            metadata=metadata,
        )
    if status == 499:
        return ProviderUnavailable(f"{upstream} lost the connection (status 499).", metadata=metadata)
    try:
        error = _ERROR.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return upstream.refusal(status, headers, body)
    said = [text for text in (error.err_msg or error.message, error.details) if text]
    code = error.err_code or error.category
    if not said and not code:
        return upstream.refusal(status, headers, body)
    envelope = {"error": {"message": " ".join(said) or code, "code": code}}
    return upstream.refusal(status, headers, msgspec.json.encode(envelope))


def _text(alternative: _Alternative, paragraphs: bool) -> str:
    if paragraphs and alternative.paragraphs is not None:
        parted = [
            " ".join(sentence.text.strip() for sentence in paragraph.sentences or [])
            for paragraph in alternative.paragraphs.paragraphs or []
        ]
        if text := "\n\n".join(part for part in parted if part):
            return text
    return alternative.transcript.strip()


def _fill_languages(target: Transcription, channels: Iterable[_Channel]) -> None:
    detected = [channel.detected_language for channel in channels if channel.detected_language]
    if detected:
        target.language = detected[0]
    spoken = [code for channel in channels for code in channel.alternatives[0].languages or []]
    for code in dict.fromkeys([*detected, *spoken]):
        if code:
            target.languages.add(code=code)


def _fill_words(target: Transcription, channels: list[_Channel], speakers: SpeakerNames) -> None:
    heard = [
        (number, word)
        for number, channel in enumerate(channels)
        for alternative in channel.alternatives[:1]
        for word in alternative.words or []
    ]
    heard.sort(key=lambda item: _span(item[1])[0])
    for number, item in heard:
        start, end = _span(item)
        word = target.words.add(word=item.punctuated_word or item.word, start=start, end=end)
        if item.speaker is not None:
            word.speaker = speakers.name((number, item.speaker))
        if item.confidence is not None and 0 <= item.confidence <= 1:
            word.confidence = item.confidence
        if len(channels) > 1:
            word.channel = number


def _fill_segments(target: Transcription, utterances: list[_Utterance], speakers: SpeakerNames) -> None:
    known = any(utterance.speaker is not None for utterance in utterances)
    for number, utterance in enumerate(sorted(utterances, key=lambda item: _span(item)[0])):
        start, end = _span(utterance)
        text = utterance.transcript.strip()
        target.segments.add(id=number, start=start, end=end, text=text)
        if known:
            target.diarized_segments.add(
                id=f"seg_{number + 1:03d}",
                speaker=speakers.name((utterance.channel, utterance.speaker)),
                start=start,
                end=end,
                text=text,
            )


def _span(item: _Word | _Utterance) -> tuple[float, float]:
    start = max(item.start, 0.0) if math.isfinite(item.start) else 0.0
    return start, max(item.end, start) if math.isfinite(item.end) else start
