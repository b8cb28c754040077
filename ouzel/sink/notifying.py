"""Sends alerts to the operator's address, as CloudEvents in the structured mode. Nothing waits for it."""

from __future__ import annotations

import logging
import threading

import urllib3

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.errors import OuzelError
from ouzel.sink.clock import Clock
from ouzel.sink.config import Notify

_log = logging.getLogger(__name__)
_EVERY = 0.5  # s between two looks
_LONGEST_WAIT = 600.0  # s between two attempts
MOST_TRIES = 200  # more than a day


class Notifier:
    """Delivers notices one after another, in a thread of its own.

    The address comes from the operator's file alone. Redirects are not followed, and no proxy is taken from the
    environment.

    Args:
        database: Where notices are.
        clock: Of the sink.
        notify: The address.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, notify: Notify) -> None:
        self._database, self._clock, self._notify = database, clock, notify
        self._http = urllib3.PoolManager(num_pools=1, maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink-notifier", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends. What was not delivered is delivered by the next process."""
        self._stop.set()
        self._thread.join()
        self._http.clear()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                while not self._stop.is_set() and self._one():
                    pass
            except OuzelError as error:
                _log.warning("notices cannot be read: %s", error)

    def _one(self) -> bool:
        """Whether there was one to deliver."""
        # In order: that an alert is cleared must not be told before it is told that it was raised.
        row = self._database.read(
            lambda c: c.one("SELECT number, body, tries, due FROM notices ORDER BY number LIMIT 1")
        )
        if row is None or row[3] > self._clock.now():
            return False
        number, body, tries, _due = row
        problem = self._send(body)
        if problem and tries + 1 < MOST_TRIES:
            _log.warning("alert notice %d was not delivered (%s); it is tried again", number, problem)
            due = self._clock.now() + min(2.0**tries, _LONGEST_WAIT)
            self._database.write(
                lambda c: c.run("UPDATE notices SET due = ?, tries = tries + 1 WHERE number = ?", due, number)
            )
            return True
        if problem:
            _log.error("alert notice %d is given up after %d attempts (%s)", number, MOST_TRIES, problem)
        self._database.write(lambda c: _delete(c, number))
        return True

    def _send(self, body: str) -> str:
        """What went wrong; "" if it was delivered. Neither the address nor an answer is told."""
        try:
            headers = {name: secret.reveal() for name, secret in self._notify.headers}
            headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
            answer = self._http.request(
                "POST",
                self._notify.url,
                body=body.encode(),
                headers=headers,
                timeout=urllib3.Timeout(total=self._notify.timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer.drain_conn() if int(answer.headers.get("content-length") or 2**20) < 2**16 else answer.close()
            return "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except (OuzelError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return type(error).__name__


def _delete(c: Connection, number: int) -> None:
    c.run("DELETE FROM notices WHERE number = ?", number)
