"""WAV: RIFF, RIFX and RF64."""

import struct

from voxgate_server.audio.duration.window import GiveUp, Steps, Walk, Window

__all__ = ["WavWalk"]

_UNSET = 0xFFFFFFFF
_FMT_BYTES = 40
_PCM, _MS_ADPCM, _FLOAT, _ALAW, _MULAW, _IMA_ADPCM, _GSM, _EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE
_WITHOUT_A_RATE = frozenset({0x50, 0x55, 0xFF, 0x1600, 0x1610, 0x566F})
"""MPEG audio, AAC and Vorbis: their byte rate is an average that some program once guessed."""


class WavWalk(Walk):
    """Counts the bytes of all data chunks that really came.

    A data chunk of size 0 or 2^32-1, as programs leave it that write to a pipe, reaches to the end of the recording,
    and so does one that is larger than what came. One that is smaller is believed: decoders stop there too.
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._closed_bytes = 0
        self._data_start = -1
        self._data_size: int | None = None
        """Of the chunk at `_data_start`; None when it reaches to the end."""
        self._block_bytes = 0
        self._block_seconds = 0.0

    def steps(self) -> Steps:
        """See Walk."""
        window = self.window
        head = yield from window.take(12)
        order = ">" if head.startswith(b"RIFX") else "<"
        wide_size: int | None = None
        while True:
            head = yield from window.take(8)
            name, size = head[:4], int(struct.unpack(order + "I", head[4:])[0])
            window.effort()
            if name == b"data":
                if size == _UNSET and wide_size is not None:
                    size = wide_size
                self._begin_data(None if size in (0, _UNSET) else size)
                if self._data_size is None:
                    return
            elif name in (b"fmt ", b"ds64"):
                body = yield from window.take(min(size, _FMT_BYTES))
                window.skip(-len(body))
                if name == b"fmt ":
                    self._format(body, order)
                elif len(body) >= 16:
                    wide_size = int(struct.unpack(order + "Q", body[8:16])[0])
            window.skip(size + (size & 1))

    def seconds(self) -> float | None:
        """See Walk."""
        if not self._block_bytes:
            return None
        return self._length(self._data_bytes())

    def _begin_data(self, size: int | None) -> None:
        self._closed_bytes = self._data_bytes()
        self._data_start = self.window.position
        self._data_size = size
        if size is not None and self._block_bytes:
            self.declared = self._length(self._closed_bytes + size)

    def _data_bytes(self) -> int:
        if self._data_start < 0:
            return 0
        came = max(self.window.received - self._data_start, 0)
        return self._closed_bytes + (came if self._data_size is None else min(came, self._data_size))

    def _length(self, size: int) -> float:
        return size // self._block_bytes * self._block_seconds

    def _format(self, body: bytes, order: str) -> None:
        if len(body) < 16:
            raise GiveUp
        code, channels, rate, byte_rate, block, bits = struct.unpack(order + "HHIIHH", body[:16])
        if code == _EXTENSIBLE and len(body) >= 26:
            code = struct.unpack(order + "H", body[24:26])[0]
        if not rate or not channels or code in _WITHOUT_A_RATE:
            return
        if code in (_PCM, _FLOAT, _ALAW, _MULAW):
            # The size of a sample follows from its bits; block size and byte rate are wrong now and then.
            self._block_bytes, self._block_seconds = channels * ((bits + 7) // 8), 1 / rate
        elif code in (_MS_ADPCM, _IMA_ADPCM, _GSM) and len(body) >= 20:
            self._block_bytes, self._block_seconds = block, struct.unpack(order + "H", body[18:20])[0] / rate
        elif byte_rate:
            self._block_bytes, self._block_seconds = 1, 1 / byte_rate
