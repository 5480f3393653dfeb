"""What LiteLLM's configuration has no word for: the sections under the top-level key `voxgate:`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from voxgate_server.config.hosts import CustomHosts
from voxgate_server.config.types import ByteCount, Count, Port, Seconds, SecretText, Section, Text, Texts, wrong

__all__ = [
    "AdminSettings",
    "DebugSettings",
    "HedgingSettings",
    "KeySettings",
    "LimitSettings",
    "ListenSettings",
    "LiveSettings",
    "LocalSettings",
    "PortkeySettings",
    "StreamingSettings",
    "TlsSettings",
    "VoxgateSettings",
]

MIB = 1024 * 1024
GIB = 1024 * MIB
_KEY_CHARACTERS = 16


class ListenSettings(Section):
    """Where the two listeners are."""

    host: Text = "127.0.0.1"
    """Address of both listeners. Default 127.0.0.1; any other one needs a key for callers."""
    grpc_port: Port = 50051
    """TCP port of the gRPC listener, 0 for any free one. Default 50051."""
    rest_port: Port = 4000
    """TCP port of the REST listener, 0 for any free one. Default 4000."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.grpc_port == self.rest_port != 0:
            raise wrong("must have different values for grpc_port and rest_port")
        return self


class TlsSettings(Section):
    """Certificates of both listeners. Paths are relative to the file they stand in; without them: no TLS."""

    certificate: Path | None = None
    """PEM file with the server's certificate chain."""
    private_key: Path | None = None
    """PEM file with the key of the certificate."""
    client_ca: Path | None = None
    """PEM file with the authorities whose certificates a client has to show (mTLS; REST then speaks TLS 1.3 only).
    Default: none is asked for."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise wrong("must have both certificate and private_key, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise wrong("must have certificate and private_key when there is a client_ca")
        return self


class LimitSettings(Section):
    """Bounds of what a caller, and all callers together, can use."""

    max_audio_bytes: Annotated[ByteCount, Field(ge=1, le=1024 * GIB)] = GIB
    """Largest upload, in bytes. Default 1GiB, at most 1024GiB."""
    spool_window_bytes: Annotated[ByteCount, Field(ge=4096, le=GIB)] = MIB
    """Bytes of one upload kept in memory before the rest goes to a file. Default 1MiB, from 4KiB to 1GiB."""
    spool_quota_bytes: Annotated[ByteCount, Field(ge=4096, le=1024 * 1024 * GIB)] = 8 * GIB
    """Bytes of all uploads together, in memory and in files. Default 8GiB."""
    spool_directory: Path | None = None
    """Directory of the temporary files, relative to the file it stands in. Default: the system's."""
    upload_idle_seconds: Seconds = 30.0
    """Seconds without a byte of audio after which an upload is given up. Default 30, at most 86400."""
    request_timeout_seconds: Seconds = 600.0
    """Seconds a whole call may take, all attempts included. Default 600, at most 86400."""
    request_timeout_per_audio_second: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Seconds a call may take longer for every second of its recording, as far as its length is known when the first
    provider is asked; at most 86400 together. A caller's own deadline stays as it is. Default 1, from 0 to 100."""
    max_concurrent_calls: Annotated[Count, Field(ge=1, le=1_000_000)] = 1024
    """Calls in progress at once in one process; one more is refused. Default 1024."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds calls in progress have to end after a request to stop. Default 30, at most 3600."""


class LiveSettings(Section):
    """Bounds of live sessions (`TranscribeLive`). Their turns are calls like any other, under the limits above."""

    max_session_seconds: Seconds = 14_400.0
    """Seconds a session may last. Default 14400 (four hours), at most 86400."""
    idle_seconds: Seconds = 60.0
    """Seconds in which nothing at all comes, not even an empty chunk, after which a session ends. Default 60, at most
    86400."""
    max_silence_seconds: Seconds = 900.0
    """Seconds of audio without speech after which a session ends. Default 900, at most 86400."""
    max_turn_seconds: Annotated[Seconds, Field(ge=1, le=60)] = 60.0
    """Longest turn, in seconds of audio. Default 60, from 1 to 60."""
    parallel_turns: Annotated[Count, Field(ge=1, le=64)] = 4
    """Turns of one session that are recognised at once. Default 4, from 1 to 64."""
    unread_seconds: Seconds = 30.0
    """Seconds a client may read nothing before its session ends. Default 30, at most 86400."""
    resume_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds a session waits for a client that was cut off; 0: it does not. Default 30, at most 3600."""


class DebugSettings(Section):
    """What callers may see of the traffic with providers."""

    allow_raw_payloads: bool = False
    """Callers may ask for the raw request to and answer of the provider. Default false."""


class LocalSettings(Section):
    """The embedded recogniser."""

    workers: Annotated[Count, Field(ge=1, le=256)] | None = None
    """Recordings decoded at once, each on a processor core. Default: decided by the number of cores."""
    max_audio_seconds: Annotated[Seconds, Field(le=86400)] = 14400.0
    """Longest recording it accepts, in seconds of audio. Default 14400 (four hours), at most 86400."""


class PortkeySettings(Section):
    """What callers who speak Portkey's headers may do."""

    configs: Mapping[Text, dict[str, Any]] = Field(default={}, repr=False)
    """Routing objects by the id callers send in `x-portkey-config`. Default: none. They may hold credentials: never
    show them."""
    allow_caller_credentials: bool = False
    """Callers may send credentials for a provider along with a call. Default false: such a call is refused."""
    custom_hosts: CustomHosts = ()
    """Hosts callers may name in `x-portkey-custom-host`, each `host` (any port) or `host:port`, or with the
    `addresses` it may lead to where these are not public: `{host: asr.internal, addresses: [10.0.0.0/8]}`. Default:
    none."""


class KeySettings(Section):
    """A key for callers, besides the master key."""

    name: Text
    """Who has it, for logs."""
    key: SecretText
    """What callers send, at least 16 characters."""
    models: Texts = ()
    """Models it may be used for, by the names callers use; one `*` stands for any text. Default: all."""

    @model_validator(mode="after")
    def _long(self) -> Self:
        if len(self.key.get_secret_value()) < _KEY_CHARACTERS:
            raise wrong(f"must have at least {_KEY_CHARACTERS} characters in key")
        return self


class AdminSettings(Section):
    """The listener for operators, apart from the one for callers."""

    host: Text = "127.0.0.1"
    """Its address. Default 127.0.0.1."""
    port: Port | None = None
    """Its TCP port, 0 for any free one. Default: there is no such listener."""


class StreamingSettings(Section):
    """Answers that go out as events while they come into being."""

    sse_restart: bool = False
    """What becomes of server-sent events when the provider is lost after some of them went out, which cannot be taken
    back. False: an `error` event ends them. True: no more text is sent while the next route hears the recording from
    its start, and one `transcript.text.done` has the whole text of that, with `"restarted": true`; programs that join
    deltas instead of reading it would have a cut text. Over gRPC a `reset` event does it always. Default false."""


class HedgingSettings(Section):
    """A second attempt for calls that take unusually long. The slower one is cancelled; both may be billed."""

    percentile: Annotated[float, Field(ge=50, lt=100)] = 95.0
    """Percentile of the newest calls after which the second attempt begins. Default 95, from 50 to below 100."""


class VoxgateSettings(Section):
    """Everything under `voxgate:`."""

    listen: ListenSettings = ListenSettings()
    """Addresses and ports."""
    tls: TlsSettings = TlsSettings()
    """Certificates."""
    limits: LimitSettings = LimitSettings()
    """Sizes, times and numbers of calls."""
    live: LiveSettings = LiveSettings()
    """Live sessions."""
    debug: DebugSettings = DebugSettings()
    """Help in finding faults."""
    local: LocalSettings = LocalSettings()
    """The embedded recogniser."""
    keys: tuple[KeySettings, ...] = ()
    """Keys for callers, besides the master key. Default: none."""
    portkey: PortkeySettings = PortkeySettings()
    """Portkey's headers and routing objects."""
    streaming: StreamingSettings = StreamingSettings()
    """Answers that go out as events."""
    admin: AdminSettings = AdminSettings()
    """The listener for operators."""
    empty_transcript: Literal["accept", "fallback"] = "accept"
    """What a transcript without text is: an answer, or a reason to ask one other deployment or fallback, if there is
    one; when that says nothing either, the first empty transcript is the answer. Both may be billed. Default accept."""

    @model_validator(mode="after")
    def _keys_apart(self) -> Self:
        for values in ([one.name for one in self.keys], [one.key.get_secret_value() for one in self.keys]):
            if len(set(values)) < len(values):
                raise wrong("must have different names and different keys in keys")
        return self

    @model_validator(mode="after")
    def _ports_apart(self) -> Self:
        port = self.admin.port
        if port and port in {self.listen.grpc_port, self.listen.rest_port}:
            raise wrong("must have a value for admin.port that is not one of listen's ports")
        return self

    hedging: Mapping[Text, HedgingSettings] = {}
    """Model groups with a second attempt. Default: none."""
