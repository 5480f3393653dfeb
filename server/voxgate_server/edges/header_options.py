"""Options in a request's headers (or gRPC metadata), with LiteLLM's and Bifrost's names.

What the request itself says wins over them: they only fill in what it leaves open.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig

from voxgate_server.edges.rest.values import boolean, integer, json_value, number, refuse, string, strings

__all__ = ["CALL_ID_HEADER", "HeaderOptions", "call_id", "header_options"]

CALL_ID_HEADER = "x-litellm-call-id"
"""The header with which a caller names its call."""

_CALL_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TIMEOUT = "x-litellm-timeout"
_RETRIES = "x-litellm-num-retries"
_TAGS = "x-litellm-tags"
_USERS = ("x-litellm-customer-id", "x-litellm-end-user-id")
_METADATA = "x-litellm-spend-logs-metadata"
_RAW_REQUEST = "x-bf-send-back-raw-request"
_RAW_RESPONSE = "x-bf-send-back-raw-response"
_KNOWN = frozenset({_TIMEOUT, _RETRIES, _TAGS, *_USERS, _METADATA, _RAW_REQUEST, _RAW_RESPONSE})

_MAX_TIMEOUT_SECONDS = 86_400.0
_MAX_RETRIES = 10
_MAX_LABELS = 64
_MAX_LABEL_BYTES = 255


def call_id(headers: Mapping[str, str]) -> str | None:
    """The id the caller gave its call; None when it gave none.

    Raises:
        InvalidRequest: It is not 1 to 128 letters, digits or `._:-`.
    """
    value = headers.get(CALL_ID_HEADER)
    if value is not None and not _CALL_ID.fullmatch(value):
        refuse(CALL_ID_HEADER, "must be 1 to 128 characters: letters, digits, dot, underscore, colon and hyphen.")
    return value


@dataclass(frozen=True, slots=True)
class HeaderOptions:
    """What the headers of a request ask for."""

    timeout: float | None = None
    """Limit of one attempt in seconds."""
    num_retries: int | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw_request: bool = False
    raw_response: bool = False

    def apply(self, config: TranscriptionConfig) -> None:
        """Fills in what `config` leaves open.

        Raises:
            InvalidRequest: There are more than 64 labels together.
        """
        routing, labels = config.routing, config.labels
        if self.timeout is not None and not routing.HasField("attempt_timeout"):
            routing.attempt_timeout.FromNanoseconds(max(1, round(self.timeout * 1e9)))
        if self.num_retries is not None and not routing.HasField("max_retries"):
            routing.max_retries = self.num_retries
        if self.user is not None and not labels.user:
            labels.user = self.user
        if self.tags and not labels.tags:
            labels.tags.extend(self.tags)
        for name, value in self.metadata.items():
            if name not in labels.metadata:
                labels.metadata[name] = value
        if len(labels.metadata) > _MAX_LABELS:
            refuse(_METADATA, f"makes more than {_MAX_LABELS} keys together with the request's own metadata.")
        if self.raw_request:
            config.debug.include_raw_request = True
        if self.raw_response:
            config.debug.include_raw_response = True


def header_options(headers: Mapping[str, str]) -> HeaderOptions | None:
    """Reads the options out of headers, whose names are in lower case; None when there are none.

    Raises:
        InvalidRequest: A value is wrong; `param` is the header's name.
    """
    given = {name: headers[name].strip() for name in _KNOWN if name in headers}
    if not given:
        return None
    users = [given[name] for name in _USERS if given.get(name)]
    return HeaderOptions(
        timeout=number(_TIMEOUT, given[_TIMEOUT], low=0, high=_MAX_TIMEOUT_SECONDS, above=True)
        if given.get(_TIMEOUT)
        else None,
        num_retries=integer(_RETRIES, given[_RETRIES], low=0, high=_MAX_RETRIES) if given.get(_RETRIES) else None,
        user=string(_USERS[0], users[0], max_bytes=_MAX_LABEL_BYTES) if users else None,
        tags=_tags(given.get(_TAGS, "")),
        metadata=_metadata(given.get(_METADATA, "")),
        raw_request=_switch(_RAW_REQUEST, given),
        raw_response=_switch(_RAW_RESPONSE, given),
    )


def _tags(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    return tuple(dict.fromkeys(strings(_TAGS, [((), value)], max_items=_MAX_LABELS, max_bytes=_MAX_LABEL_BYTES)))


def _metadata(value: str) -> dict[str, str]:
    if not value:
        return {}
    labels = json_value(_METADATA, value)
    if not isinstance(labels, dict):
        refuse(_METADATA, "must be a JSON object.")
    if len(labels) > _MAX_LABELS:
        refuse(_METADATA, f"has more than {_MAX_LABELS} keys.")
    return {
        string(_METADATA, name, max_bytes=_MAX_LABEL_BYTES): string(
            _METADATA, item if isinstance(item, str) else msgspec.json.encode(item).decode(), max_bytes=_MAX_LABEL_BYTES
        )
        for name, item in labels.items()
        if item is not None
    }


def _switch(name: str, given: Mapping[str, str]) -> bool:
    return bool(given.get(name)) and boolean(name, given[name])
