"""OpenAI's API with an ear: it answers with the beeps (`tests.providers.beeps`) that are in what it was sent."""

from __future__ import annotations

import io
import json
import wave

import multipart

from tests.providers import beeps
from tests.providers.openai_emulator import OpenAIEmulator
from tests.providers.record import BodyReader, Form, Record


class ListeningEmulator(OpenAIEmulator):
    """Says what it hears, and when, in seconds from the start of each recording."""

    def reader(self, record: Record) -> BodyReader:
        form = super().reader(record)
        assert isinstance(form, Form)
        return _Tee(form, record)

    def judge(self, record: Record) -> tuple[str, bytes]:
        media_type, body = super().judge(record)
        if media_type != "application/json" or not record.body.startswith(b"RIFF"):
            return media_type, body
        heard = beeps.hears(samples_of(record))
        answer = json.loads(body)
        answer["text"] = " ".join(word for word, _, _ in heard)
        if "duration" in answer:
            answer["duration"] = len(samples_of(record)) / 2 / beeps.RATE
        if "words" in answer:
            answer["words"] = [{"word": word, "start": start, "end": end} for word, start, end in heard]
        return media_type, json.dumps(answer).encode()


class _Tee:
    """Reads a form, and keeps its file as well."""

    def __init__(self, form: Form, record: Record) -> None:
        self._form = form
        self._record = record
        _, options = multipart.parse_options_header(record.headers["content-type"])
        self._parser = multipart.PushMultipartParser(options["boundary"], strict=True)
        self._in_file = False

    def feed(self, chunk: bytes) -> None:
        self._form.feed(chunk)
        for event in self._parser.parse(chunk):
            if isinstance(event, multipart.MultipartSegment):
                self._in_file = event.filename is not None
            elif event is not None and self._in_file:
                self._record.body += event

    def finish(self) -> bool:
        return self._form.finish()


def samples_of(record: Record) -> bytes:
    """The samples of the WAV file in a call, which has to be one that everybody reads."""
    with wave.open(io.BytesIO(bytes(record.body))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        pcm = file.readframes(file.getnframes())
        assert len(pcm) == 2 * file.getnframes()
        assert len(record.body) == 44 + len(pcm)
        return pcm
