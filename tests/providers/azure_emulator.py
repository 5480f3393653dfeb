"""Azure OpenAI and Entra ID on loopback sockets.

async with EntraEmulator() as entra, AzureEmulator(tokens=entra.tokens) as azure:
    ... api_base is azure.origin, AZURE_AUTHORITY_HOST is entra.origin ...
"""

import copy
import json
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs, unquote

from tests.providers import openai_rules, stream_rules
from tests.providers.emulator import EVENT_STREAM, Emulator
from tests.providers.openai_rules import OpenAIRefused
from tests.providers.record import BodyReader, Form, Record, Refused

__all__ = ["AzureEmulator", "EntraEmulator"]

_DEPLOYMENTS = {
    "whisper": "whisper-1",
    "my whisper/eu": "whisper-1",
    "gpt-4o-transcribe": "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize": "gpt-4o-transcribe-diarize",
    "diarizing": "gpt-4o-transcribe-diarize",
    "gpt-transcribe": "gpt-transcribe",
}


def _refused(status: int, message: str, code: str | None = None) -> Refused:
    # Neither `type` nor `param`, and the code is a status in quotes where there is no better one.
    return Refused(status, json.dumps({"error": {"code": code or str(status), "message": message}}).encode())


class AzureEmulator(Emulator):
    """A resource with some deployments.

    Args:
        key: Its key.
        tokens: Tokens of Entra ID that it accepts.
        text: What it hears.
        deployments: Names of deployments, and which models they are.
    """

    provider = "azure"
    max_body = openai_rules.MAX_BODY

    def __init__(
        self,
        *,
        key: str = "key-of-the-resource",
        tokens: Collection[str] = (),
        text: str = "Hello from the emulator.",
        deployments: Mapping[str, str] = _DEPLOYMENTS,
    ) -> None:
        self.key, self.tokens, self.text, self.deployments = key, tokens, text, deployments
        super().__init__()

    @property
    def url(self) -> str:
        return self.origin

    def reader(self, record: Record) -> BodyReader:
        return Form(record, _refused(400, "Could not parse multipart form"))

    def too_large(self, size: int) -> Refused:
        return _refused(413, f"Maximum content size limit ({self.max_body}) exceeded ({size} bytes read)")

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {"apim-request-id": f"apim-{len(self.records)}", "x-ms-region": "Sweden Central"}

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        bearer = record.headers.get("authorization", "").removeprefix("Bearer ")
        # The v1 path takes the key in either place.
        is_v1 = record.path.startswith("/openai/v1/")
        if record.headers.get("api-key") != self.key and bearer not in {*self.tokens, *([self.key] if is_v1 else ())}:
            raise _refused(401, "Access denied due to invalid subscription key or wrong API endpoint.")
        model = self._model(record)
        if not record.complete:
            raise _refused(400, "Could not parse multipart form")
        known = copy.copy(record)
        known.fields = [("model", model), *((name, value) for name, value in record.fields if name != "model")]
        try:
            openai_rules.check_form(known, (), ())
        except OpenAIRefused as refused:
            error = json.loads(refused.body)["error"]
            raise _refused(refused.status, error["message"], error["code"]) from None
        if stream_rules.openai_streams(known):
            return EVENT_STREAM, stream_rules.openai(known, self.text)
        return openai_rules.answer(known, self.text)

    def _model(self, record: Record) -> str:
        """Which model is asked. Raises Refused."""
        path, _, query = record.path.partition("?")
        version = parse_qs(query).get("api-version", [""])[0]
        tasks = ("/audio/transcriptions", "/audio/translations")
        place = next((path.removesuffix(task) for task in tasks if path.endswith(task)), None)
        if record.method != "POST" or place is None:
            raise _refused(404, "Resource not found")
        if place == "/openai/v1":
            if version not in {"", "v1", "preview", "latest"}:
                raise _refused(400, "API version not supported", "BadRequest")
            name = record.field("model") or ""
        elif place.startswith("/openai/deployments/") and version[:2] == "20":
            name = unquote(place.removeprefix("/openai/deployments/"))
        else:
            raise _refused(404, "Resource not found")
        model = self.deployments.get(name)
        if model is None:
            what = "The API deployment for this resource does not exist."
            raise _refused(404, what, "DeploymentNotFound")
        if place == "/openai/v1" and model.startswith("whisper"):
            raise _refused(404, "Resource not found")
        if place != "/openai/v1" and not model.startswith("whisper") and version < "2025-03":
            raise _refused(404, "Resource not found")
        return model


class EntraEmulator(Emulator):
    """Hands out tokens to one application."""

    tenant, client, secret = "contoso.example", "client-1", "secret-of-the-application"

    def __init__(self, *, expires_in: float | str = 3599) -> None:
        self.expires_in = expires_in
        self.tokens: list[str] = []
        super().__init__()

    def judge(self, record: Record) -> tuple[str, bytes]:
        if (record.method, record.path) != ("POST", f"/{self.tenant}/oauth2/v2.0/token"):
            raise Refused(404, b'{"error":"invalid_request"}')
        if record.headers.get("content-type") != "application/x-www-form-urlencoded":
            raise self._refused(400, "invalid_request", "AADSTS900144: The request body must contain 'grant_type'.")
        form = {name: values[0] for name, values in parse_qs(record.body.decode(), strict_parsing=True).items()}
        if form.pop("client_secret") != self.secret or form.pop("client_id") != self.client:
            what = f"AADSTS7000215: Invalid client secret provided for app '{self.client}'."
            raise self._refused(401, "invalid_client", what)
        if form != {"grant_type": "client_credentials", "scope": "https://cognitiveservices.azure.com/.default"}:
            raise self._refused(400, "invalid_scope", "AADSTS70011: The provided value for 'scope' is not valid.")
        self.tokens.append(f"eyJ.token-{len(self.tokens) + 1}")
        body = {"token_type": "Bearer", "expires_in": self.expires_in, "access_token": self.tokens[-1]}
        return "application/json", json.dumps(body).encode()

    def _refused(self, status: int, error: str, description: str) -> Refused:
        body = {
            "error": error,
            "error_description": description,
            "error_codes": [int(description.partition(":")[0].removeprefix("AADSTS"))],
        }
        return Refused(status, json.dumps(body).encode())
