"""The form reader: the same events for any cutting of the bytes, and a clear refusal for everything malformed."""

import itertools
import random

import aiohttp
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from voxgate_server.edges.rest.form import (
    End,
    Field,
    FileData,
    FileEnd,
    FileStart,
    FormEvent,
    FormLimits,
    FormReader,
)
from voxgate_server.errors import InvalidRequest, UploadIncomplete, VoxgateError

BOUNDARY = "b0"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/x-wav'


def field(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"'


def form(*parts: tuple[str, bytes], end: bytes = b"--b0--\r\n") -> bytes:
    body = b"".join(b"--b0\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + end


def read(body: bytes, cuts: list[int] | None = None, *, limits: FormLimits | None = None) -> list[FormEvent]:
    """All events with the file's bytes joined; raises what the reader raises."""
    reader = FormReader(CONTENT_TYPE, limits=limits)
    events: list[FormEvent] = []
    bounds = [0, *sorted(cuts or []), len(body)]
    for first, last in itertools.pairwise(bounds):
        events += reader.feed(body[first:last])
    reader.close()
    joined: list[FormEvent] = []
    for event in events:
        if isinstance(event, FileData) and joined and isinstance(joined[-1], FileData):
            joined[-1] = FileData(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


def outcome(body: bytes, cuts: list[int] | None = None) -> list[FormEvent] | None:
    """The events; None of a body that is refused, be it as malformed or as cut off: a body can be both."""
    try:
        return read(body, cuts)
    except (InvalidRequest, UploadIncomplete):
        return None


def refusal(body: bytes, **limits: int) -> VoxgateError:
    """How the body is refused: in one piece and byte by byte alike."""
    errors = []
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(InvalidRequest) as raised:
            read(body, cuts, limits=FormLimits(**limits))
        errors.append(raised.value)
    assert [error.param for error in errors[1:]] == [error.param for error in errors[:-1]]
    return errors[0]


# What can confuse a scanner for the boundary, more often than chance would bring it.
near_boundary = st.lists(
    st.sampled_from([b"\r\n--b0", b"\r\n--b", b"\r\n--", b"\r\n", b"\r", b"\n", b"--b0--", b"--", b"b0", b"x", b"\0"]),
    max_size=30,
).map(b"".join)
payload = st.one_of(near_boundary, st.binary(max_size=300)).filter(lambda data: b"\r\n--b0" not in data)


@given(
    before=st.lists(st.tuples(st.text("abc[]", min_size=1, max_size=8), st.text(max_size=60)), max_size=4),
    recording=payload,
    after=st.lists(st.tuples(st.text("xyz[]", min_size=1, max_size=8), st.text(max_size=60)), max_size=4),
    epilogue=st.sampled_from([b"", b"\r\n", b"\r\n--b0--\r\n", b"x" * 1000]),
    cuts=st.lists(st.integers(0, 4000), max_size=30),
    one_byte_chunks=st.booleans(),
)
def test_any_chunking_gives_the_same_events(
    before: list[tuple[str, str]],
    recording: bytes,
    after: list[tuple[str, str]],
    epilogue: bytes,
    cuts: list[int],
    one_byte_chunks: bool,
) -> None:
    body = form(
        *((field(name), value.encode()) for name, value in before if "\r\n--b0" not in value),
        (FILE, recording),
        *((field(name), value.encode()) for name, value in after if "\r\n--b0" not in value),
        end=b"--b0--" + epilogue,
    )
    expected = [
        *(Field(name, value) for name, value in before if "\r\n--b0" not in value),
        FileStart("a.wav", "audio/x-wav"),
        *([FileData(recording)] if recording else []),
        FileEnd(),
        *(Field(name, value) for name, value in after if "\r\n--b0" not in value),
        End(),
    ]
    positions = list(range(len(body))) if one_byte_chunks else [min(cut, len(body)) for cut in cuts]
    assert read(body, positions) == expected


VALID = form((field("model"), b"whisper-1"), (FILE, b"RIFF1234"), (field("language"), b"en"))
damage = st.sampled_from([
    b"", b"--b0\r\n", b"\r\n--b0\r\n", b"\r\n--b0--", b"--b0", b"\r\n", b"\r", b"\n", b"--", b" ", b"x", b"\xff", b"\0",
    b"\r\n" + FILE.encode(), b"\r\nContent-Length: 4", b"\r\nA:\nB", b"\r\nA: b", b": ", b'"', b"A" * 4000,
])  # fmt: skip


@given(
    edits=st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 9), damage), max_size=4),
    cuts=st.lists(st.integers(0, len(VALID) + 1000), max_size=10),
)
@example([(0, len(VALID), b"\r\n\r\n--b0\r\n")], [])
@example([(0, 0, b"xxxxxxxx")], [8])
@example([(len("--b0"), 0, b"\r\nA:\nB")], [14])
def test_damaged_bodies_end_the_same_way_for_any_chunking(edits: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    body = VALID
    for position, removed, inserted in edits:
        body = body[:position] + inserted + body[position + removed :]
    whole = outcome(body)
    assert outcome(body, [min(cut, len(body)) for cut in cuts]) == whole
    assert outcome(body, list(range(len(body)))) == whole


@pytest.mark.parametrize("size", range(len(form((field("model"), b"m"), (FILE, b"RIFF")))))
def test_a_body_that_breaks_off_is_never_a_whole_form(size: int) -> None:
    body = form((field("model"), b"m"), (FILE, b"RIFF"))
    if size < len(body) - 2:  # the line break after the closing boundary may be missing
        with pytest.raises(UploadIncomplete):
            read(body[:size])
    else:
        assert read(body[:size])[-1] == End()


def test_events_come_as_soon_as_they_can() -> None:
    reader = FormReader(CONTENT_TYPE)
    assert reader.feed(b"--b0\r\n" + field("model").encode() + b"\r\n\r\nwhisper-1\r\n--b0\r\n") == [
        Field("model", "whisper-1")
    ]
    assert reader.feed(FILE.encode() + b"\r\n\r\nRIFF") == [FileStart("a.wav", "audio/x-wav"), FileData(b"RIFF")]
    assert reader.feed(b"1234") == [FileData(b"1234")]
    assert reader.feed(b"") == []
    assert reader.feed(b"\r\n--b0--") == [FileEnd(), End()]
    assert reader.feed(b"\r\n") == []
    reader.close()


async def test_bodies_of_real_libraries() -> None:
    recording = random.Random(1).randbytes(200_000)
    request = httpx.Request(
        "POST",
        "http://gateway/",
        data={"model": "whisper-1", "prompt": "naïve"},
        files={"file": ("naïve recording.wav", recording, "audio/x-wav")},
    )
    writer = aiohttp.FormData(quote_fields=False)
    writer.add_field("file", recording, filename="naïve recording.wav", content_type="audio/x-wav")
    writer.add_field("model", "whisper-1")
    writer.add_field("prompt", "naïve")
    multipart = writer()
    start = FileStart("naïve recording.wav", "audio/x-wav")
    for content_type, body in (
        (request.headers["content-type"], request.read()),
        (multipart.headers["Content-Type"], await multipart.as_bytes()),
    ):
        reader = FormReader(content_type)
        events = [event for first in range(0, len(body), 65536) for event in reader.feed(body[first : first + 65536])]
        reader.close()
        assert [event for event in events if isinstance(event, FileStart | Field | End)] in (
            [Field("model", "whisper-1"), Field("prompt", "naïve"), start, End()],
            [start, Field("model", "whisper-1"), Field("prompt", "naïve"), End()],
        )
        assert b"".join(event.data for event in events if isinstance(event, FileData)) == recording


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="C:\\\\music\\\\a.mp3"', "a.mp3"),
        ("filename*=utf-8''na%C3%AFve.wav", "naïve.wav"),
        ("filename=plain.ogg", "plain.ogg"),
        ('filename=""', ""),
        ('filename="a\tb\x1b[31m.wav"', "ab[31m.wav"),
        ('filename="' + "ü" * 300 + '.flac"', "ü" * 125 + ".flac"),
    ],
)
def test_a_file_name_is_only_a_hint(disposition: str, expected: str) -> None:
    head = f'Content-Disposition: form-data; name="file"; {disposition}\r\nContent-Type: audio/flac; rate=1'
    assert read(form((head, b"x")))[0] == FileStart(expected, "audio/flac")


def test_a_latin1_file_name_is_taken() -> None:
    body = b'--b0\r\nContent-Disposition: form-data; name="file"; filename="na\xefve.wav"\r\n\r\nx\r\n--b0--'
    assert read(body)[0] == FileStart("na�ve.wav", "")


def test_bytes_without_a_file_name_are_a_file_by_their_media_type() -> None:
    head = 'Content-Disposition: form-data; name="file"\r\nContent-Type: application/octet-stream'
    assert read(form((head, b"x")))[0] == FileStart("", "application/octet-stream")


@pytest.mark.parametrize("head", [field("file"), field("file") + "\r\nContent-Type: text/plain; charset=utf-8"])
def test_a_file_sent_as_text_is_explained(head: str) -> None:
    error = refusal(form((head, b"@/home/me/a.wav")))
    assert error.param == "file"
    assert "curl -F file=@recording.wav" in error.message
    assert "/home" not in error.message


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (form((FILE, b"1"), (FILE, b"2")), "file", "more than one file"),
        (form((FILE.replace('"file"', '"audio"'), b"1")), "audio", "as `file`"),
        (form((field("model"), b"m")), "file", "has no file"),
        (b"--b0--\r\n", "file", "has no file"),
        (form((FILE, b"x"), (field("model"), b"\xff")), "model", "not UTF-8"),
        (form((field(""), b"x"), (FILE, b"x")), None, "no name"),
        (form(("Content-Type: text/plain", b"x"), (FILE, b"x")), None, "no name"),
        (form(('Content-Disposition: attachment; name="x"', b"x"), (FILE, b"x")), None, "form-data"),
        (form((FILE + "\r\nContent-Transfer-Encoding: base64", b"x")), None, "Content-Transfer-Encoding"),
        (form((FILE + "\r\n" + FILE, b"x")), None, "malformed headers"),
        (form((FILE + "\r\nA:\nB", b"x")), None, "malformed headers"),
        (form((FILE + "\r\nA b: c", b"x")), None, "malformed headers"),
        (form(("", b"x"), (FILE, b"x")), None, "malformed headers"),
        (form((FILE, b"x"), end=b"--b0xx"), None, "other bytes follow"),
        (form((FILE, b"x")) + b"x" * 1023, None, "closing boundary"),
        (form((FILE + "\r\n folded", b"x")), None, "not valid multipart"),
        (b"preamble\r\n" + form((FILE, b"x")), None, "does not start with the boundary"),
        (form((FILE, b"x")).replace(b"--b0\r\n", b"--b0\n"), None, "not valid multipart"),
        (b"{}", None, "does not start with the boundary"),
    ],
)
def test_malformed_forms(body: bytes, param: str | None, words: str) -> None:
    error = refusal(body)
    assert (error.param, error.http_status) == (param, 400)
    assert words in error.message


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        ("", "names none"),
        ("text/plain", "not `text/plain`"),
        ("multipart/form-data", "no boundary"),
        ("multipart/form-data; boundary=", "no boundary"),
        ("multipart/form-data; boundary=a; boundary=b", "or several"),
        (f"multipart/form-data; boundary={'b' * 71}", "longer than 70"),
        ('multipart/form-data; boundary="a\n"', "does not permit"),
        ('multipart/form-data; boundary="ä"', "does not permit"),
    ],
)
def test_unusable_content_types(content_type: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        FormReader(content_type)


@pytest.mark.parametrize("boundary", ["----WebKitFormBoundaryX", '"a b"', "=_Part_1:2", "'x'", "b" * 70])
def test_usable_boundaries(boundary: str) -> None:
    reader = FormReader(f"Multipart/Form-Data; charset=utf-8; BOUNDARY={boundary}")
    raw = boundary.strip('"').encode()
    assert reader.feed(b"--" + raw + b"\r\n" + FILE.encode() + b"\r\n\r\nx\r\n--" + raw + b"--")[-1] == End()


def test_every_limit_holds_for_any_chunking() -> None:
    parts = [(field(f"f{index}"), b"x") for index in range(63)]
    assert len(read(form(*parts, (FILE, b"x")))) == 67
    assert "more than 64 parts" in refusal(form(*parts, (field("more"), b"x"), (FILE, b"x"))).message

    longest = 4096 - len(FILE + "\r\nX-A: ")
    assert read(form((FILE + "\r\nX-A: " + "a" * longest, b"x")))
    for head in ("a" * (longest + 1), "a" * 5000, "a" * 100_000):
        refusal(form((FILE + "\r\nX-A: " + head, b"x")))

    assert refusal(form((field("language"), b"x" * 65_537), (FILE, b"x"))).param == "language"
    assert read(form((field("language"), b"x" * 65_536), (FILE, b"x")))
    assert refusal(form((field("prompt"), b"x" * 16_385), (FILE, b"x"))).param == "prompt"
    assert read(form((field("known_speaker_references[]"), b"x" * 1_400_000), (FILE, b"x")))
    assert "together" in refusal(form(*parts[:9], (FILE, b"x")), text_bytes=8).message


def test_an_endless_epilogue_is_refused() -> None:
    reader = FormReader(CONTENT_TYPE)
    assert reader.feed(form((FILE, b"x")))[-1] == End()
    assert reader.feed(b"x" * 1022) == []  # the line break after the boundary counts
    with pytest.raises(InvalidRequest, match="closing boundary"):
        reader.feed(b"x")


def test_a_reader_that_refused_stays_refused() -> None:
    reader = FormReader(CONTENT_TYPE)
    with pytest.raises(InvalidRequest):
        reader.feed(b"nonsense")
    with pytest.raises(InvalidRequest):
        reader.feed(form((FILE, b"x")))
    with pytest.raises(InvalidRequest):
        reader.close()


@pytest.mark.parametrize("filler", [b"\r", b"\r\n", b"\r\n--", b"\r\n--b", b"-", b"\0"])
def test_hostile_recordings_pass_unchanged(filler: bytes) -> None:
    recording = filler * (300_000 // len(filler))
    body = form((FILE, recording))
    for size in (65_536, 4_093):
        events = read(body, list(range(0, len(body), size)))
        assert events[1] == FileData(recording)
