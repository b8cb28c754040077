"""Which database a URL names."""

from __future__ import annotations

from pathlib import Path

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
