"""The connections to a PostgreSQL server, lent to whichever thread calls.

psycopg_pool connects in threads of its own, tries again by itself, and tells a caller who waits nothing but that time
is over. A caller has to learn at once, and why, that the server is down. So a call waits in short
turns, and looks between them whether an attempt to connect has failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from ouzel.databases.silence import SilenceWatch
from ouzel.errors import Unavailable

_CONNECTIONS = 16  # at most at a time: a server has few, for all workers
_WAIT = 10.0  # s for one of them to be free
_TURN = 0.05  # s between two looks whether connecting has failed
LONGEST = 25.0  # s that a transaction may take: a server that says nothing for longer is paused, or cut off
_NAME = "ouzel-database"
_SETTINGS = " ".join(
    f"-c {each}"
    for each in (
        "synchronous_commit=on",
        "idle_in_transaction_session_timeout=10s",  # a stopped worker must not hold its locks for ever
        "lock_timeout=10s",
        "statement_timeout=20s",
    )
)
_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 10,
    "options": _SETTINGS,
    "prepare_threshold": None,  # prepared statements fail behind a pooler
}


def _not_ours(record: logging.LogRecord) -> bool:
    """Whether a message of psycopg's pools is an error, or is about the pool of somebody else."""
    ours = _NAME in record.getMessage() or (record.threadName or "").startswith(_NAME)  # its threads bear its name
    return record.levelno >= logging.ERROR or not ours


class PostgresPool:
    """At most 16 connections.

    Args:
        url: "postgresql://...". Nothing is connected yet.
        words: What errors call the database.
    """

    def __init__(self, url: str, words: str = "the database") -> None:
        self._url = url
        self._words = words
        self._watch = SilenceWatch(LONGEST)
        self._failure: Exception | None = None  # of the last attempt to connect that failed
        # The pool logs every call, and failures, which reach the callers. Other pools of this process keep their say.
        logging.getLogger("psycopg.pool").addFilter(_not_ours)
        self._pool = ConnectionPool(
            url,
            connection_class=_reporting(self._failed),
            kwargs=_OPTIONS,
            min_size=0,
            max_size=_CONNECTIONS,
            reconnect_timeout=0.0,  # the next call tries again
            name=_NAME,
            open=True,
        )

    @contextmanager
    def lend(self) -> Iterator[psycopg.Connection]:
        """A connection, taken back at the end.

        Raises:
            psycopg.OperationalError: The server does not answer, or the pool is closed.
            Unavailable: All connections are in use, or the server has not answered in time.
        """
        raw = self._borrow()
        try:
            with self._watch.over(raw.fileno()) as watched:
                try:
                    yield raw
                except psycopg.OperationalError:
                    if not watched.ended:
                        raise
                if watched.ended:  # also where the caller wants to try again: it would wait as long
                    raise Unavailable(f"{self._words} has not answered within {LONGEST:g} s")
        finally:
            lost = raw.closed
            self._pool.putconn(raw)
            if lost and not self._pool.closed:  # the server has gone, and with it the other connections
                self._pool.drain()

    def connect(self) -> psycopg.Connection:
        """A connection beside those that are lent. The caller closes it."""
        return psycopg.connect(self._url, **_OPTIONS)

    def close(self) -> None:
        """Closes what is not lent now; what is lent is closed when it comes back."""
        self._pool.close(timeout=1.0)  # a thread that is connecting ends by itself
        self._watch.close()

    def _borrow(self) -> psycopg.Connection:
        known, deadline = self._failure, time.monotonic() + _WAIT
        while True:
            try:
                return self._pool.getconn(timeout=_TURN)
            except PoolTimeout:
                failure = self._failure
                if failure is not None and failure is not known:
                    raise psycopg.OperationalError(str(failure)) from failure
                if time.monotonic() < deadline:
                    continue
            if self._pool.get_stats()["pool_size"] < _CONNECTIONS:
                raise psycopg.OperationalError(f"no connection within {_WAIT:g} s")
            raise Unavailable(f"{_CONNECTIONS} calls of {self._words} are under way already")

    def _failed(self, error: Exception) -> None:
        self._failure = error


def _reporting(failed: Callable[[Exception], None]) -> type[psycopg.Connection]:
    """A connection that tells `failed` why it could not be made: the pool only logs it."""

    class Reporting(psycopg.Connection):
        @classmethod
        def connect(cls, *args: Any, **options: Any) -> Any:
            try:
                return super().connect(*args, **options)
            except Exception as error:
                failed(error)
                raise

    return Reporting
