"""A recording that is processed when it is complete: an upload that is answered with the events of one turn."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from voxgate.transcription.v1.transcription_service_pb2 import (
    ProviderSwitched,
    SessionDone,
    SessionNotice,
    SessionStarted,
    TranscribeLiveRequest,
    TranscribeLiveResponse,
    TurnCommitted,
)

from voxgate_server.call import Call
from voxgate_server.errors import UploadIncomplete, VoxgateError
from voxgate_server.gateway import Gateway
from voxgate_server.live.calls import event_of_turn
from voxgate_server.live.intake import Finished, LiveIntake, RecordingBytes
from voxgate_server.live.session import next_message

__all__ = ["complete_recording"]

_ITEM = "item_0001"


async def complete_recording(
    gateway: Gateway, call: Call, intake: LiveIntake, messages: AsyncIterator[TranscribeLiveRequest]
) -> AsyncGenerator[TranscribeLiveResponse, None]:
    """The events of such a session.

    The provider already reads while the caller still sends; what it says is told once the recording is verified.

    Args:
        gateway: Answers the call.
        call: Is planned.
        intake: Has taken `start`.
        messages: All after it.

    Raises:
        UploadIncomplete: The caller closed its side before `finish`.
        VoxgateError: The call has failed.
    """
    call.takes_resets = True
    sequence = 0

    def numbered(event: TranscribeLiveResponse) -> TranscribeLiveResponse:
        nonlocal sequence
        event.sequence, sequence = sequence, sequence + 1
        if (seconds := call.audio_seconds) is not None:
            event.cursors.received = seconds
            if event.HasField("turn_completed") or event.HasField("done"):
                event.cursors.processed = event.cursors.final = seconds
        return event

    yield numbered(TranscribeLiveResponse(session_started=SessionStarted(session_id=call.request_id)))
    receiving = asyncio.create_task(_receive(gateway, call, intake, messages), name="voxgate-live-receive")
    try:
        committed = False
        async with contextlib.aclosing(gateway.transcribe(call)) as events:
            async for event in events:
                if not committed:
                    await call.spool.wait_finished()
                    yield numbered(TranscribeLiveResponse(turn_committed=TurnCommitted(item_id=_ITEM)))
                    committed = True
                if event.HasField("reset"):
                    lost, taken = call.attempts[-2:]
                    switched = ProviderSwitched(
                        from_provider=lost.provider, to_provider=taken.provider, reason=event.reset.reason
                    )
                    yield numbered(TranscribeLiveResponse(notice=SessionNotice(provider_switched=switched)))
                    continue
                yield numbered(event_of_turn(event, _ITEM))
                if event.HasField("done"):
                    done = SessionDone(transcription=event.done.transcription)
                    yield numbered(TranscribeLiveResponse(done=done))
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def _receive(
    gateway: Gateway, call: Call, intake: LiveIntake, messages: AsyncIterator[TranscribeLiveRequest]
) -> None:
    """Copies the recording into the call's spool. What goes wrong fails the spool, and with it the call."""
    try:
        while message := await next_message(messages, gateway.limits.upload_idle_seconds):
            for action in intake.feed(message):
                if isinstance(action, RecordingBytes):
                    await call.spool.write(action.data)
                elif isinstance(action, Finished):
                    trailer = action.trailer
                    call.spool.finish(
                        size=trailer.size_bytes, sha256=trailer.sha256 if trailer.HasField("sha256") else None
                    )
                    return
        raise UploadIncomplete(
            "The recording ended without `finish`. Nothing of it was transcribed; send it again and close it with "
            "`finish`."
        )
    except VoxgateError as error:
        call.spool.fail(error)
