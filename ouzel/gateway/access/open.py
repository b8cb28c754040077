"""No access control, for callers of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ouzel.gateway.access.caller import ROLES, Caller, Certificate


class OpenAccess:
    """Everybody is the tenant "local" and may do everything. For loopback only: see `GatewayOptions`."""

    def __init__(self) -> None:
        self._local = Caller("local", "local", frozenset(ROLES))

    def identify(self, authorization: str | None, certificate: Certificate | None) -> Caller:
        """The tenant "local", whatever is shown."""
        return self._local

    @contextmanager
    def admit(self, caller: Caller, role: str, model: str | None = None) -> Iterator[None]:
        """Admits everything."""
        yield
