"""What a caller gets: the whole transcript in its format, or the events of a call one by one."""

import asyncio
import contextlib
from collections.abc import Sequence

from starlette.types import Send
from voxgate.transcription.v1.transcription_pb2 import Transcription

from voxgate_server.call import Call
from voxgate_server.edges.rest.encode import encode_transcription
from voxgate_server.edges.rest.headers import call_headers, identifying_headers
from voxgate_server.edges.rest.respond import send_response
from voxgate_server.edges.rest.sse import KEEP_ALIVE_SECONDS, SseStream
from voxgate_server.errors import Cancelled, VoxgateError
from voxgate_server.gateway import Gateway

__all__ = ["Answer"]


class Answer:
    """Gives the caller the answer, whole or as a stream of events."""

    def __init__(self, gateway: Gateway, send: Send, trace_id: str, *, with_extra_fields: bool) -> None:
        self._gateway = gateway
        self._send = send
        self._trace_id = trace_id
        self._with_extra_fields = with_extra_fields
        self._failed: SseStream | None = None

    async def run(self, call: Call) -> "Transcription | SseStream":
        """Runs the call; a streamed one sends what comes of it at once.

        Raises:
            VoxgateError: It failed. Of a stream that has begun, the caller knows already.
        """
        call.takes_resets = self._gateway.limits.sse_restart
        return await self._events(call) if call.streamed else await self._gateway.transcription(call)

    async def finish(self, call: Call, ran: "Transcription | SseStream") -> None:
        """Sends the answer, or the end of a stream. Apart from `run`: what ends a response ends the wait for callers
        who go away, as if they did.
        """
        if isinstance(ran, SseStream):
            await ran.end()
            return
        config = call.config
        answer = encode_transcription(
            ran,
            config.response_format,
            granularities=config.timestamp_granularities,
            with_extra_fields=self._with_extra_fields,
        )
        headers = self._headers(call, ran.extra_fields.dropped_params)
        await send_response(self._send, answer.body, answer.media_type.encode(), headers=headers)

    async def _events(self, call: Call) -> SseStream:
        stream = SseStream(
            self._send,
            lambda dropped: self._headers(call, dropped),
            unread_seconds=self._gateway.limits.unread_seconds,
            with_extra_fields=self._with_extra_fields,
        )
        try:
            async with contextlib.aclosing(self._gateway.transcribe(call)) as events:
                coming = asyncio.ensure_future(anext(events, None))
                try:
                    while True:
                        done, _ = await asyncio.wait((coming,), timeout=KEEP_ALIVE_SECONDS)
                        if not done:
                            await stream.keep_alive()
                            continue
                        event = coming.result()
                        if event is None:
                            return stream
                        # Options may stand behind the recording: nothing goes out before they are known to be these.
                        await call.spool.wait_finished()
                        await stream.event(event)
                        coming = asyncio.ensure_future(anext(events, None))
                finally:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
        except VoxgateError as error:
            if not stream.started or isinstance(error, Cancelled):
                raise
            await stream.fail(error)
            self._failed = stream
            raise

    async def finish_failed(self) -> None:
        """Sends the end of a stream whose failure was told; nothing where there was none."""
        if self._failed is not None:
            # Whoever does not read it loses the connection instead.
            with contextlib.suppress(Cancelled):
                await self._failed.end()

    def _headers(self, call: Call, dropped: Sequence[str]) -> list[tuple[bytes, bytes]]:
        headers = [*identifying_headers(call.request_id, self._trace_id), *call_headers(call)]
        if dropped:
            headers.append((b"x-voxgate-dropped-params", ",".join(dropped).encode("ascii", "replace")))
        return headers
