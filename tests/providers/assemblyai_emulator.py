"""AssemblyAI's API for recordings on a loopback socket: as strict as the real one, and able to fail in known ways.

    async with AssemblyAIEmulator() as emulator:
        emulator.script(ok(), failure(503))      # the next two calls, in order: the upload, then the order
        ... talk to emulator.origin with emulator.key ...
        emulator.orders[0]                       # what was ordered

A job is queued, then processing, then what its recording deserves; each question takes it one step on.
"""

import json
from typing import Any

from tests.providers import assemblyai_rules
from tests.providers.assemblyai_rules import AssemblyAIRefused
from tests.providers.emulator import (
    Behaviour,
    Emulator,
    cut_answer,
    hang,
    raw,
    reset_mid_answer,
    reset_mid_body,
    stall,
)
from tests.providers.record import Record, Refused

__all__ = ["FAULTS", "KEY", "AssemblyAIEmulator", "failure"]

KEY = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


def failure(status: int, message: str = "it did not work", **kwargs: Any) -> Behaviour:
    """An error with a text."""
    return raw(AssemblyAIRefused(status, message).body, status=status, **kwargs)


FAULTS = {
    "401": failure(401, "Authentication error, API token missing/invalid."),
    "hang": hang(),
    "stall": stall(),
    "early-401": failure(401, "Authentication error, API token missing/invalid.", at="first_file_byte", then="close"),
    "early-200": raw('{"upload_url": "https://cdn.example/too-early"}', at="first_file_byte", then="close"),
    "reset-body": reset_mid_body(),
    "reset-answer": reset_mid_answer(),
    "cut-answer": cut_answer(),
    "html": raw("<html><body>502 Bad Gateway</body></html>", status=502, media_type="text/html"),
}


class AssemblyAIEmulator(Emulator):
    """The server. `origin` stands before `/v2`.

    Args:
        key: The only key it takes.
        texts: What every recording says, channel by channel; the first alone without `multichannel`.
        error: What every job fails with; None: what its recording deserves.
    """

    faults = FAULTS
    max_body = assemblyai_rules.MAX_BODY

    def __init__(
        self,
        *,
        key: str = KEY,
        texts: tuple[str, ...] = ("Hello from the emulator, dear friend. How are you?", "I hear you. Go on."),
        error: str | None = None,
    ) -> None:
        self.key = key
        self.texts = list(texts)
        self.error = error
        self.steps: list[str] = ["queued", "processing"]
        """States a job is in before its last, one for each question."""
        self.endless = False
        """No job ever leaves the last of `steps`."""
        self.orders: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self._asked: dict[str, int] = {}
        super().__init__()

    @property
    def text(self) -> str:
        """What the first channel says."""
        return self.texts[0]

    @property
    def jobs(self) -> list[str]:
        """Identifiers of what was ordered."""
        return list(self._asked)

    def too_large(self, size: int) -> Refused:
        return AssemblyAIRefused(413, f"{size} bytes are more than {self.max_body}")

    def judge(self, record: Record) -> tuple[str, bytes]:
        if record.headers.get("authorization") != self.key:
            # With a scheme before it, the key is another one.
            raise AssemblyAIRefused(401, "Authentication error, API token missing/invalid.")
        return "application/json", json.dumps(self._answer(record)).encode()

    def _answer(self, record: Record) -> dict[str, Any]:
        path, _, identifier = record.path.removeprefix("/v2/").partition("/")
        match record.method, path:
            case "POST", "upload" if not identifier:
                return self._upload(record)
            case "POST", "transcript" if not identifier:
                return self._order(record)
            case "GET", "transcript" if identifier:
                return self._status(identifier)
            case "DELETE", "transcript" if identifier:
                self._index(identifier)
                self.deleted.append(identifier)
                return {"id": identifier, "status": "completed", "text": "Deleted by user."}
        raise AssemblyAIRefused(404, "Not found")

    def _upload(self, record: Record) -> dict[str, Any]:
        if record.headers.get("content-type") != "application/octet-stream":
            raise AssemblyAIRefused(400, "The upload must be application/octet-stream")
        if not record.file_size:
            raise AssemblyAIRefused(400, "The upload is empty")
        url = f"https://cdn.assemblyai.example/upload/{len(self.uploads)}"
        self.uploads[url] = bytes(record.body)
        return {"upload_url": url}

    def _order(self, record: Record) -> dict[str, Any]:
        if record.headers.get("content-type") != "application/json":
            raise AssemblyAIRefused(400, "The order must be application/json")
        self.orders.append(assemblyai_rules.check_order(bytes(record.body), self.uploads))
        identifier = f"job_{len(self.orders)}"
        self._asked[identifier] = 0
        return {"id": identifier, "status": "queued", "text": None, "error": None}

    def _status(self, identifier: str) -> dict[str, Any]:
        index = self._index(identifier)
        self._asked[identifier] += 1
        step = self._asked[identifier] - 1
        if self.endless or step < len(self.steps):
            return {"id": identifier, "status": self.steps[min(step, len(self.steps) - 1)], "text": None}
        order = self.orders[index]
        error = self.error or assemblyai_rules.failure_of(order, self.uploads[order["audio_url"]])
        if error is not None:
            return {"id": identifier, "status": "error", "text": None, "error": error}
        return assemblyai_rules.transcript(identifier, order, self.texts)

    def _index(self, identifier: str) -> int:
        if identifier not in self._asked or identifier in self.deleted:
            raise AssemblyAIRefused(400, "Transcript lookup error, transcript id not found")
        return list(self._asked).index(identifier)
