"""What Google's refusals mean, over the wire and taken apart."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server import errors
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.google_errors import google_refusal, read_google_error
from voxgate_server.providers.http_errors import Upstream

from tests.providers.calling import WAV
from tests.providers.gemini_calling import Calling
from tests.providers.gemini_emulator import KEY, Behaviour, GeminiEmulator, failure, raw

TYPE = "type.googleapis.com/google.rpc."


def info(reason: str, **metadata: str) -> dict:
    return {"@type": f"{TYPE}ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}


def wait(delay: str) -> dict:
    return {"@type": f"{TYPE}RetryInfo", "retryDelay": delay}


def quota(*ids: str, value: str = "20") -> dict:
    violations = [
        {"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": name, "quotaValue": value}
        for name in ids
    ]
    return {"@type": f"{TYPE}QuotaFailure", "violations": violations}


MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
BILLING = "You exceeded your current quota, please check your plan and billing details."


@pytest.fixture
async def call(store: SpoolStore) -> AsyncIterator[Calling]:
    async with GeminiEmulator() as emulator:
        yield Calling(emulator, store)


def limited(*details: dict, message: str = BILLING, **kwargs: Any) -> Behaviour:
    return failure(429, "RESOURCE_EXHAUSTED", message, details=details, **kwargs)


@pytest.mark.parametrize(
    ("behaviour", "kind", "said", "after"),
    [
        (failure(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
                 details=[info("API_KEY_INVALID", service="generativelanguage.googleapis.com")]),
         errors.ProviderCredential, "api_key", None),
        (failure(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
         errors.ProviderCredential, "api_key", None),
        (failure(401, "UNAUTHENTICATED"), errors.ProviderCredential, "api_key", None),
        (failure(403, "PERMISSION_DENIED", "Requests from referer <empty> are blocked.",
                 details=[info("API_KEY_HTTP_REFERRER_BLOCKED")]), errors.ProviderCredential, "may use this API", None),
        (failure(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.",
                 details=[info("BILLING_DISABLED")]), errors.ProviderQuotaExceeded, "billed", None),
        (failure(403, "PERMISSION_DENIED", "Rate Limit Exceeded", details=[info("RATE_LIMIT_EXCEEDED"), wait("2s")]),
         errors.ProviderRateLimited, "slow down", 2),
        (failure(400, "INVALID_ARGUMENT", "Request contains an invalid argument."), errors.ProviderRejected,
         "invalid argument", None),
        (failure(400, "INVALID_ARGUMENT", "Invalid JSON payload received.", details=[{"@type": f"{TYPE}BadRequest",
                 "fieldViolations": [{"field": "contents", "description": "Unknown name x"}]}]),
         errors.ProviderRejected, "contents: Unknown name x", None),
        (failure(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
         errors.ProviderUnavailable, "location", None),
        (failure(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
         errors.AudioTooLarge, "20971520", None),
        (failure(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens "
                 "allowed (1048576)."), errors.AudioTooLarge, "token count", None),
        (failure(413, "INVALID_ARGUMENT", "too much"), errors.AudioTooLarge, "too much", None),
        (raw("<html>413</html>", status=413), errors.AudioTooLarge, "gemini", None),
        (failure(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta"),
         errors.ProviderUnavailable, "gemini-9", None),
        (limited(quota(MINUTE), wait("12s")), errors.ProviderRateLimited, "slow down", 12),
        (limited(quota(MINUTE), wait("36.429760048s")), errors.ProviderRateLimited, "slow down", 36.429760048),
        (limited(quota(MINUTE), wait("86400s")), errors.ProviderRateLimited, "slow down", 300),
        (limited(quota(MINUTE), wait("soon"), headers={"retry-after": "7"}), errors.ProviderRateLimited, "slow", 7),
        (limited(quota(MINUTE, DAY), wait("36s")), errors.ProviderQuotaExceeded, "used up", None),
        (limited(quota(MINUTE, value="0"), wait("36s")), errors.ProviderQuotaExceeded, "used up", None),
        (limited(info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDay")), errors.ProviderQuotaExceeded,
         "used up", None),
        (limited(info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerMinute")), errors.ProviderRateLimited,
         "slow down", None),
        (limited({"@type": f"{TYPE}Help", "links": []}), errors.ProviderQuotaExceeded, "billing", None),
        (limited(message="Your prepayment credits are depleted."), errors.ProviderQuotaExceeded, "depleted", None),
        (limited(message="Resource has been exhausted (e.g. check quota)."), errors.ProviderRateLimited, "slow", None),
        (limited(message="Resource exhausted.", in_list=True), errors.ProviderRateLimited, "Resource exhausted", None),
        (failure(499, "CANCELLED"), errors.ProviderUnavailable, "cannot serve", None),
        (failure(500, "INTERNAL", "An internal error has occurred."), errors.ProviderUnavailable, "internal", None),
        (failure(503, "UNAVAILABLE", "The model is overloaded.", details=[wait("3s")]), errors.ProviderUnavailable,
         "overloaded", 3),
        (failure(503, "UNAVAILABLE", "The model is overloaded.", in_list=True), errors.ProviderUnavailable,
         "overloaded", None),
        (failure(504, "DEADLINE_EXCEEDED"), errors.ProviderTimeout, "504", None),
        (raw("plain", status=500), errors.ProviderUnavailable, "plain", None),
        (raw("<html>502</html>", status=502), errors.ProviderUnavailable, "status 502.$", None),
        (raw('{"error": "short"}', status=400), errors.ProviderRejected, "short", None),
        (raw('{"error": {"message": 5}}', status=429), errors.ProviderRateLimited, "slow down", None),
        (failure(307, "X", headers={"location": "http://127.0.0.1:9/"}), errors.ProviderGarbled, "redirect", None),
    ],
)  # fmt: skip
async def test_errors(
    call: Calling, behaviour: Behaviour, kind: type[errors.VoxgateError], said: str, after: float | None
):
    call.emulator.script(behaviour)
    with pytest.raises(errors.VoxgateError, match=said) as caught:
        await call()
    assert type(caught.value) is kind
    assert caught.value.retry_after == after
    assert caught.value.metadata.get("provider_code") != "content_policy_violation"
    assert len(caught.value.message) < 400
    assert len(call.emulator.records) == 1


async def test_the_emulators_own_refusals(call: Calling):
    with pytest.raises(errors.ProviderCredential):
        await call(api_key="AIzaWrong-0123456789abcdefghijk")
    call.emulator.max_request = 1_000_000
    with pytest.raises(errors.AudioTooLarge, match="1000000"):
        await call(data=WAV)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500])
async def test_no_key_comes_back(call: Calling, status: int):
    said = f"bad key {KEY} Authorization: Bearer ya29.abcdefghijk hunter2hunter2\r\n" + "x" * 10_000
    call.emulator.script(failure(status, "X\n" + KEY, said, details=[info(KEY)]))
    with pytest.raises(errors.VoxgateError) as caught:
        await call(extra_headers={"x-secret": "hunter2hunter2"})
    shown = f"{caught.value.message} {caught.value.metadata}"
    for secret in (KEY, "ya29.abcdefghijk", "hunter2hunter2"):
        assert secret not in shown
    assert "\n" not in shown
    assert len(caught.value.message) < 400


def test_the_operator_is_told_which_credential():
    body = b'{"error": {"code": 401, "message": "x", "status": "UNAUTHENTICATED"}}'
    error = google_refusal(Upstream("vertex_ai", "m"), 401, httpx.Headers(), body, credential="vertex_credentials")
    assert "vertex_credentials" in error.message


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["error", "message", "status", "details", "@type", "reason", "metadata", "violations",
                         "quotaId", "retryDelay", "fieldViolations", "field", "description", "quota_limit"]),
        inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
_detail = st.fixed_dictionaries(
    {"@type": st.sampled_from(["ErrorInfo", "RetryInfo", "QuotaFailure", "BadRequest"]).map(TYPE.__add__)},
    optional=dict.fromkeys(("reason", "metadata", "retryDelay", "violations", "fieldViolations"), _json),
)
_error = st.fixed_dictionaries({"error": st.fixed_dictionaries(
    {}, optional={"message": _json, "status": _json, "code": _json, "details": _json | st.lists(_detail, max_size=3)})
})  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(body=st.one_of(_error, _json, st.lists(_error, max_size=2)), status=st.integers(300, 599))
def test_whatever_comes_is_an_error_that_can_be_shown(body: Any, status: int):
    data = json.dumps(body).encode()
    said = read_google_error(data)
    assert said is None or said.retry_delay is None or 0 <= said.retry_delay <= 300
    error = google_refusal(Upstream("gemini", "m"), status, httpx.Headers(), data)
    assert isinstance(error, (errors.ProviderError, errors.AudioTooLarge))
    assert len(error.message) < 450
    assert error.message.isprintable()
    assert all(value.isprintable() and len(value) <= 64 for value in error.metadata.values())
