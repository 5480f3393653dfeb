"""Who asks, told from the headers of a request alone, before anything of its body is read."""

import hashlib
from collections.abc import Mapping

from voxgate_server.call import Caller
from voxgate_server.errors import Unauthenticated

__all__ = ["KEY_HEADERS", "Identity"]

KEY_HEADERS = (
    # With it, `Authorization` is what the caller has for a provider, or its client's placeholder for that.
    "x-portkey-api-key",
    "authorization",
    "x-litellm-api-key",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
)
"""Headers (or gRPC metadata keys) a key may come in, the first one that is there decides."""

_BEARER = "bearer "
_PLACEHOLDER = "OPENAI_API_KEY"
"""What Portkey's Python SDK sends as bearer token when it was given no key for a provider."""


class Identity:
    """Knows the keys.

    Args:
        master_key: The operator's key.
        keys: Those of callers, each with whom it stands for. Without any key everybody is served, which the listener
            permits on loopback only.
    """

    def __init__(self, master_key: str | None, keys: Mapping[str, Caller] | None = None) -> None:
        # Looked up by digest: how long that takes tells nothing about how much of a key was right.
        self._callers = {_digest(key): caller for key, caller in (keys or {}).items()}
        if master_key is not None:
            self._callers[_digest(master_key)] = Caller(key_id="master", is_admin=True)

    @property
    def open_to_everybody(self) -> bool:
        """No key is configured."""
        return not self._callers

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers (names in lower case).

        Raises:
            Unauthenticated: There is no key, or it is wrong.
        """
        if not self._callers:
            # Whoever reaches a loopback listener without keys could read the configuration as well.
            return Caller(is_admin=True)
        for name in KEY_HEADERS:
            if headers.get(name) or (name in headers and name != "x-portkey-api-key"):  # its client sends it empty, too
                return self._caller_of(_credential(name, headers[name]))
        raise Unauthenticated(
            "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.",
        )

    def provider_key(self, headers: Mapping[str, str]) -> str | None:
        """The bearer token, where it is the caller's key for a provider and not for this gateway.

        Args:
            headers: Of a request that was let in, names in lower case.
        """
        scheme, _, key = headers.get("authorization", "").strip().partition(" ")
        key = key.strip()
        portkey = headers.get("x-portkey-api-key", "").strip()
        if scheme.lower() != "bearer" or key in ("", _PLACEHOLDER, portkey):
            return None
        if not self._callers:
            return key
        return None if not portkey or _digest(key) in self._callers else key

    def _caller_of(self, key: str) -> Caller:
        caller = self._callers.get(_digest(key))
        if caller is None:
            raise Unauthenticated("Incorrect API key provided. Ask the operator of this server for a key.")
        return caller


def _credential(name: str, value: str) -> str:
    value = value.strip()
    if value[: len(_BEARER)].lower() == _BEARER:
        return value[len(_BEARER) :].strip()
    if name == "authorization":
        raise Unauthenticated("Malformed Authorization header. Send 'Authorization: Bearer YOUR_KEY'.")
    return value


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
