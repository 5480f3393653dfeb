"""What a caller learns of a provider's fault when there is nobody else to ask."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import grpc
import pytest
import trustme

from tests.faults.calling import DOORS, GUARD, SHA256, Ask, unary
from tests.faults.conftest import UPSTREAM_KEY, House
from tests.providers import http_wire
from tests.providers.chaos_proxy import both, downstream, upstream
from tests.providers.openai_emulator import OpenAIEmulator, failure, hang, raw
from tests.running import KEY, running

Status = int | grpc.StatusCode
UNAVAILABLE = (502, grpc.StatusCode.UNAVAILABLE)
TOO_LARGE = (502, grpc.StatusCode.RESOURCE_EXHAUSTED)
TOO_SLOW = (504, grpc.StatusCode.DEADLINE_EXCEEDED)
EXPECTED = {
    "500": ("500", UNAVAILABLE),
    "503": ("503", UNAVAILABLE),
    "504": (failure(504), TOO_SLOW),
    "429": ("429", (429, grpc.StatusCode.RESOURCE_EXHAUSTED)),
    "quota": ("quota", UNAVAILABLE),
    "400": (failure(400, "the audio is bad"), (400, grpc.StatusCode.INVALID_ARGUMENT)),
    "422": (failure(422, "the audio is bad"), (400, grpc.StatusCode.INVALID_ARGUMENT)),
    "413": (failure(413), (413, grpc.StatusCode.RESOURCE_EXHAUSTED)),
    "401": ("401", UNAVAILABLE),
    "403": (failure(403), UNAVAILABLE),
    "early-401": ("early-401", UNAVAILABLE),
    "early-413": ("early-413", (413, grpc.StatusCode.RESOURCE_EXHAUSTED)),
    "html-502": ("html", UNAVAILABLE),
    "html-200": (raw("<html>hello</html>", media_type="text/html"), UNAVAILABLE),
    "invalid-json": ("bad-json", UNAVAILABLE),
    "error-in-200": ("error-200", UNAVAILABLE),
    "empty-200": (raw(""), UNAVAILABLE),
    "a-list": (raw('[{"text": "hello"}]'), UNAVAILABLE),
    "text-is-no-text": (raw('{"text": 7}'), UNAVAILABLE),
    "no-text": (raw('{"result": "hello"}'), UNAVAILABLE),
    "binary": (raw(b"\x89PNG\r\n\x1a\n" + bytes(100), media_type="image/png"), UNAVAILABLE),
    "cut-answer": ("cut-answer", UNAVAILABLE),
    "huge": (raw(b'{"text":"' + bytes(17 << 20)), TOO_LARGE),
    "reset-on-accept": (both(reset_peer=0), UNAVAILABLE),
    "reset-mid-upload": (upstream(reset_peer=10_000), UNAVAILABLE),
    "reset-mid-answer": (downstream(reset_peer=40), UNAVAILABLE),
}


@pytest.mark.parametrize("fault", EXPECTED)
async def test_the_status_of_a_single_attempt(house: House, ask: Ask, fault: str):
    behaviour, (rest, code) = EXPECTED[fault]
    house.proxy.script(behaviour) if isinstance(behaviour, tuple) else house.first.script(behaviour)
    outcome = await ask(house.gateway, "alone", retries=0)
    assert outcome.matches(rest, code), outcome
    assert UPSTREAM_KEY not in outcome.message
    assert len(house.proxy.links) == 1
    if fault in {"400", "422"}:
        assert "the audio is bad" in outcome.message
    if fault == "huge":
        assert outcome.reason in {"provider_answer_too_large", "UPSTREAM_TOO_LARGE"}


async def test_a_refused_request_is_not_repeated(house: House, ask: Ask):
    house.health("alone", alone=True)
    house.first.script(failure(400, "the audio is bad"))
    assert not (await ask(house.gateway, "alone")).ok
    assert len(house.first.records) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(house: House, ask: Ask, status: int):
    house.first.script(failure(status, headers={"location": f"{house.second.url}/audio/transcriptions"}))
    outcome = await ask(house.gateway, "alone", retries=0)
    assert outcome.matches(*UNAVAILABLE)
    assert house.second.connections == 0


@pytest.mark.parametrize(
    "usage", ["", ', "usage": null', ', "usage": {}', ', "usage": 7', ', "usage": {"type": "new"}']
)
async def test_usage_may_be_missing(house: House, ask: Ask, usage: str):
    house.first.script(raw(f'{{"text": "hello"{usage}}}'))
    outcome = await ask(house.gateway, "alone", retries=0)
    assert (outcome.text, outcome.attempts) == ("hello", ["succeeded"])


async def test_what_follows_an_answer_is_not_the_next_one(house: House, ask: Ask):
    answer = b'{"text": "hello"}'
    forged = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n" + b'{"text": "forged"}'
    house.first.script(raw(answer + forged, headers={"content-length": str(len(answer))}))
    assert (await ask(house.gateway, "alone", retries=0)).text == "hello"
    assert (await ask(house.gateway, "alone", retries=0)).text == "From the first."


async def test_latency_slices_and_a_late_end_change_nothing(house: House, ask: Ask):
    house.proxy.script(both(latency=0.001, jitter=0.001, slicer=1000, bandwidth=10_000_000, slow_close=0.01))
    outcome = await ask(house.gateway, "alone", retries=0)
    assert outcome.text == "From the first."
    assert house.first.records[0].file_sha256 == SHA256


async def test_a_short_wait_is_waited_once(house: House, ask: Ask):
    house.health("alone", alone=True)
    house.first.script(failure(429, headers={"retry-after": "1"}))
    outcome = await ask(house.gateway, "alone")
    assert outcome.ok, outcome
    asked, again = (record.first_file_byte_at or 0 for record in house.first.records)
    assert again - asked >= 1


async def test_a_short_wait_is_waited_by_all_whom_it_was_asked_of(house: House, ask: Ask):
    house.health("alone", alone=True)
    thought = asyncio.Event()
    house.first.script(*[failure(429, headers={"retry-after": "1"}, until=thought)] * 5)
    calls = [asyncio.create_task(ask(house.gateway, "alone")) for _ in range(5)]
    await asyncio.wait_for(house.first.record(4), GUARD)
    thought.set()
    assert all([(await call).ok for call in calls])
    assert len(house.first.records) == 10


async def test_nobody_waits_where_another_can_answer(house: House, ask: Ask):
    house.first.script(failure(429, headers={"retry-after": "100"}))
    assert (await ask(house.gateway, "first")).text == "From the second."
    # It is left alone for as long as it wished: the next call does not even ask it.
    assert (await ask(house.gateway, "first")).text == "From the second."
    assert len(house.first.records) == 1


@pytest.mark.parametrize("alone", [False, True])
async def test_a_long_wait_is_the_callers(house: House, ask: Ask, alone: bool):
    house.health("alone", alone=alone)
    house.first.script(failure(429, headers={"retry-after": "100"}))
    outcome = await ask(house.gateway, "alone")
    assert outcome.matches(429, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert outcome.retry_after == 100
    outcome = await ask(house.gateway, "alone")
    assert outcome.matches(503, grpc.StatusCode.UNAVAILABLE)
    assert 1 <= (outcome.retry_after or 0) <= 100
    assert len(house.first.records) == 1


WAITS = {
    "0": 0, "1": 1, "2.5": 2.5, "007": 7, " 3 ": 3, "299": 299, "300": 300, "301": 300, "86400": 300,
    "9999999999": 300, "99999999999": None, "-1": None, "+1": None, "1e9": None, "1e2": None, "0x10": None,
    "1,5": None, "1_0": None, "5 seconds": None, "5s": None, "PT5S": None, "soon": None, "": None, "NaN": None,
    "inf": None, ".5": None, "5.": None, "1 2": None, "٣": None, "Wed, 21 Oct 2015 07:28:00 GMT": 0,
    "Wed, 21 Oct 2015 07:28:00 +0000": None, "Wednesday, 21-Oct-15 07:28:00 GMT": None,
    "Wed, 99 Oct 2099 07:28:00 GMT": None, "Thu, 01 Jan 2099 00:00:00 GMT": 300, "2099-01-01T00:00:00Z": None,
}  # fmt: skip


async def test_every_spelling_of_retry_after(house: House):
    house.health("alone", disabled=True)
    for spelling, expected in WAITS.items():
        header = spelling.encode().decode("latin-1") if spelling.isascii() else "%D9%A3"
        house.first.script(failure(429, headers={"retry-after": header}))
        outcome = await unary(house.gateway, "alone", retries=0)
        assert (spelling, outcome.retry_after) == (spelling, expected)
    house.first.script(failure(429, headers={"retry-after": formatdate(time.time() + 60, usegmt=True)}))
    assert 50 < ((await unary(house.gateway, "alone", retries=0)).retry_after or 0) <= 60


@contextlib.asynccontextmanager
async def wall(answer: bytes, *, endless: bool = False, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on the loopback that reads a request and writes exactly these bytes, or repeats the last of them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, http_wire.BrokenBody):
            head = await http_wire.read_head(reader)
            if head is not None:
                async for _ in http_wire.read_body(reader, head):
                    pass
                writer.write(answer)
                await writer.drain()
                while endless:
                    writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                    await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


def walled(base: str, well: OpenAIEmulator, extra: str = "") -> str:
    return f"""
model_list:
  - model_name: broken
    litellm_params: {{model: openai/whisper-1, api_base: {base}, api_key: {UPSTREAM_KEY}{extra}}}
  - model_name: well
    litellm_params: {{model: openai/whisper-1, api_base: {well.url}, api_key: {UPSTREAM_KEY}}}
general_settings: {{master_key: {KEY}}}
"""


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ANSWERS = {
    "truncated-chunk": HEAD + b'transfer-encoding: chunked\r\n\r\nff\r\n{"text": "hello"}',
    "no-last-chunk": HEAD + b'transfer-encoding: chunked\r\n\r\n11\r\n{"text": "hello"}\r\n',
    "chunk-size-is-no-number": HEAD + b'transfer-encoding: chunked\r\n\r\nzz\r\n{"text": "hello"}\r\n0\r\n\r\n',
    "length-too-long": HEAD + b'content-length: 999\r\n\r\n{"text": "hello"}',
    "length-too-short": HEAD + b'content-length: 9\r\n\r\n{"text": "hello"}',
    "length-twice": HEAD + b'content-length: 17\r\ncontent-length: 9\r\n\r\n{"text": "hello"}',
    "length-is-no-number": HEAD + b'content-length: many\r\n\r\n{"text": "hello"}',
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "head-cut": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "nothing": b"",
}


async def broken(tmp_path: Path, base: str, extra: str = "", ends: tuple[Status, ...] = UNAVAILABLE + TOO_SLOW) -> None:
    """Every door reports the broken provider as such, and falls back to the good one."""
    async with (
        OpenAIEmulator(key=UPSTREAM_KEY, text="Well.") as well,
        running(tmp_path, walled(base, well, extra)) as gateway,
    ):
        for ask in DOORS.values():
            outcome = await ask(gateway, "broken", retries=0)
            assert outcome.status in ends, outcome
            assert (await ask(gateway, "broken", retries=0, fallbacks=("well",))).text == "Well."
        assert [record.file_sha256 for record in well.records] == [SHA256] * 3
        assert gateway.app.gateway.calls_in_progress == 0


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_malformed_answer(tmp_path: Path, answer: str):
    async with wall(ANSWERS[answer]) as port:
        await broken(tmp_path, f"http://127.0.0.1:{port}/v1")


async def test_an_endless_answer(tmp_path: Path):
    async with wall(HEAD + b"transfer-encoding: chunked\r\n\r\n", endless=True) as port:
        await broken(tmp_path, f"http://127.0.0.1:{port}/v1", ends=TOO_LARGE)


async def test_a_name_that_does_not_resolve(tmp_path: Path):
    await broken(tmp_path, "http://provider.invalid/v1")


async def test_a_certificate_nobody_vouches_for(tmp_path: Path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with wall(b"", context=context) as port:
        await broken(tmp_path, f"https://127.0.0.1:{port}/v1")


async def test_a_tls_handshake_that_stalls(tmp_path: Path):
    silent = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await broken(tmp_path, f"https://127.0.0.1:{port}/v1", ", timeout: 0.3")
        silent.set()


async def test_a_server_that_speaks_no_tls(tmp_path: Path):
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await broken(tmp_path, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")


async def test_an_attempts_limit_by_the_caller_is_not_held_against_the_provider(house: House):
    house.health("alone", alone=False, allowed_fails=0)
    house.first.script(hang(), hang())
    for _ in range(2):
        assert (await unary(house.gateway, "alone", timeout=0.6)).status is grpc.StatusCode.DEADLINE_EXCEEDED
    await house.at_rest()
    assert len(house.first.records) == 2
    assert (await unary(house.gateway, "alone")).ok
