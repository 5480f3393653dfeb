"""Tokens of Google's: fetched once, replaced in time, and what becomes of it when there are none."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from voxgate_server import errors
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.google_auth import TokenSource, load_credentials
from voxgate_server.providers.http_errors import Upstream

from tests.providers.emulator import hang, raw, reset_mid_answer
from tests.providers.google_token_emulator import PROJECT, GoogleTokenEmulator

UPSTREAM = Upstream("vertex_ai", "chirp_3")


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def service() -> AsyncIterator[GoogleTokenEmulator]:
    async with GoogleTokenEmulator() as service:
        yield service


@pytest.fixture
def clock() -> Clock:
    return Clock()


def params_with(info: Any = None, environ: dict[str, str] | None = None) -> ProviderParams:
    values = {} if info is None else {"vertex_credentials": info if isinstance(info, str) else json.dumps(info)}
    return ProviderParams("vertex_ai", "chirp_3", values, environ=environ or {})


@pytest.fixture
async def source(service: GoogleTokenEmulator, clock: Clock) -> AsyncIterator[TokenSource]:
    credentials, project = load_credentials(params_with(service.account))
    assert project == PROJECT
    source = TokenSource(credentials, UPSTREAM, clock=clock)
    yield source
    await source.aclose()


async def refreshed(source: TokenSource) -> None:
    """Waits until the refresh that is under way has ended."""
    assert source._refresh is not None
    await asyncio.wait([source._refresh])
    await asyncio.sleep(0)


async def test_one_token_for_all_who_ask(service: GoogleTokenEmulator, source: TokenSource):
    tokens = await asyncio.gather(*(source.token() for _ in range(20)))
    assert set(tokens) == {"ya29.emulated-token-1"}
    assert await source.token() == "ya29.emulated-token-1"
    assert len(service.records) == 1
    assert source.quota_project is None


async def test_a_token_is_replaced_before_it_ends(service: GoogleTokenEmulator, source: TokenSource, clock: Clock):
    first = await source.token()
    clock.now += 3600 - 225 - 5
    assert await source.token() == first
    assert len(service.records) == 1
    clock.now += 10
    # The old one is still good, so nobody waits; and there is one refresh, however many ask.
    assert {await source.token() for _ in range(5)} == {first}
    await refreshed(source)
    assert await source.token() == "ya29.emulated-token-2"
    assert len(service.records) == 2


async def test_a_token_that_ended_is_waited_for(service: GoogleTokenEmulator, source: TokenSource, clock: Clock):
    await source.token()
    clock.now += 3601
    assert {*await asyncio.gather(*(source.token() for _ in range(5)))} == {"ya29.emulated-token-2"}
    assert len(service.records) == 2


async def test_a_failed_refresh_leaves_a_good_token_alone(
    service: GoogleTokenEmulator, source: TokenSource, clock: Clock
):
    first = await source.token()
    clock.now += 3500
    service.script(raw('{"error": "invalid_grant", "error_description": "Account deleted"}', status=400))
    assert await source.token() == first
    await refreshed(source)
    # Not asked again at once, but after a while.
    assert await source.token() == first
    assert len(service.records) == 2
    clock.now += 11
    assert await source.token() == first
    await refreshed(source)
    assert await source.token() == service.issued[-1] != first
    assert len(service.records) == 3


async def test_a_refused_token_is_not_used_again(service: GoogleTokenEmulator, source: TokenSource):
    first = await source.token()
    source.revoke(first)
    second = await source.token()
    assert second == "ya29.emulated-token-2" == source.current
    # Others were refused with the first one, too, and say so later.
    source.revoke(first)
    assert await source.token() == second


async def test_who_gives_up_does_not_take_it_from_the_others(service: GoogleTokenEmulator, source: TokenSource):
    think = asyncio.Event()
    service.script(raw(json.dumps({"access_token": "ya29.late", "expires_in": 3600}), until=think))
    impatient, patient = asyncio.create_task(source.token()), asyncio.create_task(source.token())
    await service.record()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    think.set()
    assert await patient == "ya29.late"
    assert len(service.records) == 1


async def test_a_silent_service(service: GoogleTokenEmulator):
    credentials, _ = load_credentials(params_with(service.account))
    source = TokenSource(credentials, UPSTREAM, seconds=0.2)
    service.script(hang(), hang(), hang(), hang())
    with pytest.raises(errors.ProviderTimeout, match="token service did not answer in time"):
        await source.token(0.05)
    await source.aclose()


@pytest.mark.parametrize(
    ("body", "status", "expected", "words"),
    [
        ('{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}', 400,
         errors.ProviderCredential, "Invalid JWT Signature"),
        ('{"error": "invalid_grant", "error_description": "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"}', 400,
         errors.ProviderCredential, "redacted"),
        ("<html>nothing here</html>", 404, errors.ProviderCredential, "vertex_credentials"),
        ('{"access_token": "two\\nlines", "expires_in": 3600}', 200, errors.ProviderUnavailable, "no token"),
    ],
)  # fmt: skip
async def test_refusals(
    service: GoogleTokenEmulator, source: TokenSource, body: str, status: int, expected: type, words: str
):
    service.script(raw(body, status=status))
    with pytest.raises(errors.ProviderError, match=words) as caught:
        await source.token()
    assert type(caught.value) is expected
    assert "eyJ" not in caught.value.message
    assert service.origin not in caught.value.message
    # And the next one may succeed.
    assert await source.token() == "ya29.emulated-token-1"


async def test_a_broken_connection_is_no_wrong_account(service: GoogleTokenEmulator, source: TokenSource):
    service.script(*[reset_mid_answer(1)] * 8)
    with pytest.raises(errors.ProviderUnavailable, match="could not be reached") as caught:
        await source.token()
    assert "127.0.0.1" not in caught.value.message


async def test_a_wrong_key_is_refused_by_the_service(service: GoogleTokenEmulator):
    credentials, _ = load_credentials(params_with({**service.account, "client_email": "mallory@example.com"}))
    source = TokenSource(credentials, UPSTREAM)
    with pytest.raises(errors.ProviderCredential, match="account not found"):
        await source.token()
    await source.aclose()


async def test_a_users_credentials(service: GoogleTokenEmulator, tmp_path: Path):
    folder = tmp_path / "gcloud"
    folder.mkdir()
    (folder / "application_default_credentials.json").write_text(json.dumps(service.user))
    credentials, project = load_credentials(params_with(environ={"CLOUDSDK_CONFIG": str(folder)}))
    assert project is None
    # google-auth sends a user's secret to nobody but Google, whatever the file says.
    source = TokenSource(credentials.with_token_uri(f"{service.origin}/token"), UPSTREAM)  # type: ignore[attr-defined]
    assert await source.token() == "ya29.emulated-token-1"
    assert source.quota_project == "quota-project-1"
    await source.aclose()


async def test_an_account_of_another_cloud(service: GoogleTokenEmulator, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(service.subject_token)
    pool = "//iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/providers/other"
    info = {
        "type": "external_account", "audience": pool, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{service.origin}/token", "credential_source": {"file": str(token)},
    }  # fmt: skip
    credentials, project = load_credentials(params_with(info))
    # Nobody was asked for anything: that would hold up the start.
    assert (project, service.records) == (None, [])
    source = TokenSource(credentials, UPSTREAM)
    assert await source.token() == "ya29.emulated-token-1"
    token.write_text("not-the-token")
    source.revoke(source.current)
    with pytest.raises(errors.ProviderCredential, match="subject token is not accepted"):
        await source.token()
    await source.aclose()


def test_where_they_are_looked_for(tmp_path: Path, service: GoogleTokenEmulator):
    file = tmp_path / "account.json"
    file.write_text(json.dumps(service.account))
    for params in (
        params_with(str(file)),
        params_with(environ={"GOOGLE_APPLICATION_CREDENTIALS": str(file)}),
        params_with(environ={"VERTEXAI_CREDENTIALS": json.dumps(service.account)}),
        params_with(service.account, environ={"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"}),
    ):
        assert load_credentials(params)[1] == PROJECT


def test_a_callers_deployment_gets_nothing_of_the_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "application_default_credentials.json").write_text("{}")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"there is no vertex_credentials$"):
        load_credentials(params_with())


@pytest.mark.parametrize(
    "info",
    [
        "/nowhere/secret-account.json", "nul\0byte", "{", "[1]", "{}", '{"type": "unheard-of-secret"}',
        '{"type": "service_account"}',
        '{"type": "service_account", "client_email": "secret@x", "token_uri": "http://x", "private_key": "secret"}',
        '{"type": "authorized_user", "client_secret": "secret"}',
        '{"type": "external_account", "audience": "secret"}',
        '{"a": "' + "x" * 70_000 + '"}', "[" * 5000,
    ],
)  # fmt: skip
def test_credentials_that_are_none(info: str):
    with pytest.raises(ValueError, match="Google credentials") as caught:
        load_credentials(params_with(info))
    assert "secret" not in str(caught.value)


def test_without_any(tmp_path: Path):
    with pytest.raises(ValueError, match="VERTEXAI_CREDENTIALS and GOOGLE_APPLICATION_CREDENTIALS are not set"):
        load_credentials(params_with(environ={"HOME": str(tmp_path)}))


_AT_GOOGLE = """
import asyncio, os
from voxgate_server.providers.base import ProviderParams
from voxgate_server.providers.google_auth import TokenSource, load_credentials
from voxgate_server.providers.http_errors import Upstream

async def main():
    credentials, _ = load_credentials(ProviderParams("vertex_ai", "chirp_3", environ=os.environ))
    source = TokenSource(credentials, Upstream("vertex_ai", "chirp_3"))
    print(await source.token())
    await source.aclose()

asyncio.run(main())
"""


async def test_a_machine_of_googles(service: GoogleTokenEmulator, tmp_path: Path):
    environ = {
        "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path), "GCE_METADATA_HOST": service.origin[7:],
        "GCE_METADATA_IP": service.origin[7:],
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _AT_GOOGLE], env=environ, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == service.issued[-1], done.stderr
