"""The messages of a session: their order, their bounds, and what they amount to."""

import hashlib
from collections.abc import Sequence

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1 import transcription_service_pb2 as api
from voxgate_server.errors import MessageOutOfOrder, VoxgateError
from voxgate_server.live.intake import Committed, Finished, LiveIntake, Samples

from tests.live.calling import (
    CLEAR,
    COMMIT,
    MANUAL,
    audio_size,
    chunk,
    finish,
    info,
    live,
    silence,
    start,
)
from tests.running import Gateway

COMPLETE = "processing: AUDIO_PROCESSING_COMPLETE"
AUDIO = chunk(bytes(320))


def raw(encoding: str, rate: int = 16_000, channels: int = 1) -> str:
    return f"raw_format {{encoding: AUDIO_ENCODING_{encoding} sample_rate_hertz: {rate} channel_count: {channels}}}"


def vad(text: str) -> str:
    return f"turn_detection {{ server_vad {{ {text} }} }}"


BAD = [
    ("no message", [], "CONFIG_EXPECTED_FIRST", None),
    ("nothing in it", [api.TranscribeLiveRequest()], "CONFIG_EXPECTED_FIRST", 0),
    ("audio first", [AUDIO], "CONFIG_EXPECTED_FIRST", 0),
    ("finish first", [finish(0)], "CONFIG_EXPECTED_FIRST", 0),
    ("two starts", [start(), AUDIO, start()], "CONFIG_EXPECTED_FIRST", 2),
    ("empty in the middle", [start(), api.TranscribeLiveRequest()], "CONFIG_EXPECTED_FIRST", 1),
    ("no such model", [start("nobody-knows-me")], "UNKNOWN_MODEL", None),
    ("no raw format", [start(audio="")], "UNSUPPORTED_FORMAT", 0),
    ("opus", [start(audio=raw("OPUS", 48_000))], "UNSUPPORTED_FORMAT", 0),
    ("no encoding", [start(audio=raw("UNSPECIFIED"))], "INVALID_REQUEST", 0),
    ("slow samples", [start(audio=raw("PCM_S16LE", 7999))], "INVALID_REQUEST", 0),
    ("fast samples", [start(audio=raw("PCM_S16LE", 96_000))], "INVALID_REQUEST", 0),
    ("no rate", [start(audio=raw("MULAW", 0))], "INVALID_REQUEST", 0),
    ("channels", [start(audio=raw("ALAW", 8000, 9))], "INVALID_REQUEST", 0),
    ("negative channels", [start(audio=raw("ALAW", 8000, -1))], "INVALID_REQUEST", 0),
    ("no detection", [start(options="turn_detection {}")], "INVALID_REQUEST", 0),
    ("semantic", [start(options="turn_detection { semantic_vad {} }")], "UNSUPPORTED_PARAMETER", 0),
    ("threshold", [start(options=vad("threshold: 1.5"))], "INVALID_REQUEST", 0),
    ("not a threshold", [start(options=vad("threshold: nan"))], "INVALID_REQUEST", 0),
    ("padding", [start(options=vad("prefix_padding_ms: -1"))], "INVALID_REQUEST", 0),
    ("pause", [start(options=vad("silence_duration_ms: 30001"))], "INVALID_REQUEST", 0),
    ("processing", [start(options="processing: 7")], "INVALID_REQUEST", 0),
    ("resume", [start(options=f'resume_session_id: "{"x" * 256}"')], "INVALID_REQUEST", 0),
    ("large chunk", [start(), AUDIO, chunk(bytes((1 << 20) + 1))], "INVALID_REQUEST", 2),
    ("no silence", [start(), silence(0)], "INVALID_REQUEST", 1),
    ("long silence", [start(), silence(60_001)], "INVALID_REQUEST", 1),
    ("negative silence", [start(), AUDIO, AUDIO, silence(-1)], "INVALID_REQUEST", 3),
    ("size", [start(), AUDIO, finish(319)], "CHECKSUM_MISMATCH", 2),
    ("digest", [start(), AUDIO, finish(320, bytes(32))], "CHECKSUM_MISMATCH", 2),
    ("half a digest", [start(), AUDIO, finish(320, bytes(16))], "INVALID_REQUEST", 2),
    ("long turn", [start(options=MANUAL), *[chunk(bytes(1 << 20))] * 2], "AUDIO_TOO_LARGE", None),
    ("commit of a recording", [start(audio="", options=COMPLETE), COMMIT], "CONFIG_EXPECTED_FIRST", 1),
    ("silence in a recording", [start(audio="", options=COMPLETE), silence(1)], "CONFIG_EXPECTED_FIRST", 1),
    ("turns of a recording", [start(audio="", options=f"{COMPLETE} {MANUAL}")], "INVALID_REQUEST", 0),
    ("recording without an end", [start(audio="", options=COMPLETE), AUDIO], "UPLOAD_INCOMPLETE", None),
]


@pytest.mark.parametrize(("messages", "expected", "index"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_bad_input_is_refused_with_its_index(
    gateway: Gateway, messages: Sequence[api.TranscribeLiveRequest], expected: str, index: int | None
):
    async with live(gateway, *messages) as session:
        await session.call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await session.rest()
    error = info(caught.value)
    assert error.reason == expected
    assert error.metadata.get("message_index") == (None if index is None else str(index))
    if index is not None:
        assert f"Message {index} " in (caught.value.details() or "")
    assert gateway.app.gateway.calls_in_progress == len(gateway.app.live) == 0


async def test_after_finish_nothing_may_come():
    intake = LiveIntake()
    for message in (start(), AUDIO, finish(320, hashlib.sha256(bytes(320)).digest())):
        list(intake.feed(message))
    for message in (AUDIO, COMMIT, finish(320), start()):
        with pytest.raises(MessageOutOfOrder, match="finish"):
            list(intake.feed(message))


MESSAGES = st.one_of(
    st.just(start()),
    st.just(start(options=COMPLETE, audio="")),
    st.binary(max_size=9).map(chunk),
    st.integers(-1, 4).map(silence),
    st.just(COMMIT),
    st.just(CLEAR),
    st.integers(0, 20).map(finish),
    st.just(api.TranscribeLiveRequest()),
)


@given(st.lists(MESSAGES, max_size=12))
def test_any_order_of_messages_is_read_or_refused(messages: list[api.TranscribeLiveRequest]):
    intake = LiveIntake()
    seconds = 0.0
    accepted: list[api.TranscribeLiveRequest] = []
    samples = 0
    for index, message in enumerate(messages):
        try:
            for action in intake.feed(message):
                if isinstance(action, Samples):
                    samples += len(action.pcm) // 2
                if isinstance(action, Finished):
                    assert action.trailer.size_bytes == audio_size(accepted) or not intake.sample_rate
        except VoxgateError as error:
            assert error.metadata["message_index"] == str(index)  # noqa: PT017 (it may also not be raised)
            assert error.message.startswith(f"Message {index} ")  # noqa: PT017
            return
        accepted.append(message)
        assert seconds <= intake.seconds
        seconds = intake.seconds
    kinds = [message.WhichOneof("payload") for message in accepted]
    assert kinds[:1] in ([], ["start"])
    assert "start" not in kinds[1:]
    assert "finish" not in kinds[:-1]
    if intake.sample_rate:
        silent = sum(message.silence.duration_ms for message in accepted) * 16
        assert samples == audio_size(accepted) // 2 + silent == round(seconds * 16_000)


def test_bytes_may_be_cut_anywhere():
    intake = LiveIntake()
    list(intake.feed(start(audio=raw("PCM_S16LE", 16_000, 2))))
    data = bytes(range(240))
    one = list(intake.feed(chunk(data)))
    two = LiveIntake()
    list(two.feed(start(audio=raw("PCM_S16LE", 16_000, 2))))
    many = [action for at in range(0, 240, 7) for action in two.feed(chunk(data[at : at + 7]))]
    join = lambda actions: b"".join(action.pcm for action in actions if isinstance(action, Samples))  # noqa: E731
    assert join(one) == join(many)
    assert len(join(one)) == 120
    assert list(two.feed(COMMIT)) == [Committed()]
