"""Client of the voxgate transcription gateway.

>>> from voxgate_client import Client
>>> with Client() as client:
...     print(client.transcribe("meeting.flac").text)

`Client` and `AsyncClient` are twins. `voxgate_client.types` has the messages they take and give.
"""

from voxgate_client._async_client import AsyncClient
from voxgate_client._channel import DEFAULT_TARGET, TlsOptions
from voxgate_client._client import Client
from voxgate_client._errors import (
    AudioTooLargeError,
    AuthenticationError,
    CallCancelledError,
    CertificateError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnavailableError,
    UnimplementedError,
    UnknownModelError,
    UploadInterruptedError,
    VoxgateError,
)
from voxgate_client._live import live_messages
from voxgate_client._request import DEFAULT_TIMEOUT, TranscriptionOptions
from voxgate_client._version import __version__

__all__ = [
    "DEFAULT_TARGET",
    "DEFAULT_TIMEOUT",
    "AsyncClient",
    "AudioTooLargeError",
    "AuthenticationError",
    "CallCancelledError",
    "CertificateError",
    "Client",
    "DeadlineExceededError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ServerError",
    "TlsOptions",
    "TranscriptionOptions",
    "UnavailableError",
    "UnimplementedError",
    "UnknownModelError",
    "UploadInterruptedError",
    "VoxgateError",
    "__version__",
    "live_messages",
]
