"""Who may be told of jobs: the operator's list, and what callers may name of it. docs/webhooks.md is the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ouzel.checks import within
from ouzel.endpoints.description.secrets import Secret
from ouzel.endpoints.description.table import Table
from ouzel.endpoints.description.urls import check_url
from ouzel.endpoints.description.values import secret_of, text_of, toml_of
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.worker.webhooks.signing import key_of

LONGEST_URL = 1024
_FILE = "webhooks file"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What a URL is made of (RFC 3986) without "#", "[" and "]", and without the other ways to write a dot or a slash.
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%(?!2[eEfF]|5[cC]|00)[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class Receiver:
    """An address that may be told.

    Attributes:
        name: In logs and metrics.
        url: What callers name is this, or, if it ends with "/", begins with it. Never shown to others than its owners.
        secrets: Keys of the signature, "whsec_...": two while one replaces the other.
        owners: Whose jobs may be told; empty: everybody's.
        private: Whether it may have addresses that are not of the public internet.
        timeout_s: Of one attempt, 0.1..30 s.
    """

    name: str
    url: str = field(repr=False)
    secrets: tuple[Secret, ...]
    owners: tuple[str, ...] = ()
    private: bool = False
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        where = f"receivers.{self.name}"
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(f"receivers: {self.name!r:.80} is not a name: a-z, 0-9 and -", field="receivers")
        within(f"{where}.timeout_s", self.timeout_s, 0.1, 30, unit="s")
        check_url(self.url, grpc=False)
        if not urlsplit(self.url).path or not is_plain(self.url):
            raise InvalidArgument(f"{where}.url: has no path, or a part that can be written in two ways", field=where)
        if not 1 <= len(self.secrets) <= 2:
            raise InvalidArgument(f"{where}.secrets: {len(self.secrets)} are not 1 or 2", field=where)

    def admits(self, url: str, owner: str) -> bool:
        """Whether this owner's jobs may be told there."""
        if self.owners and owner not in self.owners:
            return False
        return url == self.url or (self.url.endswith("/") and url.startswith(self.url))


def is_plain(url: str) -> bool:
    """Whether a URL can be compared by its text: no path of it leads upwards, and nothing is written in another way."""
    if len(url) > LONGEST_URL or not _PLAIN.fullmatch(url):
        return False
    parts = urlsplit(url).path.split("/")
    return not {".", ".."} & set(parts) and "" not in parts[1:-1]


@dataclass(frozen=True)
class Receivers:
    """The operator's list."""

    all: Sequence[Receiver] = ()

    def __post_init__(self) -> None:
        for one in self.all:
            for other in self.all:
                if one is not other and other.url.startswith(one.url):
                    raise InvalidArgument(
                        f"receivers: {other.name} lies within {one.name}; whose secret signs cannot be told",
                        field="receivers",
                    )

    def check(self, url: str, owner: str) -> None:
        """Refuses what is not on the list. Raises InvalidArgument, which tells nothing of other owners' addresses."""
        if not url:
            return
        if not self.all:
            raise InvalidArgument("notify: this worker admits no webhooks", field="notify")
        if not is_plain(url) or not any(each.admits(url, owner) for each in self.all):
            raise InvalidArgument(
                f"notify: {url!r:.120} is not among the addresses that the operator admits for {owner!r:.40}",
                field="notify",
            )

    def find(self, url: str, owner: str) -> Receiver | None:
        """Who is told; None if the operator has taken it from the list since."""
        return next((each for each in self.all if is_plain(url) and each.admits(url, owner)), None)


NOBODY = Receivers()


def read(path: Path | None) -> Receivers:
    """Reads the operator's file.

    Args:
        path: A TOML file; None admits nothing. Paths in it are relative to its folder.

    Raises:
        InvalidArgument: Names the field.
        NotFound: There is no such file.
    """
    if path is None:
        return NOBODY
    values = toml_of(text_of(path, _FILE), _FILE)
    document = Table(values)
    named, receivers = list(document.mapping("receivers")), Table(values).table("receivers")
    document.finish()
    return Receivers(tuple(_receiver(name, receivers.table(name), path.parent) for name in named))


def _receiver(name: str, table: Table, folder: Path) -> Receiver:
    url = table.needed("url", "name the address, https://...")
    given = table.take("secrets")
    if not isinstance(given, list):
        given = [] if given is None else [given]
    secrets = tuple(secret_of(each, table.path("secrets"), folder) for each in given)
    for each in secrets:
        try:
            key_of(each.reveal())
        except (ValueError, FailedPrecondition) as error:
            raise InvalidArgument(f"{table.path('secrets')}: {error}", field=table.path("secrets")) from None
    owners = table.take("owners")
    if owners is not None and (not isinstance(owners, list) or not all(isinstance(one, str) for one in owners)):
        raise InvalidArgument(f"{table.path('owners')}: is not a list of strings", field=table.path("owners"))
    receiver = Receiver(
        name,
        url,
        secrets,
        tuple(owners or ()),
        table.flag("private"),
        table.number("timeout_s", 10.0),
    )
    table.finish()
    return receiver
