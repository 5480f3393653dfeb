"""The same sound in another container, by PyAV: packets as they are where one takes them, else decoded to FLAC."""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer

from voxgate_server.audio.isolation.decoding import Source, opened
from voxgate_server.audio.isolation.recording import Recording

__all__ = ["Output", "OutputTooLarge", "convert"]

_HIGHEST_RATE = 48_000
_FIRST_PIECE = 64
_PIECE = 16 * 1024
_FILE_PIECE = 512 * 1024


class OutputTooLarge(Exception):
    """The result would have more bytes than allowed."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A container that a codec can be put into."""

    media_type: str
    muxer: str
    """FFmpeg's name."""
    streams: bool = True
    """What is written first is right without knowing what comes last."""
    options: Mapping[str, str] = field(default_factory=dict)
    timed: bool = True
    """It can say that some samples at the beginning are not to be played."""


_OGG = _Target("audio/ogg", "ogg")
_WEBM = _Target("audio/webm", "webm")
_FLAC = _Target("audio/flac", "flac")
_WAV = _Target("audio/wav", "wav")
# Its first frame says how many samples to leave out at both ends.
_MP3 = _Target("audio/mpeg", "mp3", streams=False)
# A fragmented file would stream, and is what many refuse.
_M4A = _Target("audio/mp4", "ipod", streams=False, options={"movflags": "faststart"})
_ADTS = _Target("audio/aac", "adts", timed=False)
_REMUXED = {
    "opus": (_OGG, _WEBM), "libopus": (_OGG, _WEBM), "vorbis": (_OGG, _WEBM), "libvorbis": (_OGG, _WEBM),
    "flac": (_FLAC, _OGG), "mp3": (_MP3,), "mp3float": (_MP3,), "aac": (_M4A, _ADTS),
    "pcm_s16le": (_WAV,), "pcm_mulaw": (_WAV,), "pcm_alaw": (_WAV,),
}  # fmt: skip
"""Where packets of a codec fit in unchanged, the best first."""
_ENCODED = ((_FLAC, "flac"), (_WAV, "pcm_s16le"))
"""What everything else becomes, without loss."""


class Output:
    """Takes a file as FFmpeg writes it, and gives it on in pieces.

    Args:
        give: Takes the next bytes of the file; may wait.
        max_bytes: The largest file.
        whole: Give nothing before the file is complete. Only then can FFmpeg go back and fill in sizes.
    """

    def __init__(self, give: Callable[[bytes], None], *, max_bytes: int, whole: bool) -> None:
        self._give = give
        self._max_bytes = max_bytes
        self._written = 0
        self._pending = bytearray()
        self._file = tempfile.TemporaryFile(buffering=0) if whole else None  # noqa: SIM115 (closed by `close`)
        self.given = False
        """Something of the file was given on."""

    def close(self) -> None:
        """Forgets what was not given on."""
        if self._file is not None:
            self._file.close()

    def write(self, data: bytes) -> int:
        """Takes bytes; those beyond the limit are dropped, which `check` reports."""
        self._written += len(data)
        if self._written <= self._max_bytes:
            if self._file is None:
                self._pending += data
            else:
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
        return len(data)

    def check(self) -> None:
        """Gives on what has come together.

        Raises:
            OutputTooLarge: More was written than allowed.
        """
        if self._written > self._max_bytes:
            raise OutputTooLarge
        # What the file is can be told by its first bytes, and somebody waits for them.
        if self._file is None and len(self._pending) >= (_PIECE if self.given else _FIRST_PIECE):
            self._give_on(bytes(self._pending))
            self._pending.clear()

    def finish(self) -> None:
        """Gives on the rest.

        Raises:
            OutputTooLarge: More was written than allowed.
        """
        self.check()
        if self._pending:
            self._give_on(bytes(self._pending))
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(_FILE_PIECE):
                self._give_on(data)

    def reader(self) -> io.FileIO:
        """The file as it is by now, for FFmpeg to move what it wrote."""
        assert self._file is not None
        return io.FileIO(os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC), "r")

    def readable(self) -> bool:
        """Never: see `reader`."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position in bytes and gives it."""
        assert self._file is not None
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        assert self._file is not None
        return self._file.tell()

    def _give_on(self, data: bytes) -> None:
        self.given = True
        self._give(data)


def convert(
    recording: Recording,
    *,
    media_types: list[str],
    give: Callable[[bytes], None],
    max_seconds: float,
    max_bytes: int,
    whole: bool,
) -> float:
    """Puts a recording into a container of one of these types, possibly while it arrives.

    Args:
        recording: The bytes.
        media_types: What the result may be.
        give: Takes the next bytes of the result; may wait.
        max_seconds: The longest recording that is read, in seconds.
        max_bytes: The largest result.
        whole: Write sizes into the header, and give nothing before all is there.

    Returns:
        Its length in seconds.

    Raises:
        Unreadable: Not audio, empty, corrupt, cut off or too long; or there is no way to any of the types.
        OutputTooLarge: The result would be larger than allowed.
        RecordingDropped: The recording will never be complete.
    """
    with opened(recording, None, max_seconds) as source:
        codec = source.stream.codec_context.name
        target = next((one for one in _REMUXED.get(codec, ()) if one.media_type in media_types), None)
        if target is not None:
            with contextlib.closing(Output(give, max_bytes=max_bytes, whole=whole or not target.streams)) as output:
                try:
                    return _remux(source, target, output)
                except av.FFmpegError as error:
                    # The container does not take these packets after all.
                    if output.given:
                        raise source.unreadable(f"Its {codec} audio does not fit into {target.media_type}") from error
    recording.seek(0)
    with opened(recording, None, max_seconds) as source:
        way = next((way for way in _ENCODED if way[0].media_type in media_types), None)
        if way is None:
            raise source.unreadable(f"It cannot be converted to any of {', '.join(media_types)}")
        with contextlib.closing(Output(give, max_bytes=max_bytes, whole=whole)) as output:
            return _encode(source, *way, output)


def _remux(source: Source, target: _Target, output: Output) -> float:
    seconds = 0.0
    with _container(target, output) as container:
        stream = container.add_stream_from_template(source.stream)
        for packet in source.packets():
            if not packet.size:
                continue
            length = packet.duration or 0
            if not target.timed and packet.pts is not None and packet.pts + length <= 0:
                continue
            seconds += float(length * packet.time_base)
            source.check_limit(seconds)
            packet.stream = stream
            container.mux_one(packet)
            output.check()
    source.check_length(seconds)
    output.finish()
    return seconds


def _encode(source: Source, target: _Target, codec: str, output: Output) -> float:
    seconds = 0.0
    with _container(target, output) as container:
        stream: AudioStream | None = None
        for frame in source.resampled(_modest):
            if stream is None:
                added = container.add_stream(codec, rate=frame.sample_rate, layout=frame.layout.name, format="s16")
                assert isinstance(added, AudioStream)
                stream = added
            seconds += frame.samples / frame.sample_rate
            container.mux(stream.encode(frame))
            output.check()
        # Without a frame there is no coming here.
        assert stream is not None
        container.mux(stream.encode(None))
    output.finish()
    return seconds


def _modest(frame: AudioFrame) -> AudioResampler:
    """A resampler to 16 bit that leaves alone what models can use."""
    layout = frame.layout.name if frame.layout.nb_channels <= 2 else "stereo"
    return AudioResampler(format="s16", layout=layout, rate=min(frame.sample_rate, _HIGHEST_RATE))


@contextlib.contextmanager
def _container(target: _Target, output: Output) -> Iterator[OutputContainer]:
    def io_open(url: str, flags: int, options: object) -> io.FileIO:
        # Moving the index of an MP4 to its beginning reads the file that is being written; nothing else is opened.
        if flags != 1 or not output.seekable():
            _refuse_to_open()
        return output.reader()

    options = {"flush_packets": "1", "fflags": "+bitexact", **target.options}
    with av.open(output, "w", format=target.muxer, options=options, io_open=io_open) as container:
        yield container


def _refuse_to_open() -> NoReturn:
    raise PermissionError("a recording may not name other files")
