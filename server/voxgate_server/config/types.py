"""The kinds of values a configuration is made of, each with its bounds and an error that says what is allowed."""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

__all__ = [
    "Amount",
    "ByteCount",
    "Count",
    "Headers",
    "Port",
    "Seconds",
    "SecretText",
    "Section",
    "Text",
    "Texts",
    "http_url",
    "listed",
    "wrong",
]


class Section(BaseModel):
    """A map of the configuration: unchangeable, and silent about its input when something is wrong with it.

    Keys it does not know are not its business: `keys.py` knows what becomes of each.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


def wrong(what: str) -> PydanticCustomError:
    """An error of our own. `what` says what is allowed ("must be …") and never shows the value."""
    return PydanticCustomError("voxgate", "{what}", {"what": what})


def _text(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise wrong("must be text; put it in quotes")
    return str(value) if isinstance(value, int) else value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise wrong("must not contain control characters or line breaks")
    return value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise wrong("must be a number")
    return value


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def _bytes(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 32 else None
    if match is None or (match[3] and not match[2]):
        raise wrong(
            "must be a size in bytes: a whole number, or text such as 25MB (25,000,000) or 1GiB (1,073,741,824)"
        )
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " "))


def http_url(value: str) -> str:
    """Checks an http or https URL without user, query and fragment, and cuts off slashes at its end."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or port == 0 or re.search(r"\s", value):
        raise wrong("must be a URL such as https://host/v1")
    if "@" in parts.netloc:
        raise wrong("must not carry a user name or password in the URL; use api_key or extra_headers")
    if "?" in value or "#" in value:
        raise wrong("must not have a query (`?…`) or fragment (`#…`); it is what stands before the provider's own path")
    return value.rstrip("/")


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")


def _headers(value: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    if not all(map(_HEADER_NAME.fullmatch, value)):
        raise wrong("must have names of HTTP headers as keys")
    return value


def listed(value: Any) -> Any:
    """A single text where a list of texts belongs, as a list."""
    return [value] if isinstance(value, str) else value


Text = Annotated[
    str, BeforeValidator(_text), StringConstraints(min_length=1, max_length=4096), AfterValidator(_printable)
]
"""One line of text. Whole numbers become text; dates never cease to be."""

Texts = Annotated[tuple[Text, ...], BeforeValidator(listed)]
"""A list of texts; a single text is a list of one."""


def _secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable():
        raise wrong("must not contain control characters or line breaks")
    return value


SecretText = Annotated[SecretStr, BeforeValidator(_text), Field(max_length=16384), AfterValidator(_secret)]
"""One line of text that is never shown."""

Seconds = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, le=86400)]
"""A length of time, more than 0 and at most a day."""

Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=10**12)]
"""A whole number from 0."""

Amount = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=10**12)]
"""A number from 0."""

Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose a free one."""

ByteCount = Annotated[int, BeforeValidator(_bytes)]
"""A size in bytes, also as text: 25MB is 25,000,000, 25MiB is 26,214,400."""

Headers = Annotated[Mapping[str, SecretText], AfterValidator(_headers)]
"""HTTP headers. Their values may be credentials, so they are never shown."""
