"""JSON bodies: the recording as text, and what people send in its place."""

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxgate_server.edges.rest.json_body import JsonRequest, decode_json_body
from voxgate_server.errors import AudioTooLarge, InvalidRequest


def decode(file: object, **more: object) -> JsonRequest:
    return decode_json_body(json.dumps({"model": "whisper-1", "file": file, **more}).encode())


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        decode_json_body(body)
    return raised.value


@given(audio=st.binary(min_size=193, max_size=600), mode=st.sampled_from(["plain", "url-safe", "lines", "unpadded"]))
def test_every_base64_reads_back(audio: bytes, mode: str) -> None:
    text = base64.b64encode(audio).decode()
    if mode == "url-safe":
        text = base64.urlsafe_b64encode(audio).decode()
    elif mode == "lines":
        text = base64.encodebytes(audio).decode()
    elif mode == "unpadded":
        text = text.rstrip("=")
    assert decode(text).audio == audio
    assert decode(f"data:audio/wav;base64,{text}").audio == audio


def test_a_whole_request() -> None:
    request = decode(
        "data:Audio/X-WAV;codecs=1;base64,UklGRg==",
        filename="../music/take 1.wav",
        temperature=0.5,
        timestamp_granularities=["word"],
        smart_format=True,
    )
    assert (request.audio, request.media_type, request.filename) == (b"RIFF", "audio/x-wav", "take 1.wav")
    assert request.form.config.model == "whisper-1"
    assert request.form.config.temperature == 0.5
    assert request.form.unknown == {"smart_format": True}


def test_an_mp3_is_not_taken_for_a_path() -> None:
    audio = b"\xff\xfb\x90" + random.Random(2).randbytes(2000)
    text = base64.b64encode(audio).decode()
    assert text.startswith("/")
    assert decode(text).audio == audio


@pytest.mark.parametrize(
    "path",
    [
        "@/path/to/file/audio.mp3",
        "@audio.mp3",
        "/home/me/x.mp3",
        "/home/me/recording",
        "/" + "deep/" * 100 + "x.mp3",
        "./x.wav",
        "../x.wav",
        "~/x.wav",
        "x.wav",
        "my music/x.wav",
        "C:\\Users\\me\\x.wav",
        "c:/x.wav",
        "\\\\server\\share\\x.wav",
        "file:///etc/passwd",
        "FILE:x.wav",
    ],
)
def test_a_path_is_refused_with_the_form_to_use(path: str) -> None:
    error = refusal(json.dumps({"model": "m", "file": path}).encode())
    assert (error.param, error.http_status) == ("file", 400)
    assert "path on your machine" in error.message
    assert "curl -F file=@recording.wav -F model=whisper-1" in error.message
    assert "passwd" not in error.message


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", "body", "not valid JSON"),
        (b"{", "body", "not valid JSON"),
        (b"[]", "body", "must be a JSON object"),
        (b"\xff", "body", "not valid JSON"),
        (b'{"model": "\xff"}', "body", "not valid JSON"),
        (b'{"a":' * 100_000, "body", "too deeply"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "body", "16 levels"),
        (b'{"model": "m"}', "file", "missing"),
        (b'{"model": "m", "file": ""}', "file", "missing"),
        (b'{"model": "m", "file": null}', "file", "missing"),
        (b'{"model": "m", "file": {"a": 1}}', "file", "base64"),
        (b'{"model": "m", "file": "%%%"}', "file", "not valid base64"),
        (b'{"model": "m", "file": "A"}', "file", "not valid base64"),
        (b'{"model": "m", "file": "data:audio/wav,RIFF"}', "file", "data URL"),
        (b'{"model": "m", "file": "data:audio/wav;base64,A"}', "file", "damaged"),
        (b'{"model": "m", "file": "https://example.com/a.mp3"}', "file", "not fetched"),
        (b'{"file": "UklGRg=="}', "model", "missing"),
        (b'{"model": "m", "file": "UklGRg==", "filename": 3}', "filename", "text"),
        (b'{"model": "m", "file": "UklGRg==", "api_key": "k"}', "api_key", "credential"),
        (b'{"model": "m", "file": "UklGRg==", "temperature": NaN}', "body", "not valid JSON"),
    ],
)
def test_malformed_bodies(body: bytes, param: str, words: str) -> None:
    error = refusal(body)
    assert (error.param, error.http_status) == (param, 400)
    assert words in error.message


def test_a_body_above_the_limit() -> None:
    body = json.dumps({"model": "m", "file": "UklGRg=="}).encode()
    assert decode_json_body(body, max_bytes=len(body)).audio == b"RIFF"
    with pytest.raises(AudioTooLarge) as raised:
        decode_json_body(body, max_bytes=len(body) - 1)
    assert raised.value.metadata == {"limit_bytes": str(len(body) - 1)}
    assert "as a form" in raised.value.message


@given(
    body=st.one_of(st.binary(max_size=100), st.text(max_size=100).map(lambda text: json.dumps({"file": text}).encode()))
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):  # none of these names a model
        decode_json_body(body)
