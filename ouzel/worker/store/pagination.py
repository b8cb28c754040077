"""Lists of jobs in pages. A page token is signed, and works only for the owner and the query it was given out for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import struct
from typing import Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import Page, Query
from ouzel.worker.store.job_table import SELECT, job_of

_LARGEST = 500
_KEY = "page-key"


def list_jobs(c: Connection, owner: str, query: Query) -> Page:
    """Reads one page of the owner's jobs."""
    within("page_size", query.page_size, 1, _LARGEST)
    where, values = _where(owner, query)
    if query.page_token:
        where.append("number < ?")
        values.append(_read_token(c, owner, query))
    sql = f"SELECT number, id FROM jobs WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
    keys = c.all(sql, *values, query.page_size + 1)
    shown = keys[: query.page_size]
    rows = c.all(f"{SELECT} WHERE id IN ({', '.join('?' * len(shown))})", *(row[1] for row in shown)) if shown else []
    jobs = {job.id: job for job in map(job_of, rows)}
    more = len(keys) > len(shown)
    return Page(tuple(jobs[row[1]] for row in shown), _token(c, owner, query, shown[-1][0]) if more else "")


def create_key(c: Connection) -> None:
    """Makes the key that signs the tokens: once, kept in the database, the same for all workers."""
    if c.one("SELECT value FROM meta WHERE name = ?", _KEY) is None:
        c.run("INSERT INTO meta (name, value) VALUES (?, ?)", _KEY, secrets.token_bytes(32))


def _where(owner: str, query: Query) -> tuple[list[str], list[Any]]:
    where, values = ["owner = ?"], [owner]
    if query.states:
        where.append(f"state IN ({', '.join(str(int(each)) for each in sorted(query.states))})")
    if query.kind:
        where.append("kind = ?")
        values.append(query.kind)
    for name, value in sorted(query.labels.items()):
        where.append("EXISTS (SELECT 1 FROM labels WHERE job = jobs.id AND name = ? AND value = ?)")
        values += [name, value]
    return where, values


def _token(c: Connection, owner: str, query: Query, number: int) -> str:
    packed = struct.pack(">q", number)
    return base64.urlsafe_b64encode(packed + _signature(c, owner, query, packed)).decode()


def _read_token(c: Connection, owner: str, query: Query) -> int:
    try:
        raw = base64.b64decode(query.page_token.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    packed, signature = raw[:8], raw[8:]
    if not hmac.compare_digest(signature, _signature(c, owner, query, packed)):
        raise InvalidArgument("page_token: was not given out for this list", field="page_token")
    return int(struct.unpack(">q", packed)[0])


def _signature(c: Connection, owner: str, query: Query, packed: bytes) -> bytes:
    row = c.one("SELECT value FROM meta WHERE name = ?", _KEY)
    assert row is not None
    asked = json.dumps([owner, sorted(query.states), query.kind, sorted(query.labels.items())]).encode()
    return hmac.digest(bytes(row[0]), packed + asked, hashlib.sha256)[:16]
