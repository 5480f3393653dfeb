"""The multipart body: what is sent parses back to what was given, and no end is written for a recording without one."""

import multipart
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxgate_server.audio.spool import SpoolStore
from voxgate_server.errors import UploadIncomplete
from voxgate_server.providers.multipart_body import MultipartBody


@pytest.fixture
def store(tmp_path):
    store = SpoolStore(directory=tmp_path)
    yield store
    store.close()


def parse(body: MultipartBody, data: bytes) -> list[tuple[str, str | None, bytes]]:
    """Names, file names and contents, by another library's strict parser."""
    media_type, options = multipart.parse_options_header(body.content_type)
    assert media_type == "multipart/form-data"
    parts: list[tuple[str, str | None, bytes]] = []
    with multipart.PushMultipartParser(options["boundary"], strict=True) as parser:
        for event in parser.parse(data):
            if isinstance(event, multipart.MultipartSegment):
                parts.append((event.name, event.filename, b""))
            elif event is not None:
                name, filename, content = parts[-1]
                parts[-1] = (name, filename, content + bytes(event))
    return parts


# What a parser makes of a name with quotes, backslashes, escapes or line ends is not agreed upon: see the test below.
PLAIN_CHARACTERS = st.characters(codec="utf-8", exclude_characters='"%\\', exclude_categories=["Cc"])
PLAIN_NAMES = st.text(PLAIN_CHARACTERS, min_size=1)


@settings(deadline=None)
@given(
    fields=st.lists(st.tuples(PLAIN_NAMES, st.text(st.characters(codec="utf-8"))), max_size=6),
    audio=st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=5),
)
async def test_what_is_sent_parses_back(fields: list[tuple[str, str]], audio: list[bytes]):
    async with SpoolStore().open(max_bytes=1 << 20) as spool:
        for chunk in audio:
            await spool.write(chunk)
        spool.finish()
        body = MultipartBody(fields, spool=spool, filename="audio.wav", media_type="audio/wav")
        data = await body.read()
    assert body.content_length == len(data)
    assert body.audio_bytes == sum(map(len, audio))
    expected = [(name, None, value.encode()) for name, value in fields]
    assert parse(body, data) == [*expected, ("file", "audio.wav", b"".join(audio))]


@settings(deadline=None)
@given(name=st.text(min_size=1), value=st.text())
async def test_no_name_and_no_value_makes_a_part_or_a_header_of_its_own(name: str, value: str):
    async with SpoolStore().open(max_bytes=1 << 20) as spool:
        await spool.write(b"RIFF")
        spool.finish()
        body = MultipartBody([(name, value)], spool=spool, filename="audio.wav", media_type="audio/wav")
        data = await body.read()
    boundary = body.content_type.partition("boundary=")[2].encode()
    first, second, rest = data.split(b"--" + boundary)[1:]
    head, _, content = first.partition(b"\r\n\r\n")
    assert head.count(b"\r\n") == 1
    assert head.lower().startswith(b"\r\ncontent-disposition: form-data; name=")
    assert head.count(b'"') == 2
    assert content == value.encode("utf-8", "replace") + b"\r\n"
    assert second.endswith(b"\r\n\r\nRIFF\r\n")
    assert rest == b"--\r\n"


async def test_an_unfinished_recording_has_no_length(store: SpoolStore):
    async with store.open(max_bytes=1 << 20) as spool:
        await spool.write(b"RIFF")
        body = MultipartBody([], spool=spool, filename="audio.wav", media_type="audio/wav")
        assert body.content_length is None
        assert b"audio.wav" in await anext(body)
        assert await anext(body) == b"RIFF"
        assert not body.complete
        spool.finish()
        assert (await anext(body)).endswith(b"--\r\n")
        assert body.complete
        with pytest.raises(StopAsyncIteration):
            await anext(body)


async def test_a_broken_upload_never_gets_an_end(store: SpoolStore):
    async with store.open(max_bytes=1 << 20) as spool:
        await spool.write(b"RIFF")
        body = MultipartBody([("model", "whisper-1")], spool=spool, filename="audio.wav", media_type="audio/wav")
        sent = await anext(body) + await anext(body)
        spool.fail(UploadIncomplete("The upload broke off."))
        # However often it is asked.
        for _ in range(3):
            with pytest.raises(UploadIncomplete):
                await anext(body)
        assert not body.complete
        boundary = body.content_type.partition("boundary=")[2].encode()
        assert b"--" + boundary + b"--" not in sent
        with pytest.raises(multipart.MultipartError):
            parse(body, sent)


async def test_boundaries_are_not_repeated(store: SpoolStore):
    async with store.open(max_bytes=1 << 20) as spool:
        types = {MultipartBody([], spool=spool, filename="a", media_type="a").content_type for _ in range(100)}
    assert len(types) == 100
