"""The multipart bodies providers are sent: fields first, the recording last."""

import secrets
from collections.abc import Iterable

from voxgate_server.audio.spool import Spool
from voxgate_server.providers.audio_body import AudioBody

__all__ = ["MultipartBody"]

_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class MultipartBody(AudioBody):
    """One form with one file. It can be sent once; another attempt takes another body.

    Args:
        fields: Names and values, in the order they are sent. Values are sent as UTF-8; lone surrogates as `?`.
        spool: The recording.
        filename: Name of the file for the provider. Ours, never the caller's.
        media_type: Media type of the file, from a closed list.
        part: Name of the form field that holds the file.
    """

    def __init__(
        self, fields: Iterable[tuple[str, str]], *, spool: Spool, filename: str, media_type: str, part: str = "file"
    ) -> None:
        # 128 random bits: that the recording contains them by chance or malice is out of the question.
        boundary = f"voxgate-{secrets.token_hex(16)}"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_ESCAPES)}"\r\n\r\n{value}\r\n'
            for name, value in fields
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="{filename.translate(_ESCAPES)}"'
            f"\r\nContent-Type: {media_type}\r\n\r\n"
        )
        super().__init__(
            spool,
            content_type=f"multipart/form-data; boundary={boundary}",
            head="".join(parts).encode("utf-8", "replace"),
            tail=f"\r\n--{boundary}--\r\n".encode(),
        )
