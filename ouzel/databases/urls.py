"""Which database a URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ouzel.errors import InvalidArgument

_POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite://"


def is_postgres(url: str | Path) -> bool:
    """Whether a URL names a PostgreSQL server."""
    return str(url).startswith(_POSTGRES)


def sqlite_file(url: str | Path, field: str = "database") -> Path:
    """The file of a SQLite database.

    Args:
        url: Its path, or "sqlite:///PATH".
        field: What errors call it.

    Raises:
        InvalidArgument: It is another URL.
    """
    text = str(url)
    path = text.removeprefix(_SQLITE)
    if not path or "://" in path:
        raise InvalidArgument(
            f"{field}: {text.partition('@')[0]!r:.80} is not a path, sqlite:///PATH or postgresql://...", field=field
        )
    return Path(path)


def without_password(url: str) -> str:
    """A URL as it may be shown, and as one that is the same but for its password also reads.

    Args:
        url: Of any database.
    """
    if not is_postgres(url):
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "password"]
    query = parts.query if "password" not in parts.query else urlencode(kept, quote_via=quote)
    return parts._replace(netloc=user.partition(":")[0] + at + host, query=query).geturl()
