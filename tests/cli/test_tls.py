"""To a server by TLS, with certificates of an authority of its own on both sides."""

from pathlib import Path

import pytest
import trustme

from tests.cli.commands import TEXT, WAV, voxgate
from tests.providers.openai_emulator import OpenAIEmulator
from tests.running import KEY, openai_config, running


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Certificates, as files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, issued in (
        ("server", authority.issue_cert("127.0.0.1", "localhost")),
        ("client", authority.issue_cert("me")),
    ):
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for pem in issued.cert_chain_pems:
            pem.write_to_path(tmp_path / f"{name}.pem", append=True)
    return tmp_path


async def test_tls_on_both_sides(authority: Path, emulator: OpenAIEmulator) -> None:
    tls = "certificate: server.pem, private_key: server.key, client_ca: ca.pem"
    config = openai_config(emulator.url, extra=f"voxgate:\n  tls: {{{tls}}}\n")
    env = {"VOXGATE_API_KEY": KEY}
    own = ["--tls-cert", authority / "client.pem", "--tls-key", authority / "client.key"]
    async with running(authority, config) as gateway:
        server = ["--server", gateway.target, "--timeout", "20"]
        done = await voxgate("transcribe", *server, "--tls-ca", authority / "ca.pem", *own, WAV, env=env)
        assert (done.code, done.out.decode(), done.err) == (0, f"{TEXT}\n", "")
        listed = await voxgate("models", *server[:2], "--tls-ca", authority / "ca.pem", *own, env=env)
        assert listed.out.startswith(b"whisper-1\topenai\t")
        # Without a certificate of one's own, without knowing the authority, without TLS: nothing.
        for options in (["--tls-ca", authority / "ca.pem"], own, []):
            refused = await voxgate("transcribe", *server, *options, WAV, env=env)
            assert (refused.code, refused.out) == (1, b"")
            assert refused.err.startswith(f"voxgate: {WAV}: ")
            assert len(refused.err.splitlines()) == 1
            assert KEY not in refused.err
            assert ("--tls-ca" in refused.err) == (options == own)
    assert len(emulator.records) == 1
