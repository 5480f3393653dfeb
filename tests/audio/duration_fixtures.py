"""Recordings in every container, as programs really write them, and how long each plays."""

import functools
import io
import struct
from collections.abc import Callable

import av

from tests.recordings import convert, recording

SPEECH = recording("demo-thanks.wav")
PCM = SPEECH.data[SPEECH.data.index(b"data") + 8 :]
RATE = 16_000


def decoded_seconds(data: bytes) -> float:
    """What a decoder plays: the samples of all frames."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        frames = [(frame.samples, frame.sample_rate) for frame in container.decode(stream)]
    return sum(samples / rate for samples, rate in frames)


def piped(container: str, codec: str, **arguments: object) -> bytes:
    """As FFmpeg writes into a pipe, where it cannot go back to fill in what it learns at the end."""
    out = _Pipe()
    convert_with(container, codec, out=out, **arguments)  # type: ignore[arg-type]
    return bytes(out.data)


def vbr(options: dict[str, str] | None = None) -> bytes:
    """An MP3 whose frames are of many sizes."""
    return convert_with(
        "mp3", "libmp3lame", rate=44_100, options=options, codec_options={"b": "0", "compression_level": "5"}, quality=4
    )


def convert_with(
    container: str, codec: str, *, rate: int = RATE, layout: str = "mono", options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None, data: bytes = SPEECH.data, quality: int | None = None,
    out: io.RawIOBase | io.BytesIO | None = None,
) -> bytes:  # fmt: skip
    """As `convert`, with options of the encoder."""
    out = io.BytesIO() if out is None else out
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container, options=options or {}) as target:
        stream = target.add_stream(codec, rate=rate, layout=layout, options=codec_options or {})
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality * 118  # FF_QP2LAMBDA
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                target.mux(stream.encode(part))
        for part in resampler.resample(None):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return out.getvalue() if isinstance(out, io.BytesIO) else b""


def film(container: str, sound: str, picture: str, *, rate: int = 48_000) -> bytes:
    """Pictures, two seconds more of them than of sound, and the recording."""
    out = io.BytesIO()
    with av.open(io.BytesIO(SPEECH.data)) as source, av.open(out, "w", format=container) as target:
        pictures = target.add_stream(picture, rate=10, width=64, height=64)
        pictures.pix_fmt = "yuv420p"
        stream = target.add_stream(sound, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 0)
        for number in range(int(SPEECH.seconds + 2) * 10):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            target.mux(pictures.encode(frame))
        target.mux(pictures.encode(None))
        for item in source.decode(audio=0):
            for part in resampler.resample(item):
                target.mux(stream.encode(part))
        for part in resampler.resample(None):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return out.getvalue()


def index_first(data: bytes) -> bytes:
    """An MP4 with its moov before its mdat."""
    boxes, at = {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes[data[at + 4 : at + 8]] = data[at : at + size]
        at += size
    moov = bytearray(boxes[b"moov"])
    offsets = moov.index(b"stco") + 8
    for entry in range(int.from_bytes(moov[offsets : offsets + 4], "big")):
        place = offsets + 4 + 4 * entry
        moved = int.from_bytes(moov[place : place + 4], "big") + len(moov)
        moov[place : place + 4] = moved.to_bytes(4, "big")
    return boxes[b"ftyp"] + moov + boxes.get(b"free", b"") + boxes[b"mdat"]


class _Pipe(io.RawIOBase):
    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: object) -> int:
        self.data += data  # type: ignore[operator]
        return len(data)  # type: ignore[arg-type]


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<") -> bytes:
    """A chunk of RIFF or IFF; `size` is what it claims."""
    return name + struct.pack(order + "I", len(body) if size is None else size) + body + b"\0" * (len(body) & 1)


def wav(
    data: bytes = PCM, *, fmt: bytes | None = None, size: int | None = None, before: bytes = b"", after: bytes = b"",
    order: str = "<", magic: bytes = b"RIFF",
) -> bytes:  # fmt: skip
    fmt = fmt or struct.pack(order + "HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    body = b"WAVE" + chunk(b"fmt ", fmt, order=order) + before + chunk(b"data", data, size, order) + after
    return magic + struct.pack(order + "I", len(body)) + body


MADE: dict[str, Callable[[], bytes]] = {
    "wav": lambda: SPEECH.data,
    "wav of FFmpeg": lambda: convert(SPEECH.data, "wav", "pcm_s16le"),
    "wav into a pipe": lambda: piped("wav", "pcm_s16le"),
    "wav alaw": lambda: convert(SPEECH.data, "wav", "pcm_alaw", rate=8000),
    "wav mulaw": lambda: convert(SPEECH.data, "wav", "pcm_mulaw", rate=8000),
    "wav 24 bit stereo": lambda: convert(SPEECH.data, "wav", "pcm_s24le", rate=48_000, layout="stereo"),
    "wav float": lambda: convert(SPEECH.data, "wav", "pcm_f32le"),
    "wav ima adpcm": lambda: convert(SPEECH.data, "wav", "adpcm_ima_wav"),
    "wav ms adpcm": lambda: convert(SPEECH.data, "wav", "adpcm_ms"),
    "rf64": lambda: convert(SPEECH.data, "wav", "pcm_s16le", options={"rf64": "always"}),
    "flac": lambda: convert(SPEECH.data, "flac", "flac"),
    "flac into a pipe": lambda: piped("flac", "flac"),
    "flac 48 kHz stereo": lambda: piped("flac", "flac", rate=48_000, layout="stereo"),
    "flac behind a tag": lambda: b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + convert(SPEECH.data, "flac", "flac"),
    "mp3 cbr 16 kHz": lambda: convert(SPEECH.data, "mp3", "libmp3lame"),
    "mp3 cbr 44 kHz stereo": lambda: convert(SPEECH.data, "mp3", "libmp3lame", rate=44_100, layout="stereo"),
    "mp3 vbr with xing": vbr,
    "mp3 vbr without xing": lambda: vbr({"write_xing": "0"}),
    "mp3 without xing": lambda: convert(SPEECH.data, "mp3", "libmp3lame", rate=44_100, options={"write_xing": "0"}),
    "mp3 without anything": lambda: convert(
        SPEECH.data, "mp3", "libmp3lame", rate=22_050, options={"write_xing": "0", "id3v2_version": "0"}
    ),
    "mp3 with id3v1": lambda: convert(SPEECH.data, "mp3", "libmp3lame", options={"write_id3v1": "1"}),
    "mp3 into a pipe": lambda: piped("mp3", "libmp3lame", rate=44_100),
    "mp2": lambda: convert(SPEECH.data, "mp2", "mp2", rate=44_100),
    "adts": lambda: convert(SPEECH.data, "adts", "aac", rate=44_100),
    "adts 16 kHz": lambda: convert(SPEECH.data, "adts", "aac"),
    "m4a index last": lambda: convert(SPEECH.data, "ipod", "aac", rate=44_100),
    "m4a index first": lambda: index_first(made("m4a index last")),
    "mp4 16 kHz": lambda: convert(SPEECH.data, "mp4", "aac"),
    "m4a alac": lambda: convert(SPEECH.data, "ipod", "alac"),
    "mp4 flac": lambda: convert(SPEECH.data, "mp4", "flac"),
    "mp4 opus": lambda: convert(SPEECH.data, "mp4", "libopus", rate=48_000),
    "mov pcm": lambda: convert(SPEECH.data, "mov", "pcm_s16le"),
    "3gp aac": lambda: convert(SPEECH.data, "3gp", "aac"),
    "fragmented mp4": lambda: piped(
        "mp4", "aac", rate=44_100, options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
    ),
    "fragmented mp4, dash": lambda: piped(
        "mp4", "aac", options={"movflags": "dash+delay_moov+default_base_moof", "frag_duration": "1000000"}
    ),
    "fragmented mp4 of opus": lambda: piped(
        "mp4", "libopus", rate=48_000, options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
    ),
    "fragmented mp4 with a first part": lambda: piped(
        "mp4", "aac", options={"movflags": "frag_keyframe", "frag_duration": "700000"}
    ),
    "ogg opus": lambda: convert(SPEECH.data, "ogg", "libopus", rate=48_000),
    "ogg opus of small pages": lambda: convert(
        SPEECH.data, "ogg", "libopus", rate=48_000, options={"page_duration": "20000"}
    ),
    "ogg opus stereo": lambda: convert(SPEECH.data, "opus", "libopus", rate=48_000, layout="stereo"),
    "ogg vorbis": lambda: piped(
        "ogg", "vorbis", rate=44_100, layout="stereo", codec_options={"strict": "experimental"}
    ),
    "ogg flac": lambda: convert(SPEECH.data, "ogg", "flac"),
    "webm": lambda: convert(SPEECH.data, "webm", "libopus", rate=48_000),
    "webm into a pipe": lambda: piped("webm", "libopus", rate=48_000),
    "webm live": lambda: piped("webm", "libopus", rate=48_000, options={"live": "1", "cluster_time_limit": "1000"}),
    "webm 60 ms": lambda: piped("webm", "libopus", rate=48_000, codec_options={"frame_duration": "60"}),
    "mka aac": lambda: convert(SPEECH.data, "matroska", "aac", rate=44_100),
    "mka aac into a pipe": lambda: piped("matroska", "aac", rate=44_100),
    "mka flac": lambda: convert(SPEECH.data, "matroska", "flac"),
    "webm vorbis": lambda: convert_with(
        "webm", "vorbis", rate=44_100, layout="stereo", codec_options={"strict": "experimental"}
    ),
    "mka pcm into a pipe": lambda: piped("matroska", "pcm_s16le"),
    "mka mp3": lambda: convert(SPEECH.data, "matroska", "libmp3lame", rate=44_100),
    "mka mp3 16 kHz into a pipe": lambda: piped("matroska", "libmp3lame"),
    "mp4 film": lambda: film("mp4", "aac", "mpeg4"),
    "mov film": lambda: film("mov", "pcm_s16le", "mpeg4"),
    "webm film": lambda: film("webm", "libopus", "libvpx"),
    "mka film": lambda: film("matroska", "aac", "mpeg4"),
    "aiff": lambda: convert(SPEECH.data, "aiff", "pcm_s16be"),
    "aiff 24 bit": lambda: convert(SPEECH.data, "aiff", "pcm_s24be", rate=44_100, layout="stereo"),
    "aifc mulaw": lambda: convert(SPEECH.data, "aiff", "pcm_mulaw", rate=8000),
    "aifc little-endian": lambda: convert(SPEECH.data, "aiff", "pcm_s16le"),
    "au": lambda: convert(SPEECH.data, "au", "pcm_mulaw", rate=8000),
    "au 16 bit into a pipe": lambda: piped("au", "pcm_s16be"),
    "caf": lambda: convert(SPEECH.data, "caf", "pcm_s16le"),
    "caf into a pipe": lambda: piped("caf", "pcm_s16le"),
    "caf alac": lambda: convert(SPEECH.data, "caf", "alac"),
}  # fmt: skip


@functools.cache
def made(name: str) -> bytes:
    """The recording of that name."""
    return MADE[name]()


PLAYED_AS_RECORDED = frozenset({
    "mp4 film", "m4a index last", "m4a index first", "mp4 16 kHz", "mp4 opus", "3gp aac", "fragmented mp4, dash",
    "caf alac",
})  # fmt: skip
"""Their index says which part of the last packet is sound; PyAV decodes all of it (of ALAC in CAF less)."""
PLAYED_AS_TIMED = frozenset({"fragmented mp4", "fragmented mp4 of opus", "fragmented mp4 with a first part"})
"""Without an edit list, so with priming; again the last packet is shorter than what is decoded."""


@functools.cache
def truth(name: str) -> float:
    """How many seconds it plays."""
    if name in PLAYED_AS_RECORDED:
        return SPEECH.seconds
    return packet_seconds(made(name)) if name in PLAYED_AS_TIMED else decoded_seconds(made(name))


def packet_seconds(data: bytes) -> float:
    """The lengths of all packets that FFmpeg's demuxer finds."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        return float(
            sum((packet.duration or 0) * packet.time_base for packet in container.demux(stream) if packet.size)
        )


def opus_head(*, skipped: int = 312) -> bytes:
    return b"OpusHead" + struct.pack("<BBHIhB", 1, 1, skipped, 48_000, 0, 0)


def page(serial: int, position: int, packets: list[bytes], *, flags: int = 0, number: int = 0) -> bytes:
    """A page of Ogg with whole packets (its checksum is left out)."""
    table = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, serial, number, 0, len(table))
    return head + table + b"".join(packets)


def element(name: int, body: bytes, *, unknown: bool = False) -> bytes:
    """An EBML element."""
    size = b"\x01" + b"\xff" * 7 if unknown else struct.pack(">Q", len(body) | 1 << 56)
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + size + body


def webm(clusters: list[tuple[int, list[tuple[int, bytes]]]], *, codec: bytes = b"A_OPUS", extra: bytes = b"") -> bytes:
    """As a browser's MediaRecorder writes it: no Duration, and segment and clusters of unknown size."""
    track = element(0xD7, b"\1") + element(0x83, b"\2") + element(0x86, codec) + extra
    data = element(0x1A45DFA3, element(0x4282, b"webm")) + element(0x18538067, b"", unknown=True)
    data += element(0x1549A966, element(0x2AD7B1, (1_000_000).to_bytes(3, "big")))
    data += element(0x1654AE6B, element(0xAE, track))
    for time, blocks in clusters:
        data += element(0x1F43B675, b"", unknown=True) + element(0xE7, time.to_bytes(4, "big"))
        for offset, packet in blocks:
            body = b"\x81" + struct.pack(">hB", offset, 0x80) + packet
            data += b"\xa3" + (0x4000 | len(body)).to_bytes(2, "big") + body
    return data


def box(name: bytes, *bodies: bytes) -> bytes:
    """A box of MP4."""
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + name + body


def mp4(
    packets: list[int],
    *,
    ticks: int = 1024,
    timescale: int = RATE,
    claimed: int | None = None,
    media: bytes | None = None,
    sizes: list[int] | None = None,
) -> bytes:
    """An MP4 whose index comes first, of packets with these sizes."""
    total = ticks * len(packets) if claimed is None else claimed
    stts = box(b"stts", struct.pack(">IIII", 0, 1, len(packets), ticks))
    sizes = packets if sizes is None else sizes
    stsz = box(b"stsz", struct.pack(f">III{len(sizes)}I", 0, 0, len(sizes), *sizes))
    mdhd = box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, timescale, total, 0))
    hdlr = box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"soun"), b"\0")
    trak = box(b"trak", box(b"mdia", mdhd, hdlr, box(b"minf", box(b"stbl", stts, stsz))))
    mvhd = box(b"mvhd", struct.pack(">IIIII80x", 0, 0, 0, timescale, total))
    media = bytes(sum(packets)) if media is None else media
    return box(b"ftyp", b"M4A \0\0\0\0") + box(b"moov", mvhd, trak) + box(b"mdat", media)
