"""The door without configuration, for loopback: everybody is the local user."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from ouzel.gateway.access.caller import ALL, ROLES, Caller, TenantLimits, unknown_tenant
from ouzel.gateway.access.certificate import Certificate

LOCAL = "local"


class OpenAccess:
    """Everybody is the tenant "local" with all roles and models. Neither rates nor concurrency are counted.

    Args:
        limits: What callers are told; of these, `body_bytes` holds.
    """

    def __init__(self, limits: TenantLimits | None = None) -> None:
        self._caller = Caller(LOCAL, LOCAL, frozenset(ROLES), ALL, limits or TenantLimits())

    def identify(self, authorization: str | None, certificate: Certificate | None) -> Caller:
        """The local user, whatever is shown."""
        return self._caller

    def behalf(self, caller: Caller, tenant: str) -> Caller:
        """See `Access`: there is one tenant."""
        caller.need("admin")
        if tenant != caller.tenant:
            raise unknown_tenant(tenant)
        return caller

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        """Lets everything pass that the caller may do."""
        caller.need(role, model)
        return nullcontext()
