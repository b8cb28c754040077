"""The tables of the log. They may lie beside those of the job store in one PostgreSQL database.

An entry is pending until it has an index. Tiles are kept as they are at the newest index; older widths of the last
ones are their beginnings.
"""

from __future__ import annotations

from ouzel.databases.schema import Schema

LEDGER = Schema(
    words="the ledger's database",
    version=1,
    meta="ledger_meta",
    erases=True,  # salts, above all
    application=0x4F555A4C,  # "OUZL"
    tables="""
CREATE TABLE IF NOT EXISTS ledger_meta (name TEXT PRIMARY KEY, value {blob} NOT NULL) {rowid};
CREATE TABLE IF NOT EXISTS ledger_entries (
    number {number},
    seq BIGINT UNIQUE,
    hash {blob} NOT NULL,
    body {blob},
    salt {blob},
    kind TEXT NOT NULL,
    time TEXT NOT NULL,
    key TEXT UNIQUE,
    fingerprint {blob}
);
CREATE INDEX IF NOT EXISTS ledger_pending ON ledger_entries (number) WHERE seq IS NULL;
CREATE TABLE IF NOT EXISTS ledger_tiles (
    level INTEGER NOT NULL,
    number BIGINT NOT NULL,
    hashes {blob} NOT NULL,
    PRIMARY KEY (level, number)
)
""",
)
