"""The upload's state machine, without any I/O: messages in, what they mean out.

    start ─→ chunk* ─→ finish ─→ (half-close)

Anything else is an error, and so is an end without `finish`: to the server a client that died looks exactly like
one that closed its side, so only the trailer can tell a whole recording from the first part of one.
"""

from dataclasses import dataclass
from typing import assert_never

from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeUploadRequest

from voxgate_server.errors import InvalidRequest, MessageOutOfOrder, UploadIncomplete

__all__ = ["UploadBytes", "UploadFinished", "UploadSession", "UploadStarted"]

_CHUNK_BYTES = 1 << 20
_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True)
class UploadStarted:
    """The upload is open."""

    config: TranscriptionConfig
    audio: AudioHeader


@dataclass(frozen=True, slots=True)
class UploadBytes:
    """The next bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class UploadFinished:
    """The upload is complete, if it agrees with this."""

    size: int
    """Bytes the caller sent."""
    sha256: bytes | None
    """Digest over them, or None when the caller did not say."""


class UploadSession:
    """One upload, from its first message to its last."""

    def __init__(self) -> None:
        self._messages = 0
        self._started = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """`finish` has come."""
        return self._finished

    def feed(self, message: TranscribeUploadRequest) -> UploadStarted | UploadBytes | UploadFinished:
        """Takes the next message.

        Raises:
            MessageOutOfOrder: It may not come now; the error has its index.
            InvalidRequest: It is out of its bounds.
        """
        index, self._messages = self._messages, self._messages + 1
        kind = message.WhichOneof("payload")
        if kind is None:
            raise self._out_of_order(index, "has no payload")
        if self._finished:
            raise self._out_of_order(index, f"is `{kind}` and comes after `finish`")
        if not self._started and kind != "start":
            raise self._out_of_order(index, f"is `{kind}`, but a stream begins with `start`")
        if self._started and kind == "start":
            raise self._out_of_order(index, "is a second `start`")
        match kind:
            case "start":
                self._started = True
                return UploadStarted(message.start.config, message.start.audio)
            case "chunk":
                data = message.chunk.data
                if len(data) > _CHUNK_BYTES:
                    raise InvalidRequest(
                        f"Message {index} carries {len(data)} bytes; a chunk has at most {_CHUNK_BYTES}, and 64 to "
                        "256 KiB are best.",
                        param="chunk",
                        metadata={"message_index": str(index), "limit_bytes": str(_CHUNK_BYTES)},
                    )
                return UploadBytes(data)
            case "finish":
                self._finished = True
                trailer = message.finish
                sha256 = trailer.sha256 if trailer.HasField("sha256") else None
                if sha256 is not None and len(sha256) != _SHA256_BYTES:
                    raise InvalidRequest(
                        f"A SHA-256 has {_SHA256_BYTES} bytes, this one {len(sha256)}.", param="finish.sha256"
                    )
                return UploadFinished(trailer.size_bytes, sha256)
            case _:
                assert_never(kind)

    def end(self) -> None:
        """The caller closed its side.

        Raises:
            UploadIncomplete: Before `finish`.
        """
        if not self._started:
            raise MessageOutOfOrder("The stream ended without any message; it begins with `start`.")
        if not self._finished:
            raise UploadIncomplete(
                f"The upload ended after {self._messages} messages without `finish`. Nothing of it was transcribed; "
                "send the recording again and close it with `finish`.",
                metadata={"messages": str(self._messages)},
            )

    @staticmethod
    def _out_of_order(index: int, what: str) -> MessageOutOfOrder:
        return MessageOutOfOrder(
            f"Message {index} {what}. The order is start, chunk*, finish.", metadata={"message_index": str(index)}
        )
