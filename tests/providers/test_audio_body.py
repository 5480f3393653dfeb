"""Bodies around a recording: whole only when the upload was, in base64 where an API wants that, and never too large."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import AudioTooLarge, UploadIncomplete
from voxgate_server.providers.audio_body import AudioBody
from voxgate_server.providers.http_errors import Upstream


@given(pieces=st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=20), finished=st.booleans())
async def test_base64_whatever_the_pieces(pieces: list[bytes], finished: bool):
    store = SpoolStore(window_bytes=4096)
    async with store.open(max_bytes=1 << 20) as spool:
        for piece in pieces:
            await spool.write(piece)
        if finished:
            spool.finish()
        body = AudioBody(spool, content_type="application/json", head=b'{"a": "', tail=b'"}', in_base64=True)
        if not finished:
            spool.finish()
        sent = b"".join([chunk async for chunk in body])
    store.close()
    assert sent == b'{"a": "' + base64.b64encode(b"".join(pieces)) + b'"}'
    assert body.content_length == (len(sent) if finished else None)
    assert body.audio_bytes == sum(map(len, pieces))
    assert body.complete


async def test_nothing_around_it(store: SpoolStore):
    async with store.open(max_bytes=100) as spool:
        await spool.write(b"abc")
        spool.finish()
        body = AudioBody(spool, content_type="audio/wav")
        assert body.content_length == body.recording_bytes == 3
        assert [chunk async for chunk in body] == [b"abc"]


async def test_a_broken_upload_has_no_end(store: SpoolStore):
    async with store.open(max_bytes=100) as spool:
        await spool.write(b"abcd")
        body = AudioBody(spool, content_type="application/json", head=b"<", tail=b">", in_base64=True)
        assert [await anext(body), await anext(body)] == [b"<", b"YWJj"]
        spool.fail(UploadIncomplete("gone"))
        with pytest.raises(UploadIncomplete):
            await anext(body)
        assert not body.complete


async def test_one_that_grows_too_large_is_cut(store: SpoolStore):
    async with store.open(max_bytes=100) as spool:
        await spool.write(b"a" * 10)
        body = AudioBody(spool, content_type="audio/wav")
        body.limit(15, Upstream("somebody", "model"))
        assert await anext(body) == b"a" * 10
        await spool.write(b"a" * 10)
        with pytest.raises(AudioTooLarge, match=r"somebody \(model\) takes at most 15") as caught:
            await anext(body)
        assert caught.value.metadata["limit_bytes"] == "15"
        assert not body.complete
