"""Events, models and failures of whole calls, in both clients."""

import asyncio
import datetime
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.message import Message
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt
from voxgate_client import (
    AudioTooLargeError,
    AuthenticationError,
    CertificateError,
    Client,
    RateLimitedError,
    ServerError,
    TlsOptions,
    UnavailableError,
    UnimplementedError,
    VoxgateError,
)
from voxgate_server.edges.grpc.status import to_status
from voxgate_server.errors import Overloaded, ProviderUnavailable

from tests.client.wire import GUARD, Twin, Wire, serving

KEY = "sk-secret-key"


async def finished(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, GUARD)


async def test_events(client: Twin, wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes(b"audio")
    numbers = [event.sequence async for event in client.events(path, model="m", language="de")]
    assert numbers == list(range(1000))
    assert wire.events_request is not None
    assert (wire.events_request.audio.data, wire.events_request.audio.filename) == (b"audio", "a.ogg")
    assert (wire.events_request.config.model, wire.events_request.config.language) == ("m", "de")


async def test_leaving_events_early_cancels_the_call(client: Twin, wire: Wire) -> None:
    wire.after = lambda context: context.is_active() or context.abort(grpc.StatusCode.CANCELLED, "left")
    events = client.events(b"audio")
    async for event in events:
        assert event.sequence == 0
        break
    assert not wire.ended.is_set()
    await events.aclose()  # type: ignore[attr-defined]
    assert await finished(wire.ended)


async def test_breaking_out_of_the_loop_is_enough(wire: Wire) -> None:
    """Without aclosing: dropping the iterator cancels."""
    wire.after = lambda context: wire.release.wait(GUARD)  # type: ignore[assignment,return-value]
    twin = Twin("async", wire.target)
    async for _ in twin.client.events(b"audio"):
        break
    gc.collect()
    assert await finished(wire.ended)
    await twin.close()

    wire.ended.clear()
    wire.release.clear()
    with Client(wire.target) as client:
        for _ in client.events(b"audio"):
            break
        gc.collect()
        assert await finished(wire.ended)


async def test_recording_too_large_for_events(client: Twin, wire: Wire) -> None:
    with pytest.raises(ValueError, match=r"up to 31 MiB.*transcribe\(\)"):
        await anext(client.events(bytes((31 << 20) + 1)))
    with pytest.raises(FileNotFoundError):
        await anext(client.events("/no/such/file.wav"))
    assert wire.calls == 0


async def test_events_of_an_async_iterable(wire: Wire) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"au"
        yield b"dio"

    twin = Twin("async", wire.target)
    await anext(twin.events(pieces()))
    assert wire.events_request is not None
    assert wire.events_request.audio.data == b"audio"
    await twin.close()


async def test_models_are_listed_over_all_pages(client: Twin, wire: Wire) -> None:
    models = await client.call("models", provider="openai")
    assert [model.id for model in models] == ["model-0", "model-1", "model-2"]
    assert [(page.page_token, page.page_size, page.provider) for page in wire.pages] == [
        ("", 1000, "openai"),
        ("1", 1000, "openai"),
        ("2", 1000, "openai"),
    ]
    assert (await client.call("model", "whisper-1")).id == "whisper-1"


async def test_unavailable_is_tried_again_where_that_is_harmless(client: Twin, wire: Wire) -> None:
    def fail_twice(context: Any) -> None:
        if wire.calls <= 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    wire.before = fail_twice
    assert (await client.call("model", "m")).id == "m"
    assert wire.calls == 3
    wire.calls = 0
    # An upload cannot be sent again by gRPC: its audio is gone.
    with pytest.raises(UnavailableError):
        await client.transcribe(b"audio")
    assert wire.calls == 1


async def test_key_is_sent_and_never_shown(connect: Callable[..., Twin], wire: Wire) -> None:
    client = connect(wire.target, api_key=f"  {KEY}\n")
    wire.before = lambda context: context.abort(grpc.StatusCode.UNAUTHENTICATED, f"Bad key {KEY}.")
    with pytest.raises(AuthenticationError) as caught:
        await client.transcribe(b"audio")
    assert wire.metadata["authorization"] == f"Bearer {KEY}"
    assert wire.metadata["user-agent"].startswith("voxgate-python/0.1.0 ")
    assert KEY not in str(caught.value) + repr(caught.value)
    assert caught.value.__suppress_context__
    assert KEY not in repr(client.client._connection)


def abort(context: Any, status: Message, request_id: str = "") -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)  # type: ignore[attr-defined]
    context.abort(code, status.message)  # type: ignore[attr-defined]


async def test_everything_a_server_says_arrives(client: Twin, wire: Wire) -> None:
    attempts = [ProviderAttempt(provider="openai", model="whisper-1", error_code="PROVIDER_UNAVAILABLE")]
    status = to_status(Overloaded("Come back.", retry_after=1.5, metadata={"limit": "3"}, attempts=attempts), "req_1")
    wire.before = lambda context: abort(context, status)
    with pytest.raises(RateLimitedError) as caught:
        await client.transcribe(b"audio")
    error = caught.value
    assert (error.message, error.code, error.reason) == (
        "Come back.",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SERVER_OVERLOADED",
    )
    assert (error.request_id, error.retry_after, error.metadata) == ("req_1", 1.5, {"limit": "3"})
    assert error.attempts == attempts
    assert str(error) == "Come back. (request req_1)"
    # The same over a stream of answers.
    wire.before = lambda context: abort(context, to_status(ProviderUnavailable("They are down."), "req_2"))
    with pytest.raises(UnavailableError, match="They are down") as unavailable:
        await anext(client.events(b"audio"))
    assert unavailable.value.request_id == "req_2"


async def test_nobody_listens(connect: Callable[..., Twin]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    client = connect(target)
    for call in (client.transcribe(b"audio"), client.call("models"), anext(client.events(b"audio"))):
        with pytest.raises(UnavailableError) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert target in caught.value.message
        assert "Connection refused" in caught.value.message
        assert "voxgate serve" in caught.value.message


async def test_something_else_listens(connect: Callable[..., Twin]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnavailableError, match="REST port"):
            await connect(f"127.0.0.1:{port}").call("models")


async def test_server_without_the_method(connect: Callable[..., Twin]) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with pytest.raises(UnimplementedError, match=r"does not know TranscribeUpload .*older than this client"):
        await connect(f"127.0.0.1:{port}").transcribe(b"audio")
    await server.stop(None)


async def test_server_that_takes_small_messages_only(connect: Callable[..., Twin], wire: Wire) -> None:
    # The recording server has gRPC's own limit, 4 MiB.
    with pytest.raises(AudioTooLargeError, match=r"message larger than max.*transcribe\(\)"):
        await anext(connect(wire.target).events(bytes(5 << 20)))


async def test_fault_of_a_handler(client: Twin, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    def fail(context: Any) -> None:
        raise KeyError("oops")

    wire.before = fail
    with pytest.raises(ServerError) as caught:
        await client.transcribe(b"audio")
    assert caught.value.code is grpc.StatusCode.UNKNOWN


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_credentials(
    authority: trustme.CA, name: str = "127.0.0.1", *, mutual: bool = False, expired: bool = False
) -> grpc.ServerCredentials:
    past = {"not_before": datetime.datetime(2020, 1, 1), "not_after": datetime.datetime(2021, 1, 1)} if expired else {}
    leaf = authority.issue_cert(name, **past)  # type: ignore[arg-type]
    chain = b"".join(certificate.bytes() for certificate in leaf.cert_chain_pems)
    root = authority.cert_pem.bytes() if mutual else None
    return grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)], root, mutual)


async def test_mutual_tls(connect: Callable[..., Twin], authority: trustme.CA, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    own = authority.issue_cert("client")
    tls = TlsOptions(ca, own.cert_chain_pems[0].bytes(), own.private_key_pem.bytes())
    with serving(Wire(), server_credentials(authority, mutual=True)) as wire:
        assert (await connect(wire.target, tls=tls, api_key=KEY).transcribe(b"audio")).text == "hello"
        with pytest.raises(UnavailableError, match="client certificate"):
            await connect(wire.target, tls=TlsOptions(ca)).transcribe(b"audio")


async def test_certificates_that_are_not_trusted(connect: Callable[..., Twin], authority: trustme.CA) -> None:
    tls = TlsOptions(ca=authority.cert_pem.bytes())
    with serving(Wire(), server_credentials(authority, expired=True)) as wire:
        client = connect(wire.target, tls=tls)
        with pytest.raises(CertificateError, match="certificate has expired"):
            await client.transcribe(b"audio")
    with serving(Wire(), server_credentials(authority)) as wire:
        with pytest.raises(CertificateError, match=r"TlsOptions\(ca="):
            await connect(wire.target).transcribe(b"audio")
        with pytest.raises(CertificateError, match="have to be PEM"):
            await connect(wire.target, tls=TlsOptions(ca=b"garbage")).transcribe(b"audio")
        with pytest.raises(UnavailableError, match="may demand TLS"):
            await connect(wire.target.removeprefix("https://")).transcribe(b"audio")
    with serving(Wire(), server_credentials(authority, "other.example")) as wire:
        client = connect(wire.target, tls=tls)
        with pytest.raises(CertificateError, match="another name"):
            await client.transcribe(b"audio")


async def test_server_without_tls(connect: Callable[..., Twin], wire: Wire) -> None:
    with pytest.raises(UnavailableError, match="does not speak TLS"):
        await connect(f"https://{wire.target}").transcribe(b"audio")


async def test_unix_socket(connect: Callable[..., Twin], tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    with pytest.raises(UnimplementedError):
        await connect(f"unix:{path}", api_key=KEY).call("models")
    await server.stop(None)


async def test_timeouts_that_cannot_be(client: Twin, wire: Wire) -> None:
    for timeout in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            await client.transcribe(b"audio", timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            await client.call("models", timeout=timeout)
    assert wire.calls == 0


def test_errors_travel_between_processes() -> None:
    import pickle

    error = RateLimitedError(
        "m", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=2, attempts=[ProviderAttempt(model="m")]
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RateLimitedError
    assert isinstance(copy, VoxgateError)
    assert vars(copy) == vars(error)
