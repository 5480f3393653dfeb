"""A form with a recording, read while it arrives: bytes in, events out, no I/O.

Clients disagree about the order of the parts (curl and the Node SDK send the file first, the Python SDK last), so
fields are reported the moment they are complete and the file's bytes the moment they are there.

    part*  = field | file          exactly one file, under the name `file`
    field  : Field
    file   : FileStart FileData* FileEnd
    end    : End                   the closing boundary: only now the upload is known to be whole

The scanner finds the parts; here they get their meaning and their limits.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from multipart import parse_content_disposition

from voxgate_server.edges.rest.multipart_scanner import MultipartScanner, PartHead
from voxgate_server.edges.rest.values import FILE_HELP, shown
from voxgate_server.errors import InvalidRequest, UploadIncomplete

__all__ = ["End", "Field", "FileData", "FileEnd", "FileStart", "FormEvent", "FormLimits", "FormReader"]


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Bounds of a form besides its file; the recording's own limit belongs to the spool."""

    parts: int = 64
    """Parts of a form, the file included."""
    part_header_bytes: int = 4096
    """All header lines of one part together."""
    field_bytes: int = 64 * 1024
    """Value of a field that has no limit of its own."""
    prompt_bytes: int = 16 * 1024
    """Value of `prompt`."""
    reference_bytes: int = 1_400_000
    """Value of one `known_speaker_references[]`: 1 MiB of audio as a data URL."""
    text_bytes: int = 8 * 1024 * 1024
    """Values of all fields together."""
    epilogue_bytes: int = 1024
    """Bytes that may follow the closing boundary."""


class Field(NamedTuple):
    """A text field is complete."""

    name: str
    value: str


class FileStart(NamedTuple):
    """The recording begins."""

    filename: str
    """Last component of the client's file name, at most 255 bytes of UTF-8; empty when there is none. Only a hint."""
    media_type: str
    """Media type of the part in lower case without parameters; empty when there is none. Only a hint."""


class FileData(NamedTuple):
    """More of the recording."""

    data: bytes


class FileEnd(NamedTuple):
    """The file part is complete; fields may still follow."""


class End(NamedTuple):
    """The closing boundary was read: the form is whole."""


FormEvent = Field | FileStart | FileData | FileEnd | End

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]*)"|([^;\s"]+))', re.IGNORECASE)
# RFC 2046: at most 70 characters out of these, the last one not a space.
_BOUNDARY_VALUE = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+\-]{1,63}/[a-z0-9!#$&^_.+\-]{1,63}")
_PLAIN_TRANSFER_ENCODINGS = ("", "7bit", "8bit", "binary")


class FormReader:
    """Reads one `multipart/form-data` body.

    Args:
        content_type: Value of the request's Content-Type header.
        limits: Bounds of the form.

    Raises:
        InvalidRequest: The header names another media type or no usable boundary.
    """

    def __init__(self, content_type: str, *, limits: FormLimits | None = None) -> None:
        self._limits = limits or FormLimits()
        self._scanner = MultipartScanner(
            _boundary_of(content_type), max_parts=self._limits.parts, max_head_bytes=self._limits.part_header_bytes
        )
        self._error: InvalidRequest | None = None
        self._ended = False
        self._file_seen = False
        self._in_file = False
        self._name = ""
        self._limit = 0
        self._value: list[bytes] = []
        self._value_size = 0
        self._text_size = 0

    def feed(self, data: bytes) -> list[FormEvent]:
        """Takes the next bytes of the body, cut anywhere, and returns what they complete.

        Raises:
            InvalidRequest: The form is malformed or above a limit; the reader stays unusable.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._feed(data)
        except InvalidRequest as error:
            self._error = error
            raise

    def close(self) -> None:
        """Says that no more bytes come.

        Raises:
            UploadIncomplete: The closing boundary was not read.
            InvalidRequest: The form had failed before.
        """
        if self._error is not None:
            raise self._error
        if not self._ended:
            raise UploadIncomplete(
                "The upload ended before the closing boundary of its form, so the recording may be cut off. "
                "Send the whole form again."
            )

    def _feed(self, data: bytes) -> list[FormEvent]:
        events: list[FormEvent] = []
        for found in self._scanner.feed(data):
            if found is None:
                events.append(self._part_end())
            elif isinstance(found, dict):
                self._part_start(found, events)
            elif self._in_file:
                events.append(FileData(found))
            else:
                self._more_text(found)
        if self._scanner.closed:
            if self._scanner.epilogue_bytes > self._limits.epilogue_bytes:
                raise InvalidRequest(
                    f"More than {self._limits.epilogue_bytes} bytes follow the closing boundary of the form."
                )
            if not self._file_seen:
                raise InvalidRequest(f"The form has no file. {FILE_HELP}", param="file")
            if not self._ended:
                events.append(End())
            self._ended = True
        return events

    def _part_start(self, head: PartHead, events: list[FormEvent]) -> None:
        if head.get("content-transfer-encoding", "").lower() not in _PLAIN_TRANSFER_ENCODINGS:
            raise InvalidRequest(
                "A part of the form has a Content-Transfer-Encoding; HTTP forms carry the bytes as they are."
            )
        disposition = head.get("content-disposition", "")
        kind, field, filename = parse_content_disposition(disposition)
        name = _utf8(field or "")
        if kind != "form-data" or not name:
            raise InvalidRequest("A part of the form has no name; each needs Content-Disposition: form-data with one.")
        if filename is None and "filename*=" in disposition.lower():
            filename = _extended_filename(disposition)
        media_type = head.get("content-type", "").partition(";")[0].strip().lower()
        # Some clients send bytes without a file name; their media type still tells them from a text field.
        nameless = name == "file" and media_type and not media_type.startswith("text/")
        if filename is None and not nameless:
            self._text_start(name)
            return
        if name != "file":
            raise InvalidRequest(
                f"The form has a file under the name {shown(name)}; the recording has to be sent as `file`.",
                param=name[:64],
            )
        if self._file_seen:
            raise InvalidRequest("The form has more than one file; send one recording per request.", param="file")
        self._file_seen = self._in_file = True
        events.append(
            FileStart(
                _plain_filename(_utf8(filename or "", errors="replace")),
                media_type if _MEDIA_TYPE.fullmatch(media_type) else "",
            )
        )

    def _text_start(self, name: str) -> None:
        if name == "file":
            raise InvalidRequest(f"`file` was sent as text and not as a file. {FILE_HELP}", param="file")
        self._name = name
        self._value = []
        self._value_size = 0
        limits = self._limits
        if name == "prompt":
            self._limit = limits.prompt_bytes
        elif name.startswith("known_speaker_references"):
            self._limit = limits.reference_bytes
        else:
            self._limit = limits.field_bytes

    def _more_text(self, data: bytes) -> None:
        self._value.append(data)
        self._value_size += len(data)
        self._text_size += len(data)
        if self._value_size > self._limit:
            raise InvalidRequest(
                f"The field {shown(self._name)} is longer than {self._limit} bytes.", param=self._name[:64]
            )
        if self._text_size > self._limits.text_bytes:
            raise InvalidRequest(f"The fields of the form are longer than {self._limits.text_bytes} bytes together.")

    def _part_end(self) -> FormEvent:
        if self._in_file:
            self._in_file = False
            return FileEnd()
        try:
            value = b"".join(self._value).decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The field {shown(self._name)} is not UTF-8.", param=self._name[:64]) from None
        self._value = []
        return Field(self._name, value)


def _boundary_of(content_type: str) -> bytes:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        given = f"not {shown(media_type)}" if media_type else "and the request names none"
        raise InvalidRequest(
            f"The Content-Type has to be multipart/form-data (or application/json), {given}. {FILE_HELP}"
        )
    found = _BOUNDARY.findall(content_type)
    if len(found) != 1:
        raise InvalidRequest(
            "The Content-Type header names no boundary, or several. Let the HTTP library write that header; "
            "do not set it by hand."
        )
    boundary = found[0][0] or found[0][1]
    if not _BOUNDARY_VALUE.fullmatch(boundary):
        raise InvalidRequest(
            "The boundary in the Content-Type header is longer than 70 characters or has characters that RFC 2046 "
            "does not permit in one."
        )
    return bytes(boundary, "ascii")


def _utf8(latin1: str, *, errors: str = "strict") -> str:
    """Undoes the reading of headers as Latin-1."""
    if latin1.isascii():
        return latin1
    try:
        return latin1.encode("latin-1").decode("utf-8", errors)
    except UnicodeDecodeError:
        raise InvalidRequest("The name of a field of the form is not UTF-8.") from None


def _extended_filename(disposition: str) -> str:
    """File name of the form `filename*=utf-8''na%C3%AFve.wav`, as Latin-1 like all headers here."""
    value = disposition[disposition.lower().index("filename*=") + 10 :].partition(";")[0].strip().strip('"')
    return unquote(value.rpartition("'")[2], encoding="latin-1")


def _plain_filename(filename: str) -> str:
    """The last component without control characters, cut from the left: only the extension is ever looked at."""
    name = re.split(r"[/\\]", filename)[-1]
    name = "".join(character for character in name if character.isprintable())
    return name.encode()[-255:].decode(errors="ignore")
