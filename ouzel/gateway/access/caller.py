"""Who calls, and what decides it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

ROLES = ("explain", "jobs", "audit", "admin")


@dataclass(frozen=True)
class TenantLimits:
    """What one tenant may take.

    Attributes:
        requests_per_second: In the long run.
        burst: Requests at once.
        concurrency: Requests at a time.
        body_bytes: Of one request.
    """

    requests_per_second: float = math.inf
    burst: float = math.inf
    concurrency: int = 2**31
    body_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Certificate:
    """What a caller has shown over TLS.

    Attributes:
        pem: The certificate.
    """

    pem: bytes


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        tenant: Whose quota and models count.
        name: Of the key or subject, for logs and the ledger.
        roles: Some of ROLES.
        models: Patterns of the names of models; "*" is all.
        limits: Of the tenant.
    """

    tenant: str
    name: str
    roles: frozenset[str]
    models: tuple[str, ...] = ("*",)
    limits: TenantLimits = TenantLimits()

    def may_see(self, model: str) -> bool:
        """Whether a model of this name exists for the caller."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class Access(Protocol):
    """Decides who calls, and what they may do. Both methods answer from memory."""

    def identify(self, authorization: str | None, certificate: Certificate | None) -> Caller:
        """Who calls.

        Args:
            authorization: The header of that name.
            certificate: Shown over TLS.

        Raises:
            Unauthenticated: Nobody knows.
        """

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        """The room for one request, as long as it is worked on.

        Args:
            caller: Who calls.
            role: One of ROLES, which the request needs.
            model: That the request is about.

        Raises:
            PermissionDenied: The caller has not this role.
            NotFound: The model does not exist for the caller.
            ResourceExhausted: Too much at a time.
        """
