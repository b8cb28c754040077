"""Certificates of clients in a server of HTTP: uvicorn's protocol, which does not hand them on by itself."""

from __future__ import annotations

from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ouzel.gateway.access.certificate import Certificate

CERTIFICATE = "ouzel.certificate"  # in the state of a request: a function that reads the certificate


def with_certificates(base: type[H11Protocol] = H11Protocol) -> type[H11Protocol]:
    """A protocol that notes the certificate of each connection, which TLS has verified, in the state of its requests.

    Args:
        base: The protocol otherwise.
    """

    class WithCertificates(base):  # type: ignore[valid-type, misc]  # mypy takes no class that is only known when it runs
        app_state: dict[str, Any]

        def connection_made(self, transport: Any) -> None:
            tls = transport.get_extra_info("ssl_object")
            if tls is not None and (raw := tls.getpeercert(binary_form=True)):
                self.app_state = {**self.app_state, CERTIFICATE: partial(Certificate.of_der, raw)}
            super().connection_made(transport)

    return WithCertificates
