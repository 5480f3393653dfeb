"""Files made to be expensive: small to send, huge when they are decoded, or with headers that lie.

Every one is refused within its limits or converted, in a process that does not grow; the next one is served.
"""

import asyncio
import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from voxgate_server.audio.convert import Converter
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import AudioTooLarge, EmptyAudio, UnsupportedAudio

from tests.audio.converting import GEMINI, OPENAI, converted
from tests.audio.duration_fixtures import box, element, made, opus_head, page, webm

MIB = 1 << 20
SECONDS = 120
FLAC_ONLY = ("audio/flac",)
REFUSALS = (AudioTooLarge, UnsupportedAudio, EmptyAudio)
QUIET = b"\xf8\xff\xfe"
"""20 ms of silence in Opus; a decoder makes 2 KiB of these three bytes."""


def opus_for_hours(packets: int = 400_000) -> bytes:
    """Hours of silence in Ogg."""
    body = [QUIET] * 255
    out = [page(1, 0, [opus_head()], flags=2), page(1, 0, [b"OpusTags" + bytes(8)], number=1)]
    out += [page(1, (number + 1) * 255 * 960, body, number=number + 2) for number in range(packets // 255)]
    # FFmpeg looks at the checksums.
    return b"".join(_summed(one) for one in out)


def _summed(one: bytes) -> bytes:
    value = 0
    for byte in one:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return one[:22] + struct.pack("<I", value) + one[26:]


def _crc(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)
    return value & 0xFFFFFFFF


_CRC = [_crc(value) for value in range(256)]


def flac_of_silence(seconds: int = 3600) -> bytes:
    """An hour in half a megabyte."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as target:
        stream = target.add_stream("flac", rate=48_000, layout="stereo", format="s16")
        frame = av.AudioFrame(format="s16", layout="stereo", samples=48_000)
        frame.sample_rate = 48_000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for _ in range(seconds):
            frame.pts = None
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()


def long_webm() -> bytes:
    """The same silence in WebM, in clusters of a second, for ten minutes."""
    blocks = [(20 * number, QUIET) for number in range(50)]
    return webm([(1000 * second, blocks) for second in range(600)], extra=element(0x63A2, opus_head()))


def nested_webm() -> bytes:
    """Elements in elements in elements."""
    data = b""
    for _ in range(2000):
        data = element(0xA0, data)
    return element(0x1A45DFA3, element(0x4282, b"webm")) + element(0x18538067, element(0x1F43B675, data))


def lying_wav(*, channels: int = 1, rate: int = 48_000, size: int = 0xFFFFFFF0, bits: int = 16) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 0xFFFFFFFF, channels * bits // 8 & 0xFFFF, bits)
    data = bytes(100_000)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data


def lying_mp3() -> bytes:
    """A Xing header that announces four billion frames."""
    data = bytearray(made("mp3 cbr 44 kHz stereo"))
    at = max(data.find(b"Xing"), data.find(b"Info"))
    data[at + 8 : at + 12] = b"\xff" * 4
    return bytes(data)


def lying_aiff() -> bytes:
    common = struct.pack(">HIH", 2, 0xFFFFFFFF, 16) + bytes.fromhex("401effffffffffffffff")
    body = b"AIFFCOMM" + struct.pack(">I", len(common)) + common + b"SSND\xff\xff\xff\xff" + bytes(10_000)
    return b"FORM\xff\xff\xff\xff" + body


def lying_caf() -> bytes:
    form = struct.pack(">d4sIIIII", 4.8e9, b"lpcm", 0, 0x7FFFFFFF, 1, 0x7FFFFFFF, 16)
    return b"caff\0\1\0\0desc" + struct.pack(">q", len(form)) + form + b"data" + struct.pack(">q", -1) + bytes(10_000)


def lying_mp4() -> bytes:
    """An index that announces four billion packets and has none of them."""
    entry = struct.pack(">I4s6xH8xHHHHI", 36, b"mp4a", 1, 2, 16, 0, 0, 44_100 << 16)
    tables = [
        box(b"stsd", struct.pack(">II", 0, 1), entry),
        box(b"stts", struct.pack(">IIII", 0, 0xFFFFFFFF, 0xFFFFFFFF, 1)),
        box(b"stsz", struct.pack(">III", 0, 1, 0xFFFFFFFF)),
        box(b"stsc", struct.pack(">IIIII", 0, 0xFFFFFFFF, 1, 0xFFFFFFFF, 1)),
        box(b"stco", struct.pack(">II", 0, 0xFFFFFFFF)),
    ]
    media = box(
        b"mdia", box(b"mdhd", bytes(12), struct.pack(">II4x", 1, 0xFFFFFFFF)),
        box(b"hdlr", bytes(8), b"soun", bytes(12)), box(b"minf", box(b"stbl", *tables)),
    )  # fmt: skip
    moov = box(b"moov", box(b"mvhd", bytes(12), struct.pack(">II", 1, 0xFFFFFFFF), bytes(80)), box(b"trak", media))
    return box(b"ftyp", b"isom\0\0\0\0isom") + moov + box(b"mdat", bytes(10_000))


BOMBS: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "long: hours of Opus, decoded": (opus_for_hours, FLAC_ONLY),
    "long: hours of Opus, remuxed": (opus_for_hours, ("audio/webm",)),
    "long: an hour of silence in FLAC, decoded": (flac_of_silence, ("audio/wav",)),
    "long: an hour of silence in FLAC, remuxed": (flac_of_silence, ("audio/ogg",)),
    "long: minutes of WebM, decoded": (long_webm, FLAC_ONLY),
    "long: minutes of WebM, remuxed": (long_webm, GEMINI),
    "nested WebM": (nested_webm, FLAC_ONLY),
    "WAV that claims 4 GiB": (lying_wav, FLAC_ONLY),
    "WAV of 65535 channels": (lambda: lying_wav(channels=0xFFFF), FLAC_ONLY),
    "WAV of 4 GHz": (lambda: lying_wav(rate=0xFFFFFFFF), FLAC_ONLY),
    "WAV of 64 channels": (lambda: lying_wav(channels=64, bits=32), FLAC_ONLY),
    "MP3 that claims four billion frames": (lying_mp3, FLAC_ONLY),
    "AIFF that claims everything": (lying_aiff, OPENAI),
    "CAF of packets of 2 GiB": (lying_caf, OPENAI),
    "MP4 of four billion packets": (lying_mp4, FLAC_ONLY),
}


def peak(pid: int) -> int:
    """The most memory a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status[status.index("VmHWM:") :].split()[1]) * 1024


@pytest.mark.parametrize("name", BOMBS)
async def test_it_stays_small(store: SpoolStore, name: str):
    make, media_types = BOMBS[name]
    data = make()
    assert len(data) <= 25 * MIB
    converter = Converter(store, max_bytes=8 * MIB, max_audio_seconds=SECONDS, workers=1)
    try:
        await converted(converter, store, made("webm"), FLAC_ONLY)
        [pid] = converter.worker_pids
        before = peak(pid)
        # Those that really are long are refused for it; of the others it is enough that they come to an end.
        with pytest.raises(AudioTooLarge) if name.startswith("long:") else contextlib.suppress(*REFUSALS):
            _, out = await asyncio.wait_for(converted(converter, store, data, media_types), 120)
            assert len(out) <= 8 * MIB
        assert converter.worker_pids == [pid]  # It neither died nor had to be killed.
        assert peak(pid) - before <= 64 * MIB
        _, out = await converted(converter, store, made("webm"), FLAC_ONLY)
        assert out
    finally:
        await converter.aclose()
    assert not store.used_bytes
