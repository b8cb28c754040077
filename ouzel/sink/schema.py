"""The tables of the sink. There is no migration: a file of another version is refused."""

from __future__ import annotations

from ouzel.databases.schema import Schema

_STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # How many events have each outcome. Service "" is of events that name none.
    """CREATE TABLE IF NOT EXISTS counts (service TEXT, outcome TEXT, reason TEXT, n INTEGER NOT NULL,
       PRIMARY KEY (service, outcome, reason)) WITHOUT ROWID""",
    # Pairs that are remembered, to know duplicates. halves: 1 request, 2 response. fate: see `recording`.
    """CREATE TABLE IF NOT EXISTS seen (pair BLOB PRIMARY KEY, at REAL NOT NULL, halves INTEGER NOT NULL,
       fate TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS seen_at ON seen (at)",
    # Bodies that wait for their other half, or for their audit.
    """CREATE TABLE IF NOT EXISTS held (pair BLOB PRIMARY KEY, service TEXT NOT NULL, id TEXT NOT NULL,
       at REAL NOT NULL, wall REAL NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL, bytes INTEGER NOT NULL,
       due REAL NOT NULL, tries INTEGER NOT NULL, request BLOB, response BLOB)""",
    "CREATE INDEX IF NOT EXISTS held_due ON held (state, due)",
    "CREATE INDEX IF NOT EXISTS held_at ON held (state, at)",
    # What is stored: pairs in `held`, bytes of their bodies, pairs in `seen`. Kept by the database itself.
    "CREATE TABLE IF NOT EXISTS usage (pairs INTEGER NOT NULL, bytes INTEGER NOT NULL, seen INTEGER NOT NULL)",
    "INSERT INTO usage SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM usage)",
    """CREATE TRIGGER IF NOT EXISTS held_comes AFTER INSERT ON held
       BEGIN UPDATE usage SET pairs = pairs + 1, bytes = bytes + NEW.bytes; END""",
    """CREATE TRIGGER IF NOT EXISTS held_goes AFTER DELETE ON held
       BEGIN UPDATE usage SET pairs = pairs - 1, bytes = bytes - OLD.bytes; END""",
    """CREATE TRIGGER IF NOT EXISTS held_grows AFTER UPDATE OF bytes ON held
       BEGIN UPDATE usage SET bytes = bytes + NEW.bytes - OLD.bytes; END""",
    """CREATE TRIGGER IF NOT EXISTS seen_comes AFTER INSERT ON seen BEGIN UPDATE usage SET seen = seen + 1; END""",
    """CREATE TRIGGER IF NOT EXISTS seen_goes AFTER DELETE ON seen BEGIN UPDATE usage SET seen = seen - 1; END""",
    """CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL,
       design TEXT NOT NULL, day TEXT NOT NULL, id TEXT NOT NULL, why TEXT NOT NULL, row TEXT NOT NULL,
       source TEXT NOT NULL, record_sha256 TEXT NOT NULL, record BLOB)""",
    "CREATE INDEX IF NOT EXISTS results_day ON results (service, design, day)",
    # What was fixed beforehand.
    """CREATE TABLE IF NOT EXISTS designs (service TEXT, sha256 TEXT, document TEXT NOT NULL, since REAL NOT NULL,
       PRIMARY KEY (service, sha256)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS detectors (service TEXT, design TEXT, name TEXT, state TEXT NOT NULL,
       PRIMARY KEY (service, design, name)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS alerts (number INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL,
       design TEXT NOT NULL, detector TEXT NOT NULL, raised REAL NOT NULL, sample INTEGER NOT NULL,
       detail TEXT NOT NULL, cleared REAL, cleared_by TEXT)""",
    # What is to be sent to the operator's address.
    """CREATE TABLE IF NOT EXISTS notices (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL,
       due REAL NOT NULL, tries INTEGER NOT NULL)""",
)

SINK = Schema(words="the sink's database", version=1, sqlite_only=_STATEMENTS, application=0x4F555A53)  # "OUZS"
