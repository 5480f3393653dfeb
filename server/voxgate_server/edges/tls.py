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
    """Its key, not encrypted."""
    client_ca: Path | None = None
    """Who signs the certificates that clients have to show (mTLS); None means they need none."""


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a gRPC listener.

    Raises:
        ValueError: The files cannot be read, or do not fit together.
    """
    newest = _Newest(files)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # gRPC asks at every handshake; None means that nothing has changed.
        return newest.loaded.configuration if newest.refresh() else None

    return grpc.dynamic_ssl_server_credentials(
        newest.loaded.configuration,
        fetch,  # type: ignore[arg-type]  # the stubs do not know of None
        require_client_authentication=files.client_ca is not None,
    )


def http_context(files: TlsFiles) -> ssl.SSLContext:
    """Context of an HTTP listener.

    Raises:
        ValueError: The files cannot be read, or do not fit together.
    """
    newest = _Newest(files)

    def refresh(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this at every handshake, whether the client names a server or not.
        newest.refresh()
        connection.context = newest.loaded.context

    context = _load(files).context
    context.sni_callback = refresh
    return context


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Certificates as either listener wants them."""

    stamp: _Stamp
    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration


class _Newest:
    """The newest certificates that could be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._complaint = ""
        self.loaded = _load(files)

    def refresh(self) -> bool:
        """Loads the files if they have changed and can be used. Says whether it did."""
        try:
            if _stamp(self._files) == self.loaded.stamp:
                return False
            self.loaded = _load(self._files)
        except ValueError as error:
            # Once is enough: this is asked at every handshake.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("new certificates are not usable, the old ones stay", error=self._complaint)
            return False
        self._complaint = ""
        _log.info("new certificates are in use")
        return True


def _load(files: TlsFiles) -> _Loaded:
    stamp = _stamp(files)
    certificate, key = _read(files.certificate), _read(files.private_key)
    authority = _read(files.client_ca) if files.client_ca else None
    names = " and ".join(path.name for path in _paths(files))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # With no password OpenSSL would ask for one on the terminal, and the server would stand still.
        context.load_cert_chain(files.certificate, files.private_key, password="")
        if authority is not None:
            context.load_verify_locations(cadata=authority.decode("ascii"))
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that is resumed is not verified again, although its authority may be out by now. TLS 1.2 has
            # no way to resume none.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
    except (OSError, ValueError) as error:
        raise ValueError(f"{names} cannot be used for TLS: {error}") from error
    # What gRPC gets was read apart from what OpenSSL has checked.
    if _stamp(files) != stamp:
        raise ValueError(f"{names} are being written")
    return _Loaded(stamp, context, grpc.ssl_server_certificate_configuration([(key, certificate)], authority))


def _paths(files: TlsFiles) -> list[Path]:
    return [files.certificate, files.private_key, *([files.client_ca] if files.client_ca else [])]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from error


def _stamp(files: TlsFiles) -> _Stamp:
    """Something that differs when the files do."""
    stamps = []
    for path in _paths(files):
        try:
            stat = path.stat()
        except OSError as error:
            raise ValueError(f"{path.name} cannot be read: {error.strerror}") from error
        stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)
