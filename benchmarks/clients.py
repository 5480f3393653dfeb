"""The callers: raw HTTP/1.1 and grpc.aio, both with bodies that are prepared before the clock starts."""

import asyncio
import contextlib
import functools
import json
import time
from typing import Final

from grpc import aio
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioSource, AudioTrailer
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2 import (
    TranscribeRequest,
    TranscribeUploadRequest,
    UploadStart,
)
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub

from benchmarks.load import BadReplyError, Load, Recording

__all__ = ["GrpcCallers", "GrpcClient", "RestClient"]

_BOUNDARY: Final = b"voxgate-bench-5f0c8f9d1b"
_CHANNELS: Final = 64


class RestClient:
    """A keep-alive connection to `POST /v1/audio/transcriptions`, the fields before the file.

    Args:
        port: Port on 127.0.0.1.
        key: API key.
        prefix: Path in front of `/v1`.
    """

    def __init__(self, port: int, key: str, prefix: str = "") -> None:
        self._port = port
        self._head = (
            f"POST {prefix}/v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {key}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n"
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def transcribe(self, rid: str, recording: Recording, load: Load) -> tuple[float, str]:
        """See `benchmarks.load.Client`."""
        reader, writer = self._streams = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
        before, after = _form(load.model, rid)
        pieces = recording.pieces(load.piece_bytes)
        if load.piece_seconds:
            head = self._head + b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(before)
            last = _chunk(pieces[-1] + after) + b"0\r\n\r\n"
        else:
            length = len(before) + len(recording.data) + len(after)
            head = self._head + b"Content-Length: %d\r\n\r\n" % length + before
            last = pieces[-1] + after
        if len(pieces) == 1 and not load.piece_seconds:
            last_sent = time.monotonic()
            writer.write(head + last)
            return last_sent, await self._transcript(reader)
        started = last_sent = time.monotonic()
        writer.write(head)
        # Whoever refuses an upload answers before its end.
        reply = asyncio.ensure_future(self._transcript(reader))
        try:
            for number, piece in enumerate(pieces):
                await load.due(started, number)
                if reply.done():
                    break
                last_sent = time.monotonic()
                if number == len(pieces) - 1:
                    writer.write(last)
                else:
                    writer.write(_chunk(piece) if load.piece_seconds else piece)
                await writer.drain()
            return last_sent, await reply
        except ConnectionError:
            await asyncio.wait([reply], timeout=1)
            if reply.done() and isinstance(reply.exception(), BadReplyError):
                await reply
            raise
        finally:
            reply.cancel()

    async def _transcript(self, reader: asyncio.StreamReader) -> str:
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = {name: value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        else:
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        if headers.get(b"connection") == b"close":
            await self.close()
        status = lines[0].split(b" ")[1]
        if status != b"200":
            raise BadReplyError(f"status {status.decode()}: {body[:300].decode(errors='replace')}")
        try:
            return str(json.loads(body)["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadReplyError(f"not OpenAI's answer: {body[:100]!r}") from error

    async def close(self) -> None:
        """Ends the connection; the next call opens another."""
        if self._streams:
            writer, self._streams = self._streams[1], None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _form(model: str, rid: str) -> tuple[bytes, bytes]:
    """What stands before and after the bytes of the file."""
    fields = "".join(
        f'--{_BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("model", model), ("response_format", "json"), ("prompt", rid))
    )
    file = (
        f'--{_BOUNDARY.decode()}\r\nContent-Disposition: form-data; name="file"; filename="speech.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    return (fields + file).encode(), b"\r\n--" + _BOUNDARY + b"--\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class GrpcClient:
    """A caller of the TranscriptionService.

    Args:
        channel: The channel; it stays open.
        key: API key.
    """

    def __init__(self, channel: aio.Channel, key: str) -> None:
        self._service = TranscriptionServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def transcribe(self, rid: str, recording: Recording, load: Load) -> tuple[float, str]:
        """See `benchmarks.load.Client`."""
        config = TranscriptionConfig(model=load.model, prompt=rid)
        if load.unary:
            audio = AudioSource(data=recording.data, filename="speech.wav", media_type="audio/wav")
            last_sent = time.monotonic()
            answer = await self._service.Transcribe(
                TranscribeRequest(config=config, audio=audio),
                metadata=self._metadata,
                timeout=load.call_seconds,
                wait_for_ready=True,
            )
            return last_sent, answer.transcription.text
        header = AudioHeader(filename="speech.wav", media_type="audio/wav")
        start = TranscribeUploadRequest(start=UploadStart(config=config, audio=header))
        trailer = AudioTrailer(size_bytes=len(recording.data), sha256=recording.sha256)
        chunks = _chunks(recording, load.piece_bytes)
        started = last_sent = time.monotonic()
        call = self._service.TranscribeUpload(metadata=self._metadata, timeout=load.call_seconds, wait_for_ready=True)
        # A call that has already failed takes no more messages; awaiting it tells why.
        with contextlib.suppress(asyncio.InvalidStateError):
            await call.write(start)
            for number, message in enumerate(chunks):
                await load.due(started, number)
                last_sent = time.monotonic()
                await call.write(message)
            await call.write(TranscribeUploadRequest(finish=trailer))
            await call.done_writing()
        return last_sent, (await call).transcription.text

    async def close(self) -> None:
        """Does nothing: the channel belongs to GrpcCallers."""


@functools.lru_cache(maxsize=16)
def _chunks(recording: Recording, size: int) -> list[TranscribeUploadRequest]:
    return [TranscribeUploadRequest(chunk=AudioChunk(data=piece)) for piece in recording.pieces(size)]


class GrpcCallers:
    """Callers over gRPC: the first 64 have a connection of their own, more share them.

    Args:
        port: Port on 127.0.0.1.
        key: API key.
    """

    def __init__(self, port: int, key: str) -> None:
        self._target, self._key = f"127.0.0.1:{port}", key
        self._channels: dict[int, aio.Channel] = {}

    async def connect(self, number: int) -> GrpcClient:
        """The client of the caller with this number."""
        slot = number % _CHANNELS
        if slot not in self._channels:
            options = [("grpc.use_local_subchannel_pool", 1)]  # otherwise all channels share one connection
            self._channels[slot] = aio.insecure_channel(self._target, options=options)
        return GrpcClient(self._channels[slot], self._key)

    async def close(self) -> None:
        """Ends all connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
