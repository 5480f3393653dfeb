"""Any recording as 16 kHz mono samples, by PyAV.

The bytes come from strangers: FFmpeg gets them as a file object and never a name, may open nothing else, and only the
containers and codecs named here are let in; playlists, which name other files, are not among them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Failed, Failure, RawAudio
from voxgate_server.audio.isolation.recording import Recording
from voxgate_server.audio.sniff import HEAD_BYTES, describe, sniff

__all__ = ["Unreadable", "decode", "samples_as_they_come"]

_CONTAINERS = "wav,flac,mp3,mov,ogg,matroska,webm,aac,aiff"
_RAW_CONTAINERS = "s16le,mulaw,alaw"
_PIECES_PER_SECOND = 10
_CODECS = (
    "flac,mp3,mp3float,mp2,mp2float,aac,aac_fixed,alac,opus,libopus,vorbis,libvorbis,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,pcm_f32le,pcm_f32be,pcm_f64le,"
    "pcm_f64be,pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav,gsm_ms"
)


class Unreadable(Exception):
    """The recording cannot be read; `failed` says why."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


def decode(recording: Recording, raw: RawAudio | None, max_seconds: float) -> Iterator[bytes]:
    """Reads a recording while it arrives.

    Args:
        recording: The bytes.
        raw: Format of headerless audio; None when the audio has a container.
        max_seconds: The longest recording that is read, in seconds.

    Yields:
        Samples: signed 16 bit little-endian, mono, 16 kHz.

    Raises:
        Unreadable: Not audio, empty, corrupt, cut off or too long.
        RecordingDropped: The recording will never be complete.
    """
    if not recording.head(1):
        raise Unreadable(Failed(Failure.EMPTY, "The recording has no bytes."))
    detected = "raw audio" if raw else _detect(recording.head(HEAD_BYTES))
    try:
        container = _open(recording, raw)
    except av.FFmpegError as error:
        raise _unreadable("It is not audio that is read here, or it is damaged", detected) from error
    with container:
        yield from _Reader(container, detected, max_seconds).read()


def samples_as_they_come(recording: Recording, raw: RawAudio, max_seconds: float) -> Iterator[bytes]:
    """Reads mono `s16le` without waiting for more of it than a tenth of a second, where `decode` reads ahead.

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
    resampler = (
        None if raw.sample_rate == SAMPLE_RATE else AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    )
    taken = 0
    while pcm := recording.read(2 * count):
        pcm = pcm[: len(pcm) & ~1]
        taken += len(pcm) // 2
        if taken > max_seconds * raw.sample_rate:
            raise _too_long(max_seconds)
        yield pcm if resampler is None else _resampled(resampler, pcm, raw.sample_rate)
    if not taken:
        raise Unreadable(Failed(Failure.EMPTY, "The recording has no bytes."))
    if resampler is not None:
        yield b"".join(_plain(part) for part in resampler.resample(None))


def _resampled(resampler: AudioResampler, pcm: bytes, sample_rate: int) -> bytes:
    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    plane = frame.planes[0]
    plane.update(pcm.ljust(plane.buffer_size, b"\0"))
    frame.sample_rate = sample_rate
    return b"".join(_plain(part) for part in resampler.resample(frame))


def _plain(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: 2 * frame.samples]


class _Reader:
    def __init__(self, container: InputContainer, detected: str, max_seconds: float) -> None:
        self._container = container
        self._detected = detected
        self._max_seconds = max_seconds
        self._samples = 0
        self._resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def read(self) -> Iterator[bytes]:
        if not self._container.streams.audio:
            kinds = sorted({stream.type for stream in self._container.streams})
            raise _unreadable(f"It has no audio track (only: {', '.join(kinds) or 'nothing'})", self._detected)
        stream = self._container.streams.audio[0]
        if stream.codec_context.name not in _CODECS.split(","):
            raise _unreadable(f"Its codec, {stream.codec_context.name}, is not supported", self._detected)
        stream.codec_context.thread_count = 1
        packets = damaged = 0
        packet_iterator = self._container.demux(stream)
        while True:
            try:
                packet = next(packet_iterator, None)
            except av.FFmpegError as error:
                raise _unreadable("It is damaged", self._detected) from error
            if packet is None:
                break
            packets += 1
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                # Time stamps of live recordings jump; only the samples count.
                frame.pts = None
                yield from self._resample(frame)
        yield from self._resample(None)
        # Tags at the end of MP3 files, or a cut last packet, are common and harmless.
        if damaged * 10 > packets or (damaged and not self._samples):
            raise _unreadable(f"It is damaged: {damaged} of {packets} packets cannot be decoded", self._detected)
        if not self._samples:
            raise Unreadable(Failed(Failure.EMPTY, "The recording has no audio in it.", self._detected))
        self._check_length(stream)

    def _resample(self, frame: Any) -> Iterator[bytes]:
        try:
            resampled = self._resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            # Sampling rate or channels change in the middle of the stream.
            raise _unreadable("Its audio format changes in the middle", self._detected) from error
        for part in resampled:
            self._samples += part.samples
            if self._samples > self._max_seconds * SAMPLE_RATE:
                raise _too_long(self._max_seconds)
            yield _plain(part)

    def _check_length(self, stream: AudioStream) -> None:
        announced = self._announced_seconds(stream)
        there = self._samples / SAMPLE_RATE
        if announced is not None and there < announced * 0.995 - 0.25:
            raise _unreadable(
                f"It breaks off: it announces {announced:.1f} seconds and has {there:.1f}", self._detected
            )

    def _announced_seconds(self, stream: AudioStream) -> float | None:
        """The length the container states, where that is worth something: written last, or never wrong."""
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        match self._container.format.name:
            case "flac" | "mov,mp4,m4a,3gp,3g2,mj2":
                return seconds
            case "matroska,webm" if len(self._container.streams) == 1 and self._container.duration:
                return self._container.duration / av.time_base
        return None


def _open(recording: Recording, raw: RawAudio | None) -> InputContainer:
    options = {
        "format_whitelist": _RAW_CONTAINERS if raw else _CONTAINERS,
        "codec_whitelist": _CODECS,
        "protocol_whitelist": "",
    }
    if raw:
        options |= {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.channels}c"}
    io_open: Callable[..., NoReturn] = _refuse_to_open
    return av.open(
        recording,
        "r",
        format=raw.format if raw else None,
        container_options=options,
        io_open=io_open,
        metadata_errors="replace",
    )


def _refuse_to_open(*_: object) -> NoReturn:
    raise PermissionError("a recording may not name other files")


def _too_long(max_seconds: float) -> Unreadable:
    return Unreadable(
        Failed(
            Failure.TOO_LONG,
            f"The recording is longer than the {max_seconds:g} seconds that are read here. Send it in parts.",
        )
    )


def _unreadable(why: str, detected: str) -> Unreadable:
    return Unreadable(
        Failed(Failure.UNSUPPORTED, f"The recording cannot be read. {why}. It looks like {detected}.", detected)
    )


def _detect(head: bytes) -> str:
    kind = sniff(head)
    return describe(head) if kind is None else kind.name
