"""Portkey's request headers: where a call goes, in the caller's own words."""

from collections.abc import Mapping

import msgspec
from starlette.types import Scope
from voxgate.transcription.v1.config_pb2 import Include, TimestampGranularity, TranscriptionConfig

from voxgate_server.call import Call
from voxgate_server.edges.identity import Identity
from voxgate_server.edges.rest.decode import RESPONSE_FORMATS, decode_object
from voxgate_server.edges.rest.headers import TRACE_HEADER
from voxgate_server.edges.rest.values import json_value, refuse, string
from voxgate_server.gateway import Planner
from voxgate_server.routing.conditions import CONFIG_PARAM, Facts
from voxgate_server.routing.plan import Hop
from voxgate_server.routing.portkey_config import Target, parse_config
from voxgate_server.routing.portkey_plan import PortkeyPlanner
from voxgate_server.routing.portkey_pool import Lease

__all__ = ["PortkeyHeaders", "PortkeyRequest", "decode_overrides"]

_MAX_CONFIG_BYTES = 64 * 1024
_MAX_CONFIG_DEPTH = 32
_MAX_NAME_BYTES = 255
_MAX_HOST_BYTES = 2048
_MAX_KEY_BYTES = 4096
_MAX_LABELS = 64
_MAX_TIMEOUT_MS = 86_400_000
_PROVIDER = "x-portkey-provider"
_VIRTUAL_KEY = "x-portkey-virtual-key"
_HOST = "x-portkey-custom-host"
_TIMEOUT = "x-portkey-request-timeout"
_METADATA = "x-portkey-metadata"

_NOT_OVERRIDABLE = frozenset({
    "disable_fallbacks", "fallbacks", "file", "known_speaker_names", "known_speaker_references", "litellm_metadata",
    "metadata", "mock_testing_fallbacks", "num_retries", "response_format", "safety_identifier", "stream", "tags",
    "timeout", "user",
})  # fmt: skip
_FORMAT_NAMES = {number: name for name, number in RESPONSE_FORMATS.items()}


def decode_overrides(overrides: Mapping[str, object]) -> TranscriptionConfig:
    """Reads `override_params`: the options of the form that a target may set, and a provider's own parameters.

    Raises:
        InvalidRequest: A value is wrong, or the option is not a target's to set.
    """
    for name in overrides:
        if name.partition("[")[0] in _NOT_OVERRIDABLE:
            refuse(name[:64], "is the caller's to choose and not a target's.")
    if not overrides:
        return TranscriptionConfig()
    form = decode_object({"model": "-", **{name: value for name, value in overrides.items() if value is not None}})
    if overrides.get("model") is None:
        form.config.ClearField("model")
    if form.unknown:
        form.config.extra_params.update(form.unknown)  # type: ignore[arg-type]  # JSON values all of them
    return form.config


class PortkeyHeaders:
    """Reads the headers of requests.

    Args:
        planner: Plans the calls that have any.
        identity: Tells a provider's key from this gateway's.
    """

    def __init__(self, planner: PortkeyPlanner, identity: Identity) -> None:
        self._planner = planner
        self._identity = identity

    def request(self, scope: Scope) -> "PortkeyRequest":
        """What the headers of a request say. Close it when the call is over.

        Raises:
            InvalidRequest: A header is wrong; `param` names it.
        """
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            text = value.decode("latin-1").strip()
            if text:  # Portkey's SDKs send what was not set as nothing
                headers.setdefault(name.decode("latin-1"), text)
        timeout = None
        if (text := headers.get(_TIMEOUT)) is not None:
            if not text.isdecimal() or not text.isascii() or not 0 < int(text[:12]) <= _MAX_TIMEOUT_MS:
                refuse(_TIMEOUT, f"must be a whole number of milliseconds from 1 to {_MAX_TIMEOUT_MS}.")
            timeout = int(text)
        trace_id = headers.get(TRACE_HEADER)
        if trace_id is not None and (len(trace_id) > _MAX_NAME_BYTES or not trace_id.isascii()):
            refuse(TRACE_HEADER, f"must be at most {_MAX_NAME_BYTES} ASCII characters.")
        return PortkeyRequest(
            self._planner,
            self._root(headers),
            metadata=_metadata(headers),
            timeout_ms=timeout,
            pathname=scope["path"],
        )

    def _root(self, headers: Mapping[str, str]) -> Target | None:
        """The config object, completed by what stands in headers of its own; None when there is neither."""
        names = {"provider": _PROVIDER, "virtual_key": _VIRTUAL_KEY, "custom_host": _HOST}
        said: dict[str, str] = {}
        for key, name in names.items():
            if (given := headers.get(name)) is not None:
                said[key] = string(name, given, max_bytes=_MAX_HOST_BYTES if key == "custom_host" else _MAX_NAME_BYTES)
                if not given.isprintable():
                    refuse(name, "has control characters.")
        config = headers.get(CONFIG_PARAM)
        if not said and config is None:
            return None
        if said and "virtual_key" not in said and not said.get("provider", "").startswith("@"):
            own = self._identity.provider_key(headers)
            if own is not None and self._planner.settings.allow_caller_credentials:
                if not own.isprintable() or not own.isascii():
                    refuse("authorization", "has characters that no provider's key has.")
                said["api_key"] = string("authorization", own, max_bytes=_MAX_KEY_BYTES)
        if config is None:
            root = Target("config")
        elif config.startswith("{"):
            if len(config) > _MAX_CONFIG_BYTES:
                refuse(CONFIG_PARAM, f"is longer than {_MAX_CONFIG_BYTES} bytes.")
            # A header has bytes; those of a JSON text are UTF-8.
            value = json_value(CONFIG_PARAM, config.encode("latin-1"), max_depth=_MAX_CONFIG_DEPTH)
            root = parse_config(value, decode_overrides)
        else:
            root = self._planner.stored(config, decode_overrides)
        if said and (root.strategy is not None or not root.bare):
            refuse(
                next(name for key, name in names.items() if key in said),
                f"contradicts {CONFIG_PARAM}, whose targets say where the call goes. Leave one of them out.",
            )
        if not said:
            return root
        return Target(
            "config",
            provider=said.get("provider"),
            virtual_key=said.get("virtual_key"),
            custom_host=said.get("custom_host"),
            api_key=said.get("api_key"),
            overrides=root.overrides,
            retry=root.retry,
            timeout=root.timeout,
        )


class PortkeyRequest:
    """What one request's headers say."""

    def __init__(
        self,
        planner: PortkeyPlanner,
        root: Target | None,
        *,
        metadata: Mapping[str, str],
        timeout_ms: int | None,
        pathname: str,
    ) -> None:
        self._planner = planner
        self._root = root
        self._metadata = metadata
        self._timeout_ms = timeout_ms
        self._pathname = pathname
        self._lease = Lease()

    @property
    def needs_audio(self) -> bool:
        """The call cannot be planned before the whole recording is there."""
        return self._root is not None and self._root.needs_audio

    def apply(self, config: TranscriptionConfig) -> TranscriptionConfig:
        """Adds to the options what the headers say of them; the form's own win.

        Raises:
            InvalidRequest: The form has fallbacks, and the headers say where the call goes.
        """
        for key, value in self._metadata.items():
            if key not in config.labels.metadata:
                config.labels.metadata[key] = value
        if self._timeout_ms is not None and not config.routing.HasField("attempt_timeout"):
            config.routing.attempt_timeout.FromMilliseconds(self._timeout_ms)
        if self._root is not None:
            if config.routing.fallbacks:
                refuse("fallbacks", "contradicts Portkey's headers, which say where the call goes. Leave one out.")
            config.routing.disable_fallbacks = True
        return config

    def planner(self, recorded: Call | None) -> Planner | None:
        """What plans the call; None leaves it to the router.

        Args:
            recorded: The call, once the whole recording is in its spool; None while it is still coming.
        """
        root = self._root
        if root is None:
            return None

        def plan(config: TranscriptionConfig) -> list[Hop]:
            facts = Facts(
                metadata=dict(config.labels.metadata),
                params=_params(config),
                pathname=self._pathname,
                size_bytes=None if recorded is None else recorded.spool.size,
                duration_seconds=None if recorded is None else recorded.probe.seconds(),
            )
            return self._planner.plan(root, config, facts, self._lease)

        return plan

    def close(self) -> None:
        """Gives back what the plan needed."""
        self._planner.release(self._lease)


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    text = headers.get(_METADATA)
    if text is None:
        return {}
    value = json_value(_METADATA, text.encode("latin-1"))
    if not isinstance(value, dict) or len(value) > _MAX_LABELS:
        refuse(_METADATA, f"must be a JSON object with at most {_MAX_LABELS} texts.")
    for item in value.values():
        if not isinstance(item, str | int | float | None):
            refuse(_METADATA, "must have texts, and no objects or lists.")
    return {
        string(_METADATA, key, max_bytes=_MAX_NAME_BYTES): string(_METADATA, _as_text(item), max_bytes=_MAX_NAME_BYTES)
        for key, item in value.items()
        if item is not None
    }


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _params(config: TranscriptionConfig) -> dict[str, object]:
    """The options of a request by their REST names."""
    params: dict[str, object] = dict(config.extra_params)
    params["model"] = config.model
    for name in ("language", "prompt", "temperature"):
        if config.HasField(name):
            params[name] = getattr(config, name)
    params["response_format"] = _FORMAT_NAMES.get(config.response_format)
    params["timestamp_granularities"] = [
        TimestampGranularity.Name(number).rpartition("_")[2].lower() for number in config.timestamp_granularities
    ]
    params["include"] = [Include.Name(number).removeprefix("INCLUDE_").lower() for number in config.include]
    params["languages"], params["keywords"] = list(config.languages), list(config.keywords)
    params["user"] = config.labels.user
    # An empty value is the same as none.
    return {name: value for name, value in params.items() if value not in (None, "", [])}
