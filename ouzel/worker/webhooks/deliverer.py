"""Delivers what is to be told, in threads of its own: one for each receiver, so that a slow one delays itself alone."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from ouzel.errors import OuzelError
from ouzel.worker.store.notices import Notice
from ouzel.worker.store.protocol import NoticeStore
from ouzel.worker.webhooks.receivers import Receiver, Receivers
from ouzel.worker.webhooks.sending import GONE

_log = logging.getLogger(__name__)
_EVERY = 1.0  # s between two looks at the database
_LEASE = 120.0  # s in which no other worker sends the same; the deadline of an attempt is far below
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 3600.0  # s between two attempts
LONGEST = 3 * 86_400.0  # s after which it is given up


class Sends(Protocol):
    """Sends a message: `sending.Sender`."""

    def send(self, receiver: Receiver, notice: Notice) -> str:
        """What went wrong, or ""."""


class Counts(Protocol):
    """Counts what became of attempts."""

    def webhook(self, receiver: str, outcome: str) -> None:
        """One attempt."""


class Deliverer:
    """Delivers notices, of each job in order, at least once.

    Args:
        store: Where notices are; any of its workers delivers them.
        receivers: The operator's list.
        sender: Sends them.
        counts: Counts attempts.
    """

    def __init__(self, store: NoticeStore, receivers: Receivers, sender: Sends, counts: Counts) -> None:
        self._store, self._receivers, self._sender, self._counts = store, receivers, sender, counts
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name=f"webhook-{each.name}", daemon=True)
            for each in receivers.all
        ]

    def start(self) -> None:
        """Begins."""
        for each in self._threads:
            each.start()

    def close(self) -> None:
        """Ends after the attempts that are being made. What is left is delivered by another worker, or the next one."""
        self._stop.set()
        for each in self._threads:
            each.join()

    def _run(self, receiver: Receiver) -> None:
        while not self._stop.wait(_EVERY):
            try:
                while not self._stop.is_set() and self.deliver(receiver):
                    pass
            except OuzelError as error:
                _log.warning("webhooks of %s cannot be read: %s", receiver.name, error)

    def deliver(self, receiver: Receiver) -> bool:
        """Makes one attempt. Returns whether there was one to make."""
        notice = self._store.take_notice(receiver.url, _LEASE)
        if notice is None:
            return False
        if self._receivers.find(notice.url, notice.owner) is not receiver:
            self._settle(receiver, notice, "not admitted any more", None)
            return True
        problem = self._sender.send(receiver, notice)
        wait = min(_FIRST_WAIT * 2.0 ** (notice.tries - 1), _LONGEST_WAIT)
        given_up = problem == GONE or notice.age + wait > LONGEST
        self._settle(receiver, notice, problem, wait if problem and not given_up else None)
        return True

    def _settle(self, receiver: Receiver, notice: Notice, problem: str, wait: float | None) -> None:
        self._store.settle_notice(notice, wait)
        self._counts.webhook(receiver.name, "delivered" if not problem else "given_up" if wait is None else "failed")
        if not problem:
            return
        what = "is given up" if wait is None else f"is tried again in {wait:g} s"
        _log.warning("webhook %s of %s, attempt %d: %s; it %s", receiver.name, notice.job, notice.tries, problem, what)
