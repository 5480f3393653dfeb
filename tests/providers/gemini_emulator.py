"""Gemini's generateContent and Files API on a loopback socket: as strict as the real ones, or stricter.

    async with GeminiEmulator() as emulator:
        emulator.script(failure(503, "UNAVAILABLE"), ok())      # the next two calls, in order; after that: ok
        ... talk to emulator.origin with emulator.key ...
        emulator.audio[0].sha256, emulator.deleted

With `vertex=True` it is Gemini on Vertex AI: other paths, a bearer token, no Files API.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.providers import gemini_rules as rules
from tests.providers.emulator import (
    EVENT_STREAM,
    Behaviour,
    Emulator,
    cut_answer,
    hang,
    ok,
    raw,
    reset_mid_answer,
    reset_mid_body,
    sse,
    stream,
)
from tests.providers.gemini_rules import GoogleRefused
from tests.providers.record import BodyReader, RawBody, Record

__all__ = [
    "KEY",
    "Behaviour",
    "File",
    "GeminiEmulator",
    "Record",
    "cut_answer",
    "failure",
    "hang",
    "ok",
    "raw",
    "reset_mid_answer",
    "reset_mid_body",
    "sse",
    "stream",
]

KEY = "AIzaEmulator-0123456789abcdefghijklmno"

_GENERATE = re.compile(r"/v1beta/models/([a-z0-9.\-]+):(generateContent|streamGenerateContent\?alt=sse)")
_VERTEX = re.compile(
    r"/v1/projects/[a-z0-9\-]+/locations/[a-z0-9\-]+/publishers/google/models/([a-z0-9.\-]+)"
    r":(generateContent|streamGenerateContent\?alt=sse)"
)
_FILE = re.compile(r"/v1beta/(files/[a-z0-9\-]{1,40})")
_UPLOAD = re.compile(r"/upload/v1beta/files\?upload_id=(\d+)&upload_protocol=resumable")


def failure(
    status: int, code: str, message: str = "it did not work", *, details: Sequence[Mapping[str, Any]] = (),
    in_list: bool = False, **kwargs: Any,
) -> Behaviour:  # fmt: skip
    """An error in Google's shape."""
    body: Any = json.loads(rules.error_body(status, code, message, details))
    return raw(json.dumps([body] if in_list else body), status=status, **kwargs)


@dataclass
class File:
    """A file of the Files API."""

    name: str
    mime_type: str
    size: int
    sha256: str = ""
    polls: int = 0
    """How often it will still say PROCESSING."""


class _GenerateBody(RawBody):
    """Keeps the JSON; the file begins where the base64 does."""

    def __init__(self, record: Record, limit: int) -> None:
        super().__init__(record)
        self._limit = limit
        self._check(int(record.headers.get("content-length", 0)))

    def feed(self, chunk: bytes) -> None:
        record = self._record
        record.body += chunk
        self._check(len(record.body))
        if not record.first_file_byte.is_set() and re.search(rb'"data": ?"[^"]', record.body):
            record.first_file_byte.set()

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise GoogleRefused(
                400, "INVALID_ARGUMENT", f"Request payload size exceeds the limit: {self._limit} bytes."
            )


class GeminiEmulator(Emulator):
    """AI Studio, or Gemini on Vertex AI.

    Args:
        text: What it hears, in words parted by spaces.
        vertex: It is Vertex AI.
        processing: How often a file says that it is being processed.
        max_request: Bytes of the largest generateContent request.
    """

    def __init__(
        self, *, text: str = "Hello from the emulator.", vertex: bool = False, processing: int = 1,
        max_request: int = 20 << 20,
    ) -> None:  # fmt: skip
        self.key = KEY
        self.text = text
        self.vertex = vertex
        self.processing = processing
        self.max_request = max_request
        self.requests: list[dict[str, Any]] = []
        """Bodies of the generateContent calls, in camel case and without the recordings."""
        self.audio: list[File] = []
        """The recordings of these calls."""
        self.files: dict[str, File] = {}
        self.deleted: list[str] = []
        self.fail_files = False
        """Files cannot be processed."""
        self.uploaded = asyncio.Event()
        """There is a file, whatever becomes of the answer that says so."""
        self._uploads: dict[str, File] = {}
        self._headers: dict[int, dict[str, str]] = {}
        super().__init__()

    def paths(self) -> list[str]:
        """Method and path of each call, without identifiers."""
        return [re.sub(r"vg-[0-9a-f]{32}|upload_id=\d+", "X", f"{item.method} {item.path}") for item in self.records]

    def reader(self, record: Record) -> BodyReader:
        return _GenerateBody(record, self.max_request) if "enerateContent" in record.path else RawBody(record)

    def answer_headers(self, record: Record) -> Mapping[str, str]:
        return {"server": "scaffolding on HTTPServer2", **self._headers.get(id(record), {})}

    def judge(self, record: Record) -> tuple[str, bytes | list[bytes]]:
        if "key=" in record.path or self.key in record.path:
            raise GoogleRefused(400, "INVALID_ARGUMENT", "Keys do not belong in addresses.")
        if upload := _UPLOAD.fullmatch(record.path):
            return self._json({"file": self._finalize(record, upload[1])})
        if self.vertex:
            if record.headers.get("authorization") != f"Bearer {self.key}":
                raise GoogleRefused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        else:
            rules.check_key(record, self.key)
        generate = (_VERTEX if self.vertex else _GENERATE).fullmatch(record.path)
        if generate and record.method == "POST":
            answer = self._generate(record, generate[1])
            return self._json(answer) if generate[2] == "generateContent" else (EVENT_STREAM, rules.chunks(answer))
        if not self.vertex and record.path == "/upload/v1beta/files" and record.method == "POST":
            self._start(record)
            return "text/plain; charset=utf-8", b""
        if not self.vertex and (file := _FILE.fullmatch(record.path)) and record.method in {"GET", "DELETE"}:
            return self._json(self._file(record.method, file[1]))
        raise GoogleRefused(404, "NOT_FOUND", f"Not found: {record.path}")

    def _generate(self, record: Record, model: str) -> dict[str, Any]:
        rules.check_json(record)
        request = rules.camel(json.loads(record.body))
        media_type, source = rules.check_request(request, model, vertex=self.vertex)
        if isinstance(source, str):
            self.audio.append(self._used(source.rpartition("/v1beta/")[2], media_type))
        else:
            self.audio.append(File("", media_type, len(source), hashlib.sha256(source).hexdigest()))
        self.requests.append(request)
        return rules.answer(request, model, self.text)

    def _used(self, name: str, media_type: str) -> File:
        file = self._known(name)
        if file.polls or self.fail_files:
            raise GoogleRefused(
                400, "FAILED_PRECONDITION", f"The File {name} is not in an ACTIVE state and usage is not allowed."
            )
        if file.mime_type != media_type:
            raise GoogleRefused(400, "INVALID_ARGUMENT", f"The File {name} is {file.mime_type}.")
        return file

    def _start(self, record: Record) -> None:
        rules.check_json(record)
        file = File(*rules.check_start(record))
        if not file.name:
            file.name = f"files/emulator-{len(self._uploads)}"
        if file.name in self.files:
            raise GoogleRefused(409, "ALREADY_EXISTS", "Requested entity already exists")
        number = str(len(self._uploads))
        self._uploads[number] = file
        url = f"{self.origin}/upload/v1beta/files?upload_id={number}&upload_protocol=resumable"
        self._headers[id(record)] = {"x-goog-upload-url": url, "x-goog-upload-status": "active"}

    def _finalize(self, record: Record, number: str) -> dict[str, Any]:
        file = self._uploads.get(number)
        if file is None or record.method != "POST":
            raise GoogleRefused(404, "NOT_FOUND", "There is no such upload.")
        rules.check_upload(record, file.mime_type, file.size)
        file.sha256, file.polls = record.file_sha256, self.processing
        self.files[file.name] = file
        self.uploaded.set()
        self._headers[id(record)] = {"x-goog-upload-status": "final"}
        return self._described(file)

    def _file(self, method: str, name: str) -> dict[str, Any]:
        file = self._known(name)
        if method == "DELETE":
            del self.files[name]
            self.deleted.append(name)
            return {}
        file.polls = max(0, file.polls - 1)
        return self._described(file)

    def _known(self, name: str) -> File:
        if name not in self.files:
            raise GoogleRefused(
                403, "PERMISSION_DENIED",
                f"You do not have permission to access the File {name} or it may not exist.",
            )  # fmt: skip
        return self.files[name]

    def _described(self, file: File) -> dict[str, Any]:
        state = "PROCESSING" if file.polls else "FAILED" if self.fail_files else "ACTIVE"
        return {
            "name": file.name, "mimeType": file.mime_type, "sizeBytes": str(file.size),
            "createTime": "2026-11-20T10:00:00.000000Z", "expirationTime": "2026-11-22T10:00:00.000000Z",
            "sha256Hash": "YWJj", "uri": f"{self.origin}/v1beta/{file.name}", "state": state, "source": "UPLOADED",
            **({"error": {"code": 3, "message": "The file could not be decoded."}} if state == "FAILED" else {}),
        }  # fmt: skip

    @staticmethod
    def _json(body: Mapping[str, Any]) -> tuple[str, bytes]:
        return "application/json; charset=UTF-8", json.dumps(body, indent=2).encode()
