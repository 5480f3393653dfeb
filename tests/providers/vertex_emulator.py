"""Google's Speech-to-Text v2 on a loopback socket: as strict as the real one.

async with VertexEmulator() as emulator:
    ... talk to emulator.origin with emulator.tokens.account ...
    emulator.requests[0]["config"]
"""

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any, Self

import av

from tests.providers import speech_v2_rules as rules
from tests.providers.emulator import Behaviour, Emulator, cut_answer, hang, raw, reset_mid_answer, stall
from tests.providers.google_token_emulator import PROJECT, GoogleTokenEmulator
from tests.providers.record import Record, Refused
from tests.providers.speech_v2_rules import GoogleRefused, google_error

__all__ = ["FAULTS", "Heard", "VertexEmulator", "failure"]

Heard = list[tuple[str, float, float]]
"""Words with start and end in seconds."""


def failure(status: int, code: str, message: str = "it did not work", **kwargs: Any) -> Behaviour:
    """An error in Google's envelope."""
    details = kwargs.pop("details", ())
    return raw(google_error(status, code, message, details), status=status, **kwargs)


_RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"}
FAULTS = {
    "400": failure(400, "INVALID_ARGUMENT", "Audio encoding could not be determined"),
    "401": failure(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "403": failure(403, "PERMISSION_DENIED", "Permission 'speech.recognizers.recognize' denied"),
    "404": failure(404, "NOT_FOUND", "Requested entity was not found."),
    "429": failure(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric", details=[_RETRY]),
    "500": failure(500, "INTERNAL", "Internal error encountered."),
    "503": failure(503, "UNAVAILABLE", "The service is currently unavailable."),
    "504": failure(504, "DEADLINE_EXCEEDED", "Deadline exceeded"),
    "hang": hang(),
    "stall": stall(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
    "html-413": raw("<html><title>413</title></html>", status=413, media_type="text/html"),
    "bad-json": raw('{"results": [{"alternatives"'),
    "error-200": raw(google_error(503, "UNAVAILABLE", "backend died", ())),
}


class VertexEmulator(Emulator):
    """The server, with the token service it trusts.

    Args:
        text: What every recording says.
        location: Which of Google's hosts it is.
        hears: What a recording says, from its samples (signed 16 bit, mono, 16 kHz), instead of `text`.
    """

    faults = FAULTS
    max_body = 10 << 20

    def __init__(
        self,
        *,
        text: str = "Hello from the emulator.",
        location: str = "us",
        hears: Callable[[bytes], Heard] | None = None,
        expires_in: int = 3600,
    ) -> None:
        self.text = text
        self.location = location
        self.hears = hears
        self.key: str | None = None
        """An API key that is taken instead of a token."""
        self.tokens = GoogleTokenEmulator(expires_in=expires_in)
        self.requests: list[dict[str, Any]] = []
        """The bodies it took, without the audio."""
        self.taken: list[str] = []
        """SHA-256 of the recordings in them."""
        super().__init__()

    async def __aenter__(self) -> Self:
        await self.tokens.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            await self.tokens.__aexit__(*error)

    def too_large(self, size: int) -> Refused:
        return GoogleRefused(400, "INVALID_ARGUMENT", f"Request payload size exceeds the limit: {self.max_body} bytes.")

    def judge(self, record: Record) -> tuple[str, bytes]:
        self._check_account(record)
        location = rules.location_of(record, PROJECT)
        if location != self.location:
            raise GoogleRefused(
                400, "INVALID_ARGUMENT",
                f"Expected resource location to be {self.location}, but found {location} in resource name.",
            )  # fmt: skip
        request = rules.read_request(record)
        config, content = request["config"], rules.content_of(request)
        rules.check_config(config, location)
        self.requests.append({**request, "content": len(content)})
        self.taken.append(hashlib.sha256(content).hexdigest())
        samples, channels, seconds = _samples(config, content)
        if seconds > 60:
            raise GoogleRefused(
                400, "INVALID_ARGUMENT", "Audio can be of a maximum of 60 seconds; use batch recognition instead."
            )
        heard = self.hears(samples) if self.hears is not None else _spread(self.text, seconds)
        return "application/json", json.dumps(rules.answer(config, heard, seconds, channels)).encode()

    def _check_account(self, record: Record) -> None:
        if self.key is not None:
            if record.headers.get("x-goog-api-key") != self.key or "authorization" in record.headers:
                raise GoogleRefused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
            return
        scheme, _, token = record.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens.good:
            raise GoogleRefused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if record.headers.get("x-goog-user-project") not in (None, PROJECT, "quota-project-1"):
            raise GoogleRefused(403, "PERMISSION_DENIED", "Caller does not have required permission to use project")


def _spread(text: str, seconds: float) -> Heard:
    words = text.split()
    step = seconds / max(1, len(words))
    return [(word, number * step, (number + 1) * step) for number, word in enumerate(words)]


def _samples(config: dict[str, Any], content: bytes) -> tuple[bytes, int, float]:
    """The first channel's samples, the number of channels and the length in seconds."""
    if (explicit := config.get("explicitDecodingConfig")) is not None:
        channels, rate = explicit["audioChannelCount"], explicit["sampleRateHertz"]
        width = 2 if explicit["encoding"] == "LINEAR16" else 1
        return content, channels, len(content) / (width * channels * rate)
    try:
        with av.open(
            io.BytesIO(content), options={"format_whitelist": "wav,flac,mp3,mov,ogg,matroska,webm,amr"}
        ) as file:
            stream = file.streams.audio[0]
            channels, rate = stream.codec_context.channels, stream.codec_context.sample_rate
            # Without separate recognition only the first channel is heard.
            resampler = av.AudioResampler("s16p", stream.codec_context.layout, 16_000)
            parts = [part for frame in file.decode(stream) for part in resampler.resample(frame)]
            parts += resampler.resample(None)
    except (av.FFmpegError, IndexError):
        raise GoogleRefused(400, "INVALID_ARGUMENT", "Audio encoding could not be determined") from None
    samples = b"".join(bytes(part.planes[0])[: 2 * part.samples] for part in parts)
    return samples, channels, len(samples) / 32_000
