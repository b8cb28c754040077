"""The tables. Both databases get the same ones; the names in braces are their types.

A lease is a beat that goes on changing, not a point in time: no clock, so no clock that jumps.
"""

from __future__ import annotations

from ouzel.databases.schema import Schema

VERSION = 2

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value {blob} NOT NULL) {rowid};
CREATE TABLE IF NOT EXISTS jobs (
    number {number},
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    spec {blob} NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    progress {blob} NOT NULL,
    created {float} NOT NULL,
    started {float},
    ended {float},
    updated {float} NOT NULL,
    error {blob},
    result {blob},
    last_sequence BIGINT NOT NULL,
    priority INTEGER NOT NULL,
    labels TEXT NOT NULL,
    request_id TEXT,
    body {blob} NOT NULL,
    timeout {float},
    ran {float} NOT NULL,
    lost INTEGER NOT NULL,
    memory_deaths INTEGER NOT NULL,
    batch_scale {float} NOT NULL,
    checkpoint TEXT NOT NULL,
    pause INTEGER NOT NULL,
    worker TEXT NOT NULL,
    beat BIGINT NOT NULL,
    handle TEXT NOT NULL,
    slots INTEGER NOT NULL,
    UNIQUE (owner, request_id)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, owner, priority, number);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, state);
CREATE INDEX IF NOT EXISTS jobs_by_checkpoint ON jobs (checkpoint);
CREATE TABLE IF NOT EXISTS labels (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (job, name)
) {rowid};
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    body {blob} NOT NULL,
    PRIMARY KEY (job, sequence)
) {rowid};
CREATE TABLE IF NOT EXISTS artifacts (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job, name)
) {rowid};
CREATE INDEX IF NOT EXISTS artifacts_by_digest ON artifacts (sha256);
CREATE TABLE IF NOT EXISTS stops (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    kill INTEGER NOT NULL,
    PRIMARY KEY (job, attempt)
) {rowid};
CREATE TABLE IF NOT EXISTS workers (
    name TEXT PRIMARY KEY,
    slots INTEGER NOT NULL,
    until {float} NOT NULL
) {rowid};
CREATE TABLE IF NOT EXISTS waits (
    job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    most INTEGER NOT NULL
) {rowid};
CREATE INDEX IF NOT EXISTS jobs_by_slots ON jobs (slots) WHERE slots > 1;
CREATE TABLE IF NOT EXISTS notices (
    number {number},
    job TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    event {blob} NOT NULL,
    error {blob} NOT NULL,
    labels TEXT NOT NULL,
    tries INTEGER NOT NULL,
    due {float} NOT NULL,
    created {float} NOT NULL
);
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    seconds {float} NOT NULL,
    gpu_seconds {float} NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    PRIMARY KEY (day, owner, kind)
) {rowid};
CREATE TABLE IF NOT EXISTS measured (
    number {number},
    job TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    scale TEXT NOT NULL,
    gpus {float} NOT NULL,
    units {float} NOT NULL,
    seconds {float} NOT NULL
);
CREATE INDEX IF NOT EXISTS measured_by_scale ON measured (kind, scale, gpus, number);
CREATE TABLE IF NOT EXISTS reservations (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    until {float} NOT NULL,
    done {float}
) {rowid};
CREATE INDEX IF NOT EXISTS reservations_by_owner ON reservations (owner);
CREATE INDEX IF NOT EXISTS notices_by_job ON notices (job, number);
CREATE INDEX IF NOT EXISTS notices_by_due ON notices (due)
"""

JOBS = Schema(words="the job store", version=VERSION, tables=_TABLES)
