"""How the tests of conversions make one."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import av
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server.audio.convert import Conversion, Converter
from voxgate_server.audio.sniff import HEAD_BYTES, AudioKind, sniff
from voxgate_server.audio.spool import Spool, SpoolStore

__all__ = ["GEMINI", "OPENAI", "Sound", "begin", "contents", "converted", "listen", "packets"]

OPENAI = ("audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm")
GEMINI = ("audio/aac", "audio/aiff", "audio/flac", "audio/mpeg", "audio/ogg", "audio/wav")


@dataclass(frozen=True)
class Sound:
    """What a decoder makes of a file."""

    codec: str
    rate: int
    channels: int
    seconds: float
    samples: bytes
    """Of the frames, one after the other, in the decoder's own format."""


def listen(data: bytes) -> Sound:
    """Decodes a file."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        seconds, samples = 0.0, bytearray()
        for frame in container.decode(stream):
            seconds += frame.samples / frame.sample_rate
            each = 1 if frame.format.is_planar else frame.layout.nb_channels
            for plane in frame.planes:
                samples += bytes(plane)[: frame.samples * frame.format.bytes * each]
        return Sound(context.name, context.sample_rate, context.layout.nb_channels, seconds, bytes(samples))


def packets(data: bytes) -> list[bytes]:
    """The packets of sound in a file, without what a container puts before each of them."""
    with av.open(io.BytesIO(data)) as container:
        before = 7 if container.format.name == "aac" else 0
        return [bytes(packet)[before:] for packet in container.demux(container.streams.audio[0]) if packet.size]


def begin(converter: Converter, source: Spool, data: bytes, media_types: Sequence[str], **options: bool) -> Conversion:
    """Begins a conversion of a recording that is, or will be, in the spool."""
    return converter.begin(
        source, AudioHeader(), sniff(data[:HEAD_BYTES]), media_types=media_types, deadline=time.monotonic() + 60,
        who="somebody (their-model)", **options,
    )  # fmt: skip


async def contents(spool: Spool) -> bytes:
    """All that a spool will have."""
    return b"".join([chunk async for chunk in spool.cursor()])


async def converted(
    converter: Converter, store: SpoolStore, data: bytes, media_types: Sequence[str], *, live: bool = False
) -> tuple[AudioKind, bytes]:
    """What becomes of a recording.

    Args:
        converter: Does it.
        store: For the recording.
        data: The recording.
        media_types: What may become of it.
        live: It arrives while it is converted.
    """
    async with store.open(max_bytes=1 << 40) as source:
        if not live:
            await source.write(data)
            source.finish()
        conversion = begin(converter, source, data, media_types)
        try:
            if live:
                for at in range(0, len(data), 4000):
                    await source.write(data[at : at + 4000])
                source.finish()
            return await conversion.identify(), await contents(conversion.spool)
        finally:
            conversion.close()
