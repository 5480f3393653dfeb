"""Riva's results as the API's own message: segments, words with times in seconds, letters for speakers."""

from collections.abc import Iterable

from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.providers.riva.riva_asr_pb2 import (
    SpeechRecognitionAlternative,
    SpeechRecognitionResult,
    StreamingRecognitionResult,
    WordInfo,
)
from voxgate_server.providers.speakers import SpeakerNames

__all__ = ["Transcript"]


class Transcript:
    """Collects results as they come.

    Args:
        diarized: The caller asked who says what.
    """

    def __init__(self, *, diarized: bool) -> None:
        self._diarized = diarized
        self._result = Transcription(task="transcribe")
        self._texts: list[str] = []
        self._speakers = SpeakerNames()
        self._processed = 0.0
        self._open: dict[int, SpeechRecognitionAlternative] = {}
        """Of each channel, the stretch that is not final yet."""

    def add(self, results: Iterable[SpeechRecognitionResult | StreamingRecognitionResult]) -> str:
        """Takes results and gives the text that is new with them, to be appended to what was there."""
        new = ""
        for result in results:
            self._processed = max(self._processed, result.audio_processed)
            if not result.alternatives:
                continue
            best = result.alternatives[0]
            if isinstance(result, StreamingRecognitionResult) and not result.is_final:
                self._open[result.channel_tag] = best
                continue
            self._open.pop(result.channel_tag, None)
            new += self._take(best)
        return new

    def finish(self) -> tuple[str, Transcription]:
        """The text that is new at the end, and the whole."""
        # Some servers end without calling the last stretch final.
        new = "".join(self._take(best) for best in self._open.values())
        self._open.clear()
        result = self._result
        result.text = " ".join(self._texts)
        end = max((word.end for word in result.words), default=0.0)
        if (duration := max(self._processed, end)) > 0:
            result.duration = round(duration, 3)
        return new, result

    def _take(self, best: SpeechRecognitionAlternative) -> str:
        text = best.transcript.strip()
        if not text:
            return ""
        for code in best.language_code:
            if code and all(language.code != code for language in self._result.languages):
                self._result.languages.add(code=code)
                self._result.language = self._result.language or code
        for word in best.words:
            self._add_word(word)
        if best.words and not self._diarized:
            first, last = self._result.words[-len(best.words)], self._result.words[-1]
            start, end = first.start, max(first.start, last.end)
            self._result.segments.add(id=len(self._result.segments), start=start, end=end, text=text)
        self._texts.append(text)
        return text if len(self._texts) == 1 else f" {text}"

    def _add_word(self, info: WordInfo) -> None:
        start = max(info.start_time, 0) / 1000
        word = self._result.words.add(word=info.word.strip(), start=start, end=max(info.end_time / 1000, start))
        if 0 < info.confidence <= 1:
            word.confidence = round(info.confidence, 4)
        if not self._diarized:
            return
        word.speaker = self._speakers.name(info.speaker_tag)
        segments = self._result.diarized_segments
        if segments and segments[-1].speaker == word.speaker:
            segments[-1].text += f" {word.word}"
            segments[-1].end = max(word.end, segments[-1].end)
        else:
            identifier = f"seg_{len(segments) + 1:03d}"
            segments.add(id=identifier, speaker=word.speaker, start=word.start, end=word.end, text=word.word)
