"""The upload's state machine against a model of it, message by message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate.transcription.v1.audio_pb2 import AudioChunk, AudioHeader, AudioTrailer
from voxgate.transcription.v1.config_pb2 import TranscriptionConfig
from voxgate.transcription.v1.transcription_service_pb2 import TranscribeUploadRequest, UploadStart
from voxgate_server.edges.grpc.upload import UploadBytes, UploadFinished, UploadSession, UploadStarted
from voxgate_server.errors import InvalidRequest, MessageOutOfOrder, UploadIncomplete, VoxgateError

START = TranscribeUploadRequest(
    start=UploadStart(config=TranscriptionConfig(model="m"), audio=AudioHeader(filename="a.wav"))
)
CHUNK = TranscribeUploadRequest(chunk=AudioChunk(data=b"abc"))
FINISH = TranscribeUploadRequest(finish=AudioTrailer(size_bytes=3))
EMPTY = TranscribeUploadRequest()


def run(messages: list[TranscribeUploadRequest]) -> list[object]:
    session = UploadSession()
    events: list[object] = [session.feed(message) for message in messages]
    session.end()
    return events


def test_the_one_right_order():
    started, chunk, finished = run([START, CHUNK, FINISH])
    assert started == UploadStarted(START.start.config, START.start.audio)
    assert chunk == UploadBytes(b"abc")
    assert finished == UploadFinished(3, None)


@given(st.lists(st.sampled_from([START, CHUNK, FINISH, EMPTY]), max_size=8))
def test_every_other_order_is_an_error(messages: list[TranscribeUploadRequest]):
    right = (
        len(messages) >= 2
        and messages[0] is START
        and messages[-1] is FINISH
        and all(message is CHUNK for message in messages[1:-1])
    )
    if right:
        assert len(run(messages)) == len(messages)
        return
    with pytest.raises(VoxgateError) as caught:
        run(messages)
    incomplete = bool(messages) and messages[0] is START and all(message is CHUNK for message in messages[1:])
    assert isinstance(caught.value, UploadIncomplete if incomplete else MessageOutOfOrder)


def test_the_error_names_the_message():
    with pytest.raises(MessageOutOfOrder, match="Message 2 is a second `start`") as caught:
        run([START, CHUNK, START])
    assert caught.value.metadata == {"message_index": "2"}
    assert caught.value.reason == "CONFIG_EXPECTED_FIRST"


def test_a_chunk_has_a_bound():
    big = TranscribeUploadRequest(chunk=AudioChunk(data=bytes((1 << 20) + 1)))
    with pytest.raises(InvalidRequest, match="1048576"):
        run([START, big])


def test_a_digest_has_32_bytes():
    with pytest.raises(InvalidRequest, match="32 bytes"):
        run([START, TranscribeUploadRequest(finish=AudioTrailer(size_bytes=0, sha256=b"short"))])
    assert run([START, TranscribeUploadRequest(finish=AudioTrailer(size_bytes=0, sha256=bytes(32)))])[-1] == (
        UploadFinished(0, bytes(32))
    )
