"""What becomes of each event, against a plain model that keeps everything in memory; with a clock that is a fake."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from ouzel.databases.sqlite import SqliteDatabase
from ouzel.sink import counts
from ouzel.sink.bodies import Prediction
from ouzel.sink.clock import Clock
from ouzel.sink.cloudevents import Event
from ouzel.sink.config import Limits, Service
from ouzel.sink.file import read
from ouzel.sink.recording import REQUEST, RESPONSE, Arrival, Recorder
from ouzel.sink.sampling import drawn, metadata, pair_of
from ouzel.sink.schema import SINK
from ouzel.sink.sweeping import Sweeper
from support.sink import write

LIMITS = Limits(held_pairs=40, held_bytes=2**20, deadline_s=60, remember_s=600, queue_s=3600)


class FakeClock:
    """A fake: time goes on when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def save(self, connection: object) -> None: ...


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "sink.db", SINK)
    yield made
    made.close()


def event(identity: str, half: int, size: int = 10, **extensions: str) -> Event:
    return Event(identity, "/", "request" if half == REQUEST else "response", data=bytes(size), extensions=extensions)


def totals(database: SqliteDatabase) -> dict[str, int]:
    found = counts.totals(database.read(counts.read))
    assert found[counts.RECEIVED] == sum(found[each] for each in counts.OUTCOMES)
    return found


@dataclass
class Site:
    database: SqliteDatabase
    service: Service
    limits: Limits = LIMITS
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        clock = cast(Clock, self.clock)
        self.recorder = Recorder(self.database, clock, self.limits)
        self.sweeper = Sweeper(self.database, clock, self.limits)

    def send(self, identity: str, half: int, size: int = 10, answer: Prediction | None = None, **more: str) -> str:
        return self.recorder.record(Arrival(self.service, event(identity, half, size, **more), half, answer)).result()

    def audit_one(self) -> None:
        """As the auditor does at the end."""

        def work(c: counts.Connection) -> None:
            row = c.one("SELECT pair FROM held WHERE state = 'queued' ORDER BY due LIMIT 1")
            if row is not None:
                c.run("DELETE FROM held WHERE pair = ?", row[0])
                counts.count(c, self.service.name, counts.QUEUED, -2)
                counts.count(c, self.service.name, counts.AUDITED, 2)

        self.database.write(work)


def test_a_pair_in_either_order(database: SqliteDatabase, tmp_path: Path) -> None:
    site = Site(database, read(write(tmp_path)).services[0])
    assert site.send("a", REQUEST) == counts.WAITING
    assert site.send("a", RESPONSE) == counts.QUEUED
    assert site.send("b", RESPONSE) == counts.WAITING
    assert site.send("b", REQUEST) == counts.QUEUED
    for identity in "ab":
        for half in (REQUEST, RESPONSE):
            assert site.send(identity, half) == counts.DUPLICATE
    assert totals(database) == {**dict.fromkeys(counts.OUTCOMES, 0), "received": 8, "queued": 4, "duplicate": 4}


def test_halves_late_halves_and_what_is_forgotten(database: SqliteDatabase, tmp_path: Path) -> None:
    site = Site(database, read(write(tmp_path)).services[0])
    site.send("a", REQUEST)
    site.send("b", RESPONSE)
    site.clock.time += 61
    site.sweeper.sweep()
    assert totals(database)["half"] == 2
    assert site.send("a", RESPONSE) == counts.HALF
    assert site.send("a", REQUEST) == counts.DUPLICATE
    reasons = database.read(counts.read)["farm"]["half"]
    assert reasons == {"request": 1, "response": 1, "late": 1}
    site.clock.time += 601
    site.sweeper.sweep()
    assert database.read(lambda c: c.all("SELECT pairs, bytes, seen FROM usage")) == [(0, 0, 0)]
    assert site.send("a", REQUEST) == counts.WAITING  # nobody knows it any more


def test_bounds_drop_and_say_so(database: SqliteDatabase, tmp_path: Path) -> None:
    site = Site(database, read(write(tmp_path)).services[0])
    for n in range(50):
        site.send(f"{n}", REQUEST)
    assert totals(database)["dropped"] == 10
    assert site.send("49", RESPONSE) == counts.DROPPED
    assert database.read(counts.read)["farm"]["dropped"] == {"held-pairs": 10, "other-half": 1}
    assert site.send("0", RESPONSE, 2**20) == counts.DROPPED  # with its request
    assert database.read(counts.read)["farm"]["dropped"]["held-bytes"] == 2
    assert site.send("new", REQUEST, 2**20) == counts.DROPPED
    site.send("1", RESPONSE)
    site.clock.time += 3601
    site.sweeper.sweep()
    found = totals(database)
    assert (found["waiting"], found["queued"], found["half"]) == (0, 0, 38)
    assert database.read(counts.read)["farm"]["dropped"]["queue-age"] == 2


def test_ids_that_are_remembered_are_bounded(database: SqliteDatabase, tmp_path: Path) -> None:
    limits = Limits(remembered=1000, held_pairs=1)
    site = Site(database, read(write(tmp_path, "rate = 0.000001")).services[0], limits)
    for n in range(1700):
        site.recorder.record(Arrival(site.service, event(f"{n}", REQUEST), REQUEST))
        site.clock.time += 0.001
    site.sweeper.sweep()
    assert database.read(lambda c: c.one("SELECT COUNT(*) FROM seen")) == (1000,)
    assert site.send("1699", REQUEST) == counts.DUPLICATE
    assert site.send("0", REQUEST) == counts.UNSAMPLED


def test_the_sample_is_random_and_both_halves_agree(database: SqliteDatabase, tmp_path: Path) -> None:
    site = Site(database, read(write(tmp_path, "rate = 0.1")).services[0], Limits())
    for n in range(3000):
        site.recorder.record(Arrival(site.service, event(f"{n}", RESPONSE), RESPONSE))
        last = site.recorder.record(Arrival(site.service, event(f"{n}", REQUEST), REQUEST))
    last.result()
    found = totals(database)
    assert found["waiting"] == 0
    assert found["queued"] + found["unsampled"] == 6000
    assert 200 <= found["queued"] / 2 <= 400  # 300, and a standard deviation of 16


def test_nobody_can_choose_an_id_that_is_never_audited() -> None:
    pair = pair_of("farm", event("a", REQUEST))
    assert len({drawn(pair, bytes([n]) * 16, 0.5) for n in range(30)}) == 2
    assert drawn(pair, bytes(16), 1.0)
    assert not drawn(pair, bytes(16), 0.0)
    assert pair_of("farm", event("a", REQUEST, component="transformer")) != pair


def test_conditions_on_the_answer(database: SqliteDatabase, tmp_path: Path) -> None:
    own = 'rate = 0.0\nwhere = [{ score_below = 0.6 }, { classes = ["cow"] }]'
    site = Site(database, read(write(tmp_path, own)).services[0])
    sure, unsure, cow = Prediction("goat", 0.9), Prediction("goat", 0.5), Prediction("cow", 0.9)
    for first, second in ((REQUEST, RESPONSE), (RESPONSE, REQUEST)):
        for name, said, outcome in (("sure", sure, "unsampled"), ("unsure", unsure, "queued"), ("cow", cow, "queued")):
            site.send(f"{name}{first}", first, answer=said if first == RESPONSE else None)
            assert site.send(f"{name}{first}", second, answer=said if second == RESPONSE else None) == outcome
    assert (totals(database)["unsampled"], totals(database)["queued"]) == (4, 8)
    why = database.read(lambda c: c.all("SELECT why, COUNT(*) FROM held GROUP BY why ORDER BY why"))
    assert why == [("class cow", 2), ("score below 0.6", 2)]
    site.send("bad", RESPONSE)  # cannot be read: its audit says why
    assert site.send("bad", REQUEST) == "queued"


def test_conditions_on_the_event(database: SqliteDatabase, tmp_path: Path) -> None:
    own = (
        'rate = 0.0\nwhere = [{ attribute = "endpoint", values = ["canary"] }, '
        '{ metadata = "X-Caller", values = ["gate"] }]'
    )
    site = Site(database, read(write(tmp_path, own)).services[0])
    assert site.send("a", REQUEST, endpoint="default") == "unsampled"
    assert site.send("b", REQUEST, endpoint="canary") == "waiting"
    assert site.send("c", REQUEST, metadata='{"x-caller": ["gate"]}') == "waiting"
    assert site.send("d", REQUEST, metadata='{"X-Caller": "gate"}') == "unsampled"
    for broken in ("", "[", "[]", '{"X-Caller": [1]}', "[" * 50_000):
        assert not metadata(event("e", REQUEST, metadata=broken), "X-Caller")


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_events_adds_up(database: SqliteDatabase, tmp_path: Path, seed: int) -> None:
    """A plain model, which knows each event that was sent, gives the same counts."""
    rng = random.Random(seed)
    limits = replace(LIMITS, remember_s=100_000)
    site = Site(database, read(write(tmp_path, "rate = 1.0")).services[0], limits)
    model: Counter[str] = Counter()
    pairs: dict[str, dict[str, float | str | set[int]]] = {}
    held: dict[str, float] = {}  # when the first half came
    queue: list[str] = []
    for _ in range(1000):
        match rng.choices(("send", "audit", "wait"), (80, 18, 2))[0]:
            case "send":
                identity, half = str(rng.randrange(400)), rng.choice((REQUEST, RESPONSE))
                site.send(identity, half)
                model["received"] += 1
                known = pairs.get(identity)
                if known is None:
                    full = len(held) >= LIMITS.held_pairs
                    pairs[identity] = {"halves": {half}, "fate": "dropped" if full else "open"}
                    model["dropped" if full else "waiting"] += 1
                    if not full:
                        held[identity] = site.clock.time
                    continue
                halves = cast("set[int]", known["halves"])
                if half in halves:
                    model["duplicate"] += 1
                    continue
                halves.add(half)
                if known["fate"] == "open":
                    model["waiting"] -= 1
                    model["queued"] += 2
                    known["fate"] = "whole"
                    queue.append(identity)
                else:
                    model["dropped" if known["fate"] == "dropped" else "half"] += 1
            case "audit":
                site.audit_one()
                if queue:
                    del held[queue.pop(0)]
                    model["queued"] -= 2
                    model["audited"] += 2
            case "wait":
                site.clock.time += rng.uniform(0, 30)
                site.sweeper.sweep()
                for identity, at in list(held.items()):
                    if pairs[identity]["fate"] == "open" and at < site.clock.time - LIMITS.deadline_s:
                        del held[identity]
                        pairs[identity]["fate"] = "ended"
                        model["waiting"] -= 1
                        model["half"] += 1
        site.clock.time += 0.01
    found = totals(database)
    assert {name: n for name, n in found.items() if n} == {name: n for name, n in model.items() if n}
    assert min(found[each] for each in ("audited", "half", "dropped", "duplicate")) > 10
    assert database.read(lambda c: c.one("SELECT COUNT(*), SUM(bytes) FROM held")) == database.read(
        lambda c: c.one("SELECT pairs, bytes FROM usage")
    )
