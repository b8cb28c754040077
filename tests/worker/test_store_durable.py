"""What is committed stays: killed processes, full disks, damaged files, servers that restart."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ouzel.databases.sqlite import SqliteConnection
from ouzel.errors import DataLoss, ResourceExhausted, Unavailable
from ouzel.worker.store import schema
from ouzel.worker.store.job import Job, Lease, NewJob, Query, State
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb

ALICE = "alice"
MANY = Limits(queued=10**6)


def new(**rest: Any) -> NewJob:
    return NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="lite0")), **rest)


def log(text: str) -> pb.JobEvent:
    return pb.JobEvent(log=pb.Log(level=pb.Log.INFO, message=text))


def claim(store: Store) -> tuple[Job, Lease]:
    claimed = store.claim("worker-1")
    assert claimed is not None
    return claimed


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)


def all_ids(store: Store) -> set[str]:
    ids, token = set(), ""
    while True:
        page = store.list(ALICE, Query(page_size=500, page_token=token))
        ids |= {job.id for job in page.jobs}
        if not (token := page.next_page_token):
            return ids


# ---- other processes

_BEGIN = """
import sys
from ouzel.worker.store.job import NewJob
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel_protos.v1 import job_pb2 as pb

def say(*words):
    print(*words, flush=True)

new = NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="lite0")))
say("ready")
sys.stdin.readline()
store = open_store(sys.argv[1])
"""


class Process:
    """Another process with the store open: it waits for `go`, then runs its script."""

    def __init__(self, url: str, script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN + script, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.communicate()

    def go(self) -> None:
        assert self._process.stdin is not None
        assert self.line() == "ready"
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def rest(self) -> list[str]:
        """The lines that it still has printed; a last one that was cut off is left out."""
        assert self._process.stdout is not None
        return [line.strip() for line in self._process.stdout if line.endswith("\n")]


CREATE = """
while True:
    say(store.create("alice", new, limits=Limits(queued=10**6)).id)
"""

EMIT = """
job, lease = store.claim("w")
say(job.id)
while True:
    store.emit(lease, [pb.JobEvent(log=pb.Log(message="x")) for _ in range(3)])
    say(store.heartbeat(lease).last_sequence)
"""

CLAIM = """
while claimed := store.claim("w"):
    say(claimed[1].job)
store.close()
"""


def test_a_killed_process_loses_no_job_that_it_has_been_told_of(url: str) -> None:
    told = set()
    for lines in (1, 7, 40):
        with Process(url, CREATE) as process:
            process.go()
            told |= {process.line() for _ in range(lines)}
            process.kill()
            told |= set(process.rest())
    store = open_store(url)
    try:
        store.check()
        assert len(told) >= 48
        assert told <= all_ids(store)
        assert all(len(store.events(ALICE, job)) == 1 for job in told)
        assert len(all_ids(store) - told) <= 3, "at most the one of each that was under way"
    finally:
        store.close()


def test_a_killed_worker_leaves_whole_events_and_a_lease_to_reclaim(url: str) -> None:
    store = open_store(url)
    try:
        job = store.create(ALICE, new()).id
        with Process(url, EMIT) as process:
            process.go()
            assert process.line() == job
            last = [process.line() for _ in range(10)][-1]
            process.kill()
            last = [last, *process.rest()][-1]
        events = store.events(ALICE, job)
        assert [each.sequence for each in events] == list(range(1, len(events) + 1))
        assert int(last) <= len(events) <= int(last) + 3
        assert (len(events) - 2) % 3 == 0, "none of a call's events without the others"
        (held,) = store.leases()
        assert store.reclaim(held, "no heartbeat").state is State.QUEUED
        assert claim(store)[0].attempt == 2
    finally:
        store.close()


def test_processes_that_create_one_store_and_claim_from_it(url: str) -> None:
    """All open a store that is not there yet, at the same moment; later they share its jobs."""
    with Process(url, "say('open')") as one, Process(url, "say('open')") as two, Process(url, "say('open')") as three:
        for each in (one, two, three):
            each.go()
        assert [each.line() for each in (one, two, three)] == ["open"] * 3
    store = open_store(url)
    try:
        made = [store.create(ALICE, new()).id for _ in range(60)]
        with Process(url, CLAIM) as one, Process(url, CLAIM) as two:
            one.go()
            two.go()
            claimed = one.rest() + two.rest()
        assert sorted(claimed) == sorted(made)
        assert len(store.leases()) == 60
    finally:
        store.close()


def test_events_of_another_process_are_heard_of_within_seconds(store: Store, url: str) -> None:
    job = store.create(ALICE, new()).id
    heard: dict[int, pb.JobEvent] = {}
    remove = store.listen(job, lambda events: heard.update({each.sequence: each for each in events}), after=1)
    with Process(url, EMIT) as process:
        process.go()
        assert process.line() == job
        sequence = int(process.line())
        until(lambda: sequence in heard, 5.0)
        process.kill()
    last = store.get(ALICE, job).last_sequence
    until(lambda: sorted(heard) == list(range(2, last + 1)), 5.0)
    remove()


# ---- SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "jobs.db"


def filled(path: Path) -> list[str]:
    """A closed store with a few hundred events in it."""
    store = open_store(path)
    made = []
    for _ in range(8):
        made.append(store.create(ALICE, new(labels={"x": "y" * 100})).id)
        _, lease = claim(store)
        store.emit(lease, [log("z" * 200) for _ in range(30)])
    store.close()
    return made


def pages_of(path: Path) -> int:
    return path.stat().st_size // 4096


def test_the_disk_is_waited_for_at_each_commit(path: Path) -> None:
    """By the writer; and whatever reads is in the same mode."""
    store = open_store(path)
    try:
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        database: Any = store._db  # type: ignore[attr-defined]
        for use in (database.write, database.read):
            assert {name: use(lambda c, name=name: c.one(f"PRAGMA {name}"))[0] for name in wanted} == wanted
    finally:
        store.close()


def test_the_folder_is_the_users_own(path: Path) -> None:
    open_store(path).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_closing_leaves_one_whole_file(path: Path) -> None:
    """Copied elsewhere, it is the store."""
    made = filled(path)
    assert [each.name for each in path.parent.iterdir()] == ["jobs.db"]
    copy = shutil.copy(path, path.with_name("copy.db"))
    store = open_store(copy)
    assert all_ids(store) == set(made)
    store.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_file_is_data_loss(path: Path, seed: int) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    noise = random.Random(seed)
    for page in noise.sample(range(1, pages_of(path)), 4):
        content[page * 4096 : page * 4096 + 512] = noise.randbytes(512)
    path.write_bytes(content)
    with pytest.raises(DataLoss):
        open_store(path)
    assert path.read_bytes() == content, "what is left of it is not touched"


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_was_cut_off_is_data_loss(path: Path, part: float) -> None:
    filled(path)
    os.truncate(path, int(pages_of(path) * part) * 4096)
    with pytest.raises(DataLoss):
        open_store(path)


@pytest.mark.parametrize("content", [b"not a database " * 500, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_file_that_is_no_database_is_data_loss(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataLoss):
        open_store(path)
    assert path.read_bytes() == content


def test_a_database_of_a_newer_version_is_data_loss(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(DataLoss, match=f"version {schema.VERSION + 1}"):
        open_store(path)
    assert path.read_bytes() == before


def test_damage_that_opening_does_not_come_across(path: Path) -> None:
    """A call that comes across it says so; no answer is wrong. (Opening without the check is for large stores.)"""
    made = filled(path)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        read = {page for (page,) in raw.execute("SELECT pageno FROM dbstat WHERE name IN ('sqlite_schema', 'meta')")}
    raw.close()
    content = bytearray(path.read_bytes())
    for page in set(range(1, pages_of(path))) - {page - 1 for page in read}:
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)
    store = open_store(path, check=False)
    try:
        for call in (
            store.check,
            store.leases,
            lambda: store.get(ALICE, made[0]),
            lambda: store.events(ALICE, made[0]),
            lambda: store.create(ALICE, new()),
        ):
            with pytest.raises(DataLoss):
                call()
    finally:
        store.close()


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        open_store(tmp_path)  # a folder


@pytest.fixture
def full(path: Path) -> Iterator[tuple[Store, Callable[[], None]]]:
    """A store whose disk is full, and what makes room on it again.

    Fake: the file may not grow (max_page_count), for which SQLite gives the same SQLITE_FULL as for ENOSPC. The error
    comes while statements run; that of a real disk may also come with the COMMIT.
    """
    store = open_store(path)
    store.create(ALICE, new(labels={"x": "1"}), limits=MANY)
    database: Any = store._db  # type: ignore[attr-defined]

    def limit(pages: int) -> None:
        database.write(lambda c: c.all(f"PRAGMA max_page_count = {pages}"))

    limit(1)  # which means: as many as there are
    yield store, lambda: limit(2**30)
    store.close()


def fill(store: Store, label: str = "y" * 2000) -> list[str]:
    """Create jobs until there is no room."""
    made: list[str] = []
    while True:
        try:
            made.append(store.create(ALICE, new(labels={"x": label}), limits=MANY).id)
        except ResourceExhausted:
            return made


def test_a_full_disk_is_said_and_got_over(full: tuple[Store, Callable[[], None]]) -> None:
    store, make_room = full
    (before,) = all_ids(store)
    made = {before, *fill(store), *fill(store, "z" * 9000)}
    assert all_ids(store) == made, "reading goes on, and what failed has left nothing"
    make_room()
    made |= {store.create(ALICE, new(labels={"x": "y" * 9000}), limits=MANY).id for _ in range(5)}
    assert all_ids(store) == made
    store.check()
    assert claim(store)[0].id == before


def test_on_a_full_disk_each_caller_has_an_answer_of_their_own(full: tuple[Store, Callable[[], None]]) -> None:
    """Calls that are committed together do not fail together: what has room is done."""
    store, make_room = full
    start = threading.Barrier(8)

    def create(n: int) -> list[str]:
        start.wait()
        made = []
        for k in range(12):
            large = {"x": "y" * (9000 if n % 2 else 1)}
            try:
                made.append(store.create(ALICE, new(labels=large, request_id=f"{n}.{k}"), limits=MANY).id)
            except ResourceExhausted:
                continue
        return made

    before = all_ids(store)
    with ThreadPoolExecutor(8) as pool:
        made = [job for each in pool.map(create, range(8)) for job in each]
    assert len(made) < 96
    assert all_ids(store) == before | set(made)
    make_room()
    store.check()
    again = {store.create(ALICE, new(labels={"x": "y"}, request_id=f"0.{k}"), limits=MANY).id for k in range(12)}
    assert again <= all_ids(store)


def test_a_write_that_fails_does_not_undo_its_neighbours(path: Path) -> None:
    """Calls are committed in groups; an error of one (here: of the database itself) is that one's alone."""
    store = open_store(path)
    try:
        database: Any = store._db  # type: ignore[attr-defined]
        blocked, go = threading.Event(), threading.Event()

        def block(_: SqliteConnection) -> None:
            blocked.set()
            assert go.wait(10.0)

        with ThreadPoolExecutor(12) as pool:
            blocking = pool.submit(database.write, block)
            assert blocked.wait(10.0)  # all that follow come into one group
            good = [pool.submit(store.create, ALICE, new()) for _ in range(5)]
            broken = pool.submit(database.write, lambda c: c.run("INSERT INTO nowhere VALUES (1)"))
            good += [pool.submit(store.create, ALICE, new()) for _ in range(5)]
            until(lambda: database._db._asked.qsize() == 11)
            go.set()
            assert blocking.result() is None
            assert {each.result().id for each in good} == all_ids(store)
            assert isinstance(broken.exception(), Unavailable)
        assert all(len(store.events(ALICE, job)) == 1 for job in all_ids(store))
    finally:
        store.close()
