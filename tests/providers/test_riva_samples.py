"""Recordings as Riva takes them: out of WAV, as FLAC and Opus, whole frames only."""

import io
import itertools
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import EmptyAudio, UnsupportedAudio
from voxgate_server.providers.riva import riva_asr_pb2 as riva
from voxgate_server.providers.riva.samples import WavData

from tests.providers.riva_calling import WAV, RivaCalling
from tests.providers.riva_emulator import RivaEmulator
from tests.recordings import convert


def wav(samples: bytes, *, channels: int = 1, width: int = 2, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()


def chunked(*chunks: tuple[bytes, bytes], data: bytes, size: int | None = None) -> bytes:
    """A WAV file of these chunks, then the samples."""
    parts = [struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2) for name, body in chunks]
    parts.append(struct.pack("<4sI", b"data", len(data) if size is None else size) + data)
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(parts)


FMT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
SAMPLES = bytes(range(256)) * 40


class TestWavData:
    @given(
        st.lists(st.tuples(st.sampled_from([b"LIST", b"bext", b"fact"]), st.binary(max_size=50)), max_size=4),
        st.binary(max_size=200),
        st.sampled_from(["right", "zero", "unknown", "followed"]),
        st.lists(st.integers(0, 500), max_size=8),
    )
    def test_any_file_in_any_pieces(
        self, chunks: list[tuple[bytes, bytes]], samples: bytes, end: str, cuts: list[int]
    ) -> None:
        size = {"zero": 0, "unknown": 0xFFFFFFFF}.get(end)
        file = chunked(*chunks, FMT, data=samples, size=size)
        if end == "followed" and samples:
            file += b"LIST\x04\x00\x00\x00abcd"
        places = [0, *sorted(min(cut, len(file)) for cut in cuts), len(file)]
        reader = WavData()
        assert b"".join(reader.feed(file[a:b]) for a, b in itertools.pairwise(places)) == samples

    def test_a_huge_chunk_is_not_kept(self) -> None:
        reader = WavData()
        reader.feed(b"RIFF\xff\xff\xff\xffWAVE" + struct.pack("<4sI", b"LIST", 1 << 30))
        for _ in range(64):
            assert reader.feed(bytes(1 << 16)) == b""
        assert len(reader._head) <= 1 << 16


class TestFormats:
    @pytest.fixture
    async def emulator(self):
        async with RivaEmulator() as emulator:
            yield emulator

    @pytest.fixture
    def call(self, emulator: RivaEmulator, store: SpoolStore) -> RivaCalling:
        return RivaCalling(emulator, store)

    async def test_wav(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        with wave.open(io.BytesIO(WAV)) as file:
            samples = file.readframes(file.getnframes())
        await call()
        assert emulator.records[0].audio == samples

    @pytest.mark.parametrize(
        ("codec", "encoding", "width"),
        [
            ("pcm_s16le", riva.AudioEncoding.LINEAR_PCM, 2),
            ("pcm_mulaw", riva.AudioEncoding.MULAW, 1),
            ("pcm_alaw", riva.AudioEncoding.ALAW, 1),
        ],
    )
    async def test_wav_of_other_programs(
        self, call: RivaCalling, emulator: RivaEmulator, codec: str, encoding: int, width: int
    ) -> None:
        file = convert(WAV, "wav", codec, rate=8000)
        await call(data=file)
        [record] = emulator.records
        assert record.config is not None
        assert (record.config.encoding, record.config.sample_rate_hertz) == (encoding, 8000)
        assert record.audio == file[file.index(b"data") + 8 :]
        assert len(record.audio) == pytest.approx(len(WAV) / 4 * width, rel=0.01)

    async def test_extensible_wav_with_more_in_it(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        guid = b"\x01\x00\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x008\x9bq"
        fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 48_000, 96_000, 2, 16, 22, 16, 4) + guid
        await call(data=chunked((b"LIST", bytes(333)), (b"fmt ", fmt), (b"bext", bytes(90_000)), data=SAMPLES))
        [record] = emulator.records
        assert record.config is not None
        assert (record.config.sample_rate_hertz, bytes(record.audio)) == (48_000, SAMPLES)

    @pytest.mark.parametrize("channels", [2, 3])
    async def test_channels_are_mixed(self, call: RivaCalling, emulator: RivaEmulator, channels: int) -> None:
        frames = [tuple((frame * 37 + channel * 1000) % 60_000 - 30_000 for channel in range(channels))
                  for frame in range(50_000)]  # fmt: skip
        samples = b"".join(struct.pack(f"<{channels}h", *frame) for frame in frames)
        await call(data=wav(samples, channels=channels))
        [record] = emulator.records
        assert record.config is not None
        assert record.config.audio_channel_count == 1
        assert bytes(record.audio) == b"".join(struct.pack("<h", sum(frame) // channels) for frame in frames)

    async def test_half_a_sample_at_the_end_is_left_out(self, call: RivaCalling, emulator: RivaEmulator) -> None:
        await call(data=chunked(FMT, data=SAMPLES + b"x"))
        assert bytes(emulator.records[0].audio) == SAMPLES

    @pytest.mark.parametrize(
        ("container", "codec", "encoding", "rate", "layout", "channels"),
        [
            ("flac", "flac", riva.AudioEncoding.FLAC, 16_000, "mono", 1),
            ("flac", "flac", riva.AudioEncoding.FLAC, 44_100, "stereo", 2),
            ("ogg", "libopus", riva.AudioEncoding.OGGOPUS, 48_000, "mono", 1),
            ("ogg", "libopus", riva.AudioEncoding.OGGOPUS, 16_000, "stereo", 2),
        ],
    )
    async def test_as_it_is(
        self, call: RivaCalling, emulator: RivaEmulator, container: str, codec: str, encoding: int, rate: int,
        layout: str, channels: int,
    ) -> None:  # fmt: skip
        file = convert(WAV, container, codec, rate=rate, layout=layout)
        await call(data=file)
        [record] = emulator.records
        assert record.config is not None
        assert bytes(record.audio) == file
        found = (record.config.encoding, record.config.sample_rate_hertz, record.config.audio_channel_count)
        assert found == (encoding, rate, channels)

    @pytest.mark.parametrize(("name", "encoding"), [("PCM_S16LE", "LINEAR_PCM"), ("MULAW", "MULAW"), ("ALAW", "ALAW")])
    async def test_headerless(self, call: RivaCalling, emulator: RivaEmulator, name: str, encoding: str) -> None:
        # What looks like a container is none where the caller says so.
        data = b"RI" + SAMPLES
        await call(data=data, audio=f"raw_format {{encoding: AUDIO_ENCODING_{name} sample_rate_hertz: 8000}}")
        [record] = emulator.records
        assert record.config is not None
        assert record.config.encoding == riva.AudioEncoding.Value(encoding)
        assert (record.config.sample_rate_hertz, bytes(record.audio)) == (8000, data)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(lambda: convert(WAV, "mp3", "libmp3lame"), id="mp3"),
            pytest.param(lambda: convert(WAV, "ogg", "flac"), id="flac in ogg"),
            pytest.param(lambda: convert(WAV, "webm", "libopus", rate=48_000), id="webm"),
            pytest.param(lambda: convert(WAV, "wav", "pcm_s24le"), id="24 bits"),
            pytest.param(lambda: convert(WAV, "wav", "pcm_f32le"), id="float"),
            pytest.param(lambda: WAV[:20], id="a stump"),
            pytest.param(lambda: b"fLaC", id="a flac stump"),
            pytest.param(lambda: b"OggS", id="an ogg stump"),
            pytest.param(lambda: b"plain text", id="text"),
        ],
    )
    async def test_what_it_cannot_take(self, call: RivaCalling, emulator: RivaEmulator, data) -> None:
        with pytest.raises(UnsupportedAudio, match="it takes WAV"):
            await call(data=data())
        assert emulator.records == []

    async def test_bare_opus(self, call: RivaCalling) -> None:
        with pytest.raises(UnsupportedAudio, match="bare Opus"):
            await call(audio="raw_format {encoding: AUDIO_ENCODING_OPUS sample_rate_hertz: 48000}")

    @pytest.mark.parametrize("data", [chunked(FMT, data=b""), WAV[:44], chunked(FMT, data=b"")[:-8] + bytes(0)])
    async def test_no_samples(self, call: RivaCalling, emulator: RivaEmulator, data: bytes) -> None:
        with pytest.raises(EmptyAudio):
            await call(data=data)
        for record in emulator.records:
            await record.over.wait()
            assert not record.answered
