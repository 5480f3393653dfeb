"""The fields of a REST request that say where a call may go and whom it is for, with LiteLLM's names."""

import re
from functools import lru_cache

import msgspec
from voxgate.transcription.v1.config_pb2 import RouteTarget, TranscriptionConfig

from voxgate_server.edges.rest.values import (
    Entries,
    boolean,
    integer,
    json_value,
    named_items,
    nested,
    number,
    refuse,
    scalar,
    shown,
    string,
    strings,
)
from voxgate_server.errors import InvalidRequest

__all__ = ["decode_labels", "decode_routing", "refuse_credentials"]

_MAX_FALLBACKS = 5
_MAX_RETRIES = 10
_MAX_TIMEOUT_SECONDS = 86_400.0
_MAX_LABELS = 64
_MAX_LABEL_BYTES = 255

# Names of fields that choose a host or bring a credential, in lower case without `_` and `-`: with one of them a
# caller could have the operator's key sent to a server of his own.
_CREDENTIALS = frozenset({
    "authorization", "clientid", "customhost", "customllmprovider", "defaultheaders", "endpoint", "extraheaders",
    "headers", "host", "litellmcredentialname", "modellist", "nvcffunctionid", "oidc", "password", "proxies", "proxy",
    "sslverify", "tenantid", "userconfig", "usessl", "virtualkey",
})  # fmt: skip
_CREDENTIAL_PREFIXES = ("aws", "azuread", "s3")
_CREDENTIAL_ENDINGS = (
    "accesskey", "accesstoken", "adtoken", "apibase", "apikey", "authtoken", "baseurl", "clientsecret", "credentials",
    "endpointurl", "secretkey", "sessiontoken",
)  # fmt: skip


@lru_cache(maxsize=512)
def _is_credential(name: str) -> bool:
    plain = re.sub(r"[_\-\s.]", "", name).lower()
    return plain in _CREDENTIALS or plain.startswith(_CREDENTIAL_PREFIXES) or plain.endswith(_CREDENTIAL_ENDINGS)


def refuse_credentials(name: str, value: object) -> None:
    """Refuses a field that names a host or a credential, also as a key somewhere inside its value.

    Args:
        name: The field.
        value: Its value or its occurrences; texts that are JSON are looked into.

    Raises:
        InvalidRequest: Names the field, never its value.
    """
    if _is_credential(name):
        _refuse_credential(name, name)
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and item.lstrip()[:1] in ("{", "["):
            try:
                item = msgspec.json.decode(item)
            except (msgspec.MsgspecError, UnicodeError):
                continue  # a text like any other
            except RecursionError:
                refuse(name[:64], "is nested too deeply.")
        if isinstance(item, dict):
            for key in item:
                if _is_credential(key):
                    _refuse_credential(key, name)
            waiting.extend(item.values())
        elif isinstance(item, list):
            for element in item:
                if isinstance(element, tuple):  # an occurrence: what stands in brackets, and the value
                    waiting.append(dict.fromkeys(element[0]))
                    waiting.append(element[1])
                else:
                    waiting.append(element)


def _refuse_credential(name: str, param: str) -> None:
    raise InvalidRequest(
        f"{shown(name)} names a host or a credential; these are the operator's to configure and are not taken from "
        "requests. Leave it out.",
        param=param[:64],
    )


def decode_routing(config: TranscriptionConfig, fields: dict[str, Entries]) -> None:
    """Takes fallbacks, retries, time-outs and drills out of `fields` into `config.routing`.

    Raises:
        InvalidRequest: A value is wrong; for an entry of `fallbacks` it tells the index, from 0.
    """
    if (entries := fields.pop("fallbacks", None)) and (items := named_items("fallbacks", entries)):
        if len(items) > _MAX_FALLBACKS:
            refuse("fallbacks", f"has more than {_MAX_FALLBACKS} entries.")
        config.routing.fallbacks.extend(_fallback(f"fallbacks[{index}]", item) for index, item in enumerate(items))
    for name in ("disable_fallbacks", "mock_testing_fallbacks"):
        value = scalar(name, fields.pop(name, None))
        if value is not None and boolean(name, value):
            setattr(config.routing, name, True)
    if (value := scalar("num_retries", fields.pop("num_retries", None))) is not None:
        config.routing.max_retries = integer("num_retries", value, low=0, high=_MAX_RETRIES)
    if (value := scalar("timeout", fields.pop("timeout", None))) is not None:
        config.routing.attempt_timeout.FromNanoseconds(_nanoseconds("timeout", value))


def _nanoseconds(name: str, value: object) -> int:
    # Below a nanosecond it would be none at all.
    return max(1, round(number(name, value, low=0, high=_MAX_TIMEOUT_SECONDS, above=True) * 1e9))


def _fallback(name: str, value: object) -> RouteTarget:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json_value(name, value)
    if isinstance(value, str):
        return RouteTarget(model=_route(name, value))
    if not isinstance(value, dict):
        refuse(name, f"must be a model, or an object with model, not {shown(value)}.")
    overrides = {key: item for key, item in value.items() if item is not None}
    refuse_credentials(name, overrides)
    if "model" not in overrides:
        refuse(name, "has no model: write provider/model, or an object with model.")
    target = RouteTarget(model=_route(name, overrides.pop("model")))
    if (provider := overrides.pop("provider", None)) is not None:
        target.provider = _route(name, provider)
    if (timeout := overrides.pop("timeout", None)) is not None:
        target.attempt_timeout.FromNanoseconds(_nanoseconds(f"{name}.timeout", timeout))
    if overrides:
        _check_integers(name, overrides)
        target.extra_params.update(overrides)
    return target


def _route(name: str, value: object) -> str:
    route = string(name, value, max_bytes=_MAX_LABEL_BYTES).strip()
    if not route or route.startswith("/") or route.endswith("/") or not route.isprintable():
        refuse(name, f"is no model: {shown(value)}. Write provider/model or the name of a model group.")
    return route


def _check_integers(name: str, value: object) -> None:
    """A Struct has doubles only; an integer that a double cannot hold would arrive as another one."""
    if isinstance(value, dict):
        for item in value.values():
            _check_integers(name, item)
    elif isinstance(value, list):
        for item in value:
            _check_integers(name, item)
    elif isinstance(value, int) and abs(value) > 2**53:
        refuse(name, "has a whole number beyond 2^53, which would not arrive as it is.")


def decode_labels(config: TranscriptionConfig, fields: dict[str, Entries]) -> None:
    """Takes user, tags and metadata out of `fields` into `config.labels`.

    The end user is the first of: `user`, `litellm_metadata.user`, `metadata.user_id`, `safety_identifier`.

    Raises:
        InvalidRequest: A value is wrong or there are too many.
    """
    metadata = _object("metadata", fields.pop("metadata", None))
    litellm_metadata = _object("litellm_metadata", fields.pop("litellm_metadata", None))
    candidates = (
        ("user", scalar("user", fields.pop("user", None))),
        ("litellm_metadata", litellm_metadata.get("user")),
        ("metadata", metadata.get("user_id")),
        ("safety_identifier", scalar("safety_identifier", fields.pop("safety_identifier", None))),
    )
    users = [_label(name, value) for name, value in candidates if value is not None]
    if users:
        config.labels.user = users[0]
    tags = strings("tags", fields.pop("tags", []), max_items=_MAX_LABELS, max_bytes=_MAX_LABEL_BYTES)
    for name, labels in (("metadata", metadata), ("litellm_metadata", litellm_metadata)):
        if (listed := labels.pop("tags", None)) is not None:
            tags += strings(name, [((), listed)], max_items=_MAX_LABELS, max_bytes=_MAX_LABEL_BYTES)
    tags = list(dict.fromkeys(tags))
    if len(tags) > _MAX_LABELS:
        refuse("tags", f"has more than {_MAX_LABELS} items.")
    if tags:
        config.labels.tags.extend(tags)
    merged = {**litellm_metadata, **metadata}
    if len(merged) > _MAX_LABELS:
        refuse("metadata", f"has more than {_MAX_LABELS} keys.")
    for key, value in merged.items():
        if value is not None:
            config.labels.metadata[_label("metadata", key)] = _label("metadata", value)


def _object(name: str, entries: Entries | None) -> dict[str, object]:
    """A JSON object, as JSON text or as fields `x[key]`; empty when it was not sent."""
    if not entries:
        return {}
    value = nested(name, entries) if any(path for path, _ in entries) else scalar(name, entries)
    if isinstance(value, str):
        value = json_value(name, value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(name, f"must be a JSON object, not {shown(value)}.")
    return dict(value)


def _label(name: str, value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return string(name, text, max_bytes=_MAX_LABEL_BYTES)
