"""The Files API of AI Studio: recordings that are too large to go inside a request.

A file gets its name from us, so that it can be deleted whatever became of the answer that would have told it.
Deleting goes on behind the answer, and behind a caller who went away; what escapes it expires after 48 hours.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import httpx
import msgspec
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.errors import ProviderGarbled, ProviderRejected, VoxgateError
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.http_call import HttpCall
from voxgate_server.providers.http_errors import excerpt
from voxgate_server.telemetry import get_logger

__all__ = ["GeminiFiles"]

_log = get_logger("gemini")

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_DELETE_SECONDS = 10.0
_NAME = re.compile(r"files/[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_MAX_URI = 2048


class _File(msgspec.Struct):
    name: str = ""
    uri: str = ""
    state: str = ""
    error: dict[str, object] = {}


class _Uploaded(msgspec.Struct):
    file: _File


_file_decoder = msgspec.json.Decoder(_File)
_uploaded_decoder = msgspec.json.Decoder(_Uploaded)


class GeminiFiles:
    """Uploads files, and deletes them again.

    Args:
        http: Whose connections and errors are used.
        base: Address before the API's own path.
        version: E.g. `v1beta`.
        headers: What a request is authorised with. The address a file is sent to gets none of it.
    """

    def __init__(
        self,
        http: HttpCall,
        base: httpx.URL,
        version: str,
        headers: Callable[[Attempt], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._http = http
        self._base = base
        self._version = version
        self._headers = headers
        self._deletions: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """Waits until what is no longer needed is deleted, at most about ten seconds."""
        await asyncio.gather(*self._deletions)

    @contextlib.asynccontextmanager
    async def uploaded(self, attempt: Attempt, media_type: str) -> AsyncIterator[str]:
        """The recording as a file that can be used, by its URI; it is deleted afterwards.

        Args:
            attempt: Its spool must be finished: a file needs a length.
            media_type: Of the recording.

        Raises:
            ProviderRejected: Google cannot read the recording.
            ProviderTimeout: It was still reading it when the time was over.
            ProviderError: Google did not answer well; the class says in what way.
        """
        name = f"files/vg-{secrets.token_hex(16)}"
        target = await self._start(attempt, name, media_type)
        try:
            file = await self._send(attempt, target, media_type)
            # A server that gives names of its own is believed.
            name = file.name
            yield await self._usable(attempt, file)
        finally:
            self._delete_later(attempt, name)

    async def _start(self, attempt: Attempt, name: str, media_type: str) -> httpx.URL:
        size = attempt.spool.size
        headers = {
            **await self._headers(attempt),
            **_upload_headers(size, media_type),
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "content-type": "application/json",
        }
        body = msgspec.json.encode({"file": {"name": name, "mimeType": media_type, "sizeBytes": size}})
        url = httpx.URL(f"{self._base}/upload/{self._version}/files")
        answer = await self._http.send(attempt, url, body, headers=headers)
        return self._upload_url(answer.headers.get("x-goog-upload-url", ""))

    def _upload_url(self, text: str) -> httpx.URL:
        try:
            url = httpx.URL(text[:_MAX_URI])
        except httpx.InvalidURL:
            url = httpx.URL()
        same = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        # A recording goes to where the operator said, or to Google itself, and nowhere else.
        if not same and not (url.scheme == "https" and url.host.endswith(".googleapis.com")):
            raise ProviderGarbled(f"{self._http.upstream} named no usable address for the upload.")
        return url

    async def _send(self, attempt: Attempt, target: httpx.URL, media_type: str) -> _File:
        headers = {
            **_upload_headers(attempt.spool.size, media_type),
            "x-goog-upload-offset": "0",
            "x-goog-upload-command": "upload, finalize",
        }
        body = AudioBody(attempt.spool, content_type=media_type)
        answer = await self._http.send(attempt, target, body, headers=headers)
        if answer.headers.get("x-goog-upload-status", "final") != "final":
            raise ProviderGarbled(f"{self._http.upstream} did not take the upload as complete.")
        return self._checked(answer.body, lambda body: _uploaded_decoder.decode(body).file)

    async def _usable(self, attempt: Attempt, file: _File) -> str:
        url = httpx.URL(f"{self._base}/{self._version}/{file.name}")
        pause = _FIRST_PAUSE
        while file.state == "PROCESSING":
            await self._http.pause(attempt, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            answer = await self._http.send(attempt, url, method="GET", headers=await self._headers(attempt))
            file = self._checked(answer.body, _file_decoder.decode)
        if file.state == "FAILED":
            said = excerpt(str(file.error.get("message", "")), self._http.upstream.secrets)
            raise ProviderRejected(
                f"{self._http.upstream} cannot read the recording{': ' + said if said else ''}.",
                metadata={"provider": self._http.upstream.provider},
            )
        if file.state != "ACTIVE":
            raise ProviderGarbled(f"{self._http.upstream} does not say what became of the upload.")
        return file.uri

    def _checked(self, body: bytes, read: Callable[[bytes], _File]) -> _File:
        try:
            file = read(body)
        except (ValueError, RecursionError):
            file = _File()
        if not _NAME.fullmatch(file.name) or not 0 < len(file.uri) <= _MAX_URI:
            raise ProviderGarbled(f"{self._http.upstream} did not describe the file it was sent.")
        return file

    def _delete_later(self, attempt: Attempt, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._delete(attempt, name))
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, attempt: Attempt, name: str) -> None:
        # An attempt of its own: the one it is done for may be over, and its report must not show how this went.
        deadline = time.monotonic() + _DELETE_SECONDS
        own = Attempt(attempt.request_id, TranscriptionConfig(), attempt.audio, attempt.spool, deadline)
        url = httpx.URL(f"{self._base}/{self._version}/{name}")
        try:
            await self._http.send(own, url, method="DELETE", headers=await self._headers(own))
        except VoxgateError as error:
            # 403 and 404: an upload that broke off never became a file.
            if own.report.http_status not in {403, 404}:
                _log.warning("file_not_deleted", request_id=attempt.request_id, file=name, error=error.message)


def _upload_headers(size: int, media_type: str) -> dict[str, str]:
    return {
        "x-goog-upload-header-content-length": str(size),
        "x-goog-upload-header-content-type": media_type,
    }
