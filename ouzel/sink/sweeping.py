"""Ends what has waited too long, and forgets what is old, a little at a time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import OuzelError
from ouzel.sink import counts
from ouzel.sink.clock import Clock
from ouzel.sink.config import Limits
from ouzel.sink.counts import count

_log = logging.getLogger(__name__)
_EVERY = 1.0  # s
_AT_ONCE = 500  # rows per transaction: events wait for it


class Sweeper:
    """Sweeps in a thread of its own.

    Args:
        database: Of the sink.
        clock: Of the sink.
        limits: How long things may stay.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, limits: Limits) -> None:
        self._database, self._clock, self._limits = database, clock, limits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-sweeper", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends, and puts the time down."""
        self._stop.set()
        self._thread.join()
        with suppress(OuzelError):  # of a full disk: then a second passes twice
            self._database.write(self._clock.save)

    def sweep(self) -> None:
        """Ends and forgets all that is due."""
        for work in (self._halves, self._queue, self._forget, self._results):
            while self._database.write(work) == _AT_ONCE and not self._stop.is_set():
                pass

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self._database.write(self._clock.save)
                self.sweep()
            except OuzelError as error:  # a full disk, say: what is due stays due
                _log.warning("the sink cannot tidy up: %s", error)

    def _halves(self, c: Connection) -> int:
        rows = c.all(
            "SELECT pair, service, request IS NOT NULL FROM held WHERE state = ? AND at < ? ORDER BY at LIMIT ?",
            *(counts.WAITING, self._clock.now() - self._limits.deadline_s, _AT_ONCE),
        )
        for pair, service, is_request in rows:
            c.run("DELETE FROM held WHERE pair = ?", pair)
            c.run("UPDATE seen SET fate = 'ended' WHERE pair = ?", pair)
            count(c, service, counts.WAITING, -1)
            count(c, service, counts.HALF, reason="request" if is_request else "response")
        return len(rows)

    def _queue(self, c: Connection) -> int:
        rows = c.all(
            "SELECT pair, service FROM held WHERE state = ? AND at < ? ORDER BY at LIMIT ?",
            *(counts.QUEUED, self._clock.now() - self._limits.queue_s, _AT_ONCE),
        )
        for pair, service in rows:
            c.run("DELETE FROM held WHERE pair = ?", pair)
            count(c, service, counts.QUEUED, -2)
            count(c, service, counts.DROPPED, 2, reason="queue-age")
        return len(rows)

    def _forget(self, c: Connection) -> int:
        """Ids that are old, or too many. Those of pairs that are held stay."""
        over = c.all("SELECT seen FROM usage")[0][0] - self._limits.remembered
        old = "SELECT pair FROM seen WHERE at < ? AND pair NOT IN (SELECT pair FROM held) ORDER BY at LIMIT ?"
        gone = c.run(f"DELETE FROM seen WHERE pair IN ({old})", self._clock.now() - self._limits.remember_s, _AT_ONCE)
        if gone < _AT_ONCE and over > gone:
            gone += c.run(f"DELETE FROM seen WHERE pair IN ({old})", self._clock.now() + 1, min(over, _AT_ONCE) - gone)
        return gone

    def _results(self, c: Connection) -> int:
        first = (datetime.fromtimestamp(time.time(), UTC) - timedelta(days=self._limits.keep_days)).date().isoformat()
        return c.run(
            "DELETE FROM results WHERE number IN (SELECT number FROM results WHERE day < ? LIMIT ?)", first, _AT_ONCE
        )
