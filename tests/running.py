"""A whole gateway inside a test, on free ports of the loopback."""

# The async stubs exist for type checkers only.
from __future__ import annotations

import contextlib
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver
from grpc import aio
from voxgate.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceStub
from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceStub
from voxgate_server.app import App
from voxgate_server.config import load_config
from voxgate_server.routing.portkey_plan import PortkeySettings

if TYPE_CHECKING:
    from voxgate.admin.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceAsyncStub
    from voxgate.transcription.v1.transcription_service_pb2_grpc import TranscriptionServiceAsyncStub

KEY = "sk-test-0123456789abcdef"
"""The master key of the configurations here."""
UPSTREAM_KEY = "sk-upstream-canary-0001"
"""The operator's key at the provider."""
AUTH = {"authorization": f"Bearer {KEY}"}
METADATA = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Gateway:
    """A running gateway."""

    app: App
    rest_port: int
    grpc_port: int
    channel: aio.Channel
    admin_channel: aio.Channel | None = None

    @property
    def admin(self) -> AdminServiceAsyncStub:
        assert self.admin_channel is not None
        return AdminServiceStub(self.admin_channel)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def stub(self) -> TranscriptionServiceAsyncStub:
        return TranscriptionServiceStub(self.channel)

    @property
    def models(self) -> ModelServiceAsyncStub:
        return ModelServiceStub(self.channel)


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    config: str,
    environ: dict[str, str] | None = None,
    *,
    portkey: PortkeySettings | None = None,
    admin: bool = False,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[Gateway]:
    """Runs the configuration (LiteLLM's YAML) until the block ends; with its admin listener if asked for."""
    file = directory / "voxgate.yaml"
    file.write_text(textwrap.dedent(config))
    loaded = load_config(file, environ={} if environ is None else environ)
    app = App(loaded.config, environ=loaded.environment, resolver=resolver)
    if portkey is not None:
        app._portkey.settings = portkey
    try:
        where = await app.start(host="127.0.0.1", grpc_port=0, rest_port=0, admin_port=0 if admin else None)
        async with contextlib.AsyncExitStack() as stack:
            channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{where.grpc_port}"))
            gateway = Gateway(app, where.rest_port, where.grpc_port, channel)
            if where.admin_port is not None:
                address = f"127.0.0.1:{where.admin_port}"
                gateway.admin_channel = await stack.enter_async_context(aio.insecure_channel(address))
            yield gateway
    finally:
        await app.stop(grace=0)


def openai_config(url: str, *, models: tuple[str, ...] = ("whisper-1",), extra: str = "") -> str:
    """A configuration whose models are all at one OpenAI-like server."""
    entries = "".join(
        f"""
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {url}
      api_key: {UPSTREAM_KEY}
"""
        for model in models
    )
    return f"model_list:{entries}\ngeneral_settings:\n  master_key: {KEY}\n{textwrap.dedent(extra)}"
