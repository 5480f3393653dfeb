"""whisper.cpp's server on a loopback socket: `POST /inference` and nothing else."""

import json

from tests.providers.emulator import Emulator
from tests.providers.record import BodyReader, Form, Record, Refused

_FIELDS = frozenset({"response_format", "language", "prompt", "temperature", "translate", "beam_size"})
TEXT = "Hello from whisper.cpp. It says two things."


def _refused(status: int, why: str) -> Refused:
    return Refused(status, json.dumps({"error": why}).encode())


class WhisperCppEmulator(Emulator):
    """The server; `origin` is its address. It refuses fields that it would ignore in silence."""

    def reader(self, record: Record) -> BodyReader:
        return Form(record, _refused(400, "not a form"))

    def judge(self, record: Record) -> tuple[str, bytes]:
        if (record.method, record.path) != ("POST", "/inference"):
            raise Refused(404, b"File Not Found (/inference)", media_type="text/plain")
        if not record.complete or record.order.count("file") != 1 or not record.filename:
            raise _refused(400, "no 'file' field in the request")
        names = [name for name, _ in record.fields]
        if len(set(names)) != len(names) or set(names) - _FIELDS:
            raise _refused(400, f"unknown or doubled fields: {names}")
        if record.field("response_format") != "verbose_json":
            raise _refused(400, "the answers of other formats have no times")
        language = record.field("language")
        return "application/json", json.dumps(
            {
                "task": "translate" if record.field("translate") == "true" else "transcribe",
                "language": {"de": "german", "auto": "english"}.get(language or "", "english"),
                "duration": 3.25,
                "text": " Hello from whisper.cpp.\n It says two things.\n",
                "segments": [
                    {"id": 0, "text": " Hello from whisper.cpp.", "start": 0.0, "end": 1.5, "avg_logprob": None},
                    {"id": 1, "text": " It says two things.", "start": 1.5, "end": 3.25, "tokens": [50364, 400]},
                ],
            }
        ).encode()  # fmt: skip
