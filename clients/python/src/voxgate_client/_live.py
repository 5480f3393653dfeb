"""Messages of live sessions. Nothing here does I/O but taking the audio."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Unpack

from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioEncoding, AudioHeader, AudioTrailer, RawAudioFormat
from voxgate.transcription.v1.transcription_service_pb2 import LiveStart, TranscribeLiveRequest, TurnDetection

from voxgate_client._request import TranscriptionOptions, enum_value, read_options

__all__ = ["live_messages"]

_CHUNK_BYTES = 256 * 1024


async def live_messages(
    audio: AsyncIterable[bytes | TranscribeLiveRequest],
    *,
    sample_rate: int,
    encoding: "str | AudioEncoding.ValueType" = "pcm_s16le",
    channels: int = 1,
    turn_detection: TurnDetection | None = None,
    interim_results: bool = False,
    **options: Unpack[TranscriptionOptions],
) -> AsyncGenerator[TranscribeLiveRequest]:
    """The messages of a session, from `start` to `finish`. See AsyncClient.live.

    Raises:
        ValueError: An option has a value that cannot be.
        TypeError: An option is of the wrong type.
    """
    read = read_options(**options)
    raw = RawAudioFormat(
        encoding=enum_value(AudioEncoding, "encoding", encoding), sample_rate_hertz=sample_rate, channel_count=channels
    )
    yield TranscribeLiveRequest(
        start=LiveStart(
            config=read.config,
            audio=AudioHeader(raw_format=raw, filename=read.filename or "", media_type=read.media_type or ""),
            turn_detection=turn_detection,
            interim_results=interim_results,
        )
    )
    size, digest = 0, hashlib.sha256()
    async for piece in audio:
        if isinstance(piece, TranscribeLiveRequest):
            yield piece
            continue
        for at in range(0, len(piece), _CHUNK_BYTES):
            part = bytes(piece[at : at + _CHUNK_BYTES])
            size += len(part)
            digest.update(part)
            yield TranscribeLiveRequest(chunk=AudioChunk(data=part))
    yield TranscribeLiveRequest(finish=AudioTrailer(size_bytes=size, sha256=digest.digest()))
