"""Recordings inside text: base64, bare or in a data URL."""

import binascii
import re

from voxgate_server.edges.rest.values import refuse

__all__ = ["base64_bytes", "parse_data_url"]

_DATA_URL = re.compile(r"data:([^;,]{0,127})((?:;[^;,]{1,127}){0,8}?);base64,", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")


def parse_data_url(name: str, value: str, *, max_bytes: int) -> tuple[str, bytes]:
    """Media type (lower case, without parameters) and bytes of `data:audio/wav;base64,…`.

    Raises:
        InvalidRequest: Not such a URL, or above `max_bytes`; names the field `name`.
    """
    head = _DATA_URL.match(value)
    if head is None:
        refuse(name, "must be a data URL with base64, e.g. data:audio/wav;base64,UklGR…")
    data = base64_bytes(value[head.end() :])
    if data is None:
        refuse(name, "is a data URL whose base64 is damaged.")
    if len(data) > max_bytes:
        refuse(name, f"is larger than {max_bytes} bytes.")
    return head[1].strip().lower(), data


def base64_bytes(text: str) -> bytes | None:
    """What a base64 text stands for, or None when it is none. Line breaks, the URL-safe alphabet and missing padding
    are what real encoders write, so they are read too.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    text = _WHITESPACE.sub("", text).rstrip("=")
    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None
