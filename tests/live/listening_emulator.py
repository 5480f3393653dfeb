"""OpenAI's API with an ear: it answers with the beeps (`tests.providers.beeps`) that are in what it was sent."""

from __future__ import annotations

import io
import json
import wave

from tests.providers import beeps, stream_rules
from tests.providers.openai_emulator import OpenAIEmulator
from tests.providers.record import Record


class ListeningEmulator(OpenAIEmulator):
    """Says what it hears, and when, in seconds from the start of each recording."""

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        media_type, body = super().judge(record)
        if not record.body.startswith(b"RIFF"):
            return media_type, body
        pcm = samples_of(record)
        heard = beeps.hears(pcm)
        text = " ".join(word for word, _, _ in heard)
        if isinstance(body, list):
            return media_type, stream_rules.openai(record, text, marked=self.marks_the_end)
        answer = json.loads(body)
        answer["text"] = text
        if "duration" in answer:
            answer["duration"] = len(pcm) / 2 / beeps.RATE
        if "words" in answer:
            answer["words"] = [{"word": word, "start": start, "end": end} for word, start, end in heard]
        return media_type, json.dumps(answer).encode()


def samples_of(record: Record) -> bytes:
    """The samples of the WAV file in a call, which has to be one that everybody reads."""
    with wave.open(io.BytesIO(bytes(record.body))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        pcm = file.readframes(file.getnframes())
        assert len(pcm) == 2 * file.getnframes()
        assert len(record.body) == 44 + len(pcm)
        return pcm
