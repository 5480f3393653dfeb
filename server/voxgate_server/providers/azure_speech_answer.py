"""Reads the answers of Azure AI Speech to short audio into the API's own messages.

Times are counted in 100 ns there. Words are what was spoken (`five`), the text is what people write (`5`).
"""

import math

import msgspec
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.errors import (
    ProviderCredential,
    ProviderGarbled,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.providers.http_errors import Upstream, excerpt

__all__ = ["fill_from_azure_speech"]

_TICKS = 10_000_000
_SILENT = frozenset({"NoMatch", "InitialSilenceTimeout", "BabbleTimeout"})
"""Statuses that say that no word was understood: an empty transcript."""
_FAILURES: dict[str, tuple[type[VoxgateError], str]] = {
    "Error": (ProviderUnavailable, "failed while it listened"),
    "TooManyRequests": (ProviderRateLimited, "asks to slow down"),
    "BadRequest": (ProviderRejected, "refused the request"),
    "Forbidden": (ProviderCredential, "refused the gateway's credential. The operator has to check its api_key"),
}


class _Word(msgspec.Struct, rename="pascal"):
    word: str = ""
    offset: float | None = None
    duration: float | None = None
    confidence: float | None = None


class _Best(msgspec.Struct, rename="pascal"):
    display: str | None = None
    lexical: str | None = None
    words: list[_Word] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    recognition_status: str
    display_text: str | None = None
    offset: float | None = None
    duration: float | None = None
    n_best: list[_Best] | None = None


# Most of its numbers stand in strings.
_ANSWER = msgspec.json.Decoder(_Answer, strict=False)


def fill_from_azure_speech(target: Transcription, body: bytes, upstream: Upstream) -> None:
    """Fills `target` from an answer, simple or detailed.

    Args:
        target: An empty message.
        body: The whole answer.
        upstream: Who sent it, for messages.

    Raises:
        ProviderGarbled: It has no transcript.
        ProviderError: It says that recognition failed; the class says in what way.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProviderGarbled(
            f"{upstream} sent an answer that is no transcript: {excerpt(str(error), upstream.secrets)}"
        ) from error
    status = answer.recognition_status
    if status in _SILENT:
        target.text = ""
        return
    if status != "Success":
        kind, what = _FAILURES.get(status, (ProviderGarbled, "answered with a status nobody knows"))
        said = excerpt(status, upstream.secrets)
        raise kind(
            f"{upstream} {what} (RecognitionStatus {said}).",
            metadata={"provider": upstream.provider, "provider_status": "200"},
        )
    best = answer.n_best[0] if answer.n_best else _Best()
    texts = [text for text in (best.display, answer.display_text, best.lexical) if text is not None]
    if not texts:
        raise ProviderGarbled(f"{upstream} sent an answer without a transcript.")
    target.text = next((text for text in texts if text), "").strip()
    for item in best.words or []:
        start, end = _span(item)
        word = target.words.add(word=item.word.strip(), start=start, end=end)
        if item.confidence is not None and 0 <= item.confidence <= 1:
            word.confidence = item.confidence
    if target.text and answer.offset is not None and answer.duration is not None:
        start, end = _span(answer)
        target.segments.add(id=0, start=start, end=end, text=target.text)


def _span(item: _Word | _Answer) -> tuple[float, float]:
    start, duration = (
        value / _TICKS if value is not None and 0 <= value < math.inf else 0.0 for value in (item.offset, item.duration)
    )
    return start, start + duration
