"""The tables of a database, and the words in which its errors speak of it."""

from __future__ import annotations

from dataclasses import dataclass

_SQLITE = {"blob": "BLOB", "float": "REAL", "number": "INTEGER PRIMARY KEY AUTOINCREMENT", "rowid": "WITHOUT ROWID"}
_POSTGRES = {
    "blob": "BYTEA",
    "float": "DOUBLE PRECISION",
    "number": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "rowid": "",
}


@dataclass(frozen=True)
class Schema:
    """The tables. Both databases get the same ones.

    Attributes:
        words: What errors call the database: "the job store".
        version: A database of another version is refused.
        tables: Statements, with ";" between them, that create what is missing. The names in braces are types that
            differ between the databases: blob, float, number (a primary key that counts up) and rowid (at the end of a
            table that has a primary key of its own).
        sqlite_only: Further statements, for SQLite alone; they may hold ";", as triggers do.
        meta: The table (name TEXT, value blob) that keeps the version in PostgreSQL, where schemas share a database.
        application: SQLite's application_id, a number that tells files of one purpose from those of others.
        erases: Whether SQLite overwrites what is deleted.
    """

    words: str
    version: int
    tables: str = ""
    sqlite_only: tuple[str, ...] = ()
    meta: str = "meta"
    application: int = 0
    erases: bool = False

    def sqlite(self) -> list[str]:
        """The statements for SQLite."""
        return [*self._statements(_SQLITE), *self.sqlite_only]

    def postgres(self) -> list[str]:
        """The statements for PostgreSQL."""
        return self._statements(_POSTGRES)

    def _statements(self, types: dict[str, str]) -> list[str]:
        return [each for each in map(str.strip, self.tables.format(**types).split(";")) if each]
