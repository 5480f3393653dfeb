"""What an HTTP provider's refusals and breakdowns mean for the router and may say to the caller.

Shared by all adapters that speak HTTP. Whatever a provider said passes through `excerpt`: bounded, on one line and
without anything that looks like a key.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Self

import httpx
import msgspec

from voxgate_server.errors import (
    AnswerTooLarge,
    AudioTooLarge,
    ProviderCredential,
    ProviderGarbled,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.providers.http import ResponseTooLarge

__all__ = ["ErrorBody", "Upstream", "excerpt", "passable_headers", "read_error_body", "redact", "retry_after"]

_KEY_LIKE = re.compile(
    r"""\b(?:sk|pk|rk|gsk|xai|fw|hf|nvapi|vx)[-_][A-Za-z0-9_*.\-]{4,}  # keys that say what they are
    |\bAIza[A-Za-z0-9_\-]{16,}
    |\bya29\.[A-Za-z0-9_.\-]{6,}                                       # tokens of Google's
    |\beyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)*                     # JSON web tokens
    |\b(?:bearer|token|basic)\s+[A-Za-z0-9+/=._~*\-]{6,}""",
    re.IGNORECASE | re.VERBOSE,
)
_MESSAGE_CHARACTERS = 200
_ERROR_CHARACTERS = 4096
_SECRET_CHARACTERS = 6
_RETRY_AFTER_LIMIT = 300.0
_UNKNOWN_MODEL = frozenset({"deploymentnotfound", "invalid_model", "model_not_found"})
_EMPTY_ACCOUNT = frozenset({"insufficient_quota", "quota_exceeded"})
_TOO_LONG = re.compile(r"\b(?:audio|duration|recording)\b.{0,80}\b(?:longer than|too long)\b", re.IGNORECASE)
_NOT_THE_REQUEST = frozenset({409, 423, 424, 425, 498, 499})
"""Of the 4xx those that say nothing against the request: capacity, state, something behind the provider."""
_SECONDS = re.compile(r"\d{1,10}(?:\.\d{1,9})?", re.ASCII)
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", re.ASCII)
_CODE = re.compile(r"[a-z][a-z0-9_]{1,63}", re.ASCII)
_GO_DURATION = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?", re.ASCII
)
_PASSABLE = re.compile(
    r"(?:(?:x|dg|apim)-)?request-id|x-trace-id|openai-processing-ms|openai-version|retry-after(?:-ms)?|x-should-retry|x-ratelimit-[a-z0-9\-]{1,64}"
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replaces the given secrets and everything that looks like a key by `[redacted]`."""
    for secret in secrets:
        text = text.replace(secret, "[redacted]")
    return _KEY_LIKE.sub("[redacted]", text)


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """Foreign text as it may stand in a message of ours: one line of at most 200 characters, without keys."""
    line = " ".join(redact(text[:_ERROR_CHARACTERS], secrets).split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 1] + "…"


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """When a provider wants to be asked again, in seconds from now.

    `retry-after-ms`, then `retry-after`, then `x-ratelimit-reset-…` of what `x-ratelimit-remaining-…` says is used up.
    Read strictly and held within 0 to 300 s; what is neither a plain number nor an HTTP date counts as absent.

    Args:
        headers: Of the answer, keys in lower case or in any case if the mapping does not mind.
        now: Unix time in seconds; None means the clock.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, _RETRY_AFTER_LIMIT)
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _RETRY_AFTER_LIMIT)
    if not _HTTP_DATE.fullmatch(value):
        return _reset_of_used_up(headers)
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(moment - (time.time() if now is None else now), 0.0), _RETRY_AFTER_LIMIT)


def _reset_of_used_up(headers: Mapping[str, str]) -> float | None:
    waits = []
    for what in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0":
            match = _GO_DURATION.fullmatch(headers.get(f"x-ratelimit-reset-{what}", "").strip())
            if match is not None and any(match.groups()):
                parts = zip(match.groups(), (3600, 60, 1, 0.001), strict=True)
                waits.append(sum(float(number) * unit for number, unit in parts if number))
    return min(max(waits), _RETRY_AFTER_LIMIT) if waits else None


def passable_headers(headers: httpx.Headers) -> dict[str, str]:
    """The headers of an answer that may be shown to a caller: an allow-list, each at most 256 characters."""
    # Names are ASCII and compared in lower case; the raw list is an order cheaper than httpx's own lookups.
    result = {}
    for raw_name, value in headers.raw:
        name = raw_name.decode("latin-1").lower()
        if _PASSABLE.fullmatch(name):
            result[name] = value.decode("latin-1")[:256]
    return result


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error's body says, in whichever of the known shapes it came."""

    message: str = ""
    code: str = ""
    type: str = ""


def read_error_body(body: bytes) -> ErrorBody:
    """Reads an error's body: OpenAI's envelope, its relatives, or plain text. HTML says nothing worth passing on."""
    try:
        parsed = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        text = body[:_ERROR_CHARACTERS].decode("utf-8", "replace").strip()
        return ErrorBody() if text.startswith("<") else ErrorBody(text)
    if not isinstance(parsed, dict):
        return ErrorBody(parsed if isinstance(parsed, str) else "")
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        return ErrorBody(error)
    if not isinstance(error, dict):
        error = parsed
    message = error.get("message") or error.get("detail") or ""
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    # vLLM's `code` is a number.
    code = error.get("code")
    kind = error.get("type")
    return ErrorBody(
        message, str(code) if isinstance(code, (str, int)) else "", str(kind) if isinstance(kind, str) else ""
    )


@dataclass(frozen=True, slots=True)
class Upstream:
    """Who is spoken to, for messages and for what has to stay out of them.

    Args:
        provider: E.g. `openai`.
        model: By the provider's name.
        secrets: Strings that never appear in a message.
    """

    provider: str
    model: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def with_secrets(cls, provider: str, model: str, values: Iterable[str]) -> Self:
        """One whose secrets are those of `values` that are long enough to be some."""
        return cls(provider, model, tuple(value for value in values if len(value) >= _SECRET_CHARACTERS))

    def __str__(self) -> str:
        return f"{self.provider} ({self.model})"

    def refusal(self, status: int, headers: httpx.Headers, body: bytes) -> VoxgateError:
        """The error for an answer that is not 2xx.

        Args:
            status: HTTP status.
            headers: Of the answer.
            body: As much of it as arrived.
        """
        said = read_error_body(body)
        quote = excerpt(said.message, self.secrets)
        suffix = f": {quote}" if quote else "."
        metadata = {"provider": self.provider, "provider_status": str(status)}
        if _CODE.fullmatch(code := redact(said.code, self.secrets)):
            metadata["provider_code"] = code
        wait = retry_after(headers) if status in {408, 429} | _NOT_THE_REQUEST or status >= 500 else None
        names = {said.code.lower(), said.type.lower()}
        match status:
            case 401 | 403:
                # The provider's own words would show part of the key.
                return ProviderCredential(
                    f"{self} refused the gateway's credential with status {status}. The operator has to check the "
                    "deployment's api_key.",
                    metadata=metadata,
                )
            case 402:
                return ProviderQuotaExceeded(f"{self} asks for payment{suffix}", metadata=metadata)
            case 429 if names & _EMPTY_ACCOUNT:
                return ProviderQuotaExceeded(
                    f"The operator's account at {self} has no credit left{suffix}", metadata=metadata
                )
            case 429:
                return ProviderRateLimited(f"{self} asks to slow down{suffix}", metadata=metadata, retry_after=wait)
            case _ if status in {404, 405} or (status in {400, 422} and names & _UNKNOWN_MODEL):
                return ProviderUnavailable(
                    f"{self} does not know the model or the address. The operator has to check the deployment's model "
                    f"and api_base{suffix}",
                    metadata=metadata,
                )
            case 413:
                return AudioTooLarge(
                    f"The recording is larger than {self} takes{suffix}", param="file", metadata=metadata
                )
            case 408 | 504:
                return ProviderTimeout(
                    f"{self} gave up with status {status}{suffix}", metadata=metadata, retry_after=wait
                )
            case _ if 300 <= status < 400:
                return ProviderGarbled(
                    f"{self} answered with a redirect (status {status}), which is not followed. The operator has to "
                    "check the deployment's api_base.",
                    metadata=metadata,
                )
            case 400 if said.code != "context_length_exceeded" and _TOO_LONG.search(said.message):
                return AudioTooLarge(
                    f"The recording is longer than {self} takes{suffix}", param="file", metadata=metadata
                )
            case _ if 400 <= status < 500 and status not in _NOT_THE_REQUEST:
                return ProviderRejected(f"{self} refused the request with status {status}{suffix}", metadata=metadata)
            case _ if status in _NOT_THE_REQUEST or status >= 500:
                return ProviderUnavailable(
                    f"{self} failed with status {status}{suffix}", metadata=metadata, retry_after=wait
                )
        return ProviderGarbled(f"{self} answered with status {status}, which makes no sense.", metadata=metadata)

    def breakdown(self, error: httpx.TransportError) -> VoxgateError:
        """The error for a connection that failed or was too slow. Addresses and system texts stay out of it."""
        metadata = {"provider": self.provider}
        match error:
            case httpx.ConnectTimeout():
                return ProviderTimeout(f"{self} could not be connected to in time.", metadata=metadata)
            case httpx.WriteTimeout():
                return ProviderTimeout(f"{self} stopped taking the recording.", metadata=metadata)
            case httpx.ReadTimeout():
                return ProviderTimeout(f"{self} had the whole recording and did not answer in time.", metadata=metadata)
            case httpx.TimeoutException():
                return ProviderTimeout(f"{self} was too slow.", metadata=metadata)
            case ResponseTooLarge():
                return AnswerTooLarge(f"{self} sent {error}.", metadata=metadata)
            case httpx.ConnectError() | httpx.UnsupportedProtocol():
                what = "could not be connected to"
            case httpx.WriteError():
                what = "broke the connection while the recording was being sent"
            case _:
                what = "broke the connection before its answer was complete"
        return ProviderUnavailable(f"{self} {what}.", metadata=metadata)
