"""The messages of a live session as a state machine without any I/O: messages in, what they mean out.

    start ─→ (chunk | silence | commit | clear)* ─→ finish

Anything else is an error that names the message's index. Unlike an upload, a session may end without `finish`: what
was said is transcribed all the same, but nothing vouches for its being everything.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from voxgate.transcription.v1.audio_pb2 import AUDIO_ENCODING_OPUS, AUDIO_ENCODING_PCM_S16LE, AudioTrailer
from voxgate.transcription.v1.transcription_service_pb2 import (
    AUDIO_PROCESSING_COMPLETE,
    AUDIO_PROCESSING_REALTIME,
    AUDIO_PROCESSING_UNSPECIFIED,
    LiveStart,
    TranscribeLiveRequest,
)

from voxgate_server.audio.pcm import SAMPLE_BYTES, PcmReader
from voxgate_server.errors import (
    ChecksumMismatch,
    InvalidRequest,
    MessageOutOfOrder,
    UnsupportedAudio,
    UnsupportedParameter,
    VoxgateError,
)

__all__ = ["Action", "Cleared", "Committed", "Finished", "LiveIntake", "RecordingBytes", "Samples", "Started"]

_CHUNK_BYTES = 1 << 20
_PIECE_BYTES = 64 * 1024
_SILENCE_MS = 60_000
_SHA256_BYTES = 32
_ID_BYTES = 255
_LONGEST_PREFIX_MS = 10_000
_LONGEST_PAUSE_MS = 30_000
_RATES = range(8000, 48_001)
_CHANNELS = range(9)


@dataclass(frozen=True, slots=True)
class Started:
    """The session is to be opened."""

    start: LiveStart


@dataclass(frozen=True, slots=True)
class Samples:
    """The next samples, at most a second of them: signed 16 bit little-endian, mono, at the caller's rate."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class RecordingBytes:
    """The next bytes of a recording that is processed when it is complete."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """The turn is over."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The turn is to be forgotten."""


@dataclass(frozen=True, slots=True)
class Finished:
    """There is no more audio. `trailer` has to agree with a recording that was sent to be complete."""

    trailer: AudioTrailer


Action = Started | Samples | RecordingBytes | Committed | Cleared | Finished


class LiveIntake:
    """One session's messages, from the first to the last."""

    def __init__(self) -> None:
        self._messages = 0
        self._reader: PcmReader | None = None
        self._size = self._rest = 0
        self._second_bytes = 0
        self._digest = hashlib.sha256()
        self._samples = 0
        self.sample_rate = 0
        """In Hz; 0 before `start`, and for a recording that is processed when it is complete."""
        self.started = False
        """`start` has come."""
        self.finished = False
        """`finish` has come."""

    @property
    def seconds(self) -> float:
        """Audio received and done with, silence included."""
        return self._samples / self.sample_rate if self.sample_rate else 0.0

    def seconds_with(self, pcm: bytes) -> float:
        """`seconds` when these samples are done with."""
        return (self._samples + len(pcm) // SAMPLE_BYTES) / self.sample_rate

    def feed(self, message: TranscribeLiveRequest) -> Iterator[Action]:
        """Takes the next message.

        Its actions are to be done in order, before the next message. Whoever stops in between leaves the rest of it,
        from the action that was not done on, as if it had not come.

        Raises:
            MessageOutOfOrder: It may not come now.
            InvalidRequest: It is out of its bounds.
            UnsupportedAudio: Audio that cannot be read as it arrives.
            UnsupportedParameter: An option that cannot be honoured.
        """
        index, self._messages = self._messages, self._messages + 1
        try:
            yield from self._feed(message)
        except VoxgateError as error:
            error.metadata["message_index"] = str(index)
            error.message = f"Message {index} {error.message}"
            error.args = (error.message,)
            raise

    def reconnected(self) -> None:
        """The caller is back on another stream, which `start` has begun. All whole samples from before count."""
        self._messages = 1
        if self._reader is not None:
            self._size -= self._rest
            self._reader.rest, self._rest = b"", 0

    def _feed(self, message: TranscribeLiveRequest) -> Iterator[Action]:
        kind = message.WhichOneof("payload")
        if kind is None:
            raise _out_of_order("has no payload")
        if self.finished:
            raise _out_of_order(f"is `{kind}` and comes after `finish`")
        if not self.started and kind != "start":
            raise _out_of_order(f"is `{kind}`, but a session begins with `start`")
        if self.started and kind == "start":
            raise _out_of_order("is a second `start`")
        match kind:
            case "start":
                self._start(message.start)
                yield Started(message.start)
            case "chunk":
                yield from self._chunk(message.chunk.data)
            case "silence":
                yield from self._silence(message.silence.duration_ms)
            case "commit":
                self._need_turns(kind)
                yield Committed()
            case "clear":
                self._need_turns(kind)
                yield Cleared()
            case "finish":
                self._check(message.finish)
                self.finished = True
                yield Finished(message.finish)
            case _:
                assert_never(kind)

    def _start(self, start: LiveStart) -> None:
        if len(start.resume_session_id.encode()) > _ID_BYTES:
            raise InvalidRequest(f"has a resume_session_id of more than {_ID_BYTES} bytes.", param="resume_session_id")
        match start.processing:
            case mode if mode in {AUDIO_PROCESSING_UNSPECIFIED, AUDIO_PROCESSING_REALTIME}:
                self._read_live(start)
            case mode if mode == AUDIO_PROCESSING_COMPLETE:
                for name in ("turn_detection", "resume_session_id", "resume_sequence"):
                    if start.HasField(name):
                        raise InvalidRequest(
                            f"has {name}, which means nothing for a recording that is processed when it is complete.",
                            param=name,
                        )
            case unknown:
                raise InvalidRequest(f"has the processing number {unknown}, which there is not.", param="processing")
        self.started = True

    def _read_live(self, start: LiveStart) -> None:
        if not start.audio.HasField("raw_format"):
            raise UnsupportedAudio(
                "has no raw_format. Audio in a container cannot be read as it arrives in this release: send PCM, "
                "µ-law or A-law, or choose AUDIO_PROCESSING_COMPLETE.",
                param="audio.raw_format",
            )
        raw = start.audio.raw_format
        if raw.encoding == AUDIO_ENCODING_OPUS:
            raise UnsupportedAudio(
                "announces Opus packets, which are not read as they arrive in this release. Send PCM, µ-law or A-law.",
                param="audio.raw_format.encoding",
                metadata={"detected": "opus"},
            )
        if raw.sample_rate_hertz not in _RATES:
            raise InvalidRequest(
                f"has a sample rate of {raw.sample_rate_hertz} Hz; it must be between {_RATES[0]} and {_RATES[-1]}.",
                param="audio.raw_format.sample_rate_hertz",
            )
        if raw.channel_count not in _CHANNELS:
            raise InvalidRequest(
                f"has {raw.channel_count} channels; at most {_CHANNELS[-1]} are possible.",
                param="audio.raw_format.channel_count",
            )
        try:
            self._reader = PcmReader(raw)
        except ValueError:
            raise InvalidRequest(
                f"has the audio encoding number {raw.encoding}; there are PCM_S16LE, MULAW and ALAW.",
                param="audio.raw_format.encoding",
            ) from None
        _check_detection(start)
        self.sample_rate = raw.sample_rate_hertz
        width = SAMPLE_BYTES if raw.encoding == AUDIO_ENCODING_PCM_S16LE else 1
        self._second_bytes = self.sample_rate * width * (raw.channel_count or 1)

    def _chunk(self, data: bytes) -> Iterator[Action]:
        if len(data) > _CHUNK_BYTES:
            raise InvalidRequest(
                f"carries {len(data)} bytes; a chunk has at most {_CHUNK_BYTES}, and 20 to 100 ms of audio are best.",
                param="chunk",
                metadata={"limit_bytes": str(_CHUNK_BYTES)},
            )
        if self._reader is None:
            yield RecordingBytes(data)
            return
        # Piece by piece, because mixing many channels down takes its time, and each at most a second long.
        size = min(_PIECE_BYTES, self._second_bytes)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            taken = self._reader.rest + piece
            pcm = self._reader.feed(piece)
            if pcm:
                yield from self._samples_done(pcm)
            # Counted when it was done: a client that is cut off before sends it again.
            self._size += len(piece)
            self._rest = len(self._reader.rest)
            self._digest.update(taken[: len(taken) - self._rest])

    def _silence(self, milliseconds: int) -> Iterator[Action]:
        self._need_turns("silence")
        if not 1 <= milliseconds <= _SILENCE_MS:
            raise InvalidRequest(
                f"stands for {milliseconds} ms of silence; it must be 1 to {_SILENCE_MS}.", param="silence.duration_ms"
            )
        left = self.sample_rate * milliseconds // 1000
        while left > 0:
            count = min(left, self.sample_rate)
            left -= count
            yield from self._samples_done(bytes(SAMPLE_BYTES * count))

    def _samples_done(self, pcm: bytes) -> Iterator[Samples]:
        yield Samples(pcm)
        self._samples += len(pcm) // SAMPLE_BYTES

    def _need_turns(self, kind: str) -> None:
        if self._reader is None:
            raise _out_of_order(
                f"is `{kind}`, which means nothing for a recording that is processed when it is complete"
            )

    def _check(self, trailer: AudioTrailer) -> None:
        if trailer.HasField("sha256") and len(trailer.sha256) != _SHA256_BYTES:
            raise InvalidRequest(
                f"has a SHA-256 of {len(trailer.sha256)} bytes; it has {_SHA256_BYTES}.", param="finish.sha256"
            )
        if self._reader is None:
            return  # The recording's spool does it.
        if trailer.size_bytes != self._size:
            raise ChecksumMismatch(
                f"says that {trailer.size_bytes} bytes of audio were sent, and {self._size} came.",
                param="finish.size_bytes",
                metadata={"received_bytes": str(self._size)},
            )
        digest = self._digest.copy()
        digest.update(self._reader.rest)
        if trailer.HasField("sha256") and trailer.sha256 != digest.digest():
            raise ChecksumMismatch("has another SHA-256 than the audio that came.", param="finish.sha256")


def _check_detection(start: LiveStart) -> None:
    if not start.HasField("turn_detection"):
        return
    match start.turn_detection.WhichOneof("kind"):
        case None:
            raise InvalidRequest("has a turn_detection without a kind.", param="turn_detection")
        case "semantic_vad":
            raise UnsupportedParameter(
                "asks for semantic_vad, which the model cannot do. Use server_vad or manual.",
                param="turn_detection.semantic_vad",
                metadata={"parameter": "turn_detection.semantic_vad"},
            )
        case "server_vad":
            vad = start.turn_detection.server_vad
            if not 0 <= vad.threshold <= 1:
                raise InvalidRequest(
                    f"has the threshold {vad.threshold:g}; it must be between 0 and 1.",
                    param="turn_detection.server_vad.threshold",
                )
            for name, limit in (("prefix_padding_ms", _LONGEST_PREFIX_MS), ("silence_duration_ms", _LONGEST_PAUSE_MS)):
                if not 0 <= getattr(vad, name) <= limit:
                    raise InvalidRequest(
                        f"has a {name} of {getattr(vad, name)}; it must be 0 to {limit}.",
                        param=f"turn_detection.server_vad.{name}",
                    )


def _out_of_order(what: str) -> MessageOutOfOrder:
    return MessageOutOfOrder(f"{what}. The order is start, (chunk | silence | commit | clear)*, finish.")
