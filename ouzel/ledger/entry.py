"""Entries: what the log says, in one form of bytes, and the salted hashes in it.

What could be guessed (an image by its digest, a caller by name) stands in an entry as HMAC-SHA256 under 16 random
bytes of that entry alone, its salt. Who has the salt can check a guess; when the salt is deleted, nobody can any more,
and the hash of the entry stays what it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from ouzel.canonical import canonical
from ouzel.checks import one_of
from ouzel.errors import DataLoss, InvalidArgument, TooLarge
from ouzel.ledger.tlog.merkle import leaf_hash
from ouzel.ledger.tlog.tiles import LONGEST

VERSION = 1
SALT = 16  # bytes
# What entries are about.
KINDS = (
    "audit",  # a prediction, or a data set, was audited
    "gate",  # a model was let through, or not, on the ground of an audit
    "publication",  # a version of a model is served
    "promotion",  # a version has become the default
    "deletion",  # a model, a data set or a job was deleted
    "key",  # an API key was made, replaced or revoked
    "refusal",  # a request was refused
    "explanation",  # a prediction was explained, on record
    "checkpoint",  # the state of another log, or of this one under its former key
    "prune",  # bodies of old entries were deleted
    "forget",  # the salt of an entry was deleted
)
IMAGES, OWNER = "images", "owner"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_FIELDS = ("facts", "kind", "salted", "time", "version")
_MOST = 1000  # salted values of a name
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """An entry of the log.

    Attributes:
        kind: One of `KINDS`.
        time: When it was made: UTC in RFC 3339, with 6 digits of a second.
        facts: What happened: a JSON object. Hashes of things that cannot be guessed, and no personal data.
        salted: Hashes by name, in hex: HMAC-SHA256 under the entry's salt. See `salted_hash`.
        version: Of this form.
    """

    kind: str
    time: str
    facts: Mapping[str, Any]
    salted: Mapping[str, Sequence[str]] = field(default_factory=lambda: _NOTHING)
    version: int = VERSION

    def encode(self) -> bytes:
        """The entry's bytes: canonical JSON (RFC 8785).

        Raises:
            InvalidArgument: `facts` are not JSON.
            TooLarge: It has more than 65,535 bytes.
        """
        content = canonical({name: getattr(self, name) for name in _FIELDS}, field="facts")
        if len(content) > LONGEST:
            raise TooLarge(f"facts: the entry has {len(content)} bytes; at most {LONGEST} fit", field="facts")
        return content

    @staticmethod
    def parse(content: bytes) -> Entry:
        """Reads an entry's bytes.

        Raises:
            DataLoss: They are not an entry that this version reads.
        """
        try:
            values = json.loads(content, object_pairs_hook=_object)
            if values["version"] != VERSION:
                raise DataLoss(f"the entry has version {values['version']!r:.20}; this ouzel reads {VERSION}")
            if (
                tuple(sorted(values)) != _FIELDS
                or values["kind"] not in KINDS
                or not isinstance(values["facts"], dict)
                or not isinstance(values["salted"], dict)
                or not _TIME.fullmatch(values["time"])
            ):
                raise DataLoss("this is not an entry of the log")
            return Entry(**values)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataLoss("this is not an entry of the log") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that says a name twice would mean something else to each reader."""
    if len(values := dict(pairs)) != len(pairs):
        raise ValueError
    return values


def time_text(moment: datetime) -> str:
    """A time with a zone, as entries have it: such texts sort as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def salted_hash(salt: bytes, name: str, value: str) -> str:
    """What an entry has in place of a value.

    Args:
        salt: 16 bytes.
        name: Under which name it stands in the entry: a hash of one name is none of another.
        value: The value; of an image, the SHA-256 of its bytes in lower-case hex.

    Returns:
        HMAC-SHA256 of NAME, a zero byte and the value in UTF-8, in hex.
    """
    return hmac.new(salt, name.encode() + b"\0" + value.encode(errors="backslashreplace"), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Statement:
    """What somebody wants recorded.

    Attributes:
        kind: One of `KINDS`.
        facts: See `Entry`.
        secrets: Values by name that stand in the entry as salted hashes.
    """

    kind: str
    facts: Mapping[str, Any]
    secrets: Mapping[str, Sequence[str]]

    @staticmethod
    def of(
        kind: str,
        facts: Mapping[str, Any],
        images: Sequence[str],
        owner: str,
        salted: Mapping[str, str | Sequence[str]],
    ) -> Statement:
        """Checks what a caller gives, as `Ledger.append` says. Raises InvalidArgument."""
        one_of("kind", kind, KINDS)
        if not isinstance(facts, Mapping):
            raise InvalidArgument(f"facts: {type(facts).__name__} is not a JSON object", field="facts")
        for digest in images:
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise InvalidArgument(f"images: {digest[:80]!r} is not a SHA-256 in lower-case hex", field="images")
        secrets = {name: [value] if isinstance(value, str) else list(value) for name, value in salted.items()}
        for name, values in secrets.items():
            if not _NAME.fullmatch(name) or name in (IMAGES, OWNER):
                raise InvalidArgument(f"salted: {name[:80]!r} is not a free name of a-z, 0-9 and _", field="salted")
            if not all(isinstance(value, str) for value in values):
                raise InvalidArgument(f"salted.{name}: not a text", field=f"salted.{name}")
        if images:
            secrets[IMAGES] = list(images)
        if owner:
            secrets[OWNER] = [owner]
        if any(len(values) > _MOST for values in secrets.values()):
            raise TooLarge(f"salted: more than {_MOST} values of a name", field="salted")
        return Statement(kind, facts, secrets)

    def entry(self, key: str) -> NewEntry:
        """The entry of now, under a new salt. Raises as `Entry.encode`."""
        salt = os.urandom(SALT)
        salted = {name: [salted_hash(salt, name, value) for value in values] for name, values in self.secrets.items()}
        entry = Entry(self.kind, time_text(datetime.now(UTC)), self.facts, salted)
        body = entry.encode()
        return NewEntry(self, key, entry, body, leaf_hash(body), salt)

    def fingerprint(self, salt: bytes) -> bytes:
        """Tells this statement from others; worth nothing without the salt."""
        content = canonical({"kind": self.kind, "facts": self.facts, "secrets": self.secrets}, field="facts")
        return hmac.new(salt, content, hashlib.sha256).digest()


@dataclass(frozen=True)
class NewEntry:
    """An entry that is about to be kept.

    Attributes:
        statement: What was to be recorded.
        key: Tells the event from others; "" is none.
        entry: The entry.
        body: Its bytes.
        leaf: Its leaf hash.
        salt: Its salt.
    """

    statement: Statement
    key: str
    entry: Entry
    body: bytes
    leaf: bytes
    salt: bytes
