"""Headerless samples get a header and nothing else."""

import io
import time
import wave

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioEncoding, AudioHeader, RawAudioFormat
from voxgate_server.audio.convert import Conversion, Converter, media_type_of
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.spool import Spool, SpoolStore

from tests.audio.converting import contents, listen
from tests.recordings import convert, recording

SPEECH = recording("demo-thanks.wav")
PCM = SPEECH.data[SPEECH.data.index(b"data") + 8 :]
S16, MULAW, ALAW = (
    AudioEncoding.AUDIO_ENCODING_PCM_S16LE, AudioEncoding.AUDIO_ENCODING_MULAW, AudioEncoding.AUDIO_ENCODING_ALAW,
)  # fmt: skip


def header(encoding: AudioEncoding.ValueType, rate: int, size: int | None = None, channels: int = 0) -> AudioHeader:
    raw = RawAudioFormat(encoding=encoding, sample_rate_hertz=rate, channel_count=channels)
    return AudioHeader(raw_format=raw, size_bytes=size)


def begin(converter: Converter, source: Spool, audio: AudioHeader, *, needs_length: bool = False) -> Conversion:
    return converter.begin(
        source, audio, None, media_types=("audio/wav",), deadline=time.monotonic() + 30, who="x",
        needs_length=needs_length,
    )  # fmt: skip


def samples_of(codec: str, rate: int) -> bytes:
    data = convert(SPEECH.data, "wav", codec, rate=rate)
    return data[data.index(b"data") + 8 :]


@pytest.mark.parametrize(
    ("encoding", "codec", "rate"),
    [(S16, "pcm_s16le", 48_000), (MULAW, "pcm_mulaw", 8000), (ALAW, "pcm_alaw", 16_000)],
)
@pytest.mark.parametrize("known", ["there", "announced", "unknown", "waited for"])
async def test_it_plays_as_it_was_meant(converter: Converter, store: SpoolStore, encoding, codec, rate, known):
    raw = samples_of(codec, rate)
    audio = header(encoding, rate, len(raw) if known == "announced" else None)
    async with store.open(max_bytes=1 << 30) as source:
        if known == "there":
            await source.write(raw)
            source.finish()
        conversion = begin(converter, source, audio, needs_length=known == "waited for")
        if known != "there":
            await source.write(raw[:5000])
            if known != "waited for":
                assert (await conversion.identify()).name == "wav"  # Before the rest has come.
            await source.write(raw[5000:])
            source.finish()
        assert (await conversion.identify()).name == "wav"
        out = await contents(conversion.spool)
        conversion.close()
    assert out.endswith(raw)
    sound = listen(out)
    assert (sound.codec, sound.rate, sound.channels) == (codec, rate, 1)
    assert sound.seconds == pytest.approx(SPEECH.seconds, abs=0.001)
    sizes = int.from_bytes(out[4:8], "little"), int.from_bytes(out[out.index(b"data") + 4 :][:4], "little")
    assert sizes == ((0xFFFFFFFF, 0xFFFFFFFF) if known == "unknown" else (len(out) - 8, len(raw)))
    assert not converter.worker_pids


async def test_stereo_and_a_byte_too_many(converter: Converter, store: SpoolStore):
    async with store.open(max_bytes=1 << 30) as source:
        await source.write(b"\x7f" * 1001)
        source.finish()
        conversion = begin(converter, source, header(MULAW, 8000, channels=1))
        out = await contents(conversion.spool)
        conversion.close()
        # Chunks of RIFF have an even number of bytes, whatever their size says.
        assert len(out) % 2 == 0
        assert int.from_bytes(out[4:8], "little") == len(out) - 8
        conversion = begin(converter, source, header(S16, 8000, channels=2))
        with wave.open(io.BytesIO(await contents(conversion.spool))) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        conversion.close()


def test_types_by_which_models_say_what_they_take():
    assert media_type_of(header(S16, 8000), None) == "audio/pcm"
    assert media_type_of(header(AudioEncoding.AUDIO_ENCODING_OPUS, 48_000), None) is None
    assert media_type_of(AudioHeader(), sniff(SPEECH.data[:64])) == "audio/wav"
    assert media_type_of(AudioHeader(), None) is None
