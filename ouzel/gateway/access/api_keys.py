"""API keys in their database: made, listed, replaced and revoked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ouzel.checks import within
from ouzel.databases.database import Connection, Database
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.gateway.access.caller import ALL, checked_patterns, checked_roles
from ouzel.gateway.access.key_text import digest, key_id, new_key

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")  # of tenants and keys
EXPIRES = timedelta(days=90)
LONGEST = timedelta(days=3660)
USED_STEP = 3600.0  # s: how exactly the last use is kept
_COLUMNS = "id, digest, tenant, name, roles, models, created, expires, revoked, replaced_by, last_used"


@dataclass(frozen=True)
class ApiKey:
    """A key as the database has it. Times are seconds since the epoch.

    Attributes:
        id: The characters of the key that name it.
        digest: SHA-256 of the key.
        tenant: Whose it is.
        name: For people, logs and the ledger.
        roles: What it is good for.
        models: Patterns of names of models.
        created: When it was made.
        expires: When it ends.
        revoked: When it was revoked; None if it was not.
        replaced_by: The key that takes its place; "" if there is none.
        last_used: The beginning of the hour in which it was used last; None if it never was.
    """

    id: str
    digest: bytes
    tenant: str
    name: str
    roles: frozenset[str]
    models: tuple[str, ...]
    created: float
    expires: float
    revoked: float | None = None
    replaced_by: str = ""
    last_used: float | None = None

    def state(self, now: float) -> str:
        """Whether it works: "active", "expired" or "revoked"."""
        if self.revoked is not None:
            return "revoked"
        return "active" if now < self.expires else "expired"


@dataclass(frozen=True)
class Scope:
    """What a key is made for.

    Attributes:
        tenant: Whose it is: 1 to 63 letters, digits and . _ @ -, beginning with a letter or digit.
        name: Likewise.
        roles: Some of `ROLES`.
        models: Patterns of names of models.
    """

    tenant: str
    name: str
    roles: frozenset[str]
    models: tuple[str, ...] = ALL

    def __post_init__(self) -> None:
        for field in ("tenant", "name"):
            checked_name(field, getattr(self, field))
        checked_roles(sorted(self.roles))
        checked_patterns(self.models)


def checked_name(field: str, value: str) -> str:
    """A name of a tenant or key. Raises InvalidArgument."""
    if not NAME.fullmatch(value):
        raise InvalidArgument(
            f"{field}: {value!r:.80} is not 1 to 63 letters, digits and . _ @ -, beginning with a letter or digit",
            field=field,
        )
    return value


def nothing(_change: str, _key: ApiKey, _replaced: str) -> None:
    """Hears of changes, and records none."""


class ApiKeys:
    """The keys of a database, for the operator.

    Args:
        database: Opened by `open_keys`. The caller closes it.
        changing: Hears of each change before it counts, and undoes it if it raises: which one (create, rotate, revoke),
            the key as it becomes, and the ID of the one that it replaces, or "". It may hear of a change twice.
    """

    def __init__(self, database: Database, changing: Callable[[str, ApiKey, str], object] = nothing) -> None:
        self._database, self._changing = database, changing

    def create(self, scope: Scope, valid: timedelta = EXPIRES) -> tuple[str, ApiKey]:
        """Makes a key.

        Args:
            scope: What it is for.
            valid: For how long: 1 minute to 10 years.

        Returns:
            The key itself, which is kept nowhere, and what the database keeps.

        Raises:
            InvalidArgument: `valid` is out of range.
        """
        _check_valid(valid)
        text = new_key()

        def created(c: Connection) -> ApiKey:
            key = _insert(c, text, scope, valid)
            self._changing("create", key, "")
            return key

        return text, self._database.write(created)

    def all(self) -> list[ApiKey]:
        """All keys, the newest first."""
        return self._database.read(
            lambda c: [_key(row) for row in c.all(f"SELECT {_COLUMNS} FROM access_keys ORDER BY created DESC, id")]
        )

    def revoke(self, id: str) -> ApiKey:
        """Ends a key now. One that has been revoked stays so.

        Raises:
            NotFound: There is none of this id.
        """

        def revoked(c: Connection) -> ApiKey:
            known = _known(c, id)
            if known.revoked is None:
                c.run("UPDATE access_keys SET revoked = ?, changed = ? WHERE id = ?", c.now(), _change(c), id)
                self._changing("revoke", known, "")
            return _known(c, id)

        return self._database.write(revoked)

    def rotate(self, id: str, overlap: timedelta, valid: timedelta = EXPIRES) -> tuple[str, ApiKey, ApiKey]:
        """Makes a key that takes the place of another, which goes on working for a while.

        Args:
            id: Of the old key.
            overlap: How long the old one goes on working, if it does not end earlier: 0 to 90 days.
            valid: For how long the new one works.

        Returns:
            The new key itself, what the database keeps of it, and the old one.

        Raises:
            NotFound: There is none of this id.
            FailedPrecondition: The old one does not work any more, or has been replaced.
        """
        _check_valid(valid)
        within("overlap", overlap / timedelta(days=1), 0, 90, unit="days")
        text = new_key()

        def rotated(c: Connection) -> tuple[ApiKey, ApiKey]:
            old, now = _known(c, id), c.now()
            if (state := old.state(now)) != "active":
                raise FailedPrecondition(f"the key {id} is {state}: create another one")
            if old.replaced_by:
                raise FailedPrecondition(f"the key {id} has been replaced by {old.replaced_by}: rotate that one")
            new = _insert(c, text, Scope(old.tenant, old.name, old.roles, old.models), valid)
            c.run(
                "UPDATE access_keys SET expires = ?, replaced_by = ?, changed = ? WHERE id = ?",
                min(old.expires, now + overlap.total_seconds()),
                new.id,
                _change(c),
                id,
            )
            self._changing("rotate", new, id)
            return new, _known(c, id)

        return text, *self._database.write(rotated)


def changes_since(c: Connection, number: int) -> tuple[int, list[ApiKey]]:
    """The number of the last change, and the keys that have changed after `number`."""
    row = c.one("SELECT number FROM access_changes")
    last = int(row[0]) if row else 0
    if last == number:
        return last, []
    return last, [_key(row) for row in c.all(f"SELECT {_COLUMNS} FROM access_keys WHERE changed > ?", number)]


def mark_used(c: Connection, ids: list[str], now: float) -> None:
    """Keeps that keys were used in this hour."""
    hour = now // USED_STEP * USED_STEP
    for each in ids:
        c.run("UPDATE access_keys SET last_used = ? WHERE id = ? AND COALESCE(last_used, 0) < ?", hour, each, hour)


def _check_valid(valid: timedelta) -> None:
    within("expires", valid / timedelta(days=1), 1 / 1440, LONGEST / timedelta(days=1), unit="days")


def _change(c: Connection) -> int:
    """The number of a new change. PostgreSQL's lock of the row lasts to the commit: changes are seen in their order."""
    c.run("UPDATE access_changes SET number = number + 1")
    row = c.one("SELECT number FROM access_changes")
    assert row is not None
    return int(row[0])


def _insert(c: Connection, text: str, scope: Scope, valid: timedelta) -> ApiKey:
    id, now = key_id(text), c.now()
    assert id is not None
    c.run(
        "INSERT INTO access_keys (id, digest, tenant, name, roles, models, created, expires, changed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        digest(text),
        scope.tenant,
        scope.name,
        json.dumps(sorted(scope.roles)),
        json.dumps(scope.models),
        now,
        now + valid.total_seconds(),
        _change(c),
    )
    return _known(c, id)


def _known(c: Connection, id: str) -> ApiKey:
    row = c.one(f"SELECT {_COLUMNS} FROM access_keys WHERE id = ?{c.for_update}", id)
    if row is None:
        raise NotFound(f"id: there is no key {id!r:.80}", field="id")
    return _key(row)


def _key(row: tuple[Any, ...]) -> ApiKey:
    id, digest, tenant, name, roles, models, created, expires, revoked, replaced_by, last_used = row
    return ApiKey(
        str(id),
        bytes(digest),
        str(tenant),
        str(name),
        frozenset(json.loads(str(roles))),
        tuple(json.loads(str(models))),
        float(created),
        float(expires),
        None if revoked is None else float(revoked),
        str(replaced_by or ""),
        None if last_used is None else float(last_used),
    )
