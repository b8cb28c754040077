"""What workers ask of the store: leases and their fences, and what becomes of jobs whose process fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from ouzel.errors import InvalidArgument
from ouzel.worker.store.job import FINAL, Job, Lease, LeaseView, NewJob, State
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import job_pb2 as pb

ALICE = "alice"
LOST = pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message="the process was killed")
ARTIFACTS = [
    pb.Artifact(name="images/00.png", media_type="image/png", size=10, sha256="a0"),
    pb.Artifact(name="report.json", media_type="application/json", size=20, sha256="a1"),
]
RESULT = pb.JobResult(artifacts=ARTIFACTS)
RESULT.summary.update({"loss": 0.5})


def new(**rest: Any) -> NewJob:
    return NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="lite0")), **rest)


def error(failure_class: pb.JobError.Class, message: str = "it failed") -> pb.JobError:
    return pb.JobError(failure_class=failure_class, message=message)


def claim(store: Store, worker: str = "worker-1") -> tuple[Job, Lease]:
    claimed = store.claim(worker)
    assert claimed is not None
    return claimed


def running(store: Store) -> tuple[str, Lease]:
    """A job that a worker has just started."""
    job = store.create(ALICE, new()).id
    return job, claim(store)[1]


def lease_view(store: Store, job: str) -> LeaseView:
    return next(each for each in store.leases() if each.lease.job == job)


# Every method that takes a lease.
FENCED: dict[str, Callable[[Store, Lease], object]] = {
    "require_lease": lambda store, lease: store.require_lease(lease),
    "attach": lambda store, lease: store.attach(lease, "pid 7"),
    "heartbeat": lambda store, lease: store.heartbeat(lease, 1.0),
    "emit": lambda store, lease: store.emit(lease, [pb.JobEvent(progress=pb.Progress(step=99))]),
    "emit nothing": lambda store, lease: store.emit(lease, []),
    "checkpoint": lambda store, lease: store.checkpoint(lease, "stale"),
    "publishing": lambda store, lease: store.publishing(lease),
    "succeed": lambda store, lease: store.succeed(lease, pb.JobResult(artifacts=[pb.Artifact(name="stale")])),
    "abandon": lambda store, lease: store.abandon(lease, "stale"),
    "fail": lambda store, lease: store.fail(lease, error(pb.JobError.USER, "stale")),
    "reclaim": lambda store, lease: store.reclaim(LeaseView(lease, 1, ""), "stale"),
}


def assert_fenced(store: Store, job: str, stale: Lease) -> None:
    """The stale lease is refused by every method, and neither the job nor what others see of it changes."""
    before = (store.get(ALICE, job), store.events(ALICE, job), store.artifacts(ALICE, job), store.leases())
    for call in FENCED.values():
        with pytest.raises(LeaseLost):
            call(store, stale)
    assert (store.get(ALICE, job), store.events(ALICE, job), store.artifacts(ALICE, job), store.leases()) == before


def lose_by_reclaim(store: Store, lease: Lease) -> None:
    store.reclaim(lease_view(store, lease.job), "no heartbeat")


def lose_by_give_up(store: Store, lease: Lease) -> None:
    store.abandon(lease, "the worker is shutting down")


def lose_by_pause(store: Store, lease: Lease) -> None:
    store.pause(ALICE, lease.job)
    store.abandon(lease, "stopped")


def lose_by_cancel(store: Store, lease: Lease) -> None:
    store.cancel(ALICE, lease.job)
    store.abandon(lease, "stopped")


def lose_by_failure(store: Store, lease: Lease) -> None:
    store.fail(lease, error(pb.JobError.USER))


def lose_by_lost_process(store: Store, lease: Lease) -> None:
    store.fail(lease, LOST)


LOSSES = [lose_by_reclaim, lose_by_give_up, lose_by_pause, lose_by_cancel, lose_by_failure, lose_by_lost_process]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda each: each.__name__)
def test_a_lost_lease_is_refused_everywhere_and_changes_nothing(
    store: Store, lose: Callable[[Store, Lease], None]
) -> None:
    """Before the next attempt, and (where there is one) while another worker has the job, and at its end."""
    job, stale = running(store)
    store.heartbeat(stale)
    lose(store, stale)
    assert_fenced(store, job, stale)
    state = store.get(ALICE, job).state
    if state in (State.FAILED, State.CANCELLED):
        store.retry(ALICE, job)
    elif state is State.PAUSED:
        store.resume(ALICE, job)
    assert_fenced(store, job, stale)
    _, fresh = claim(store, stale.worker)  # even the same worker
    assert fresh.attempt == stale.attempt + 1
    assert_fenced(store, job, stale)
    store.publishing(fresh)
    assert_fenced(store, job, stale)
    store.succeed(fresh, RESULT)
    assert_fenced(store, job, stale)


def test_a_lease_of_a_deleted_job_is_lost(store: Store) -> None:
    job, lease = running(store)
    store.succeed(lease, RESULT)
    store.delete(ALICE, job)
    for call in FENCED.values():
        with pytest.raises(LeaseLost):
            call(store, lease)


@pytest.mark.parametrize("forged", [Lease("job-00", 1, "worker-1"), ("attempt", 2), ("attempt", 0), ("worker", "w2")])
def test_a_lease_that_nobody_gave_out_is_refused(store: Store, forged: Any) -> None:
    job, lease = running(store)
    if isinstance(forged, tuple):
        forged = Lease(**{**vars(lease), forged[0]: forged[1]})
    assert_fenced(store, job, forged)
    store.heartbeat(lease)


def test_a_cancelled_job_keeps_its_lease_until_the_process_has_stopped(store: Store) -> None:
    job, lease = running(store)
    store.cancel(ALICE, job)
    store.emit(lease, [pb.JobEvent(log=pb.Log(message="cleaning up"))])
    store.checkpoint(lease, "c1")
    wishes = store.heartbeat(lease)
    assert (wishes.cancel, wishes.pause, wishes.last_sequence) == (True, False, 4)
    store.publishing(lease)  # too late for that, and harmless
    assert store.get(ALICE, job).state is State.CANCELLING
    assert store.abandon(lease, "stopped").state is State.CANCELLED


# ---- what a lease is for


def test_claim_starts_the_job(store: Store) -> None:
    job = store.create(ALICE, new()).id
    claimed, lease = claim(store, "worker-7")
    assert claimed == store.get(ALICE, job) == store.require_lease(lease)
    assert lease == Lease(job, 1, "worker-7")
    assert (claimed.state, claimed.attempt, claimed.worker) == (State.RUNNING, 1, "worker-7")
    assert claimed.started is not None
    store.abandon(lease, "stopped")
    again, _ = claim(store)
    assert (again.attempt, again.started) == (2, claimed.started)


def test_heartbeats_change_the_beat_and_add_up_the_running_time(store: Store) -> None:
    job, lease = running(store)
    beats = [lease_view(store, job).beat]
    for ran in (1.5, 0.0, 3.75):
        store.heartbeat(lease, ran)
        beats.append(lease_view(store, job).beat)
    assert len(set(beats)) == 4
    assert store.get(ALICE, job).ran == 3.75
    store.fail(lease, LOST)
    store.heartbeat(claim(store)[1], 4.75)
    assert store.get(ALICE, job).ran == 4.75


def test_held_names_all_leases_and_their_processes(store: Store) -> None:
    leases = []
    for n in range(4):
        store.create(f"owner-{n}", new())
        leases.append(claim(store, f"worker-{n}")[1])
    store.attach(leases[0], "pid 12")
    store.publishing(leases[1])
    store.cancel("owner-2", leases[2].job)
    store.fail(leases[3], error(pb.JobError.USER))
    assert {each.lease: each.handle for each in store.leases()} == {leases[0]: "pid 12", leases[1]: "", leases[2]: ""}


def test_the_handle_of_an_earlier_attempt_is_forgotten(store: Store) -> None:
    job, lease = running(store)
    store.attach(lease, "pid 12")
    store.abandon(lease, "stopped")
    claim(store)
    assert lease_view(store, job).handle == ""


@pytest.mark.parametrize(
    ("wish", "state"), [("", State.QUEUED), ("pause", State.PAUSED), ("cancel", State.CANCELLED)], ids=str
)
@pytest.mark.parametrize("publishing", [False, True])
def test_give_up_goes_where_the_owner_wished(store: Store, wish: str, state: State, publishing: bool) -> None:
    job, lease = running(store)
    if wish:
        getattr(store, wish)(ALICE, job)
    if publishing:
        store.publishing(lease)
    assert store.abandon(lease, "the worker is shutting down").state is state
    assert store.leases() == []


def test_publishing_twice_is_harmless(store: Store) -> None:
    job, lease = running(store)
    store.publishing(lease)
    before = store.get(ALICE, job)
    assert before.state is State.PUBLISHING
    store.publishing(lease)
    assert store.get(ALICE, job) == before


# ---- success


@pytest.mark.parametrize("published", [False, True])
def test_success_stores_result_and_artifacts(store: Store, published: bool) -> None:
    job, lease = running(store)
    store.checkpoint(lease, "c1")
    if published:
        store.publishing(lease)
    assert store.artifacts(ALICE, job) == []
    done = store.succeed(lease, RESULT)
    assert done == store.get(ALICE, job)
    assert (done.state, done.result, done.worker, done.checkpoint) == (State.SUCCEEDED, RESULT, "", "")
    assert done.ended is not None
    assert store.artifacts(ALICE, job) == ARTIFACTS
    assert store.artifact(ALICE, job, "report.json") == ARTIFACTS[1]
    with pytest.raises(LookupError):
        store.artifact(ALICE, job, "images/01.png")


def test_success_twice_is_one_set_of_artifacts(store: Store) -> None:
    """A worker that has not heard the answer asks again; the second answer is the first."""
    job, lease = running(store)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: store.succeed(lease, RESULT), range(6)))
    assert all(each == answers[0] for each in answers)
    assert store.succeed(lease, pb.JobResult(artifacts=[pb.Artifact(name="other")])) == answers[0]
    assert store.artifacts(ALICE, job) == ARTIFACTS
    ends = [each.state_change.state for each in store.events(ALICE, job) if each.HasField("state_change")]
    assert ends.count(pb.Job.SUCCEEDED) == 1
    with pytest.raises(LeaseLost):
        store.fail(lease, LOST)


def test_a_result_that_cannot_be_stored_leaves_nothing_behind(store: Store) -> None:
    """Two artifacts of one name: all of it is undone, and the worker may go on."""
    job, lease = running(store)
    before = store.get(ALICE, job)
    with pytest.raises(InvalidArgument):
        store.succeed(lease, pb.JobResult(artifacts=[ARTIFACTS[0], ARTIFACTS[1], ARTIFACTS[0]]))
    assert store.get(ALICE, job) == before
    assert store.referenced(["a0", "a1"]) == set()
    assert store.succeed(lease, RESULT).state is State.SUCCEEDED


def test_success_and_reclaim_at_once_is_one_of_both(store: Store) -> None:
    """Artifacts are there if and only if the job has succeeded."""
    for _ in range(10):
        job, lease = running(store)
        was = lease_view(store, job)
        start = threading.Barrier(2)

        def attempt(call: Callable[[], object], start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                call()
            except LeaseLost:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = pool.submit(attempt, lambda lease=lease: store.succeed(lease, RESULT))
            taken = pool.submit(attempt, lambda was=was: store.reclaim(was, "no heartbeat"))
        assert won.result() != taken.result()
        assert store.get(ALICE, job).state is (State.SUCCEEDED if won.result() else State.QUEUED)
        assert store.artifacts(ALICE, job) == (ARTIFACTS if won.result() else [])
        store.cancel(ALICE, job)


# ---- failure


def test_lost_processes_are_retried_so_many_times(url: str) -> None:
    store = open_store(url, retries=Retries(lost=2))
    try:
        job = store.create(ALICE, new()).id
        for lost in (1, 2):
            again = store.fail(claim(store)[1], LOST)
            assert (again.state, again.lost, again.error) == (State.QUEUED, lost, None)
        failed = store.fail(claim(store)[1], LOST)
        assert (failed.state, failed.error, failed.attempt) == (State.FAILED, LOST, 3)
        assert store.get(ALICE, job) == failed
        assert failed.ended is not None
    finally:
        store.close()


def test_a_checkpoint_starts_the_count_of_lost_processes_anew(url: str) -> None:
    store = open_store(url, retries=Retries(lost=1))
    try:
        job = store.create(ALICE, new()).id
        for n in range(3):
            lease = claim(store)[1]
            store.checkpoint(lease, f"c{n}")
            assert store.fail(lease, LOST).state is State.QUEUED
        assert store.get(ALICE, job).checkpoint == "c2"
        assert store.fail(claim(store)[1], LOST).state is State.FAILED
    finally:
        store.close()


def test_reclaiming_counts_as_a_lost_process(url: str) -> None:
    store = open_store(url, retries=Retries(lost=1))
    try:
        job, _ = running(store)
        assert store.reclaim(lease_view(store, job), "no heartbeat").state is State.QUEUED
        claim(store)
        failed = store.reclaim(lease_view(store, job), "no heartbeat")
        assert failed.state is State.FAILED
        assert failed.error == pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message="no heartbeat")
    finally:
        store.close()


def test_memory_is_retried_once_with_half_the_batch(store: Store) -> None:
    job, lease = running(store)
    again = store.fail(lease, error(pb.JobError.RESOURCE), memory=True)
    assert (again.state, again.batch_scale, again.memory_deaths) == (State.QUEUED, 0.5, 1)
    claimed, lease = claim(store)
    assert claimed.batch_scale == 0.5
    failed = store.fail(lease, error(pb.JobError.RESOURCE), memory=True)
    assert (failed.state, failed.error) == (State.FAILED, error(pb.JobError.RESOURCE))
    assert store.get(ALICE, job) == failed


@pytest.mark.parametrize("failure_class", [pb.JobError.USER, pb.JobError.TIMEOUT, pb.JobError.CLASS_UNSPECIFIED])
def test_other_failures_are_final(store: Store, failure_class: pb.JobError.Class) -> None:
    job, lease = running(store)
    failed = store.fail(lease, error(failure_class))
    assert (failed.state, failed.error, failed.attempt) == (State.FAILED, error(failure_class), 1)
    assert store.events(ALICE, job)[-1].state_change.reason == "it failed"
    assert store.claim("w") is None


@pytest.mark.parametrize("publishing", [False, True])
@pytest.mark.parametrize("end", ["user", "lost", "memory", "reclaim"])
def test_a_job_to_be_cancelled_is_cancelled_however_it_ends(store: Store, end: str, publishing: bool) -> None:
    job, lease = running(store)
    if publishing:
        store.publishing(lease)
    store.cancel(ALICE, job)
    if end == "user":
        done = store.fail(lease, error(pb.JobError.USER))
    elif end == "lost":
        done = store.fail(lease, LOST)
    elif end == "memory":
        done = store.fail(lease, error(pb.JobError.RESOURCE), memory=True)
    else:
        done = store.reclaim(lease_view(store, job), "no heartbeat")
    assert (done.state, done.error) == (State.CANCELLED, None)


def test_a_job_to_be_paused_is_paused_when_its_process_is_lost(store: Store) -> None:
    job, lease = running(store)
    store.pause(ALICE, job)
    paused = store.fail(lease, LOST)
    assert (paused.state, paused.lost, paused.pause) == (State.PAUSED, 1, False)
    assert store.claim("w") is None


# ---- reclaiming


def test_a_lease_whose_beat_has_changed_is_alive(store: Store) -> None:
    job, lease = running(store)
    was = lease_view(store, job)
    store.heartbeat(lease)
    before = store.get(ALICE, job)
    with pytest.raises(LeaseLost):
        store.reclaim(was, "no heartbeat")
    assert store.get(ALICE, job) == before
    store.heartbeat(lease)  # it goes on


def test_only_a_heartbeat_keeps_a_lease(store: Store) -> None:
    """Events may come from a process that nobody watches over any more."""
    job, lease = running(store)
    was = lease_view(store, job)
    store.emit(lease, [pb.JobEvent(log=pb.Log(message="still here"))])
    assert store.reclaim(was, "no heartbeat").state is State.QUEUED


def test_of_two_who_reclaim_one_does(store: Store) -> None:
    job, _ = running(store)
    was = lease_view(store, job)
    store.reclaim(was, "no heartbeat")
    with pytest.raises(LeaseLost):
        store.reclaim(was, "no heartbeat")
    claim(store)
    with pytest.raises(LeaseLost):
        store.reclaim(was, "no heartbeat")
    assert store.get(ALICE, job).lost == 1


# ---- which artifacts are needed


def test_referenced_are_checkpoints_and_artifacts_of_jobs_that_exist(store: Store) -> None:
    asked = ["c1", "c2", "a0", "a1", "nobody's"]
    job, lease = running(store)
    assert store.referenced(asked) == set()
    store.checkpoint(lease, "c1")
    store.checkpoint(lease, "c2")  # the one before is of no more use
    assert store.referenced(asked) == {"c2"}
    store.cancel(ALICE, job)
    store.abandon(lease, "stopped")
    assert store.referenced(asked) == {"c2"}, "retry goes on from there"
    store.retry(ALICE, job)
    store.succeed(claim(store)[1], RESULT)
    assert store.referenced(asked) == {"a0", "a1"}
    other, lease = running(store)
    store.succeed(lease, pb.JobResult(artifacts=[ARTIFACTS[0]]))
    store.delete(ALICE, job)
    assert store.referenced(asked) == {"a0"}, "two jobs shared it"
    store.delete(ALICE, other)
    assert store.referenced(asked) == set()


def test_referenced_takes_as_many_as_there_are(store: Store) -> None:
    _, lease = running(store)
    store.checkpoint(lease, "d1999")
    assert store.referenced([f"d{n}" for n in range(2000)]) == {"d1999"}
    assert store.referenced([]) == set()


# ---- many at once


@pytest.fixture
def two_stores(url: str) -> Iterator[tuple[Store, Store]]:
    one, other = open_store(url), open_store(url)
    yield one, other
    one.close()
    other.close()


def test_no_two_workers_get_the_same_job(two_stores: tuple[Store, Store]) -> None:
    """Twelve threads over two stores; every job is claimed exactly once."""
    made = {two_stores[0].create(f"owner-{n % 3}", new(priority=n % 2)).id for n in range(48)}
    start = threading.Barrier(12)

    def work(n: int) -> list[Lease]:
        start.wait()
        return [claimed[1] for claimed in iter(lambda: two_stores[n % 2].claim(f"w{n}"), None)]

    with ThreadPoolExecutor(12) as pool:
        leases = [lease for each in pool.map(work, range(12)) for lease in each]
    assert len(leases) == len(made)
    assert {each.job for each in leases} == made
    assert {each.lease for each in two_stores[0].leases()} == set(leases)


def test_the_limit_of_running_jobs_is_exact_under_concurrent_claims(two_stores: tuple[Store, Store]) -> None:
    for _ in range(20):
        two_stores[0].create(ALICE, new())
    start = threading.Barrier(8)

    def work(n: int) -> int:
        start.wait()
        limits = Limits(running=5)
        return sum(two_stores[n % 2].claim(f"w{n}", limits=limits) is not None for _ in range(4))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 5


def test_owners_and_workers_at_once(two_stores: tuple[Store, Store]) -> None:
    """Jobs are run and cancelled at the same time: each ends exactly once, and none is lost."""
    made = [two_stores[0].create(ALICE, new()).id for _ in range(30)]

    def work(n: int) -> None:
        for _, lease in iter(lambda: two_stores[n % 2].claim(f"w{n}"), None):
            try:
                if two_stores[n % 2].heartbeat(lease).cancel:
                    two_stores[n % 2].abandon(lease, "stopped")
                else:
                    two_stores[n % 2].succeed(lease, RESULT)
            except LeaseLost:
                pytest.fail("nobody took it away")

    def cancel(n: int) -> None:
        for job in made[n::2]:
            two_stores[n].cancel(ALICE, job)

    with ThreadPoolExecutor(6) as pool:
        for done in [*(pool.submit(work, n) for n in range(4)), *(pool.submit(cancel, n) for n in range(2))]:
            done.result()
    for id_ in made:
        job = two_stores[0].get(ALICE, id_)
        assert job.state in FINAL
        ends = [
            each.state_change.state
            for each in two_stores[1].events(ALICE, id_)
            if each.HasField("state_change") and State(each.state_change.state) in FINAL
        ]
        assert ends == [int(job.state)]
        assert (two_stores[0].artifacts(ALICE, id_) == ARTIFACTS) == (job.state is State.SUCCEEDED)


def test_a_claim_passes_over_a_job_that_is_being_cancelled(new_url: Callable[[], str]) -> None:
    """The owner's next job is claimed instead, at once: a worker that hears of none waits before it asks again."""
    url = new_url()
    if not url.startswith("postgres"):
        pytest.skip("SQLite has one writer at a time")
    store = open_store(url)
    try:
        first, second = (store.create(ALICE, new()).id for _ in range(2))
        with psycopg.connect(url) as raw, ThreadPoolExecutor(1) as pool:
            raw.execute("UPDATE jobs SET state = %s WHERE id = %s", (int(State.PAUSED), first))
            claiming = pool.submit(store.claim, "w")
            with psycopg.connect(url, autocommit=True) as other:
                waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"
                while not other.execute(waiting).fetchone()[0]:  # type: ignore[index]
                    assert not claiming.done()
            raw.commit()
            claimed = claiming.result()
        assert claimed is not None
        assert claimed[0].id == second
    finally:
        store.close()
