"""Azure AI Speech's REST API for short audio on a loopback socket: as strict as the real one, able to fail.

async with AzureSpeechEmulator() as emulator:
    emulator.script(failure(503), ok())          # the next two calls, in order; after that: ok
    ... talk to emulator.origin with emulator.key ...
    emulator.records[0].fields                   # the query
"""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.providers.emulator import (
    Behaviour,
    Emulator,
    cut_answer,
    hang,
    raw,
    reset_mid_answer,
    reset_mid_body,
    stall,
)
from tests.providers.record import Record, Refused

__all__ = ["FAULTS", "KEY", "PATH", "AzureSpeechEmulator", "failure"]

KEY = "00112233445566778899aabbccddeeff"
PATH = "/speech/recognition/conversation/cognitiveservices/v1"
LANGUAGES = {"en-US", "en-GB", "de-DE", "de-AT", "fr-FR", "nb-NO", "zh-CN", "es-419", "sr-Latn-RS"}
CONTENT_TYPES = {
    "audio/wav": b"RIFF",
    "audio/wav; codecs=audio/pcm; samplerate=16000": b"RIFF",
    "audio/ogg; codecs=opus": b"OggS",
}
CHOICES = {
    "format": {"simple", "detailed"},
    "profanity": {"masked", "removed", "raw"},
    "wordLevelTimestamps": {"true", "false"},
}


class AzureSpeechRefused(Refused):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, json.dumps({"error": {"code": str(status), "message": message}}).encode())


def failure(status: int, message: str = "it did not work", **kwargs: Any) -> Behaviour:
    """An error with a message."""
    return raw(AzureSpeechRefused(status, message).body, status=status, **kwargs)


FAULTS = {
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(401, "Access denied due to invalid subscription key.", at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
}


class AzureSpeechEmulator(Emulator):
    """The server.

    Args:
        key: The only key it takes.
        text: What every recording says; nothing for silence.
    """

    faults = FAULTS

    def __init__(self, *, key: str = KEY, text: str = "Remind me to buy 5 pencils.") -> None:
        self.key = key
        self.text = text
        super().__init__()

    def judge(self, record: Record) -> tuple[str, bytes]:
        parts = urlsplit(record.path)
        key = record.headers.get("ocp-apim-subscription-key")
        if key is None:
            raise AzureSpeechRefused(403, "Access denied due to missing subscription key.")
        if key != self.key:
            raise AzureSpeechRefused(401, "Access denied due to invalid subscription key or wrong API endpoint.")
        if (record.method, parts.path) != ("POST", PATH):
            raise AzureSpeechRefused(404, "Resource not found")
        record.fields = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        self._check(record)
        return "application/json; charset=utf-8", json.dumps(self._answer(record)).encode()

    def _check(self, record: Record) -> None:
        for name, value in record.fields:
            if len(record.values(name)) > 1 or name not in {"language", "cid", *CHOICES}:
                raise AzureSpeechRefused(400, f"Unknown or repeated parameter {name}")
            if name in CHOICES and value not in CHOICES[name]:
                raise AzureSpeechRefused(400, f"Invalid value for {name}: {value}")
        if record.field("language") not in LANGUAGES:
            raise AzureSpeechRefused(400, f"Unsupported or missing language {record.field('language')}")
        if record.headers.get("accept", "application/json") != "application/json":
            raise AzureSpeechRefused(406, "Only JSON is answered")
        if record.head.framing == "chunked" and record.headers.get("expect") != "100-continue":
            raise AzureSpeechRefused(400, "Chunked transfer needs Expect: 100-continue")
        magic = CONTENT_TYPES.get(record.headers.get("content-type", ""))
        if magic is None or not bytes(record.body).startswith(magic):
            raise AzureSpeechRefused(400, "Unsupported audio format")

    def _answer(self, record: Record) -> dict[str, Any]:
        if not self.text:
            return {"RecognitionStatus": "InitialSilenceTimeout", "Offset": 0, "Duration": 50_000_000}
        tick = 10_000_000
        words = re.sub(r"[.,?]", "", self.text).lower().split(" ")
        times = {"Offset": str(tick), "Duration": str(len(words) * tick // 2)}
        if record.field("format") != "detailed":
            return {"RecognitionStatus": "Success", "DisplayText": self.text, **times}
        best: dict[str, Any] = {
            "Confidence": "0.875", "Lexical": " ".join(words), "ITN": self.text, "MaskedITN": self.text,
            "Display": self.text,
        }  # fmt: skip
        if record.field("wordLevelTimestamps") == "true":
            best["Words"] = [
                {"Word": word, "Offset": tick + i * tick // 2, "Duration": tick // 2} for i, word in enumerate(words)
            ]
        return {"RecognitionStatus": "Success", **times, "NBest": [best, {**best, "Display": "Something else."}]}
