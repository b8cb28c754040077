"""TLS of both ports, from files that may change while the gateway runs."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ouzel import secret_files
from ouzel.errors import InvalidArgument
from ouzel.gateway.access.watched import Watched

WARNED = 30 * 86_400.0  # s before the end of a certificate from which on the log warns
_DAY = 86_400.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """Where the files are, in PEM.

    Attributes:
        certificate: The server's, with those between it and its root behind it.
        key: Its private key, without a password.
        client_ca: Who may sign certificates of clients. With it, every client of both ports must show one, and HTTP
            needs TLS 1.3 instead of 1.2.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class _Material:
    """What the files hold."""

    context: ssl.SSLContext
    grpc: Any  # its types know less than it has
    expires: float


class Tls:
    """Certificates that are in force. `refresh` takes over new files; broken or mismatched ones change nothing.

    Connections that stand keep the certificate that they began with.

    Args:
        files: Where they are.
        clock: Seconds since the epoch.

    Raises:
        InvalidArgument: A file cannot be read, or they do not fit together.
    """

    def __init__(self, files: TlsFiles, clock: Callable[[], float] = time.time) -> None:
        self._files, self._clock = files, clock
        paths = [files.certificate, files.key, *([files.client_ca] if files.client_ca else [])]
        self._watched = Watched(paths, self._read, f"TLS of {files.certificate}")
        self._front = self._context()
        self._front.sni_callback = self._choose
        self._warned = -_DAY

    @property
    def expires(self) -> float:
        """When the certificate in force ends, in seconds since the epoch: for metrics."""
        return self._watched.value.expires

    @property
    def problem(self) -> str:
        """Why the files that are there are not in force; "" if they are."""
        return self._watched.problem

    def refresh(self) -> None:
        """Takes over files that have changed. Once a day, the log tells of a certificate that ends soon."""
        self._watched.refresh()
        now = self._clock()
        if self.expires - now < WARNED and now - self._warned >= _DAY:
            self._warned = now
            days = (self.expires - now) / _DAY
            _log.warning("TLS of %s: the certificate ends in %.1f days", self._files.certificate, days)

    def http(self) -> ssl.SSLContext:
        """For a server of HTTP: each new connection gets what is in force then."""
        return self._front

    def grpc(self) -> grpc.ServerCredentials:
        """For a server of gRPC: likewise."""
        given = self._watched.value.grpc

        def fetch() -> Any:
            nonlocal given
            current = self._watched.value.grpc
            if current is given:
                return None  # no change
            given = current
            return current

        return grpc.dynamic_ssl_server_credentials(
            given, fetch, require_client_authentication=self._files.client_ca is not None
        )

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        """Is called in each handshake, with or without a name."""
        connection.context = self._watched.value.context

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        if self._files.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that is taken up again is not verified again, whoever may sign certificates by then. TLS 1.3
            # takes sessions up by tickets alone; the memory that TLS 1.2 has beside them cannot be turned off here.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
        return context

    def _read(self, content: Sequence[bytes]) -> _Material:
        files = self._files
        secret_files.check(files.key, "tls_key")
        expires = _checked(files, content)
        if expires <= self._clock():
            raise InvalidArgument(f"{files.certificate}: the certificate has expired")
        context = self._context()
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
            if files.client_ca is not None:
                context.load_verify_locations(cadata=content[2].decode("ascii"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{files.certificate}: is not good for TLS ({error})") from None
        # The line above has read the files a second time.
        if [files.certificate.read_bytes(), files.key.read_bytes()] != list(content[:2]):
            raise InvalidArgument(f"{files.certificate}: is being changed")
        roots = content[2] if files.client_ca is not None else None
        pair = grpc.ssl_server_certificate_configuration([(content[1], content[0])], root_certificates=roots)
        return _Material(context, pair, expires)


def _checked(files: TlsFiles, content: Sequence[bytes]) -> float:
    """Refuses files that do not fit together. Returns when the certificate ends."""
    try:
        certificate = x509.load_pem_x509_certificates(content[0])[0]
    except ValueError:
        raise InvalidArgument(f"{files.certificate}: holds no certificate in PEM") from None
    try:
        key: Any = load_pem_private_key(content[1], None)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{files.key}: holds no private key in PEM without a password") from None
    if key.public_key() != certificate.public_key():
        raise InvalidArgument(f"{files.key}: is not the key of the certificate {files.certificate}")
    if files.client_ca is not None:
        try:
            x509.load_pem_x509_certificates(content[2])
        except ValueError:
            raise InvalidArgument(f"{files.client_ca}: holds no certificate in PEM") from None
    return certificate.not_valid_after_utc.timestamp()


def _no_password() -> str:
    """Else OpenSSL would ask at the terminal."""
    return ""
