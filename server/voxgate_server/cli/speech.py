"""Where a command hears speech: a recording that is played at the pace it was spoken at, or the microphone."""

import asyncio
import contextlib
import importlib.util
import shutil
import wave
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

__all__ = ["RATE", "Microphone", "Played"]

RATE = 16_000
"""Samples per second of what is heard, where the recording does not say otherwise, in Hz."""
_PIECES_PER_SECOND = 10


@dataclass(frozen=True, slots=True)
class Played:
    """A recording.

    Args:
        path: The file.
        paced: Play it at the pace it was spoken at, not as fast as it is taken.

    Raises:
        ClickException: It cannot be read here.
    """

    path: Path
    paced: bool

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        plain = self._plain()
        return RATE if plain is None else plain.getframerate()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Its samples, a tenth of a second at a time: signed 16 bit little-endian, mono.

        Raises:
            ClickException: It cannot be read.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        size = 2 * (self.sample_rate // _PIECES_PER_SECOND)
        pending = bytearray()
        sent = 0
        samples = self._samples()
        while part := await asyncio.to_thread(next, samples, b""):
            pending += part
            while len(pending) >= size:
                sent += size
                if self.paced:
                    await asyncio.sleep(begin + sent / 2 / self.sample_rate - loop.time())
                yield bytes(pending[:size])
                del pending[:size]
        if pending:
            yield bytes(pending)

    def _plain(self) -> wave.Wave_read | None:
        """The recording as a WAV file of plain samples, if it is one."""
        try:
            file = wave.open(str(self.path), "rb")  # noqa: SIM115 (closed with its last reference)
        except (wave.Error, EOFError):
            return None
        return file if (file.getnchannels(), file.getsampwidth()) == (1, 2) and file.getframerate() >= 8000 else None

    def _samples(self) -> Iterator[bytes]:
        plain = self._plain()
        if plain is not None:
            with plain:
                while part := plain.readframes(RATE):
                    yield part
            return
        if importlib.util.find_spec("av") is None:
            raise click.ClickException(
                f"{self.path.name} is no WAV file of 16-bit mono samples, and reading others needs PyAV: pip install "
                "'voxgate[local]'"
            )
        import av
        from av.audio.resampler import AudioResampler

        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        try:
            with av.open(str(self.path)) as container:
                for frame in (*container.decode(audio=0), None):
                    for resampled in resampler.resample(frame):
                        yield bytes(resampled.planes[0])[: 2 * resampled.samples]
        except (av.FFmpegError, IndexError) as error:
            raise click.ClickException(f"{self.path.name} cannot be read: it is not audio, or damaged.") from error


class Microphone:
    """What `arecord` hears, until it is stopped.

    Raises:
        UsageError: There is no `arecord`.
    """

    sample_rate = RATE

    def __init__(self) -> None:
        program = shutil.which("arecord")
        if program is None:
            raise click.UsageError(
                "--microphone needs the program arecord, which is not here. Install alsa-utils, or record a file with "
                "another program and give its name."
            )
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._stopped = False

    def stop(self) -> None:
        """Hears no more; what was said is still transcribed."""
        # Once: a second signal to a process that has just ended would take its end away from whoever waits for it.
        if self._process is not None and not self._stopped:
            self._stopped = True
            self._process.terminate()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """What is heard, a tenth of a second at a time.

        Raises:
            ClickException: Nothing could be recorded.
        """
        pipe = asyncio.subprocess.PIPE
        arguments = ("-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(RATE))
        # A session of its own, so that Ctrl-C is ours alone.
        process = await asyncio.create_subprocess_exec(
            self._program, *arguments, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        heard = False
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    piece = await process.stdout.readexactly(2 * RATE // _PIECES_PER_SECOND)
                    heard = True
                    yield piece
            self._stopped = True  # It has closed its side, and ends by itself.
            if not heard:
                why = (await process.stderr.read(1000)).decode("utf-8", "replace").strip()
                raise click.ClickException(f"arecord recorded nothing: {why or 'it gave no reason'}")
        finally:
            self.stop()
            await process.wait()
