"""Deepgram's pre-recorded API on a loopback socket: as strict as the real one, and able to fail in every known way.

async with DeepgramEmulator() as emulator:
    emulator.script(failure(503), ok())          # the next two calls, in order; after that: ok
    ... talk to emulator.url with emulator.key ...
    emulator.records[0].fields                   # the query
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.providers import deepgram_rules
from tests.providers.deepgram_rules import DeepgramRefused, Shape
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

__all__ = ["FAULTS", "KEY", "DeepgramEmulator", "failure"]

KEY = "0123456789abcdef0123456789abcdef01234567"


def failure(
    status: int, message: str = "it did not work", *, code: str = "INTERNAL_SERVER_ERROR", shape: Shape = "legacy",
    **kwargs: Any,
) -> Behaviour:  # fmt: skip
    """An error in one of the three shapes."""
    body, media_type = deepgram_rules.error(shape, code, message)
    return raw(body, status=status, media_type=media_type, **kwargs)


FAULTS = {
    "401": failure(401, "Invalid credentials.", code="INVALID_AUTH"),
    "402": failure(
        402, "Project does not have enough credits for an ASR request and does not have an overage agreement.",
        code="ASR_PAYMENT_REQUIRED",
    ),
    "403": failure(403, "You can't access the requested model or tier.", code="INSUFFICIENT_PERMISSIONS"),
    "429": failure(429, "Too many requests. Please try again later", code="TOO_MANY_REQUESTS"),
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(401, "Invalid credentials.", code="INVALID_AUTH", at="first_file_byte", then="close"),
    "early-200": raw('{"results": {"channels": []}}', at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
}  # fmt: skip


class DeepgramEmulator(Emulator):
    """The server. `url` ends in `/v1`.

    Args:
        key: The only key it takes.
        texts: What every recording says, channel by channel; the first alone without `multichannel`.
        shape: In which shape it refuses.
    """

    faults = FAULTS
    max_body = deepgram_rules.MAX_BODY

    def __init__(
        self,
        *,
        key: str = KEY,
        texts: tuple[str, ...] = ("Hello from the emulator, dear friend. How are you?", "I hear you. Go on."),
        shape: Shape = "legacy",
    ) -> None:
        self.key = key
        self.texts = list(texts)
        self.shape = shape
        super().__init__()

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def text(self) -> str:
        """What the first channel says."""
        return self.texts[0]

    def too_large(self, size: int) -> Refused:
        return DeepgramRefused(self.shape, 413, "PAYLOAD_TOO_LARGE", f"{size} bytes are more than {self.max_body}")

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {
            "dg-request-id": deepgram_rules.REQUEST_ID, "dg-model-name": "general-nova-3", "set-cookie": "session=1",
        }  # fmt: skip

    def judge(self, record: Record) -> tuple[str, bytes]:
        if record.headers.get("authorization") != f"Token {self.key}":
            raise DeepgramRefused(self.shape, 401, "INVALID_AUTH", "Invalid credentials.")
        if (record.method, record.path.partition("?")[0]) != ("POST", "/v1/listen"):
            raise DeepgramRefused(self.shape, 404, "NOT_FOUND", "No such route.")
        deepgram_rules.read_query(record)
        deepgram_rules.check_query(record, self.shape)
        deepgram_rules.check_audio(record, self.shape)
        return "application/json", json.dumps(deepgram_rules.answer(record, self.texts)).encode()
