"""Google's token service on a loopback socket: verifies the assertion as the real one does, and gives out tokens."""

import base64
import json
import time
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.providers.emulator import Emulator
from tests.providers.record import Record, Refused

__all__ = ["PROJECT", "GoogleTokenEmulator", "TokenRefused"]

PROJECT = "voice-project-1"
AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


class TokenRefused(Refused):
    """An answer that is not 200, as RFC 6749 has it."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(status, json.dumps({"error": code, "error_description": description}).encode())


class GoogleTokenEmulator(Emulator):
    """The service.

    Args:
        expires_in: Seconds its tokens are good for.
    """

    max_body = 64 * 1024

    def __init__(self, *, expires_in: int = 3600) -> None:
        self.expires_in = expires_in
        self.email = f"voxgate@{PROJECT}.iam.gserviceaccount.com"
        self.subject_token = "token-of-another-cloud"
        self.good: set[str] = set()
        """Tokens that are still accepted."""
        self.issued: list[str] = []
        super().__init__()

    @property
    def account(self) -> dict[str, Any]:
        """A service account's file."""
        pem = _key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": self.email,
            "token_uri": f"{self.origin}/token",
        }

    @property
    def user(self) -> dict[str, Any]:
        """A user's file, as gcloud writes it."""
        return {
            "type": "authorized_user",
            "client_id": "client-1",
            "client_secret": "client-secret-1",
            "refresh_token": "1//refresh-1",
            "token_uri": f"{self.origin}/token",
            "quota_project_id": "quota-project-1",
        }

    def judge(self, record: Record) -> tuple[str, bytes]:
        path = record.path.partition("?")[0]
        if record.method == "GET" and path.startswith("/computeMetadata/v1/"):
            return self._metadata(record, path.removeprefix("/computeMetadata/v1/"))
        if (record.method, path) != ("POST", "/token"):
            raise Refused(404, b"")
        if record.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise TokenRefused("invalid_request", "not a form")
        fields = dict(parse_qsl(record.body.decode(), strict_parsing=True))
        match fields.get("grant_type"):
            case "refresh_token":
                user = self.user
                if any(fields.get(name) != user[name] for name in ("client_id", "client_secret", "refresh_token")):
                    raise TokenRefused("invalid_grant", "Bad Request")
            case "urn:ietf:params:oauth:grant-type:token-exchange":
                if fields.get("subject_token") != self.subject_token or fields.get("scope") != SCOPE:
                    raise TokenRefused("invalid_grant", "The subject token is not accepted")
            case grant if grant == GRANT:
                self._verify(fields.get("assertion", ""))
            case _:
                raise TokenRefused("unsupported_grant_type", "Invalid grant_type")
        return self._token()

    def _metadata(self, record: Record, path: str) -> tuple[str, bytes]:
        if record.headers.get("metadata-flavor") != "Google":
            raise Refused(403, b"Missing Metadata-Flavor:Google header.")
        match path.removeprefix("instance/service-accounts/").split("/"):
            case ["default", ""]:
                info = {"aliases": ["default"], "email": self.email, "scopes": [SCOPE]}
                return "application/json", json.dumps(info).encode()
            case ["default" | self.email, "token"]:
                return self._token()
        raise Refused(404, b"")

    def answer_headers(self, record: Record) -> dict[str, str]:
        return {"metadata-flavor": "Google"} if record.path.startswith("/computeMetadata/") else {}

    def _token(self) -> tuple[str, bytes]:
        token = f"ya29.emulated-token-{len(self.issued) + 1}"
        self.issued.append(token)
        self.good.add(token)
        body = {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"}
        return "application/json", json.dumps(body).encode()

    def _verify(self, assertion: str) -> None:
        parts = assertion.split(".")
        if len(parts) != 3:
            raise TokenRefused("invalid_grant", "Invalid JWT: three parts expected")
        header, claims = json.loads(_decoded(parts[0])), json.loads(_decoded(parts[1]))
        if header != {"alg": "RS256", "typ": "JWT", "kid": "key-1"}:
            raise TokenRefused("invalid_grant", "Invalid JWT: header")
        try:
            _key().public_key().verify(
                _decoded(parts[2]), f"{parts[0]}.{parts[1]}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise TokenRefused("invalid_grant", "Invalid JWT Signature.") from None
        if claims.get("iss") != self.email:
            raise TokenRefused("invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != AUDIENCE:
            raise TokenRefused("invalid_grant", "Invalid JWT: aud")
        now = time.time()
        if not (now - 600 < claims["iat"] <= now + 60 and now < claims["exp"] <= claims["iat"] + 3600):
            raise TokenRefused("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)")
        if SCOPE not in claims.get("scope", "").split():
            raise TokenRefused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
