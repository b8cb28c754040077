"""The store over a PostgreSQL that goes away: restarts, pauses, cut networks, another server that takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel.databases import postgres_pool
from ouzel.errors import DataLoss, Unavailable
from ouzel.worker.store import schema
from ouzel.worker.store.job import Job, Lease, NewJob, Query, State
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import until
from support.postgres import StoppableServer, standby, stoppable_server
from support.relay import Relay

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


@pytest.fixture(scope="module")
def server() -> Iterator[StoppableServer]:
    with stoppable_server() as made:
        yield made


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pool, "LONGEST", 1.0)
    monkeypatch.setattr(postgres_pool, "_WAIT", 2.0)
    monkeypatch.setitem(postgres_pool._OPTIONS, "connect_timeout", 2)


def test_postgres_commits_before_it_answers(server: StoppableServer) -> None:
    store = open_store(server.url)
    try:
        database: Any = store._db  # type: ignore[attr-defined]
        assert database.read(lambda c: c.one("SHOW synchronous_commit")) == ("on",)
    finally:
        store.close()


def test_a_postgres_store_of_a_newer_version_is_data_loss(server: StoppableServer) -> None:
    store = open_store(server.url)
    database: Any = store._db  # type: ignore[attr-defined]

    def set_version(version: int) -> None:
        database.write(lambda c: c.run("UPDATE meta SET value = ? WHERE name = 'version'", str(version).encode()))

    try:
        set_version(schema.VERSION + 1)
        with pytest.raises(DataLoss, match="version"):
            open_store(server.url)
        set_version(schema.VERSION)
        open_store(server.url).close()
    finally:
        store.close()


def test_no_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        open_store(f"postgresql://postgres@/postgres?host={tmp_path}")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_between_calls(server: StoppableServer, mode: str) -> None:
    """While it is away each call says so; afterwards the store, its jobs and its listeners go on."""
    store = open_store(server.url)
    try:
        job = store.create(ALICE, new()).id
        _, lease = claim(store)
        heard: list[int] = []
        store.listen(job, lambda events: heard.extend(each.sequence for each in events), after=2)
        store.emit(lease, [log("before")])
        until(lambda: 3 in heard)
        server.stop(mode)
        calls: list[Callable[[], object]] = [
            lambda: store.get(ALICE, job),
            lambda: store.list(ALICE, Query()),
            lambda: store.create(ALICE, new()),
            lambda: store.heartbeat(lease),
            lambda: store.claim("w"),
            store.leases,
            store.check,
        ]
        for call in calls:
            with pytest.raises(Unavailable, match=str(server.data)):  # the cause: nothing is at its socket
                call()
        with pytest.raises(Unavailable):
            open_store(server.url)
        server.start()
        store.check()
        store.emit(lease, [log("after")])
        until(lambda: 4 in heard)
        assert store.get(ALICE, job).last_sequence == 4
        store.succeed(lease, pb.JobResult())
    finally:
        store.close()


def test_a_server_that_is_paused(server: StoppableServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its connections and says nothing: calls fail in time, and afterwards all goes on."""
    impatient(monkeypatch)
    store = open_store(server.url)
    try:
        job = store.create(ALICE, new()).id
        _, lease = claim(store)
        parent = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        paused = [parent, *parent.children(recursive=True)]
        for each in paused:
            each.suspend()
        try:
            with ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(store.get, ALICE, job) for _ in range(6)]
                calls += [
                    pool.submit(store.heartbeat, lease),
                    pool.submit(store.create, ALICE, new(request_id="paused")),
                ]
                problems = [each.exception(60) for each in calls]
            assert all(isinstance(each, Unavailable) for each in problems), problems
            assert any("has not answered within 1 s" in str(each) for each in problems)
        finally:
            for each in paused:
                each.resume()
        until(lambda: there(store, job))
        store.emit(lease, [log("after")])
        again = {store.create(ALICE, new(request_id="paused")).id for _ in range(2)}
        assert len(again) == 1
    finally:
        store.close()


def there(store: Store, job: str) -> bool:
    try:
        return store.get(ALICE, job).id == job
    except Unavailable:
        return False


def test_a_restart_that_nobody_was_waiting_for_is_not_noticed(server: StoppableServer) -> None:
    """Many connections lie idle meanwhile and are lost; no call fails for that."""
    store = open_store(server.url)
    try:
        job = store.create(ALICE, new()).id
        start = threading.Barrier(8)

        def get(_: int) -> str:
            start.wait()
            return store.get(ALICE, job).id

        with ThreadPoolExecutor(8) as pool:
            for threads in (1, 8):
                list(pool.map(get, range(8)))  # so that there are several connections
                server.control("-m", "fast", "restart")
                if threads == 1:
                    assert store.pause(ALICE, job).state is State.PAUSED
                else:
                    assert set(pool.map(get, range(8))) == {job}
    finally:
        store.close()


def test_a_server_that_restarts_during_calls_loses_nothing(server: StoppableServer) -> None:
    """Each call gives an answer or Unavailable; asked again with the same request_id, each job is there once."""
    store = open_store(server.url)
    ended, problems = threading.Event(), []
    told: dict[str, str] = {}
    refused = 0

    def create(n: int) -> None:
        nonlocal refused
        k = 0
        while not ended.is_set():
            request_id = f"{server.url}.{n}.{k}"[-100:]
            try:
                job = store.create("carol", new(request_id=request_id), limits=MANY)
            except Unavailable:
                refused += 1
                continue  # the same again
            except Exception as error:  # noqa: BLE001 - any other is what the test looks for
                problems.append(error)
                return
            told[request_id] = job.id
            k += 1

    callers = [threading.Thread(target=create, args=(n,)) for n in range(4)]
    try:
        for each in callers:
            each.start()
        for mode in ("fast", "immediate"):
            count = len(told)
            until(lambda count=count: len(told) > count + 20)  # type: ignore[misc]
            server.stop(mode)
            server.start()
        count = len(told)
        until(lambda: len(told) > count + 20)
    finally:
        ended.set()
        for each in callers:
            each.join(30.0)
    try:
        assert problems == []
        assert refused > 0, "the server was away for a while"
        stored: list[Job] = []
        token = ""
        while True:
            page = store.list("carol", Query(page_size=500, page_token=token))
            stored += page.jobs
            if not (token := page.next_page_token):
                break
        by_request = {job.request_id: job.id for job in stored}
        assert len(by_request) == len(stored), "none twice"
        assert told.items() <= by_request.items()
        assert len(by_request.keys() - told.keys()) <= 4, "at most the one of each thread that was under way"
    finally:
        store.close()


def test_a_network_that_is_cut(server: StoppableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended connections are Unavailable at once, silent ones in time; what others did meanwhile is heard afterwards."""
    impatient(monkeypatch)
    relay = Relay(tmp_path / server.socket.name, server.socket)
    near, far = open_store(server.url), open_store(server.url.replace(str(server.data), str(tmp_path)))
    try:
        job = far.create(ALICE, new(priority=100)).id
        _, lease = claim(near)
        heard: list[int] = []
        far.listen(job, lambda events: heard.extend(each.sequence for each in events), after=2)
        expected = 2
        for cut in (relay.hang_up, relay.swallow):
            cut()
            with pytest.raises(Unavailable):
                far.get(ALICE, job)
            with pytest.raises(Unavailable):
                far.create(ALICE, new(request_id=f"{cut.__name__} {tmp_path.name}"))
            near.emit(lease, [log("meanwhile")])
            relay.mend()
            expected += 1
            until(lambda: there(far, job))
            assert far.get(ALICE, job).last_sequence == expected
            until(lambda expected=expected: heard == list(range(3, expected + 1)))  # type: ignore[misc]
            ids = {each.create(ALICE, new(request_id=f"{cut.__name__} {tmp_path.name}")).id for each in (far, near)}
            assert len(ids) == 1
        near.succeed(lease, pb.JobResult())
    finally:
        far.close()
        near.close()
        relay.close()


def test_another_server_takes_over() -> None:
    """One whose copy is synchronous: all that was acknowledged is there, listeners hear what happens there."""
    with stoppable_server() as first, standby(first) as second:
        both = f"postgresql://postgres@/postgres?host={first.data},{second.data}&target_session_attrs=read-write"
        store = open_store(both)
        try:
            job = store.create(ALICE, new()).id
            _, lease = claim(store)
            heard: list[int] = []
            store.listen(job, lambda events: heard.extend(each.sequence for each in events), after=2)
            with pytest.raises(Unavailable, match="read-only"):
                open_store(second.url)  # it would be asked to write
            store.emit(lease, [log("before")])
            first.kill()
            with pytest.raises(Unavailable):
                store.get(ALICE, job)
            second.promote()
            until(lambda: there(store, job), 60)
            assert store.get(ALICE, job).last_sequence == 3
            store.emit(lease, [log("after")])
            until(lambda: heard == [3, 4])
            assert store.succeed(lease, pb.JobResult()).state is State.SUCCEEDED
        finally:
            store.close()
