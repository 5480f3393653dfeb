"""TLS for both listeners, with certificates that are read again when their files change."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from voxgate_server.telemetry import get_logger

__all__ = ["TlsFiles", "grpc_credentials", "http_context"]

_log = get_logger("tls")

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates are (PEM)."""

    certificate: Path
    """The server's certificate, with the chain behind it."""
    private_key: Path
    client_ca: Path | None = None
    """Who signs the certificates that clients have to show (mTLS); None means they need none."""

    def stamp(self) -> _Stamp:
        """Something that differs when the files do."""
        paths = [self.certificate, self.private_key, *([self.client_ca] if self.client_ca else [])]
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in (path.stat() for path in paths))


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a gRPC listener.

    Raises:
        ValueError: The files do not fit together.
    """
    # OpenSSL checks what gRPC would only find out at the first handshake: that key and certificate belong together.
    _load(files)
    current = _GrpcCertificates(files)
    return grpc.dynamic_ssl_server_credentials(
        current.configuration,
        current.fetch,  # type: ignore[arg-type]  # the stubs do not know that None means unchanged
        require_client_authentication=files.client_ca is not None,
    )


class _GrpcCertificates:
    """Answers gRPC's question, asked at every handshake, whether there are new certificates."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = files.stamp()
        self.configuration = self._read()

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, or None when nothing has changed."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            _load(self._files)
            self.configuration = self._read()
            self._stamp = stamp
        except (OSError, ValueError) as error:
            _log.warning("new certificates are not usable, the old ones stay", error=str(error))
            return None
        return self.configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._files.private_key.read_bytes(), self._files.certificate.read_bytes())
        authority = self._files.client_ca.read_bytes() if self._files.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], authority)


def http_context(files: TlsFiles) -> ssl.SSLContext:
    """Context of an HTTP listener.

    Raises:
        ValueError: The files do not fit together.
    """
    newest, stamp = _load(files), files.stamp()

    def refresh(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this at every handshake, whether the client names a server or not.
        nonlocal newest, stamp
        try:
            changed = files.stamp()
            if changed != stamp:
                newest, stamp = _load(files), changed
        except (OSError, ValueError) as error:
            _log.warning("new certificates are not usable, the old ones stay", error=str(error))
        connection.context = newest

    context = _load(files)
    context.sni_callback = refresh
    return context


def _load(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.private_key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        raise ValueError(f"{files.certificate.name} and {files.private_key.name} cannot be used: {error}") from error
    return context
