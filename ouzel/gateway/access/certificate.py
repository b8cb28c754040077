"""Certificates of clients: whose they are. Whether they are genuine has been decided by TLS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509

from ouzel.errors import Unauthenticated

_KINDS: tuple[tuple[type[Any], str], ...] = (
    (x509.DNSName, "DNS"),
    (x509.UniformResourceIdentifier, "URI"),
    (x509.RFC822Name, "email"),
)


@dataclass(frozen=True)
class Certificate:
    """What a certificate says of its owner.

    Attributes:
        subject: In the form of RFC 4514, such as "CN=robot,O=Acme"; may be empty.
        names: The alternative names, such as "DNS:robot.acme.example", "URI:spiffe://acme/robot" and
            "email:robot@acme.example".
        expires: Seconds since the epoch. A connection may outlive the certificate that it began with.
    """

    subject: str
    names: tuple[str, ...]
    expires: float

    @staticmethod
    def of_der(raw: bytes) -> Certificate:
        """Reads DER. Raises Unauthenticated if it is none."""
        return _of_der(raw)

    @staticmethod
    def of_pem(raw: bytes) -> Certificate:
        """Reads the first certificate of a PEM. Raises Unauthenticated if there is none."""
        return _of_pem(raw)


@lru_cache(maxsize=1024)
def _of_der(raw: bytes) -> Certificate:
    try:
        return _read(x509.load_der_x509_certificate(raw))
    except ValueError:
        raise Unauthenticated("the client's certificate cannot be read") from None


@lru_cache(maxsize=1024)
def _of_pem(raw: bytes) -> Certificate:
    try:
        return _read(x509.load_pem_x509_certificate(raw))
    except ValueError:
        raise Unauthenticated("the client's certificate cannot be read") from None


def _read(certificate: x509.Certificate) -> Certificate:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(f"{word}:{value}" for kind, word in _KINDS for value in found.get_values_for_type(kind))
    except x509.ExtensionNotFound:
        names = ()
    return Certificate(certificate.subject.rfc4514_string(), names, certificate.not_valid_after_utc.timestamp())
