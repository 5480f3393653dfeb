"""Samples of a recording that is still being spoken, as soon as they are there."""

from collections.abc import Iterator

from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from voxgate_server.audio.isolation.decoding import Unreadable
from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Failed, Failure, RawAudio
from voxgate_server.audio.isolation.recording import Recording

__all__ = ["samples_as_they_come"]

_PIECES_PER_SECOND = 10


def samples_as_they_come(recording: Recording, raw: RawAudio, max_seconds: float) -> Iterator[bytes]:
    """Reads mono `s16le` without waiting for more of it than a tenth of a second, where a decoder reads ahead.

    Args:
        recording: The bytes.
        raw: Their format.
        max_seconds: The longest recording that is read, in seconds.

    Yields:
        Samples: signed 16 bit little-endian, mono, 16 kHz.

    Raises:
        Unreadable: Empty, or too long.
        RecordingDropped: The recording will never be complete.
    """
    count = raw.sample_rate // _PIECES_PER_SECOND
    resampler = None
    if raw.sample_rate != SAMPLE_RATE:
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    taken = 0
    while pcm := recording.read(2 * count):
        pcm = pcm[: len(pcm) & ~1]
        taken += len(pcm) // 2
        if taken > max_seconds * raw.sample_rate:
            raise Unreadable(
                Failed(
                    Failure.TOO_LONG,
                    f"The recording is longer than the {max_seconds:g} seconds that are read here. Send it in parts.",
                )
            )
        yield pcm if resampler is None else _resampled(resampler, pcm, raw.sample_rate)
    if not taken:
        raise Unreadable(Failed(Failure.EMPTY, "The recording has no bytes."))
    if resampler is not None:
        yield _joined(resampler.resample(None))


def _resampled(resampler: AudioResampler, pcm: bytes, sample_rate: int) -> bytes:
    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    plane = frame.planes[0]
    plane.update(pcm.ljust(plane.buffer_size, b"\0"))
    frame.sample_rate = sample_rate
    return _joined(resampler.resample(frame))


def _joined(frames: list[AudioFrame]) -> bytes:
    return b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)
