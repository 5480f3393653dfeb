"""Reads what streamGenerateContent answers: whole answers of which each has a little more of the text.

For plain text only: JSON of a schema is of no use before it is complete. An answer is complete when a chunk says why
the model stopped; by the definition of the API, one that does not say so goes on.
"""

from collections.abc import Iterator

from voxgate.transcription.v1.events_pb2 import TextDelta, TranscriptionEvent

from voxgate_server.providers.gemini_answer import decode_answer, fill_plain, is_silence, parts_of
from voxgate_server.providers.gemini_request import NO_SPEECH, GeminiRequest
from voxgate_server.providers.http_errors import Upstream
from voxgate_server.providers.sse_reader import Event
from voxgate_server.providers.stream_answer import stream_error, stream_garbled

__all__ = ["GeminiStream"]


class GeminiStream:
    """One answer.

    Args:
        upstream: Who sends it, for messages.
        request: What was asked; neither times nor speakers.
    """

    def __init__(self, upstream: Upstream, request: GeminiRequest) -> None:
        self._upstream = upstream
        self._request = request
        self._texts: list[str] = []
        self._held = ""
        """What may turn out to be no part of the text: space at its end, or the words for silence."""
        self._said = False
        self._languages: dict[str, None] = {}
        self._ended = False
        self._usage: object = None

    @property
    def ended(self) -> bool:
        """The model has said why it stopped."""
        return self._ended

    def read(self, event: Event) -> Iterator[TranscriptionEvent]:
        """What a chunk says, but for the end.

        Raises:
            ProviderUnavailable: It is an error.
            ProviderRejected: Google withholds the answer for what is in it.
            ProviderGarbled: It makes no sense, or the model was cut off.
        """
        answer = decode_answer(event.data, self._upstream)
        if answer.error is not None:
            raise stream_error(self._upstream, event.data)
        self._usage = answer.usage_metadata or self._usage
        blocked = answer.prompt_feedback is not None and answer.prompt_feedback.block_reason
        if self.ended or not (answer.candidates or blocked):
            return
        parts = parts_of(answer, self._upstream, self._request, partial=True)
        ends = bool(answer.candidates[0].finish_reason)
        for part in parts:
            said = part.audio_transcription
            if said is not None and said.language_code:
                self._languages.setdefault(said.language_code)
            text = part.text or (said.text if said is not None else "")
            self._texts.append(text)
            if delta := self._released(text):
                yield TranscriptionEvent(delta=TextDelta(delta=delta))
        self._ended = ends
        if ends and not self._said and self._text and not is_silence(self._text):
            yield TranscriptionEvent(delta=TextDelta(delta=self._text))

    @property
    def _text(self) -> str:
        return "".join(self._texts).strip()

    def done(self) -> TranscriptionEvent:
        """The last event. Its text is that of all deltas.

        Raises:
            ProviderGarbled: The model has not said that it stopped.
        """
        if not self.ended:
            stream_garbled(self._upstream, "ended its answer before it was complete")
        event = TranscriptionEvent()
        fill_plain(
            event.done.transcription,
            self._text,
            self._usage,
            self._upstream,
            self._request,
            languages=[*self._languages],
        )
        return event

    def _released(self, text: str) -> str:
        """The text that certainly belongs to the transcript, after this has come."""
        text = self._held + text
        if not self._said:
            text = text.lstrip()
            if not self._request.dedicated and _may_be_silence(text.rstrip().lower()):
                self._held = text
                return ""
        released = text.rstrip()
        self._held = text[len(released) :]
        self._said = self._said or bool(released)
        return released


def _may_be_silence(text: str) -> bool:
    return NO_SPEECH.startswith(text) or is_silence(text)
