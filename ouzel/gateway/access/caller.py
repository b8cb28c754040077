"""Who calls, what this caller may do, and who decides it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument, NotFound, PermissionDenied
from ouzel.gateway.access.certificate import Certificate
from ouzel.visibility import fits

ROLES = ("explain", "jobs", "audit", "admin")
ALL = ("*",)  # patterns that every name of a model fits
BEHALF = "x-ouzel-tenant"  # header, or metadata: whom an administrator acts for
_LONGEST_PATTERN = 128  # characters


@dataclass(frozen=True)
class TenantLimits:
    """What the callers of a tenant may have together, in one process of the gateway.

    Attributes:
        requests_per_second: 0.001 to 100,000; on average.
        burst: 1 to 100,000 requests that may come at once.
        concurrency: 1 to 10,000 requests under way at a time.
        body_bytes: 1 KiB to 1 GiB of one request.
    """

    requests_per_second: float = 50.0
    burst: int = 100
    concurrency: int = 16
    body_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        within("requests_per_second", self.requests_per_second, 0.001, 100_000)
        within("burst", self.burst, 1, 100_000)
        within("concurrency", self.concurrency, 1, 10_000)
        within("body_bytes", self.body_bytes, 2**10, 2**30)


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        tenant: Whose quota and models count.
        name: Of the key, the subject or the certificate, for logs and the ledger.
        roles: What it may do.
        models: Patterns of names of models (`fnmatch`, upper and lower case differ), of which one must fit.
        limits: Of the tenant.
        tenant_models: Patterns of the tenant, of which one must fit too.
    """

    tenant: str
    name: str
    roles: frozenset[str]
    models: tuple[str, ...]
    limits: TenantLimits
    tenant_models: tuple[str, ...] = ALL

    def may_see(self, model: str) -> bool:
        """Whether a model exists for this caller."""
        return fits(model, self.models) and fits(model, self.tenant_models)

    def need(self, role: str, model: str | None = None) -> None:
        """Refuses what this caller may not do.

        Args:
            role: One of `ROLES`.
            model: The name of a model, if it is about one.

        Raises:
            PermissionDenied: The caller has not the role.
            NotFound: The model is not for this caller; as if there was none of this name.
        """
        if role not in self.roles:
            raise PermissionDenied(f"this needs the role {role!r}, which {self.name!r:.80} has not")
        if model is not None and not self.may_see(model):
            raise unknown_model(model)


class Access(Protocol):
    """Decides who may do what. Threads and event loops may share it; nothing in it waits for disks or networks."""

    def behalf(self, caller: Caller, tenant: str) -> Caller:
        """Whom an administrator acts for: somebody of this tenant, with the caller's roles and patterns of models.

        Args:
            caller: Who asks.
            tenant: Its name.

        Raises:
            PermissionDenied: The caller has not the role `admin`.
            NotFound: There is no such tenant.
        """

    def identify(self, authorization: str | None, certificate: Certificate | None) -> Caller:
        """Who sends this.

        Args:
            authorization: The header of that name; None if there is none.
            certificate: Of the client, which TLS has verified; None if there is none.

        Raises:
            Unauthenticated: Nobody known.
            Unavailable: It cannot be told at the moment.
        """

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        """Counts a call from here to the end of the context.

        Args:
            caller: Who asks.
            role: One of `ROLES`, which is needed.
            model: The name of a model, if the call is about one.

        Raises:
            PermissionDenied: The caller has not the role.
            NotFound: The model is not for this caller; as if there was none of this name.
            ResourceExhausted: The tenant has used up its rate or its concurrency; says when to try again.
        """


def unknown_tenant(tenant: str) -> NotFound:
    """What is said of a tenant that there is not."""
    return NotFound(f"{BEHALF}: there is no tenant {tenant!r:.80}", field=BEHALF)


def unknown_model(model: str) -> NotFound:
    """What is said of a model that there is not, and of one that is not for the caller."""
    return NotFound(f"model: there is no model {model!r:.80}", field="model")


def checked_roles(roles: Iterable[str], field: str = "roles") -> frozenset[str]:
    """Roles that exist. Raises InvalidArgument, which names the one that does not."""
    given = list(roles)
    for each in given:
        one_of(field, each, ROLES)
    if not given:
        raise InvalidArgument(f"{field}: is empty; give some of {', '.join(ROLES)}", field=field)
    return frozenset(given)


def checked_patterns(patterns: Sequence[str], field: str = "models") -> tuple[str, ...]:
    """Patterns of names. Raises InvalidArgument: there is none, or one is empty, too long or not in a line."""
    if not patterns:
        raise InvalidArgument(f'{field}: is empty; "*" stands for all models', field=field)
    for each in patterns:
        if not (0 < len(each) <= _LONGEST_PATTERN and each.isprintable()) or " " in each:
            raise InvalidArgument(
                f"{field}: {each!r:.80} is not 1 to {_LONGEST_PATTERN} printable characters without spaces", field=field
            )
    return tuple(patterns)
