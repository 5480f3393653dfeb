"""What Google's refusals mean, for all its APIs alike.

`{"error": {code, message, status, details}}`, sometimes as the only item of a list; the details are messages of
google.rpc and say more than the HTTP status: a wrong API key is a 400, a day's quota and a minute's are both a 429.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from voxgate_server.errors import (
    AudioTooLarge,
    ProviderCredential,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnavailable,
    VoxgateError,
)
from voxgate_server.providers.http_errors import Upstream, excerpt, retry_after

__all__ = ["GoogleError", "google_refusal", "read_google_error"]

_KEY_REASONS = frozenset(
    {
        "ACCESS_TOKEN_EXPIRED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "ACCESS_TOKEN_TYPE_UNSUPPORTED",
        "ACCOUNT_STATE_INVALID", "API_KEY_ANDROID_APP_BLOCKED", "API_KEY_EXPIRED", "API_KEY_HTTP_REFERRER_BLOCKED",
        "API_KEY_INVALID", "API_KEY_IP_ADDRESS_BLOCKED", "API_KEY_SERVICE_BLOCKED", "CREDENTIALS_MISSING",
    }
)  # fmt: skip
_KEY_MESSAGE = re.compile(r"API key (?:not valid|not found|expired|was reported)", re.IGNORECASE)
_MONEY_REASONS = frozenset({"BILLING_DISABLED", "CONSUMER_SUSPENDED"})
_MONEY_MESSAGE = re.compile(r"\bbilling\b|\bcredits? (?:are|is) depleted", re.IGNORECASE)
_DAILY = re.compile(r"per_?day", re.IGNORECASE)
_TOO_LARGE = re.compile(
    r"(?:payload|request|content|audio|file|input|token count)[^.]{0,80}?(?:exceeds?\b|too (?:large|long|big)\b)"
    r"|exceeds? (?:the )?(?:maximum|limit)[^.]{0,40}(?:size|duration|tokens)",
    re.IGNORECASE,
)
_CODE = re.compile(r"[a-z][a-z0-9_]{1,63}", re.ASCII)
_DELAY = re.compile(r"(\d{1,10}(?:\.\d{1,9})?)s", re.ASCII)
_LONGEST_DELAY = 300.0
_MAX_DETAILS = 32


@dataclass(frozen=True, slots=True)
class GoogleError:
    """What an error's body says."""

    message: str = ""
    status: str = ""
    """Name of the google.rpc code, e.g. `RESOURCE_EXHAUSTED`."""
    reason: str = ""
    """Of ErrorInfo, e.g. `API_KEY_INVALID`."""
    retry_delay: float | None = None
    """Of RetryInfo: seconds, at most 300."""
    quotas: tuple[str, ...] = ()
    """Names of the quotas that are used up."""
    no_quota: bool = False
    """A quota is 0: waiting does not help."""
    violations: tuple[str, ...] = field(default=())
    """What BadRequest says of fields."""


def read_google_error(body: bytes) -> GoogleError | None:
    """Reads an error's body; None when it is not of Google's shape."""
    try:
        parsed = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message", ""), str):
        return None
    details = error.get("details")
    reason, delay = "", None
    quotas: list[str] = []
    violations: list[str] = []
    no_quota = False
    for detail in (details if isinstance(details, list) else [])[:_MAX_DETAILS]:
        if not isinstance(detail, dict):
            continue
        match _text(detail.get("@type")).rpartition(".")[2]:
            case "ErrorInfo":
                reason = _text(detail.get("reason"))
                quotas.append(_text(_mapping(detail.get("metadata")).get("quota_limit")))
            case "RetryInfo":
                if found := _DELAY.fullmatch(_text(detail.get("retryDelay"))):
                    delay = min(float(found[1]), _LONGEST_DELAY)
            case "QuotaFailure":
                for item in _mappings(detail.get("violations")):
                    quotas.append(_text(item.get("quotaId")) or _text(item.get("subject")))
                    no_quota = no_quota or _text(item.get("quotaValue")) == "0"
            case "BadRequest":
                items = _mappings(detail.get("fieldViolations"))
                violations += [f"{_text(item.get('field'))}: {_text(item.get('description'))}" for item in items]
    return GoogleError(
        _text(error.get("message")),
        _text(error.get("status")),
        reason,
        delay,
        tuple(quota for quota in quotas if quota),
        no_quota,
        tuple(violations),
    )


def google_refusal(
    upstream: Upstream, status: int, headers: httpx.Headers, body: bytes, *, credential: str = "api_key"
) -> VoxgateError:
    """The error for an answer of Google's that is not 2xx.

    Args:
        upstream: Who was asked.
        status: HTTP status.
        headers: Of the answer.
        body: As much of it as arrived.
        credential: Name of the parameter the operator has to check when the credential is refused.
    """
    said = read_google_error(body)
    if said is None:
        return upstream.refusal(status, headers, body)
    quote = excerpt("; ".join((said.message, *said.violations)), upstream.secrets)
    suffix = f": {quote}" if quote else "."
    metadata = {"provider": upstream.provider, "provider_status": str(status)}
    if _CODE.fullmatch(code := (said.reason or said.status).lower()):
        metadata["provider_code"] = code
    wait = said.retry_delay if said.retry_delay is not None else retry_after(headers)
    if said.reason in _MONEY_REASONS:
        return ProviderQuotaExceeded(
            f"The operator's project cannot be billed at {upstream}{suffix}", metadata=metadata
        )
    if status == 429 or said.status == "RESOURCE_EXHAUSTED" or said.reason == "RATE_LIMIT_EXCEEDED":
        if _used_up(said):
            return ProviderQuotaExceeded(f"The operator's quota at {upstream} is used up{suffix}", metadata=metadata)
        return ProviderRateLimited(f"{upstream} asks to slow down{suffix}", metadata=metadata, retry_after=wait)
    if (
        status in {401, 403}
        or said.status in {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        or said.reason in _KEY_REASONS
        or (status == 400 and _KEY_MESSAGE.search(said.message))
    ):
        # Google's own words would show whose key it is.
        return ProviderCredential(
            f"{upstream} refused the gateway's credential with status {status}. The operator has to check the "
            f"deployment's {credential}, and that it may use this API.",
            metadata=metadata,
        )
    if status in {400, 413} and (status == 413 or _TOO_LARGE.search(said.message)):
        return AudioTooLarge(f"The recording is larger than {upstream} takes{suffix}", param="file", metadata=metadata)
    if status == 499 or said.status == "FAILED_PRECONDITION":
        # E.g. a country without a free tier: for the operator to mend, not for the caller.
        return ProviderUnavailable(f"{upstream} cannot serve this project now{suffix}", metadata=metadata)
    plain = msgspec.json.encode({"error": {"message": "; ".join((said.message, *said.violations))}})
    error = upstream.refusal(status, headers, plain)
    error.metadata.update(metadata)
    if wait is not None and (status >= 500 or status == 408):
        error.retry_after = wait
    return error


def _used_up(said: GoogleError) -> bool:
    """Whether waiting for a moment is of no use, whatever RetryInfo says: it gives seconds for a day's quota too."""
    if said.no_quota or any(_DAILY.search(quota) for quota in said.quotas):
        return True
    return not said.quotas and said.retry_delay is None and bool(_MONEY_MESSAGE.search(said.message))


def _text(value: Any) -> str:
    return value[:4096] if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value[:_MAX_DETAILS] if isinstance(item, dict)] if isinstance(value, list) else []
