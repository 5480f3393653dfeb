"""Real speech through real worker processes."""

import asyncio
import itertools
import random
import statistics
from array import array

import jiwer
import pytest
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.providers.base import Provider
from voxgate_server.providers.local import PocketsphinxProvider

from tests.providers.local.calling import attempt_at, plain_words, transcribe
from tests.recordings import Recording, convert, recording, recordings


def pcm_of(wav: bytes) -> bytes:
    return wav[wav.index(b"data") + 8 :]


def check_times(result: Transcription) -> None:
    times = list(itertools.chain.from_iterable((word.start, word.end) for word in result.words))
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= result.duration
    assert all(word.start < word.end for word in result.words)
    assert all(0 <= word.confidence <= 1 for word in result.words)
    assert " ".join(word.word for word in result.words) == result.text
    borders = list(itertools.chain.from_iterable((segment.start, segment.end) for segment in result.segments))
    assert borders == sorted(borders)
    assert [segment.id for segment in result.segments] == list(range(len(result.segments)))
    assert " ".join(segment.text for segment in result.segments) == result.text
    assert all(segment.avg_logprob <= 0 for segment in result.segments)
    assert {word.start for word in result.words} >= {segment.start for segment in result.segments}


async def test_most_words_are_right(store: SpoolStore):
    provider: Provider = PocketsphinxProvider()
    rates = {}

    async def measure(item: Recording) -> None:
        answer = await transcribe(provider, store, item.data)
        result = answer.transcription
        assert result is not None
        assert (result.task, result.language) == ("transcribe", "en")
        assert result.duration == pytest.approx(item.seconds, abs=0.001)
        assert result.usage.duration.seconds == result.duration
        assert "".join(answer.deltas) == result.text
        assert len(answer.deltas) == len(result.segments)
        check_times(result)
        if item.path.name != "vm-goodbye.wav":
            rates[item.path.name] = jiwer.wer(plain_words(item.transcript), plain_words(result.text))

    await asyncio.gather(*map(measure, recordings()))
    await provider.aclose()
    assert len(rates) == 7
    assert statistics.mean(rates.values()) <= 0.32, rates


async def test_segments_end_at_pauses(provider: PocketsphinxProvider, store: SpoolStore):
    data = recording("demo-congrats.wav").data
    result = (await transcribe(provider, store, data)).transcription
    assert result is not None
    starts = [round(segment.start) for segment in result.segments]
    # The first two of the three full stops in this recording, and one comma.
    assert {0, 7, 20} <= {0, *starts}
    samples = array("h", pcm_of(data))
    loudest = max(samples)
    for before, after in itertools.pairwise(result.segments):
        pause = samples[int(16_000 * before.end) : int(16_000 * after.start)]
        quietest = min(max(map(abs, pause[at : at + 160])) for at in range(0, len(pause) - 159, 160))
        assert quietest < loudest / 30


FORMATS = {
    "flac": ("flac", "flac", 16_000, "mono"),
    "flac, 44.1 kHz stereo": ("flac", "flac", 44_100, "stereo"),
    "mp3": ("mp3", "libmp3lame", 44_100, "mono"),
    "m4a with its index at the end": ("ipod", "aac", 44_100, "mono"),
    "m4a, lossless": ("ipod", "alac", 44_100, "stereo"),
    "ogg, opus": ("ogg", "libopus", 48_000, "mono"),
    "webm, opus": ("webm", "libopus", 48_000, "stereo"),
    "aac": ("adts", "aac", 48_000, "mono"),
    "aiff": ("aiff", "pcm_s16be", 22_050, "mono"),
    "wav, 8 kHz": ("wav", "pcm_s16le", 8_000, "mono"),
    "wav, 44.1 kHz float": ("wav", "pcm_f32le", 44_100, "mono"),
    "wav, 48 kHz stereo": ("wav", "pcm_s24le", 48_000, "stereo"),
}
INEXACT = {"wav, 8 kHz": 1.0, "aac": 0.6, "m4a, fragmented": 0.6}
"""How much of the words may differ from those in the original: above 4 kHz is half of what consonants are."""


async def test_every_format_gives_the_same_words(provider: PocketsphinxProvider, store: SpoolStore):
    original = recording("demo-thanks.wav")
    expected = (await transcribe(provider, store, original.data)).text
    assert expected.split()[-9:-3] == ["for", "trying", "out", "the", "asterisk", "open"]
    encoded = {
        name: convert(original.data, container, codec, rate=rate, layout=layout)
        for name, (container, codec, rate, layout) in FORMATS.items()
    }
    encoded["m4a, fragmented"] = convert(
        original.data, "mp4", "aac", rate=48_000, options={"movflags": "frag_keyframe+empty_moov"}
    )
    assert encoded["m4a with its index at the end"].find(b"moov") > encoded["m4a with its index at the end"].find(
        b"mdat"
    )
    for name, data in encoded.items():
        result = (await transcribe(provider, store, data)).transcription
        assert result is not None
        # MP3 and AAC round up to whole frames.
        assert result.duration == pytest.approx(original.seconds, abs=0.1), name
        check_times(result)
        assert jiwer.wer(expected, result.text) <= INEXACT.get(name, 0.2), (name, result.text)


async def test_audio_without_a_container(provider: PocketsphinxProvider, store: SpoolStore):
    original = recording("demo-thanks.wav")
    expected = (await transcribe(provider, store, original.data)).text
    samples = pcm_of(original.data)
    result = await transcribe(
        provider, store, samples, audio="raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 }"
    )
    assert result.text == expected
    six = array("h", itertools.chain.from_iterable(itertools.repeat(sample, 6) for sample in array("h", samples)))
    result = await transcribe(
        provider,
        store,
        six.tobytes(),
        audio="raw_format { encoding: AUDIO_ENCODING_PCM_S16LE sample_rate_hertz: 16000 channel_count: 6 }",
    )
    assert result.transcription is not None
    assert result.transcription.duration == pytest.approx(original.seconds, abs=0.001)
    assert jiwer.wer(expected, result.text) <= 0.3
    for encoding, codec in (("MULAW", "pcm_mulaw"), ("ALAW", "pcm_alaw")):
        logarithmic = convert(original.data, "wav", codec, rate=16_000)
        result = await transcribe(
            provider,
            store,
            pcm_of(logarithmic),
            audio=f"raw_format {{ encoding: AUDIO_ENCODING_{encoding} sample_rate_hertz: 16000 channel_count: 1 }}",
        )
        assert jiwer.wer(expected, result.text) <= 0.3, result.text


async def test_how_it_arrives_and_what_came_before_changes_nothing(provider: PocketsphinxProvider, store: SpoolStore):
    original = recording("agent-incorrect.wav").data
    webm = convert(original, "webm", "libopus", rate=48_000)
    expected: dict[bytes, Transcription | None] = {}
    randomly = random.Random(4)
    for data, cuts in (
        (original, ()),
        (webm, ()),
        (webm, range(1, 400)),
        (original, range(0, len(original), 1000)),
        (original, randomly.sample(range(len(original)), 50)),
        (webm, randomly.sample(range(len(webm)), 50)),
    ):
        answer = await transcribe(provider, store, data, cuts=tuple(cuts))
        assert answer.transcription == expected.setdefault(data, answer.transcription)
        assert answer.text
    assert len(provider.worker_pids) == 1


async def test_silence_has_no_text(provider: PocketsphinxProvider, store: SpoolStore):
    answer = await transcribe(
        provider, store, bytes(32_000 * 3), audio="raw_format { encoding: 1 sample_rate_hertz: 16000 }"
    )
    assert answer.transcription is not None
    assert answer.text == ""
    assert answer.deltas == []
    assert list(answer.transcription.segments) == list(answer.transcription.words) == []
    assert answer.transcription.duration == 3


async def test_text_comes_while_the_caller_still_sends(provider: PocketsphinxProvider, store: SpoolStore):
    data = recording("demo-echotest.wav").data
    async with store.open(max_bytes=1 << 30) as spool:
        await spool.write(data[: len(data) * 3 // 4])
        events = provider.transcribe(attempt_at(spool))
        first = await anext(events)
        assert first.delta.delta.startswith("you're about to enter")
        assert not spool.finished
        await spool.write(data[len(data) * 3 // 4 :])
        spool.finish()
        rest = [event async for event in events]
        assert rest[-1].done.transcription.text.startswith(first.delta.delta)
