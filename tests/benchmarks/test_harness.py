"""The benchmark's own harness: a figure is worth as much as the replies behind it."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from voxgate.transcription.v1.transcription_pb2 import Transcription
from voxgate.transcription.v1.transcription_service_pb2 import (
    TranscribeRequest,
    TranscribeResponse,
    TranscribeUploadRequest,
    TranscribeUploadResponse,
)
from voxgate.transcription.v1.transcription_service_pb2_grpc import (
    TranscriptionServiceServicer,
    add_TranscriptionServiceServicer_to_server,
)

from benchmarks.clients import GrpcCallers, RestClient
from benchmarks.figures import Figure, table
from benchmarks.load import BadReplyError, Load, Outcome, recordings, run
from benchmarks.process import Gateway, Tree, Upstream
from benchmarks.scenarios import DIRECT, REST, Run
from benchmarks.upstream import THROTTLED_BYTES_PER_SECOND, UPSTREAM_KEY, Form

BOUNDARY = b"edge"
# Everything that is nearly a boundary.
TRICKY = b"\r\n--edg\r\n-\r\r\n--edg" + b"\r" * 40 + b"\n--edG\r\n--\n--edge\r" * 3


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Upstream(None) as upstream:
        yield upstream.port


async def over_rest(port: int, load: Load, key: str = UPSTREAM_KEY, prefix: str = "") -> Outcome:
    async def connect(_: int) -> RestClient:
        return RestClient(port, key, prefix)

    return await run(connect, load)


def form(file: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\ninstant\r\n'
    head += (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    )
    return head + file + b'\r\n--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nrid\r\n--edge--\r\n'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 9, 64, 10_000])
def test_a_form_reads_the_same_however_it_is_cut(size: int) -> None:
    body, read = form(TRICKY), Form(BOUNDARY)
    for at in range(0, len(body), size):
        assert not read.complete or at >= len(body) - 2  # the line's end behind the last boundary
        read.feed(body[at : at + size])
    assert read.complete
    assert (read.size, read.digest) == (len(TRICKY), hashlib.sha256(TRICKY).hexdigest()[:16])
    assert read.fields == {"model": "instant", "prompt": "rid"}
    assert read.first > 0


@pytest.mark.parametrize("body", [b"junk" + form(b"x"), form(b"x") + b"junk", form(b"x").replace(b"file", b"", 1)])
def test_a_malformed_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"boundary|name"):
        Form(BOUNDARY).feed(body)


@pytest.mark.parametrize(
    "load",
    [
        Load(calls=20, at_once=3),
        Load(calls=2, at_once=2, size=1_500_000, piece_bytes=100_000),
        Load(calls=2, at_once=2, size=20_000, piece_bytes=3200, piece_seconds=0.001),
        Load(calls=2, at_once=2, model="think-1000"),
    ],
    ids=["small", "pieces", "paced and chunked", "thinking"],
)
async def test_every_call_is_answered_and_proved(port: int, load: Load) -> None:
    outcome = await over_rest(port, load)
    assert not outcome.errors
    assert len(outcome.timings) == load.calls
    for timing in outcome.timings:
        assert timing.started <= timing.last_sent <= timing.ended
        assert timing.started <= timing.first_held <= timing.last_held <= timing.ended
        if load.model == "think-1000":
            assert timing.ended - timing.last_held >= 0.99
        if load.piece_seconds:
            assert timing.first_held < timing.last_sent


async def test_the_provider_demands_its_own_key(port: int) -> None:
    outcome = await over_rest(port, Load(calls=2), key="sk-somebody-else")
    assert not outcome.timings
    (reason,) = outcome.errors
    assert "status 401" in reason


@pytest.mark.parametrize(
    ("load", "prefix", "expected"),
    [(Load(calls=1, model="whisper-9"), "", "status 400"), (Load(calls=1), "/elsewhere", "status 404")],
)
async def test_the_provider_is_strict(port: int, load: Load, prefix: str, expected: str) -> None:
    outcome = await over_rest(port, load, prefix=prefix)
    assert not outcome.timings
    assert expected in next(iter(outcome.errors))


async def test_the_second_provider_answers_only_what_failed_before(port: int) -> None:
    first, second = RestClient(port, UPSTREAM_KEY, "/fault"), RestClient(port, UPSTREAM_KEY, "/second")
    load, recording = Load(calls=1, model="failover"), recordings(2048)[0]
    try:
        with pytest.raises(BadReplyError, match="status 400"):
            await second.transcribe("rid", recording, load)
        with pytest.raises(BadReplyError, match="status 500"):
            await first.transcribe("rid", recording, load)
        await second.close()
        second = RestClient(port, UPSTREAM_KEY, "/second")
        _, text = await second.transcribe("rid", recording, load)
        assert recording.sha256.hex()[:16] in text
    finally:
        await first.close()
        await second.close()


async def test_the_throttled_provider_reads_no_faster_than_its_link(port: int) -> None:
    load = Load(calls=1, size=2_000_000, model="throttled")
    (timing,) = (await over_rest(port, load, prefix="/throttled")).timings
    # What a first read takes off the socket comes without delay.
    assert timing.last_held - timing.first_held >= (load.size - 2 * 256 * 1024) / THROTTLED_BYTES_PER_SECOND


@pytest.mark.parametrize("change", [b"rid=", b"sha=", b"bytes=", b"text"])
async def test_a_wrong_reply_over_rest_is_an_error(port: int, change: bytes) -> None:
    """A gateway in between that changes the answer."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        to_writer.write(head + await reader.readexactly(length))
        answer = await to_reader.readuntil(b"}}")
        writer.write(answer.replace(change, change[:-1] + b"_"))
        to_writer.close()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        outcome = await over_rest(server.sockets[0].getsockname()[1], Load(calls=1))
    assert not outcome.timings
    assert "BadReplyError" in next(iter(outcome.errors))


async def test_a_gateway_that_cuts_the_answer_is_an_error() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        outcome = await over_rest(server.sockets[0].getsockname()[1], Load(calls=3))
    assert not outcome.timings
    assert outcome.errors.total() == 3


class Hasher(TranscriptionServiceServicer):
    """A service that proves what it got, or lies about it."""

    def __init__(self, lie: Callable[[bytes], bytes]) -> None:
        self._lie = lie

    def _prove(self, rid: str, data: bytes) -> Transcription:
        data = self._lie(data)
        return Transcription(
            text=f"rid={rid} sha={hashlib.sha256(data).hexdigest()[:16]} bytes={len(data)} first=1 last=2"
        )

    async def Transcribe(  # noqa: N802
        self, request: TranscribeRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> TranscribeResponse:
        assert ("authorization", "Bearer sk-1") in (context.invocation_metadata() or ())
        return TranscribeResponse(transcription=self._prove(request.config.prompt, request.audio.data))

    async def TranscribeUpload(  # noqa: N802
        self, request_iterator: AsyncIterator[TranscribeUploadRequest], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> TranscribeUploadResponse:
        messages = [message async for message in request_iterator]
        assert [message.WhichOneof("payload") for message in (messages[0], messages[-1])] == ["start", "finish"]
        data = b"".join(message.chunk.data for message in messages[1:-1])
        assert messages[-1].finish.sha256 == hashlib.sha256(data).digest()
        assert messages[-1].finish.size_bytes == len(data)
        return TranscribeUploadResponse(transcription=self._prove(messages[0].start.config.prompt, data))


@pytest.mark.parametrize("unary", [True, False])
@pytest.mark.parametrize("lie", [False, True])
async def test_a_call_over_grpc_is_proved(unary: bool, lie: bool) -> None:
    server = grpc.aio.server()
    hasher = Hasher(lambda data: data[:-1] if lie else data)  # type: ignore[abstract]
    add_TranscriptionServiceServicer_to_server(hasher, server)
    callers = GrpcCallers(server.add_insecure_port("127.0.0.1:0"), "sk-1")
    await server.start()
    try:
        outcome = await run(callers.connect, Load(calls=4, at_once=2, size=10_000, piece_bytes=3200, unary=unary))
    finally:
        await callers.close()
        await server.stop(None)
    if lie:
        assert not outcome.timings
        assert list(outcome.errors) == ["BadReplyError: the transcript of something else"]
    else:
        assert not outcome.errors
        assert len(outcome.timings) == 4


def test_a_tree_counts_what_its_children_use() -> None:
    work = (
        "import subprocess, sys; b = bytearray(64 << 20); [b.find(b'x') for _ in range(40)]; print(flush=True); input()"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = Tree(process.pid)
        assert len(tree.pids()) == 2
        now, peak = tree.memory_mb()
        assert 64 < now <= peak
        assert tree.cpu_seconds() > 0
        process.communicate(b"\n")
    assert tree.pids() == []
    assert tree.memory_mb() == (0, 0)


def test_a_gateway_gets_its_config_and_is_stopped() -> None:
    show = "import sys, time; print(open(sys.argv[1]).read(), *sys.argv[2:], flush=True); time.sleep(100)"
    gateway = Gateway([sys.executable, "-c", show, "{config}", "{grpc_port}", "{rest_port}"], 1234, "sk-master", None)
    try:
        while str(gateway.rest_port) not in gateway.log():
            assert gateway.alive
            os.sched_yield()
        assert "master_key: sk-master" in gateway.log()
        assert "http://127.0.0.1:1234/throttled/v1" in gateway.log()
    finally:
        gateway.close()
    assert not gateway.alive


def good(**figures: float) -> Run:
    return {"calls": 1, "failed": 0, "errors": {}, **figures}


def test_a_figure_is_compared_within_its_round() -> None:
    results = {"s": {DIRECT: [good(x_ms=1), good(x_ms=100)], REST: [good(x_ms=2), good(x_ms=300)]}}
    assert Figure("f", "s", REST, "x_ms", "x", 2.5, "ratio").rounds(results) == [2, 3]
    assert Figure("f", "s", REST, "x_ms", "x", 2.5, "ratio").row(results)[-1] == "reached"
    assert Figure("f", "s", REST, "x_ms", "ms", 1.0, "added").row(results)[-1] == "MISSED"
    assert Figure("f", "s", REST, "x_ms", "ms", 250, pick=max).row(results)[-1] == "MISSED"
    assert Figure("f", "s", REST, "x_ms", "ms", 250, pick=max, at_least=True).row(results)[-1] == "reached"


def test_a_figure_with_a_wrong_reply_is_none() -> None:
    bad: Run = {"calls": 9, "failed": 1, "errors": {"status 500": 1}, "cpu_ms": 0.1}
    text = table({"small-8": {DIRECT: [good()], REST: [good(cpu_ms=0.1), bad], "grpc": [good(cpu_ms=0.2)]}})
    rest, over_grpc = (line for line in text.splitlines() if line.startswith("CPU per"))
    assert "FAILED: 1 of 9 calls" in rest
    assert "reached" not in rest
    assert "0.20 ms" in over_grpc
