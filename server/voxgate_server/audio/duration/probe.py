"""The probe: finds out what a stream is, and lets the walk of that container count."""

import math

from voxgate.transcription.v1.audio_pb2 import RawAudioFormat

from voxgate_server.audio import sniff as kinds
from voxgate_server.audio.duration.adts import AdtsWalk
from voxgate_server.audio.duration.amr import AmrWalk
from voxgate_server.audio.duration.flac import FlacWalk
from voxgate_server.audio.duration.matroska import MatroskaWalk
from voxgate_server.audio.duration.mp3 import Mp3Walk
from voxgate_server.audio.duration.mp4 import Mp4Walk
from voxgate_server.audio.duration.ogg import OggWalk
from voxgate_server.audio.duration.pcm import AiffWalk, AuWalk, CafWalk
from voxgate_server.audio.duration.raw import raw_seconds
from voxgate_server.audio.duration.wav import WavWalk
from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window
from voxgate_server.audio.frame_headers import id3_length

__all__ = ["DurationProbe"]

_MAGIC_BYTES = 16
_FOR_EVER = 1 << 62
_MAX_BYTE_SECONDS = 1.0
"""No codec puts more than that into a byte; digital silence in FLAC comes nearest, with 0.75 s at 8 kHz."""
_WALKS: dict[str, type[Walk]] = {
    kinds.WAV.name: WavWalk,
    kinds.FLAC.name: FlacWalk,
    kinds.MP3.name: Mp3Walk,
    kinds.AAC.name: AdtsWalk,
    kinds.MP4.name: Mp4Walk,
    kinds.OGG.name: OggWalk,
    kinds.WEBM.name: MatroskaWalk,
    kinds.MATROSKA.name: MatroskaWalk,
    kinds.AIFF.name: AiffWalk,
    kinds.AU.name: AuWalk,
    kinds.CAF.name: CafWalk,
    kinds.AMR.name: AmrWalk,
}


class DurationProbe:
    """Is fed a recording as it streams in, and tells its length. Never raises, whatever the bytes are.

    The length is what a decoder would play (priming and padding cut off), counted from the packets that came; claims
    of a header lose against them. What cannot be known is None: Windows Media, bare Opus packets, MP4 whose index
    names bytes that did not come, Vorbis in Matroska without a Duration, what is damaged beyond counting, and what
    would last more than a second for each of its bytes.

    Args:
        raw: Format of headerless audio; None when the recording has a container.
    """

    def __init__(self, raw: RawAudioFormat | None = None) -> None:
        self._window = Window()
        self._raw = raw
        self._walk: Walk | None = None
        self._given_up = False
        self._steps: Steps | None = self._begin()
        self._wanted = 0
        if raw is not None:
            self._stop()

    @property
    def declared(self) -> float | None:
        """Length in seconds that the recording's header claims, as soon as it has come.

        None where there is no such claim. The caller of a service writes this number: good for refusing early what
        claims too much, for nothing else.
        """
        return None if self._walk is None else _sane(self._walk.declared)

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the recording, in chunks of any size."""
        window = self._window
        window.push(chunk)
        if self._steps is None or window.left < self._wanted:
            return
        try:
            while window.left >= self._wanted:
                self._wanted = next(self._steps)
        except StopIteration:
            self._stop()
        except GiveUp:
            self._given_up = True
            self._stop()
        else:
            window.trim()

    def seconds(self) -> float | None:
        """Length in seconds of what has come so far: of the recording, once all of it has come.

        None when it cannot be known.
        """
        if self._raw is not None:
            return raw_seconds(self._raw, self._window.received)
        if self._walk is None or self._given_up:
            return None
        seconds = _sane(self._walk.seconds())
        return seconds if seconds is None or seconds <= self._window.received * _MAX_BYTE_SECONDS else None

    @property
    def is_soundless(self) -> bool:
        """Whether it certainly has no track of sound: a film without one, by what has come so far."""
        return self._walk is not None and not self._given_up and self._walk.is_soundless()

    def _stop(self) -> None:
        """Nothing more is looked at; bytes are only counted."""
        self._steps = None
        self._window.skip(_FOR_EVER)
        self._window.trim()

    def _begin(self) -> Steps:
        window = self._window
        yield _MAGIC_BYTES
        while window.data[window.at : window.at + 3] == b"ID3":
            window.effort()
            window.skip(id3_length(window.data[window.at : window.at + 10]))
            yield _MAGIC_BYTES
        # Nearly every kind is told by its first bytes; what begins with something stray needs more of them.
        for size in (_MAGIC_BYTES, kinds.HEAD_BYTES):
            if window.left < size:
                yield size
            kind = kinds.sniff(window.data[window.at : window.at + size])
            if kind is not None:
                walk = _WALKS.get(kind.name)
                if walk is None:
                    raise GiveUp
                self._walk = walk(window)
                yield from self._walk.steps()
                return
        raise GiveUp


def _sane(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
