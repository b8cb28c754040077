"""The door with keys, tokens and certificates, as the operator has configured it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.errors import OuzelError, Unauthenticated
from ouzel.gateway.access.caller import Caller, unknown_tenant
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.access.key_schema import open_keys
from ouzel.gateway.access.key_text import PREFIX
from ouzel.gateway.access.known_keys import KnownKeys
from ouzel.gateway.access.limiter import Limiter
from ouzel.gateway.access.polling import Polling
from ouzel.gateway.access.tenants import Tenants
from ouzel.gateway.access.tenants_file import parse
from ouzel.gateway.access.tokens import Tokens
from ouzel.gateway.access.watched import Watched


@dataclass(frozen=True)
class AccessOptions:
    """What is read.

    Attributes:
        tenants: The file tenants.toml.
        keys: The database of API keys: a path, "sqlite:///PATH" or "postgresql://...".
    """

    tenants: Path
    keys: str | Path = field(repr=False)  # a URL may hold a password


class ConfiguredAccess:
    """Knows callers by an API key, else a token, else the client's certificate.

    A certificate beside a key or token must be of the same tenant, if it stands for somebody. Rates and concurrency
    are counted in this process: n processes behind one address allow n times as much.

    Args:
        tenants: The operator's file.
        keys: API keys.
        tokens: Reads tokens.
        limiter: Counts.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        tenants: Watched[Tenants],
        keys: KnownKeys,
        tokens: Tokens | None = None,
        limiter: Limiter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tenants, self._keys = tenants, keys
        self._tokens, self._limiter, self._clock = tokens or Tokens(), limiter or Limiter(), clock

    def identify(self, authorization: str | None, certificate: Certificate | None) -> Caller:
        """Who sends this. See `Access`."""
        tenants = self._tenants.value
        owner = None if certificate is None else self._owner(certificate, tenants)
        if authorization is None:
            if owner is None:
                given = certificate is not None
                raise Unauthenticated(
                    "the certificate is not known here" if given else "no API key, token or certificate was sent"
                )
            return owner
        caller = self._bearer(authorization, tenants)
        if owner is not None and owner.tenant != caller.tenant:
            raise Unauthenticated("the certificate is of another tenant than the key or token")
        return caller

    def behalf(self, caller: Caller, tenant: str) -> Caller:
        """Whom an administrator acts for. See `Access`."""
        caller.need("admin")
        found = self._tenants.value.tenants.get(tenant)
        if found is None:
            raise unknown_tenant(tenant)
        return found.caller(f"{caller.tenant}/{caller.name}", caller.roles, caller.models)

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        """Counts a call. See `Access`."""
        caller.need(role, model)
        return self._limiter.admitted(caller.tenant, caller.limits)

    def refresh(self) -> None:
        """Reads the file again if it has changed, and what hangs on it."""
        before = self._tenants.value
        self._tenants.refresh()
        if (tenants := self._tenants.value) is not before:
            self._limiter.forget(tenants.tenants)
        self._tokens.refresh(tenants)

    def _bearer(self, authorization: str, tenants: Tenants) -> Caller:
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text.isascii() or " " in text:
            raise Unauthenticated("the header authorization is not of the form: Bearer KEY-OR-TOKEN")
        if not text:
            raise Unauthenticated("the header authorization has no key or token behind Bearer")
        if not text.startswith(PREFIX):
            return self._tokens.caller(text, tenants)
        key = self._keys.find(text)
        tenant = tenants.tenants.get(key.tenant)
        if tenant is None:
            raise Unauthenticated(f"the API key {key.id} is of a tenant that is not in the operator's file")
        return tenant.caller(key.name, key.roles, key.models)

    def _owner(self, certificate: Certificate, tenants: Tenants) -> Caller | None:
        names = {certificate.subject, *certificate.names} - {""}
        found = [tenants.certificates[each] for each in sorted(names) if each in tenants.certificates]
        if not found:
            return None
        if len(found) > 1:
            raise Unauthenticated("the certificate stands for more than one caller")
        if self._clock() >= certificate.expires:  # after its connection had begun
            raise Unauthenticated("the certificate is expired")
        (owner,) = found
        return tenants.tenants[owner.tenant].caller(owner.name, owner.roles, owner.models)


@contextmanager
def opened(options: AccessOptions, also: Sequence[Callable[[], None]] = ()) -> Iterator[ConfiguredAccess]:
    """The door, with a thread that keeps it up to date until the end of the context.

    Args:
        options: What is read.
        also: Called in that thread about every half second: `Tls.refresh`.

    Raises:
        InvalidArgument: The file is wrong.
        OuzelError: The database cannot be opened.
    """
    tenants = Watched([options.tenants], lambda raw: parse(raw[0], options.tenants), str(options.tenants))
    database = open_keys(options.keys)
    try:
        keys = KnownKeys(database)
        access = ConfiguredAccess(tenants, keys)
        access.refresh()
        polling = Polling([keys.refresh, access.refresh, *also])
        polling.start()
        try:
            yield access
        finally:
            polling.close()
            with suppress(OuzelError):  # no more than the hour of the last use
                keys.write_used()
    finally:
        database.close()
