"""How long a call may take: by the operator's limit, and longer for longer recordings."""

from pathlib import Path

import pytest
from voxgate.transcription.v1.audio_pb2 import AudioHeader
from voxgate_server.call import Caller

from tests.recordings import recording
from tests.running import openai_config, running

SPEECH = recording("demo-congrats.wav").data


@pytest.mark.parametrize(("own", "factor", "later"), [(None, 1.0, True), (5.0, 1.0, False), (None, 0.0, False)])
async def test_a_long_recording_has_longer(tmp_path: Path, own: float | None, factor: float, later: bool):
    limits = f"voxgate: {{limits: {{request_timeout_seconds: 9, request_timeout_per_audio_second: {factor}}}}}"
    async with running(tmp_path, openai_config("http://127.0.0.1:1/v1", extra=limits)) as gateway:
        core = gateway.app.gateway
        call = core.open(request_id="req_1", caller=Caller(), audio=AudioHeader(), seconds_left=own)
        try:
            before = call.deadline
            call.extend_deadline()
            assert call.deadline == before  # nothing is known of the recording yet
            await call.spool.write(SPEECH)
            call.spool.finish()
            call.extend_deadline()
            call.extend_deadline()
            seconds = call.audio_seconds
            assert seconds is not None
            assert call.deadline - before == pytest.approx(seconds * factor if later else 0.0)
        finally:
            core.close(call)
