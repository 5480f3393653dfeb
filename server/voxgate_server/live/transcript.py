"""The transcript of a session: turns put where they belong in it, and all of them together."""

from voxgate.transcription.v1.config_pb2 import RESPONSE_FORMAT_TEXT, TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeLiveResponse

from voxgate_server.transcript.render import render

__all__ = ["SessionTranscript", "shift"]


def shift(transcription: Transcription, seconds: float) -> None:
    """Moves all times of a transcript, by so many seconds."""
    for stretches in (transcription.segments, transcription.diarized_segments, transcription.words):
        for stretch in stretches:
            stretch.start, stretch.end = _moved(stretch.start, seconds), _moved(stretch.end, seconds)


def _moved(time: float, seconds: float) -> float:
    # Microseconds: a sum of two times has digits that nobody has measured.
    return round(time + seconds, 6)


class SessionTranscript:
    """Takes the events of the streams of a session, in order, and makes them events of the session.

    Args:
        config: The session's options.
    """

    def __init__(self, config: TranscriptionConfig) -> None:
        self._config = config
        self._whole = Transcription()
        self._texts: list[str] = []
        self._usages: list[tuple[str, float, int, int, int]] = []
        self._turns = 0
        self._items: dict[str, str] = {}
        self._last_committed = ""
        self._segment_ids: dict[str, str] = {}
        self._diarized = 0

    def item(self, stream_item: str) -> str:
        """The session's id of a turn, by the id its stream has for it."""
        if stream_item not in self._items:
            self._turns += 1
            self._items[stream_item] = f"item_{self._turns:04d}"
        return self._items[stream_item]

    def place(self, event: TranscribeLiveResponse, offset: float) -> None:
        """Gives an event of a stream the ids and times it has in the session.

        Args:
            event: The event; changed in place.
            offset: Where in the session the stream begins, in seconds.
        """
        match event.WhichOneof("event"):
            case "speech_started":
                event.speech_started.audio_start = _moved(event.speech_started.audio_start, offset)
            case "speech_stopped":
                event.speech_stopped.audio_end = _moved(event.speech_stopped.audio_end, offset)
            case "turn_committed":
                committed = event.turn_committed
                committed.item_id = self.item(committed.item_id)
                committed.previous_item_id = self._last_committed
                self._last_committed = committed.item_id
            case "partial":
                event.partial.item_id = self.item(event.partial.item_id)
            case "delta":
                event.delta.item_id = self.item(event.delta.item_id)
                if event.delta.delta.HasField("segment_id"):
                    event.delta.delta.segment_id = self._segment_id(event.delta.delta.segment_id)
            case "segment":
                event.segment.item_id = self.item(event.segment.item_id)
                segment = event.segment.segment
                segment.id = self._segment_id(segment.id)
                segment.start, segment.end = _moved(segment.start, offset), _moved(segment.end, offset)
            case "turn_completed":
                event.turn_completed.item_id = self.item(event.turn_completed.item_id)
                self._complete(event.turn_completed.transcription, offset)
            case "notice" if event.notice.HasField("audio_dropped"):
                dropped = event.notice.audio_dropped
                dropped.start, dropped.end = _moved(dropped.start, offset), _moved(dropped.end, offset)
            case _:
                pass

    def _segment_id(self, stream_id: str) -> str:
        """Identifiers of diarized segments begin anew with every turn; here they are unique in the session."""
        if stream_id not in self._segment_ids:
            self._diarized += 1
            self._segment_ids[stream_id] = f"seg_{self._diarized:03d}"
        return self._segment_ids[stream_id]

    def _complete(self, turn: Transcription, offset: float) -> None:
        shift(turn, offset)
        for segment in turn.segments:
            segment.id = len(self._whole.segments)
            self._whole.segments.append(segment)
        for diarized in turn.diarized_segments:
            diarized.id = self._segment_id(diarized.id)
        self._segment_ids.clear()
        if turn.HasField("rendered"):
            document = render(turn, self._config.response_format)
            assert document is not None
            turn.rendered.CopyFrom(document)
        whole = self._whole
        whole.diarized_segments.extend(turn.diarized_segments)
        whole.words.extend(turn.words)
        whole.logprobs.extend(turn.logprobs)
        if text := turn.text.strip():
            self._texts.append(text)
        for name in ("task", "language"):
            if turn.HasField(name) and not whole.HasField(name):
                setattr(whole, name, getattr(turn, name))
        known = {language.code for language in whole.languages}
        whole.languages.extend(language for language in turn.languages if language.code not in known)
        self._add_usage(turn)
        synthesized = whole.extra_fields.synthesized_fields
        synthesized.extend(name for name in turn.extra_fields.synthesized_fields if name not in synthesized)
        dropped = whole.extra_fields.dropped_params
        dropped.extend(name for name in turn.extra_fields.dropped_params if name not in dropped)
        if turn.extra_fields.provider:
            whole.extra_fields.provider = turn.extra_fields.provider
            whole.extra_fields.resolved_model_used = turn.extra_fields.resolved_model_used

    def _add_usage(self, turn: Transcription) -> None:
        usage = turn.usage
        match usage.WhichOneof("kind"):
            case "duration":
                self._usages.append(("duration", usage.duration.seconds, 0, 0, 0))
            case "tokens":
                tokens = usage.tokens
                self._usages.append(("tokens", 0.0, tokens.input_tokens, tokens.output_tokens, tokens.total_tokens))

    def whole(self, seconds: float, request_id: str) -> Transcription:
        """The transcript of the whole session.

        Args:
            seconds: Audio received.
            request_id: The session's.
        """
        whole = Transcription()
        whole.CopyFrom(self._whole)
        whole.text = " ".join(self._texts)
        whole.duration = seconds
        extra = whole.extra_fields
        extra.request_id, extra.request_type = request_id, "transcription_stream"
        extra.original_model_requested = self._config.model
        kinds = {kind for kind, *_ in self._usages}
        if kinds == {"duration"}:  # Seconds and tokens cannot be added up.
            whole.usage.duration.seconds = sum(usage[1] for usage in self._usages)
        elif kinds == {"tokens"}:
            for at, name in enumerate(("input_tokens", "output_tokens", "total_tokens"), 2):
                setattr(whole.usage.tokens, name, sum(int(usage[at]) for usage in self._usages))
        has_times = bool(whole.segments or whole.diarized_segments)
        plain = self._config.response_format == RESPONSE_FORMAT_TEXT
        document = render(whole, self._config.response_format) if plain or has_times or not self._texts else None
        if document is not None:
            whole.rendered.CopyFrom(document)
        return whole
