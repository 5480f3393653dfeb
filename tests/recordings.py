"""Recorded speech for tests, in whatever container a test needs."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import av

SPEECH = Path(__file__).parent.parent / "samples"


@dataclass(frozen=True)
class Recording:
    """One of the recordings in samples, with what is said in it."""

    path: Path
    seconds: float
    transcript: str

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()


def recordings() -> list[Recording]:
    """All of them."""
    with (SPEECH / "transcripts.csv").open(newline="") as file:
        return [
            Recording(SPEECH / row["file"], float(row["seconds"]), row["transcript"]) for row in csv.DictReader(file)
        ]


def recording(name: str) -> Recording:
    """The one with this file name, e.g. `demo-thanks.wav`."""
    return next(recording for recording in recordings() if recording.path.name == name)


def convert(
    data: bytes,
    container: str,
    codec: str,
    *,
    rate: int = 16_000,
    layout: str = "mono",
    options: dict[str, str] | None = None,
) -> bytes:
    """The same sound in another container, by FFmpeg's names (`convert(wav, "webm", "libopus", rate=48_000)`)."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container, options=options or {}) as target:
        stream = target.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                target.mux(stream.encode(part))
        for part in resampler.resample(None):
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return out.getvalue()
