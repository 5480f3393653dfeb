"""ElevenLabs' speech-to-text API on a loopback socket: as strict as the real one, and able to fail in known ways.

async with ElevenLabsEmulator() as emulator:
    emulator.script(failure(429, "system_busy"), ok())   # the next two calls, in order; after that: ok
    ... talk to emulator.origin with emulator.key ...
    emulator.records[0].fields                           # the form
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.providers import elevenlabs_rules
from tests.providers.elevenlabs_rules import ElevenLabsRefused
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
from tests.providers.record import BodyReader, Form, Record, Refused

__all__ = ["FAULTS", "KEY", "ElevenLabsEmulator", "failure"]

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def failure(status: int, code: str = "internal_error", message: str = "it did not work", **kwargs: Any) -> Behaviour:
    """An error with a `detail`."""
    return raw(ElevenLabsRefused(status, code, message).body, status=status, **kwargs)


FAULTS = {
    "401": failure(401, "invalid_api_key", "Invalid API key"),
    "quota": failure(401, "quota_exceeded", "This request exceeds your quota of 10000. You have 3 credits remaining."),
    "busy": failure(429, "system_busy", "We are experiencing heavy traffic"),
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(401, "invalid_api_key", "Invalid API key", at="first_file_byte", then="close"),
    "early-200": raw('{"text": "too early"}', at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
}


class _HeadedForm(Form):
    """A form that writes down the first 16 bytes of its file."""

    def __init__(self, record: Record, broken: Refused) -> None:
        super().__init__(record, broken)
        self._noted = record
        self._start = b""

    def feed(self, chunk: bytes) -> None:
        super().feed(chunk)
        if len(self._noted.body) < 16:
            self._start += chunk
            file = self._start.partition(b"filename=")[2].partition(b"\r\n\r\n")[2]
            self._noted.body = bytearray(file[:16])


class ElevenLabsEmulator(Emulator):
    """The server. `origin` stands before `/v1`.

    Args:
        key: The only key it takes.
        texts: What every recording says, channel by channel; the first alone without `use_multi_channel`.
    """

    faults = FAULTS
    max_body = elevenlabs_rules.MAX_BODY

    def __init__(
        self,
        *,
        key: str = KEY,
        texts: tuple[str, ...] = ("Hello from the emulator, dear friend. How are you?", "I hear you. Go on."),
    ) -> None:
        self.key = key
        self.texts = list(texts)
        super().__init__()

    @property
    def text(self) -> str:
        """What the first channel says."""
        return self.texts[0]

    def reader(self, record: Record) -> BodyReader:
        return _HeadedForm(record, ElevenLabsRefused(400, "invalid_request", "Could not parse the form."))

    def too_large(self, size: int) -> Refused:
        return ElevenLabsRefused(413, "file_too_large", f"{size} bytes are more than {self.max_body}")

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {"request-id": "req-1", "x-trace-id": "trace-1", "set-cookie": "session=1"}

    def judge(self, record: Record) -> tuple[str, bytes]:
        if record.headers.get("xi-api-key") != self.key:
            raise ElevenLabsRefused(401, "invalid_api_key", "Invalid API key")
        if (record.method, record.path.partition("?")[0]) != ("POST", "/v1/speech-to-text"):
            raise Refused(404, b'{"detail":"Not Found"}')
        if not record.complete:
            raise ElevenLabsRefused(400, "invalid_request", "Could not parse the form.")
        elevenlabs_rules.check_form(record, bytes(record.body))
        return "application/json", json.dumps(elevenlabs_rules.answer(record, self.texts)).encode()
