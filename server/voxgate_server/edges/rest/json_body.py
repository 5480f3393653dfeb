"""JSON request bodies: the fields of the form as members, the recording as base64 text."""

import re
from dataclasses import dataclass

from voxgate_server.edges.rest.data_url import base64_bytes, parse_data_url
from voxgate_server.edges.rest.decode import DecodedForm, decode_object
from voxgate_server.edges.rest.values import json_value, refuse, string
from voxgate_server.errors import AudioTooLarge, InvalidRequest

__all__ = ["DEFAULT_MAX_BODY_BYTES", "JsonRequest", "decode_json_body"]

DEFAULT_MAX_BODY_BYTES = 44 * 1024 * 1024
"""Largest JSON body in bytes: 32 MiB of audio in base64. What is larger goes as a form, which memory need not hold."""

_MAX_FILENAME_BYTES = 255
_MAX_PATH = 4096
_FORM = (
    "Send the recording itself: curl -F file=@recording.wav -F model=whisper-1 …; or, in JSON, as base64 or as a data "
    "URL (data:audio/wav;base64,…)."
)
_PATH_START = re.compile(r"@|~|\.{0,2}[/\\]|file:|[A-Za-z]:[\\/]", re.IGNORECASE)
_FILE_NAME = re.compile(r"[^\n]*\.[A-Za-z0-9]{2,4}")


@dataclass(frozen=True, slots=True)
class JsonRequest:
    """A whole request."""

    form: DecodedForm
    audio: bytes
    filename: str
    """As the client named it, at most 255 bytes; empty when it did not. Only a hint."""
    media_type: str
    """From the data URL; empty without one. Only a hint."""


def decode_json_body(body: bytes, *, model: str | None = None, max_bytes: int = DEFAULT_MAX_BODY_BYTES) -> JsonRequest:
    """Reads a JSON body.

    Takes about 2 ms a megabyte: for more than a few of them call it in a thread.

    Args:
        body: The whole body.
        model: The model that the request's path names; it takes the place of the body's.
        max_bytes: Largest body.

    Raises:
        AudioTooLarge: The body is above `max_bytes`.
        InvalidRequest: It is no JSON object, `file` is missing, a path, a URL or no base64, or a field is wrong.
    """
    if len(body) > max_bytes:
        raise AudioTooLarge(
            f"A JSON body may have {max_bytes} bytes. Send larger recordings as a form: "
            "curl -F file=@recording.wav -F model=whisper-1 …",
            param="file",
            metadata={"limit_bytes": str(max_bytes)},
        )
    value = json_value("body", body)
    if not isinstance(value, dict):
        refuse("body", "must be a JSON object with file and model.")
    fields: dict[str, object] = dict(value)
    file = fields.pop("file", None)
    filename = fields.pop("filename", None)
    form = decode_object(fields, model=model)
    media_type, audio = _recording(file, max_bytes)
    name = "" if filename is None else string("filename", filename, max_bytes=_MAX_FILENAME_BYTES)
    return JsonRequest(form, audio, re.split(r"[/\\]", name)[-1], media_type)


def _recording(file: object, max_bytes: int) -> tuple[str, bytes]:
    if file is None or file == "":
        raise InvalidRequest(f"`file` is missing. {_FORM}", param="file")
    if not isinstance(file, str):
        raise InvalidRequest(f"`file` must be a text with the recording in base64. {_FORM}", param="file")
    if file[:5].lower() == "data:":
        return parse_data_url("file", file, max_bytes=max_bytes)
    if file[:8].lower().startswith(("http://", "https://")):
        raise InvalidRequest(f"`file` is a URL, and URLs are not fetched. {_FORM}", param="file")
    # "/" is also a character of base64, and an MP3 begins with it; but no recording is as short as a path.
    path = len(file) <= _MAX_FILENAME_BYTES and _PATH_START.match(file)
    audio = None if path else base64_bytes(file)
    if audio is None:
        if path or (len(file) <= _MAX_PATH and ("/" in file or "\\" in file or _FILE_NAME.fullmatch(file))):
            raise InvalidRequest(f"`file` is a path on your machine, which a server cannot read. {_FORM}", param="file")
        raise InvalidRequest(f"`file` is not valid base64. {_FORM}", param="file")
    return "", audio
