"""Tokens that stand for the operator at Azure: given once, or fetched from Entra ID for an application.

azure-identity would do this too, but speaks to https only, which no test on loopback can offer it.
"""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

import httpx
import msgspec

from voxgate_server.errors import ProviderCredential, ProviderGarbled, ProviderTimeout, VoxgateError
from voxgate_server.providers.http import AiohttpTransport
from voxgate_server.providers.http_errors import Upstream

__all__ = ["Application", "EntraToken", "StaticToken", "Token"]

DEFAULT_AUTHORITY = "https://login.microsoftonline.com"
DEFAULT_SCOPE = "https://cognitiveservices.azure.com/.default"

_EARLY_SECONDS = 300.0
"""A token is renewed so long before it expires, while calls still go out with the old one."""
_PAUSE_SECONDS = 30.0
"""After a renewal failed and the old token still holds."""
_FETCH_SECONDS = 10.0
_ANSWER_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}", re.ASCII)
_ENTRA_CODE = re.compile(r"AADSTS\d{1,9}")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Token(Protocol):
    """What is sent as bearer token with every request."""

    async def get(self, deadline: float) -> str:
        """The token.

        Args:
            deadline: When it is too late, on the clock of `time.monotonic()`, in seconds.

        Raises:
            ProviderError: There is none.
        """

    def refused(self, token: str) -> None:
        """The provider did not accept it."""

    async def aclose(self) -> None:
        """Gives up connections."""


class StaticToken:
    """One the operator wrote down."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get(self, deadline: float) -> str:
        """The token."""
        return self._token

    def refused(self, token: str) -> None:
        """Nothing can be done about it here."""

    async def aclose(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Application:
    """An application registered in Entra ID, with a secret of its own.

    Raises:
        ValueError: The tenant is none, or the authority is no https address.
    """

    tenant_id: str
    client_id: str
    client_secret: str = field(repr=False)
    authority: str = DEFAULT_AUTHORITY
    """Who hands out tokens; sovereign clouds have their own."""
    scope: str = DEFAULT_SCOPE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.tenant_id):
            raise ValueError("tenant_id is neither an id nor the name of a directory")
        url = self.url
        if not url.host or (url.scheme != "https" and url.host not in _LOOPBACK):
            raise ValueError("AZURE_AUTHORITY_HOST is not an https address")

    @property
    def url(self) -> httpx.URL:
        """Where tokens are handed out."""
        authority = self.authority.rstrip("/")
        if "://" not in authority:
            authority = f"https://{authority}"
        return httpx.URL(f"{authority}/{self.tenant_id}/oauth2/v2.0/token")


class EntraToken:
    """Fetches tokens with an application's secret, keeps one, and renews it before it expires.

    However many calls want a token, one request is on its way for it.

    Args:
        application: Whose tokens.
        upstream: Who they are for, for messages.
        transport: Instead of connections of its own.
    """

    def __init__(
        self, application: Application, upstream: Upstream, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._application = application
        self._upstream = Upstream(
            upstream.provider, f"{upstream.model}, token of {application.url.host}", upstream.secrets
        )
        self._transport = transport if transport is not None else AiohttpTransport()
        self._token = ""
        self._fresh_until = self._valid_until = 0.0
        self._renewal: asyncio.Task[str] | None = None

    async def get(self, deadline: float) -> str:
        """The token: the one that is kept, or a new one.

        Args:
            deadline: When it is too late, on the clock of `time.monotonic()`, in seconds.

        Raises:
            ProviderCredential: Entra ID refused the application.
            ProviderError: It did not answer well; the class says in what way.
        """
        now = time.monotonic()
        if now < self._fresh_until:
            return self._token
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(self._renewed)
        if now < self._valid_until:
            return self._token
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                # Shielded: others wait for the same answer.
                return await asyncio.shield(self._renewal)
        except TimeoutError:
            raise self._too_slow() from None

    def refused(self, token: str) -> None:
        """The provider did not accept it: the next call takes a new one."""
        if token == self._token:
            self._fresh_until = self._valid_until = 0.0

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._renewal is not None:
            self._renewal.cancel()
        await self._transport.aclose()

    def _renewed(self, task: asyncio.Task[str]) -> None:
        self._renewal = None
        if not task.cancelled() and task.exception() is not None:
            self._fresh_until = min(self._valid_until, time.monotonic() + _PAUSE_SECONDS)

    async def _renew(self) -> str:
        started = time.monotonic()
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                status, headers, body = await self._fetch()
        except TimeoutError:
            raise self._too_slow() from None
        except httpx.TransportError as error:
            raise self._upstream.breakdown(error) from error
        if status != 200:
            raise self._refusal(status, headers, body)
        try:
            answer = msgspec.json.decode(body)
            token, seconds = str(answer["access_token"]), float(answer["expires_in"])
        except (ValueError, TypeError, KeyError, RecursionError):
            token, seconds = "", 0.0
        if not token or not token.isascii() or not token.isprintable() or not 0 < seconds < 1e7:
            raise ProviderGarbled(f"{self._upstream}: the answer has no token.")
        self._token = token
        self._valid_until = started + seconds
        # Short-lived ones are renewed after half their time.
        self._fresh_until = started + max(seconds - _EARLY_SECONDS, seconds / 2)
        return token

    async def _fetch(self) -> tuple[int, httpx.Headers, bytes]:
        application = self._application
        form = urlencode(
            {
                "grant_type": "client_credentials",
                "client_id": application.client_id,
                "client_secret": application.client_secret,
                "scope": application.scope,
            }
        ).encode()
        url = application.url
        headers = {
            "host": url.netloc.decode(),
            "accept": "application/json",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(form)),
        }
        response = await self._transport.handle_async_request(
            httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(form))
        )
        try:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            body = bytearray()
            async for chunk in response.stream:
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    break
        finally:
            await response.aclose()
        return response.status_code, response.headers, bytes(body)

    def _refusal(self, status: int, headers: httpx.Headers, body: bytes) -> VoxgateError:
        if status not in {400, 401, 403}:
            return self._upstream.refusal(status, headers, body)
        # The text has names of the operator's; the code says what is wrong.
        code = _ENTRA_CODE.search(body.decode("utf-8", "replace"))
        which = f" ({code[0]})" if code else ""
        return ProviderCredential(
            f"{self._upstream}: Entra ID refused the application with status {status}{which}. The operator "
            "has to check the deployment's tenant_id, client_id and client_secret.",
            metadata={"provider": self._upstream.provider, "provider_status": str(status)},
        )

    def _too_slow(self) -> ProviderTimeout:
        return ProviderTimeout(
            f"{self._upstream} was not handed out in time.", metadata={"provider": self._upstream.provider}
        )
