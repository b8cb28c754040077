"""What is done with an event that has come: it is counted, and held if its pair may be audited, in one transaction."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase
from ouzel.sink import counts
from ouzel.sink.bodies import Prediction
from ouzel.sink.clock import Clock
from ouzel.sink.cloudevents import Event
from ouzel.sink.config import Limits, Service
from ouzel.sink.counts import count
from ouzel.sink.sampling import RATE, drawn, pair_of

REQUEST, RESPONSE = 1, 2
_BOTH = REQUEST | RESPONSE
UNREADABLE = "unreadable response"  # why a pair is queued whose response cannot be read: its audit says what is wrong
# What is decided of a pair that is remembered.
_OPEN, _WHOLE, _UNSAMPLED, _DROPPED, _ENDED = "open", "whole", "unsampled", "dropped", "ended"


@dataclass(frozen=True)
class Arrival:
    """An event of a service.

    Attributes:
        service: Whose.
        event: Itself.
        half: REQUEST or RESPONSE.
        answer: What a response says, where a condition asks for it; None otherwise, or if it cannot be read.
    """

    service: Service
    event: Event
    half: int
    answer: Prediction | None = None


class Recorder:
    """Counts events, and holds those that may be needed.

    Args:
        database: Of the sink.
        clock: Of the sink.
        limits: Bounds of what is held.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, limits: Limits) -> None:
        self._database, self._clock, self._limits = database, clock, limits
        self._salt = database.write(_salt)

    def refuse(self, outcome: str, reason: str, service: str = "") -> Future[None]:
        """Counts an event of which nothing is kept. The future is done once that is on the disk."""

        def work(c: Connection) -> None:
            count(c, service, counts.RECEIVED)
            count(c, service, outcome, reason=reason)

        return self._database.submit(work)

    def record(self, arrival: Arrival) -> Future[str]:
        """Counts an event, and holds it if it is needed.

        Returns:
            Its outcome, once that is on the disk.
        """
        pair = pair_of(arrival.service.name, arrival.event)
        return self._database.submit(lambda c: self._take(c, arrival, pair))

    def _take(self, c: Connection, arrival: Arrival, pair: bytes) -> str:
        name = arrival.service.name
        count(c, name, counts.RECEIVED)
        seen = c.one("SELECT halves, fate FROM seen WHERE pair = ?", pair)
        if seen is None:
            fate, outcome = self._first(c, arrival, pair)
            c.run("INSERT INTO seen VALUES (?, ?, ?, ?)", pair, self._clock.now(), arrival.half, fate)
            return outcome
        halves, fate = seen
        if halves & arrival.half:
            count(c, name, counts.DUPLICATE)
            return counts.DUPLICATE
        if fate == _OPEN:
            fate, outcome = self._second(c, arrival, pair)
        elif fate == _UNSAMPLED:
            outcome = counts.UNSAMPLED
            count(c, name, outcome)
        elif fate == _DROPPED:
            outcome = counts.DROPPED
            count(c, name, outcome, reason="other-half")
        else:
            outcome = counts.HALF
            count(c, name, outcome, reason="late")
        c.run("UPDATE seen SET halves = ?, fate = ? WHERE pair = ?", _BOTH, fate, pair)
        return outcome

    def _first(self, c: Connection, arrival: Arrival, pair: bytes) -> tuple[str, str]:
        """(fate of the pair, outcome of the event)."""
        service, size = arrival.service, len(arrival.event.data)
        why = self._why(arrival, pair)
        if not why and not (arrival.half == REQUEST and service.needs_answer):
            count(c, service.name, counts.UNSAMPLED)
            return _UNSAMPLED, counts.UNSAMPLED
        pairs, stored = c.all("SELECT pairs, bytes FROM usage")[0]
        full = "held-pairs" if pairs >= self._limits.held_pairs else ""
        full = full or ("held-bytes" if stored + size > self._limits.held_bytes else "")
        if full:
            count(c, service.name, counts.DROPPED, reason=full)
            return _DROPPED, counts.DROPPED
        request = arrival.event.data if arrival.half == REQUEST else None
        response = arrival.event.data if arrival.half == RESPONSE else None
        now = self._clock.now()
        c.run(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
            *(
                pair,
                service.name,
                arrival.event.id,
                now,
                time.time(),
                counts.WAITING,
                why,
                size,
                now,
                request,
                response,
            ),
        )
        count(c, service.name, counts.WAITING)
        return _OPEN, counts.WAITING

    def _second(self, c: Connection, arrival: Arrival, pair: bytes) -> tuple[str, str]:
        """As `_first`; the other half is held."""
        name, data = arrival.service.name, arrival.event.data
        (held,) = c.all("SELECT why FROM held WHERE pair = ?", pair)
        why = held[0] or self._why(arrival, pair)
        stored = c.all("SELECT bytes FROM usage")[0][0]
        if not why or stored + len(data) > self._limits.held_bytes:
            c.run("DELETE FROM held WHERE pair = ?", pair)
            count(c, name, counts.WAITING, -1)
            if not why:
                count(c, name, counts.UNSAMPLED, 2)
                return _UNSAMPLED, counts.UNSAMPLED
            count(c, name, counts.DROPPED, 2, reason="held-bytes")
            return _DROPPED, counts.DROPPED
        column = "request" if arrival.half == REQUEST else "response"
        c.run(
            f"UPDATE held SET {column} = ?, bytes = bytes + ?, state = ?, why = ?, due = ? WHERE pair = ?",
            *(data, len(data), counts.QUEUED, why, self._clock.now(), pair),
        )
        count(c, name, counts.WAITING, -1)
        count(c, name, counts.QUEUED, 2)
        return _WHOLE, counts.QUEUED

    def _why(self, arrival: Arrival, pair: bytes) -> str:
        """Why the pair is audited; "" if this half gives no reason."""
        service = arrival.service
        if drawn(pair, self._salt, service.rate):
            return RATE
        for each in service.conditions:
            if each.of_event(arrival.event):
                return each.told
        if arrival.half != RESPONSE or not service.needs_answer:
            return ""
        if arrival.answer is None:
            return UNREADABLE
        fits = (each for each in service.conditions if each.of_answer(arrival.answer.label, arrival.answer.score))
        return next((each.told for each in fits), "")


def _salt(c: Connection) -> bytes:
    c.run("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", secrets.token_bytes(16))
    return bytes(c.all("SELECT value FROM meta WHERE name = 'salt'")[0][0])
