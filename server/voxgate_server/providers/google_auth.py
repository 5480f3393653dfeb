"""Access tokens for Google Cloud, by google-auth: fetched when first needed, and again before they run out.

google-auth waits for its answers, so it runs in a thread of its own: one for each source, which is also why there
are never two refreshes at once.
"""

import asyncio
import datetime
import functools
import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from voxgate_server.errors import ProviderCredential, ProviderTimeout, ProviderUnavailable, VoxgateError
from voxgate_server.providers.base import Attempt, ProviderParams
from voxgate_server.providers.http_errors import Upstream, excerpt
from voxgate_server.telemetry import get_logger

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["TokenSource", "load_credentials"]

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_CREDENTIAL_BYTES = 64 * 1024
_STALE_SECONDS = 225.0
"""How long before its end a token is replaced, as google-auth has it."""
_RETRY_SECONDS = 10.0
"""After a failed refresh a token that is still good is kept this much longer before the next."""
_DMI = Path("/sys/class/dmi/id/product_name")
_log = get_logger("google_auth")


class TokenSource:
    """Access tokens of one account.

    Args:
        credentials: Whose.
        upstream: For which deployment, for messages.
        seconds: How long one request to the token service may take, and a caller waits for it altogether.
        clock: Seconds, never running backwards.
    """

    def __init__(
        self,
        credentials: "Credentials",
        upstream: Upstream,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials: Any = credentials
        self._upstream = upstream
        self._seconds = seconds
        self._clock = clock
        self._token = ""
        self._expires_at = self._retry_at = float("-inf")
        self._refresh: asyncio.Task[str] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="google-token")

    @property
    def quota_project(self) -> str | None:
        """The project the credentials themselves say pays; None when they say nothing."""
        project = getattr(self._credentials, "quota_project_id", None)
        return project if isinstance(project, str) and project else None

    async def token(self, seconds: float = math.inf) -> str:
        """A token that is still good.

        One that ends soon is given out and replaced behind the caller's back.

        Args:
            seconds: How long the caller can wait at most.

        Raises:
            ProviderCredential: Google does not accept the account.
            ProviderTimeout: The token service did not answer in time.
            ProviderUnavailable: It cannot be reached, or failed.
        """
        now = self._clock()
        if now < self._expires_at:
            if now >= max(self._expires_at - _STALE_SECONDS, self._retry_at):
                self._refreshing()
            return self._token
        refresh = self._refreshing()
        try:
            async with asyncio.timeout(min(self._seconds, seconds)):
                # Shielded: the others who wait for it still want it.
                return await asyncio.shield(refresh)
        except TimeoutError:
            raise ProviderTimeout(
                f"{self._upstream}: Google's token service did not answer in time.",
                metadata={"provider": self._upstream.provider},
            ) from None

    async def headers(self, attempt: Attempt) -> Mapping[str, str]:
        """The header of a request that proves who asks. Raises as `token` does."""
        return {"authorization": f"Bearer {await self.token(attempt.deadline - time.monotonic())}"}

    @property
    def current(self) -> str:
        """The token there is, good or not; empty before the first."""
        return self._token

    def revoke(self, token: str) -> None:
        """Says that a service refused a token: the next one who asks gets another, unless there is one already."""
        if token == self._token:
            self._expires_at = float("-inf")

    async def aclose(self) -> None:
        """Gives up a refresh that is under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _refreshing(self) -> "asyncio.Task[str]":
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._fetch(), name="voxgate-google-token")
            self._refresh.add_done_callback(self._note_failure)
        return self._refresh

    async def _fetch(self) -> str:
        from google.auth.exceptions import GoogleAuthError

        loop = asyncio.get_running_loop()
        try:
            token, seconds = await loop.run_in_executor(self._thread, _refresh, self._credentials, self._seconds)
        except GoogleAuthError as error:
            raise self._error(error) from error
        self._token = token
        self._expires_at = self._clock() + seconds
        return token

    def _note_failure(self, refresh: "asyncio.Task[str]") -> None:
        if not refresh.cancelled() and (error := refresh.exception()) is not None:
            self._retry_at = self._clock() + _RETRY_SECONDS
            _log.warning("google_token_refresh_failed", upstream=str(self._upstream), error=str(error))

    def _error(self, error: Exception) -> VoxgateError:
        from google.auth.exceptions import TransportError

        metadata = {"provider": self._upstream.provider}
        if isinstance(error, TransportError) or isinstance(error.__cause__, TransportError):
            # What the transport says has addresses in it.
            return ProviderUnavailable(
                f"{self._upstream}: Google's token service could not be reached.", metadata=metadata
            )
        said = excerpt(str(error.args[0]) if error.args else "")
        if getattr(error, "retryable", False):
            return ProviderUnavailable(f"{self._upstream}: Google's token service failed: {said}", metadata=metadata)
        return ProviderCredential(
            f"{self._upstream}: Google gives no token for the deployment's credentials: {said} The operator has to "
            "check vertex_credentials.",
            metadata=metadata,
        )


def load_credentials(params: ProviderParams) -> "tuple[Credentials, str | None]":
    """The credentials of a deployment, and the project they belong to where they say so.

    From `vertex_credentials` (JSON text or the path of a file), VERTEXAI_CREDENTIALS, GOOGLE_APPLICATION_CREDENTIALS,
    the file gcloud writes, or the machine itself when it is one of Google's. A deployment without an environment
    has only what it was given.

    Raises:
        ValueError: There are none, or they cannot be used. The message contains nothing of them.
    """
    if importlib.util.find_spec("google.auth") is None or importlib.util.find_spec("requests") is None:
        raise ValueError("Google's credentials need google-auth and requests: pip install 'voxgate[google]'")
    if params.pinned is not None:
        # They name the host that gives out tokens, and nobody would look at where it is.
        raise ValueError("for an api_base of a caller's choice there has to be an api_key")
    # Slow to import; the first call must not wait for it.

    given = params.get("vertex_credentials", "VERTEXAI_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS")
    if given is not None:
        return _from_info(_read(given))
    if (gcloud := _gcloud_file(params.environ)) is not None:
        return _from_info(_read(str(gcloud)))
    if _at_google(params.environ):
        from google.auth.compute_engine import Credentials as MachineCredentials

        return MachineCredentials(scopes=_SCOPES), None  # type: ignore[no-untyped-call]
    also = (
        ", VERTEXAI_CREDENTIALS and GOOGLE_APPLICATION_CREDENTIALS are not set, and gcloud has left none"
        if params.environ
        else ""
    )
    raise ValueError(f"there is no vertex_credentials{also}")


def _refresh(credentials: Any, seconds: float) -> tuple[str, float]:
    """Fetches a token, and says for how many seconds it is good. Runs in a thread."""
    import requests
    from google.auth.exceptions import RefreshError
    from google.auth.transport.requests import Request

    with requests.Session() as session:
        credentials.refresh(functools.partial(Request(session), timeout=seconds))
    token, expiry = credentials.token, credentials.expiry
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise RefreshError("the token service sent no token.", retryable=True)  # type: ignore[no-untyped-call]
    if expiry is None:
        return token, float("inf")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return token, (expiry.replace(tzinfo=None) - now).total_seconds()


def _read(given: str) -> dict[str, Any]:
    if not given.lstrip().startswith("{"):
        try:
            with Path(given).expanduser().open("rb") as file:
                data = file.read(_CREDENTIAL_BYTES + 1)
        except (OSError, ValueError, RuntimeError):
            raise ValueError(
                "the Google credentials are neither JSON nor the path of a file that can be read"
            ) from None
    else:
        data = given.encode("utf-8", "replace")
    if len(data) > _CREDENTIAL_BYTES:
        raise ValueError(f"the Google credentials are longer than {_CREDENTIAL_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise ValueError("the Google credentials are not a JSON object") from None


def _from_info(info: dict[str, Any]) -> "tuple[Credentials, str | None]":
    import google.auth
    from google.auth.credentials import with_scopes_if_required
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.service_account import Credentials as ServiceAccount

    kind = info.get("type")
    project = info.get("project_id")
    project = project if isinstance(project, str) and project else None
    try:
        if kind == "service_account":
            return ServiceAccount.from_service_account_info(info, scopes=_SCOPES), project  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # It warns that such a file names whom to trust; it is the operator who gives us this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            # With scopes it would ask Google right away for the project's name.
            plain, found = google.auth.load_credentials_from_dict(info)  # type: ignore[no-untyped-call]
        credentials = with_scopes_if_required(plain, _SCOPES)  # type: ignore[no-untyped-call]
    except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError):
        # What the library says of a key that cannot be read may contain some of it.
        shown = kind if kind in {"service_account", "authorized_user", "external_account"} else "of no known type"
        raise ValueError(f"the Google credentials ({shown}) lack a field, or have a wrong one") from None
    return credentials, found or project


def _gcloud_file(environ: Mapping[str, str]) -> Path | None:
    """The file `gcloud auth application-default login` writes, if it is there."""
    if folder := environ.get("CLOUDSDK_CONFIG"):
        path = Path(folder)
    elif home := environ.get("HOME"):
        path = Path(home) / ".config" / "gcloud"
    else:
        return None
    path /= "application_default_credentials.json"
    return path if path.is_file() else None


def _at_google(environ: Mapping[str, str]) -> bool:
    """Whether there is a metadata server. Told without asking it: elsewhere that takes many seconds."""
    if not environ:
        return False
    if environ.get("GCE_METADATA_HOST") or environ.get("K_SERVICE"):
        return True
    try:
        return _DMI.read_text().strip().startswith("Google")
    except OSError:
        return False
