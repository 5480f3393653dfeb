"""What the server and its worker processes say to each other, over the worker's stdin and stdout.

A frame is the size of its payload (4 bytes, big-endian), its kind (1 byte) and the payload: bytes of audio, or JSON.

    server → worker   START, AUDIO*, FINISH        a START without the FINISH before it drops the recording before
    worker → server   (UTTERANCE | PARTIAL | PIECE)*, then DONE or FAILED

DONE comes only after FINISH. Pieces are large, so each but the first few waits for a MORE of the server's. The end of
stdin ends the worker at any time.
"""

import struct
from enum import IntEnum
from typing import Any

import msgspec

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "PIECES_AHEAD",
    "SAMPLE_RATE",
    "Done",
    "Failed",
    "Failure",
    "FrameError",
    "Kind",
    "RawAudio",
    "Start",
    "decode_header",
    "encode",
]

_HEADER = struct.Struct("!IB")
HEADER_SIZE = _HEADER.size
"""Bytes before every payload."""
MAX_PAYLOAD = 2 << 20
"""Largest payload in bytes."""
SAMPLE_RATE = 16_000
"""Samples per second of everything that is decoded, in Hz."""
PIECES_AHEAD = 2
"""Pieces a worker gives unasked."""


class Kind(IntEnum):
    """Kinds of frames."""

    START = 1
    """A recording begins; payload: `Start`."""
    AUDIO = 2
    """Its next bytes."""
    FINISH = 3
    """It is complete; no payload."""
    MORE = 4
    """One more piece is wanted; no payload."""
    UTTERANCE = 16
    """A stretch was recognised; payload: the words, as the recogniser has them."""
    DONE = 17
    """The whole recording was read; payload: `Done`."""
    FAILED = 18
    """It cannot be; payload: `Failed`."""
    PIECE = 19
    """The next piece; payload: samples, signed 16 bit little-endian, mono, `SAMPLE_RATE`, or bytes of a file."""
    PARTIAL = 20
    """What was understood so far; payload: the text, as the recogniser has it."""


class Failure(IntEnum):
    """Why a recording cannot be read."""

    INTERNAL = 1
    """A fault of the worker; `message` is the name of the exception's class."""
    UNSUPPORTED = 2
    """Not audio, audio nobody reads here, or corrupt."""
    EMPTY = 3
    """No audio in it."""
    TOO_LONG = 4
    """More seconds than the limit."""


class RawAudio(msgspec.Struct):
    """Format of audio without a container."""

    format: str
    """FFmpeg's name: `s16le`, `mulaw` or `alaw`."""
    sample_rate: int
    """In Hz."""
    channels: int


class Start(msgspec.Struct):
    """Opens a recording."""

    max_audio_seconds: float
    raw: RawAudio | None = None
    piece_seconds: float = 60.0
    """The longest piece, for whom cuts."""
    partials: bool = False
    """It is spoken while it is sent, and what was understood is wanted as soon as possible. Needs `raw`, as `s16le`
    and with one channel."""
    options: dict[str, Any] = {}
    """What is to be done with it, in words of the worker's module."""
    processor_seconds: int = 0
    """Processor time it may take; 0 for no limit."""


class Done(msgspec.Struct):
    """The recording was read to its end."""

    duration: float
    """In seconds."""


class Failed(msgspec.Struct):
    """The recording cannot be read."""

    failure: Failure
    message: str
    """For people; says nothing about the machine."""
    detected: str = ""
    """What the bytes are, as far as it can be told."""


class FrameError(Exception):
    """The other side does not speak this protocol."""


def encode(kind: Kind, payload: bytes | msgspec.Struct = b"") -> bytes:
    """A frame as bytes.

    Raises:
        FrameError: The payload is larger than `MAX_PAYLOAD`.
    """
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    if len(data) > MAX_PAYLOAD:
        raise FrameError(f"a payload of {len(data)} bytes")
    return _HEADER.pack(len(data), kind) + data


def decode_header(header: bytes) -> tuple[Kind, int]:
    """Kind and payload size in bytes, out of the first `HEADER_SIZE` bytes of a frame.

    Raises:
        FrameError: No such kind, or a payload larger than `MAX_PAYLOAD`.
    """
    size, kind = _HEADER.unpack(header)
    if size > MAX_PAYLOAD:
        raise FrameError(f"a payload of {size} bytes")
    try:
        return Kind(kind), size
    except ValueError:
        raise FrameError(f"kind {kind}") from None
