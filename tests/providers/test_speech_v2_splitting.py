"""Google's Speech-to-Text v2: recordings that are too long for it, or that it would not hear all of."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader, RawAudioFormat
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server import errors
from voxgate_server.audio.isolation.frames import PIECES_AHEAD
from voxgate_server.audio.sniff import sniff
from voxgate_server.audio.splitting import Splitter
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Attempt
from voxgate_server.providers.speech_v2 import SpeechV2Provider
from voxgate_server.providers.speech_v2_audio import heard_whole
from voxgate_server.transcript.complete import complete

from tests.providers.beeps import RATE, hears, spoken, wav
from tests.providers.emulator import ok
from tests.providers.google_token_emulator import PROJECT
from tests.providers.vertex_calling import THANKS, VertexCalling, attempt_at, params_for, provider_for, run
from tests.providers.vertex_emulator import Heard, VertexEmulator
from tests.recordings import convert

WORDS = "response_format: RESPONSE_FORMAT_VERBOSE_JSON"
LONG, SAID = spoken(200)
SHORT, LITTLE = spoken(20)


@pytest.fixture
async def emulator() -> AsyncIterator[VertexEmulator]:
    async with VertexEmulator(hears=hears) as emulator:
        yield emulator


@pytest.fixture
def call(emulator: VertexEmulator, store: SpoolStore) -> VertexCalling:
    return VertexCalling(emulator, store)


def check(result: Transcription, said: Heard, *, within: float = 0.011) -> None:
    assert [word.word for word in result.words] == [word for word, _, _ in said]
    assert result.text == " ".join(word for word, _, _ in said)
    for word, (_, start, end) in zip(result.words, said, strict=True):
        assert word.start == pytest.approx(start, abs=within)
        assert word.end == pytest.approx(end, abs=within + 0.05)
    for parts in (result.words, result.segments):
        ends = [0.0]
        for part in parts:
            assert ends[-1] <= part.start <= part.end
            ends.append(part.end)
    assert [segment.id for segment in result.segments] == list(range(len(result.segments)))


async def test_a_long_recording(emulator: VertexEmulator, call: VertexCalling):
    result = await call(WORDS, data=wav(LONG))
    check(result, SAID)
    seconds = len(LONG) / 2 / RATE
    assert result.duration == seconds
    lengths = [request["content"] / 2 / RATE for request in emulator.requests]
    assert len(lengths) == 3
    assert sum(lengths) == seconds
    assert max(lengths) <= 55
    assert result.usage.duration.seconds == sum(math.ceil(length) for length in lengths)
    for request in emulator.requests:
        assert request["config"]["explicitDecodingConfig"] == {
            "encoding": "LINEAR16", "sampleRateHertz": 16_000, "audioChannelCount": 1,
        }  # fmt: skip
    assert len(emulator.tokens.records) == 1
    complete(result, TranscriptionConfig(response_format="RESPONSE_FORMAT_SRT"))
    assert result.rendered.body.count(" --> ") > 3


@pytest.mark.parametrize(
    ("container", "codec", "rate", "within"),
    [("flac", "flac", 16_000, 0.011), ("mp3", "mp3", 16_000, 0.08), ("mp4", "aac", 16_000, 0.08),
     ("webm", "libopus", 48_000, 0.05), ("ogg", "flac", 16_000, 0.05), ("adts", "aac", 16_000, 0.08),
     ("aiff", "pcm_s16be", 16_000, 0.011)],
)  # fmt: skip
async def test_long_in_other_containers(call: VertexCalling, container: str, codec: str, rate: int, within: float):
    result = await call(WORDS, data=convert(wav(LONG), container, codec, rate=rate))
    check(result, SAID, within=within)


async def test_long_headerless_audio(call: VertexCalling):
    raw = RawAudioFormat(encoding="AUDIO_ENCODING_PCM_S16LE", sample_rate_hertz=RATE)
    check(await call(WORDS, data=LONG, audio=AudioHeader(raw_format=raw)), SAID)


async def test_both_channels_are_heard(emulator: VertexEmulator, call: VertexCalling):
    # Google would hear the first only.
    heard = {word: start for word, start, _ in LITTLE}
    result = await call(WORDS, data=wav(SHORT, channels=2))
    assert len(emulator.requests) == 1
    assert "explicitDecodingConfig" in call.sent
    assert {word.word for word in result.words} >= heard.keys()
    assert result.duration == len(SHORT) / 2 / RATE


@pytest.mark.parametrize(
    ("container", "codec", "rate"), [("mp4", "aac", 16_000), ("webm", "libopus", 48_000), ("aiff", "pcm_s16be", 16_000),
                                     ("wav", "pcm_s24le", 16_000), ("ogg", "flac", 16_000)]
)  # fmt: skip
async def test_what_google_does_not_read_is_converted(
    emulator: VertexEmulator, call: VertexCalling, container: str, codec: str, rate: int
):
    check(await call(WORDS, data=convert(wav(SHORT), container, codec, rate=rate)), LITTLE, within=0.08)
    assert [request["config"]["explicitDecodingConfig"]["encoding"] for request in emulator.requests] == ["LINEAR16"]


async def test_silence_of_two_minutes(emulator: VertexEmulator, call: VertexCalling):
    result = await call(data=wav(bytes(2 * RATE * 120)))
    assert (result.text, result.duration) == ("", 120)
    assert len(emulator.requests) == 3


async def test_a_few_at_a_time_and_in_order(emulator: VertexEmulator, store: SpoolStore):
    first, others = asyncio.Event(), asyncio.Event()
    emulator.script(ok(until=first), *[ok(until=others)] * 3)
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        data = wav(LONG * 3)
        await spool.write(data)
        spool.finish()
        task = asyncio.create_task(run(provider, attempt_at(spool, WORDS, head=data)))
        await emulator.record(3)
        await asyncio.sleep(0.2)
        assert len(emulator.records) == 4
        # Nor does the worker run ahead: it would be hours of samples.
        [worker] = _splitter_of(provider)._pool._workers
        assert worker._frames.qsize() <= PIECES_AHEAD
        others.set()
        for record in emulator.records[1:4]:
            await record.body_ended.wait()
        first.set()
        result = await task
    length = len(LONG) / 2 / RATE
    check(result, [(word, start + at * length, end + at * length) for at in range(3) for word, start, end in SAID])


async def test_google_would_hear_one_channel_only(emulator: VertexEmulator, call: VertexCalling):
    values = {"enableWordTimeOffsets": True}
    assert heard(wav(SHORT, channels=2)) is False
    result = await call(
        """extra_params { fields { key: "multiChannelMode"
        value { string_value: "SEPARATE_RECOGNITION_PER_CHANNEL" } } }""",
        data=wav(SHORT, channels=2), default_params=values,
    )  # fmt: skip
    words = [word.word for word in result.words if word.channel == 0]
    assert 0 < len(words) < len(LITTLE)


async def test_a_piece_that_fails_is_sent_again(emulator: VertexEmulator, call: VertexCalling):
    emulator.script(ok(), "503")
    check(await call(WORDS, data=wav(LONG)), SAID)
    assert len(emulator.records) == 4


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (["503"] * 6, errors.ProviderUnavailable), (["429"], errors.ProviderRateLimited),
        (["401"], errors.ProviderCredential), (["400"], errors.ProviderRejected),
    ],
)  # fmt: skip
async def test_a_piece_that_cannot_be_had(
    emulator: VertexEmulator, call: VertexCalling, faults: list[str], expected: type
):
    emulator.script(*faults)
    with pytest.raises(errors.ProviderError) as caught:
        await call(WORDS, data=wav(LONG))
    assert type(caught.value) is expected
    assert call.attempt is not None
    assert call.attempt.report.http_status == int(faults[-1])


async def test_who_gives_up_ends_it_all(emulator: VertexEmulator, store: SpoolStore):
    emulator.script("hang", "hang", "hang", "hang")
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        splitter = _splitter_of(provider)
        data = wav(LONG * 3)
        await spool.write(data)
        spool.finish()
        task = asyncio.create_task(run(provider, attempt_at(spool, WORDS, head=data)))
        await emulator.record(3)
        [worker] = splitter._pool._workers
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await worker.ended
        assert splitter.worker_pids == []
        for record in emulator.records:
            await record.peer_closed.wait()


async def test_the_time_is_over(emulator: VertexEmulator, call: VertexCalling):
    emulator.script(*["hang"] * 4)
    with pytest.raises(errors.ProviderTimeout):
        await call(WORDS, data=wav(LONG * 2), seconds=3)


async def test_a_worker_that_dies(emulator: VertexEmulator, store: SpoolStore):
    emulator.script("hang", "hang", "hang", "hang")
    async with store.open(max_bytes=1 << 40) as spool, provider_for(params_for(emulator)) as provider:
        splitter = _splitter_of(provider)
        data = wav(LONG * 4)
        await spool.write(data)
        spool.finish()
        pieces = splitter.pieces(spool, None, attempt_at(spool).deadline)
        async with contextlib.aclosing(pieces):
            assert (await anext(pieces)).start == 0
            [worker] = splitter._pool._workers
            worker.kill()
            with pytest.raises(errors.ProviderUnavailable, match="the audio decoder's process ended unexpectedly"):
                async for _ in pieces:
                    pass


async def test_a_worker_serves_again(emulator: VertexEmulator, store: SpoolStore):
    async with provider_for(params_for(emulator)) as provider:
        for _ in range(2):
            async with store.open(max_bytes=1 << 40) as spool:
                data = wav(SHORT, channels=2)
                await spool.write(data)
                spool.finish()
                await run(provider, attempt_at(spool, head=data))
        assert len(_splitter_of(provider).worker_pids) == 1


@pytest.mark.parametrize("data", [b"RIFF\0\0\0\0WAVEnothing of the kind", b"#EXTM3U\nfile:///etc/passwd\n"])
async def test_what_is_no_audio(emulator: VertexEmulator, call: VertexCalling, data: bytes):
    with pytest.raises(errors.UnsupportedAudio):
        await call(data=data)
    assert not emulator.records


async def test_a_recording_that_says_it_is_longer_than_it_is(emulator: VertexEmulator, call: VertexCalling):
    data = convert(wav(LONG), "flac", "flac")
    with pytest.raises(errors.UnsupportedAudio, match="breaks off"):
        await call(data=data[: len(data) * 4 // 5])


@pytest.mark.parametrize(
    "config",
    [
        "response_format: RESPONSE_FORMAT_DIARIZED_JSON",
        """extra_params { fields { key: "multiChannelMode" value { string_value: "SEPARATE_RECOGNITION_PER_CHANNEL" } }
        }""",
    ],
)
@pytest.mark.parametrize("container", ["wav", "mp4"])
async def test_speakers_and_channels_of_long_recordings(
    emulator: VertexEmulator, call: VertexCalling, config: str, container: str
):
    data = wav(LONG) if container == "wav" else convert(wav(LONG), "mp4", "aac")
    with pytest.raises(errors.AudioTooLarge, match="speakers or channels are asked for") as caught:
        await call(config, data=data)
    assert caught.value.metadata["limit_seconds"] == "55"
    assert not emulator.records


async def test_more_than_four_hours(monkeypatch: pytest.MonkeyPatch, emulator: VertexEmulator, call: VertexCalling):
    monkeypatch.setattr("voxgate_server.providers.speech_v2._MAX_SPLIT_SECONDS", 100)
    with pytest.raises(errors.AudioTooLarge, match="longer than the 100 seconds"):
        await call(data=wav(LONG))


def _splitter_of(provider: object) -> Splitter:
    splitter = provider._provider._splitter  # type: ignore[attr-defined]
    assert isinstance(splitter, Splitter)
    return splitter


@contextlib.asynccontextmanager
async def unsplit(emulator: VertexEmulator) -> AsyncIterator[SpeechV2Provider]:
    """A deployment on a machine where PyAV is not installed."""
    emulator.key = "AIza-key"

    async def headers(_: Attempt) -> Mapping[str, str]:
        return {"x-goog-api-key": "AIza-key"}

    provider = SpeechV2Provider(
        model="chirp_3", project=PROJECT, location="us", headers=headers, api_base=emulator.origin, splits=False
    )
    yield provider
    await provider.aclose()


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (wav(LONG), errors.AudioTooLarge, "at most 60 seconds"),
        (wav(SHORT, channels=2), errors.UnsupportedAudio, "does not hear all of this recording"),
        (bytes(8_000_000), errors.AudioTooLarge, "7815168"),
    ],
)
async def test_without_somebody_to_cut(
    emulator: VertexEmulator, store: SpoolStore, data: bytes, expected: type[errors.VoxgateError], words: str
):
    async with store.open(max_bytes=1 << 40) as spool, unsplit(emulator) as provider:
        assert provider.capabilities.max_audio_duration.seconds == 60
        assert provider.capabilities.max_audio_bytes == 7_815_168
        assert "audio/wav" in provider.capabilities.media_types
        await spool.write(data)
        spool.finish()
        with pytest.raises(expected, match=words) as caught:
            await run(provider, attempt_at(spool, head=data))
        assert type(caught.value) is expected
    assert not emulator.records


async def test_without_somebody_to_cut_short_ones_go(emulator: VertexEmulator, store: SpoolStore):
    async with unsplit(emulator) as provider:
        for data in (wav(SHORT), convert(wav(SHORT), "mp4", "aac")):
            async with store.open(max_bytes=1 << 40) as spool:
                await spool.write(data)
                spool.finish()
                check(await run(provider, attempt_at(spool, WORDS, head=data)), LITTLE, within=0.08)
    assert len(json.loads(emulator.records[0].body)["content"]) > 100


def heard(data: bytes, raw: RawAudioFormat | None = None) -> bool | None:
    return heard_whole(sniff(data[:4096]), data[:4096], raw)


def test_what_google_hears():
    stereo = RawAudioFormat(encoding="AUDIO_ENCODING_MULAW", sample_rate_hertz=8000, channel_count=2)
    assert heard(b"", RawAudioFormat(encoding="AUDIO_ENCODING_MULAW", sample_rate_hertz=8000)) is True
    assert heard(b"", stereo) is False
    assert heard(THANKS) is True
    assert heard(b"nothing") is None
    for container, codec, rate, mono in (
        ("wav", "pcm_mulaw", 8000, True), ("wav", "pcm_alaw", 8000, True), ("wav", "pcm_u8", 8000, False),
        ("wav", "pcm_f32le", 16_000, False), ("flac", "flac", 16_000, True), ("mp3", "mp3", 16_000, True),
        ("ogg", "libopus", 48_000, True), ("ogg", "flac", 16_000, False), ("adts", "aac", 16_000, False),
        ("mp4", "aac", 16_000, None), ("webm", "libopus", 48_000, None),
    ):  # fmt: skip
        data = convert(THANKS, container, codec, rate=rate)
        assert heard(data) is mono, container
        stereo_data = convert(THANKS, container, codec, rate=rate, layout="stereo")
        assert heard(stereo_data) is (None if mono is None else False), container
        for length in range(0, 60, 3):
            assert heard_whole(sniff(data), data[:length], None) in (True, False, None)
