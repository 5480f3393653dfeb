"""OpenAI's transcription API on a loopback socket: as strict as the real one, and able to fail in every known way.

    async with OpenAIEmulator() as emulator:
        emulator.script(failure(503), ok())          # the next two calls, in order; after that: ok
        ... talk to emulator.url with emulator.key ...
        emulator.records[0].file_sha256

A behaviour can also be chosen by the model's name: `fault-` and a key of FAULTS, e.g. `fault-hang`.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from tests.providers import openai_rules, stream_rules
from tests.providers.emulator import (
    EVENT_STREAM,
    Behaviour,
    Emulator,
    cut_answer,
    hang,
    ok,
    raw,
    reset_mid_answer,
    reset_mid_body,
    sse,
    stall,
    stream,
)
from tests.providers.openai_rules import OpenAIRefused
from tests.providers.record import BodyReader, Form, Record, Refused

__all__ = [
    "FAULTS",
    "Behaviour",
    "OpenAIEmulator",
    "Record",
    "cut_answer",
    "failure",
    "hang",
    "ok",
    "raw",
    "reset_mid_answer",
    "reset_mid_body",
    "sse",
    "stall",
    "stream",
]


def failure(
    status: int, message: str = "it did not work", *, kind: str = "server_error", code: str | None = None,
    headers: Mapping[str, str | None] | None = None, **kwargs: Any,
) -> Behaviour:  # fmt: skip
    """An error in OpenAI's envelope."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
    return raw(body, status=status, headers=headers or {}, **kwargs)


FAULTS = {
    "401": failure(401, "Incorrect API key provided: sk-wrong.", kind="invalid_request_error", code="invalid_api_key"),
    "429": failure(
        429, "Rate limit reached", kind="requests", code="rate_limit_exceeded", headers={"retry-after": "7"}
    ),
    "429-ms": failure(429, "Rate limit reached", kind="requests", headers={"retry-after-ms": "1500"}),
    "quota": failure(429, "You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota"),
    "500": failure(500, "The server had an error"),
    "503": failure(503, "Overloaded"),
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(
        401, "Incorrect API key provided.", code="invalid_api_key", at="first_file_byte", then="close"
    ),
    "early-413": failure(413, "Maximum content size limit exceeded", at="first_file_byte", then="close"),
    "early-200": raw('{"text": "too early"}', at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
    "bad-json": raw('{"text": "hello'),
    "error-200": raw('{"error": {"message": "backend died", "type": "server_error", "code": 500}}'),
}


class OpenAIEmulator(Emulator):
    """The server. `url` ends in `/v1`.

    Args:
        key: The only key it takes; None takes every request.
        text: What every recording says.
        models: Names it knows besides OpenAI's, all like whisper-1.
        extra_fields: Form fields it knows besides OpenAI's.
    """

    faults = FAULTS

    def __init__(
        self,
        *,
        key: str | None = "sk-emulator-0123456789",
        text: str = "Hello from the emulator.",
        models: Collection[str] = frozenset(),
        extra_fields: Collection[str] = frozenset(),
        max_body: int = openai_rules.MAX_BODY,
    ) -> None:
        self.key = key
        self.text = text
        self.models = models
        self.extra_fields = extra_fields
        self.max_body = max_body
        self.marks_the_end = False
        """Streams end in `[DONE]`."""
        super().__init__()

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    def reader(self, record: Record) -> BodyReader:
        return Form(record, OpenAIRefused(400, "Could not parse multipart form"))

    def too_large(self, size: int) -> Refused:
        return OpenAIRefused(
            413, f"Maximum content size limit ({self.max_body}) exceeded ({size} bytes read)", kind="server_error"
        )

    def by_name(self, record: Record) -> Behaviour:
        return FAULTS.get((record.field("model") or "").removeprefix("fault-"), ok())

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {
            "x-request-id": f"req-{len(self.records)}",
            "openai-processing-ms": "17",
            "openai-organization": "org-of-the-operator",
            "set-cookie": "session=1; Path=/",
        }

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        if self.key is not None:
            openai_rules.check_key(record, self.key)
        place = (record.method, record.path.partition("?")[0])
        if place not in {("POST", "/v1/audio/transcriptions"), ("POST", "/v1/audio/translations")}:
            raise OpenAIRefused(404, f"Invalid URL ({record.method} {record.path})")
        if not record.complete:
            raise OpenAIRefused(400, "Could not parse multipart form")
        openai_rules.check_form(record, self.models, self.extra_fields)
        if stream_rules.openai_streams(record):
            return EVENT_STREAM, stream_rules.openai(record, self.text, marked=self.marks_the_end)
        return openai_rules.answer(record, self.text)
