"""Any recording as packets, or as 16 kHz mono samples, by PyAV.

The bytes come from strangers: FFmpeg gets them as a file object and never a name, may open nothing else, and only the
containers and codecs named here are let in; playlists, which name other files, are not among them.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NoReturn

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from voxgate_server.audio.isolation.frames import SAMPLE_RATE, Failed, Failure, RawAudio
from voxgate_server.audio.isolation.recording import Recording
from voxgate_server.audio.sniff import HEAD_BYTES, describe, sniff

__all__ = ["Source", "Unreadable", "decode", "opened"]

_CONTAINERS = "wav,flac,mp3,mov,ogg,matroska,webm,aac,aiff,au,caf,amr,asf"
_RAW_CONTAINERS = "s16le,mulaw,alaw"
_CODECS = (
    "flac,mp3,mp3float,mp2,mp2float,aac,aac_fixed,alac,opus,libopus,vorbis,libvorbis,"
    "pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_u8,pcm_s8,pcm_f32le,pcm_f32be,pcm_f64le,"
    "pcm_f64be,pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav,gsm_ms,"
    "amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,wmav1,wmav2,wmapro"
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
    with opened(recording, raw, max_seconds) as source:
        for frame in source.resampled(lambda _: AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)):
            yield bytes(frame.planes[0])[: 2 * frame.samples]


@contextlib.contextmanager
def opened(recording: Recording, raw: RawAudio | None, max_seconds: float) -> Iterator["Source"]:
    """Opens a recording from its beginning.

    Args:
        recording: The bytes.
        raw: Format of headerless audio; None when the audio has a container.
        max_seconds: The longest recording that is read, in seconds.

    Raises:
        Unreadable: Not audio, empty, or without a track of sound in a codec that is read here.
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
        yield Source(container, detected, max_seconds)


class Source:
    """A recording that is read to its end, once: as packets or as frames.

    Raises:
        Unreadable: There is no track of sound in a codec that is read here.
    """

    def __init__(self, container: InputContainer, detected: str, max_seconds: float) -> None:
        self._container = container
        self._detected = detected
        self._max_seconds = max_seconds
        if not container.streams.audio:
            kinds = sorted({stream.type for stream in container.streams})
            raise self.unreadable(f"It has no audio track (only: {', '.join(kinds) or 'nothing'})")
        self.stream: AudioStream = container.streams.audio[0]
        """The first track of sound."""
        if self.stream.codec_context.name not in _CODECS.split(","):
            raise self.unreadable(f"Its codec, {self.stream.codec_context.name}, is not supported")
        self.stream.codec_context.thread_count = 1

    def unreadable(self, why: str) -> Unreadable:
        """The refusal of this recording.

        Args:
            why: A sentence without its full stop.
        """
        return _unreadable(why, self._detected)

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        """The packets of the track; the last one is empty.

        Raises:
            Unreadable: The container is damaged.
            RecordingDropped: The recording will never be complete.
        """
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                raise self.unreadable("It is damaged") from error
            if packet is None:
                return
            yield packet

    def resampled(self, resampler_for: Callable[[AudioFrame], AudioResampler]) -> Iterator[AudioFrame]:
        """The frames of the track, decoded and resampled.

        Args:
            resampler_for: Makes the resampler, when there is a first frame: only then it is sure what a codec gives.

        Raises:
            Unreadable: It is damaged, empty, cut off or too long.
            RecordingDropped: The recording will never be complete.
        """
        resampler: AudioResampler | None = None
        packets = damaged = 0
        seconds = 0.0
        for packet in self.packets():
            packets += 1
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                # Time stamps of live recordings jump; only the samples count.
                frame.pts = None
                resampler = resampler or resampler_for(frame)
                for part in self._resample(resampler, frame):
                    seconds += part.samples / part.sample_rate
                    self.check_limit(seconds)
                    yield part
        for part in self._resample(resampler, None) if resampler else ():
            seconds += part.samples / part.sample_rate
            yield part
        # Tags at the end of MP3 files, or a cut last packet, are common and harmless.
        if damaged * 10 > packets or (damaged and not seconds):
            raise self.unreadable(f"It is damaged: {damaged} of {packets} packets cannot be decoded")
        self.check_length(seconds)

    def _resample(self, resampler: AudioResampler, frame: AudioFrame | None) -> list[AudioFrame]:
        try:
            return resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            # Sampling rate or channels change in the middle of the stream.
            raise self.unreadable("Its audio format changes in the middle") from error

    def check_limit(self, seconds: float) -> None:
        """Ends a recording that turns out to be too long.

        Args:
            seconds: What there is of it so far.

        Raises:
            Unreadable: It is.
        """
        if seconds > self._max_seconds:
            raise Unreadable(
                Failed(
                    Failure.TOO_LONG,
                    f"The recording is longer than the {self._max_seconds:g} seconds that are read here. "
                    "Send it in parts.",
                )
            )

    def check_length(self, seconds: float) -> None:
        """Compares what there was of a recording with what its container announces.

        Args:
            seconds: What there was.

        Raises:
            Unreadable: There was nothing, or clearly less.
        """
        if not seconds:
            raise Unreadable(Failed(Failure.EMPTY, "The recording has no audio in it.", self._detected))
        announced = self._announced_seconds()
        if announced is not None and seconds < announced * 0.995 - 0.25:
            raise self.unreadable(f"It breaks off: it announces {announced:.1f} seconds and has {seconds:.1f}")

    def _announced_seconds(self) -> float | None:
        """The length the container states, where that is worth something: written last, or never wrong."""
        stream = self.stream
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


def _unreadable(why: str, detected: str) -> Unreadable:
    return Unreadable(
        Failed(Failure.UNSUPPORTED, f"The recording cannot be read. {why}. It looks like {detected}.", detected)
    )


def _detect(head: bytes) -> str:
    kind = sniff(head)
    return describe(head) if kind is None else kind.name
