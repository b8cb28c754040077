"""Any sequence of calls, by several owners and workers, against a model of the states that fits on two pages.

The model knows for each job its state, attempt, wishes and counts, and who holds its lease; the store must agree with
it after every step, in what it answers, what it refuses and what it writes into the log of events.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ouzel.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from ouzel.worker.store.job import FINAL, LEASED, TRANSITIONS, Lease, NewJob, Query, State
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import job_pb2 as pb

OWNERS = ("alice", "bob")
LIMITS = Limits(queued=4, running=2)
RETRIES = Retries(lost=1, memory=1)
ERRORS = {
    "user": (pb.JobError.USER, False),
    "timeout": (pb.JobError.TIMEOUT, False),
    "lost": (pb.JobError.INFRASTRUCTURE, False),
    "memory": (pb.JobError.RESOURCE, True),
}


@dataclass
class Model:
    """What is expected of one job."""

    id: str
    owner: str
    priority: int
    number: int
    body: str
    state: State = State.QUEUED
    attempt: int = 0
    pause: bool = False
    lost: int = 0
    memory: int = 0
    batch_scale: float = 1.0
    checkpoint: str = ""
    worker: str = ""
    events: int = 1
    artifacts: int = 0
    request_id: str = ""
    stale: list[Lease] = field(default_factory=list)  # leases that are over
    lease: Lease | None = None

    def go(self, *states: State) -> None:
        for state in states:
            assert state in TRANSITIONS[self.state], "the model itself keeps to the diagram"
            self.state = state
            self.events += 1
        if self.state not in LEASED:
            if self.lease is not None:
                self.stale.append(self.lease)
            self.lease, self.worker, self.pause = None, "", False

    def end(self, retried: bool) -> None:
        """Its process has failed or was lost."""
        if self.state is State.CANCELLING:
            self.go(State.CANCELLED)
        elif not retried:
            self.go(State.FAILED)
        else:
            self.go(State.PAUSED if self.pause else State.QUEUED)


class StoreMachine(RuleBasedStateMachine):
    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.url = self.new_url()
        self.jobs: list[Model] = []
        self.made = 0
        # Two stores take turns: nothing may depend on what one of them remembers.
        self.stores: list[Store] = [open_store(self.url, retries=RETRIES) for _ in range(2)]

    def teardown(self) -> None:
        for each in self.stores:
            each.close()

    @property
    def store(self) -> Store:
        self.stores.reverse()
        return self.stores[0]

    def some(self, index: int, *states: State) -> Model | None:
        """One of the jobs (in one of the states)."""
        among = [job for job in self.jobs if not states or job.state in states]
        return among[index % len(among)] if among else None

    def waiting(self, owner: str) -> int:
        return sum(each.owner == owner and each.state in (State.QUEUED, State.PAUSED) for each in self.jobs)

    def running(self, owner: str) -> int:
        return sum(each.owner == owner and each.state in LEASED for each in self.jobs)

    index = st.integers(0, 20)

    @initialize()
    def two_jobs(self) -> None:
        for owner in OWNERS:
            self.create(owner, 0, "", "lite0")

    # ---- callers

    @rule(
        owner=st.sampled_from(OWNERS),
        priority=st.integers(0, 1),
        request_id=st.sampled_from(["", "", "r1", "r2"]),
        body=st.sampled_from(["lite0", "resnet"]),
    )
    def create(self, owner: str, priority: int, request_id: str, body: str) -> None:
        asked = NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model=body)), request_id=request_id, priority=priority)
        same = [each for each in self.jobs if request_id and (each.owner, each.request_id) == (owner, request_id)]
        if same and (same[0].body, same[0].priority) != (body, priority):
            with pytest.raises(AlreadyExists):
                self.store.create(owner, asked, limits=LIMITS)
        elif same:
            assert self.store.create(owner, asked, limits=LIMITS).id == same[0].id
        elif self.waiting(owner) >= LIMITS.queued:
            with pytest.raises(ResourceExhausted):
                self.store.create(owner, asked, limits=LIMITS)
        else:
            id_ = self.store.create(owner, asked, limits=LIMITS).id
            self.made += 1
            self.jobs.append(Model(id_, owner, priority, self.made, body, request_id=request_id))

    @precondition(lambda self: self.jobs)
    @rule(index=index)
    def cancel(self, index: int) -> None:
        job = self.some(index)
        if job.state in LEASED and job.state is not State.CANCELLING:
            job.go(State.CANCELLING)
        elif job.state not in FINAL and job.state is not State.CANCELLING:
            job.go(State.CANCELLING, State.CANCELLED)
        assert self.store.cancel(job.owner, job.id).state is job.state

    @precondition(lambda self: self.jobs)
    @rule(index=index)
    def pause(self, index: int) -> None:
        job = self.some(index)
        if job.state is State.QUEUED:
            job.go(State.PAUSED)
        elif job.state is State.RUNNING and not job.pause:
            job.pause = True
            job.events += 1
        elif job.state not in (State.PAUSED, State.RUNNING):
            with pytest.raises(FailedPrecondition):
                self.store.pause(job.owner, job.id)
            return
        assert self.store.pause(job.owner, job.id).state is job.state

    @precondition(lambda self: self.jobs)
    @rule(index=index)
    def resume(self, index: int) -> None:
        job = self.some(index)
        if job.state is State.PAUSED:
            job.go(State.QUEUED)
        elif job.state in (State.RUNNING, State.PUBLISHING) and job.pause:
            job.pause = False
            job.events += 1
        elif job.state not in (State.QUEUED, State.RUNNING):
            with pytest.raises(FailedPrecondition):
                self.store.resume(job.owner, job.id)
            return
        assert self.store.resume(job.owner, job.id).state is job.state

    @precondition(lambda self: self.jobs)
    @rule(index=index)
    def retry(self, index: int) -> None:
        job = self.some(index)
        if job.state not in (State.FAILED, State.CANCELLED):
            with pytest.raises(FailedPrecondition):
                self.store.retry(job.owner, job.id, limits=LIMITS)
        elif self.waiting(job.owner) >= LIMITS.queued:
            with pytest.raises(ResourceExhausted):
                self.store.retry(job.owner, job.id, limits=LIMITS)
        else:
            job.go(State.QUEUED)
            job.lost, job.memory, job.batch_scale = 0, 0, 1.0
            assert self.store.retry(job.owner, job.id, limits=LIMITS).state is State.QUEUED

    @precondition(lambda self: self.jobs)
    @rule(index=index)
    def delete(self, index: int) -> None:
        job = self.some(index)
        if job.state not in FINAL:
            with pytest.raises(FailedPrecondition):
                self.store.delete(job.owner, job.id)
            return
        self.store.delete(job.owner, job.id)
        self.jobs.remove(job)
        with pytest.raises(NotFound):
            self.store.get(job.owner, job.id)
        for lease in job.stale:
            with pytest.raises(LeaseLost):
                self.store.heartbeat(lease)

    @precondition(lambda self: self.jobs)
    @rule(index=index, verb=st.sampled_from(["get", "cancel", "pause", "resume", "retry", "delete", "events"]))
    def ask_for_a_foreign_job(self, index: int, verb: str) -> None:
        job = self.some(index)
        with pytest.raises(NotFound):
            getattr(self.store, verb)(next(each for each in OWNERS if each != job.owner), job.id)

    # ---- workers

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def claim(self, worker: str) -> None:
        may = [
            (-each.priority, self.running(each.owner), each.number, each)
            for each in self.jobs
            if each.state is State.QUEUED and self.running(each.owner) < LIMITS.running
        ]
        claimed = self.store.claim(worker, limits=LIMITS)
        if not may:
            assert claimed is None
            return
        job = min(may, key=lambda each: each[:3])[3]
        assert claimed is not None
        assert claimed[0].id == job.id
        job.go(State.RUNNING)
        job.attempt += 1
        job.worker, job.lease = worker, claimed[1]
        assert job.lease == Lease(job.id, job.attempt, worker)

    def at_work(self, index: int) -> tuple[Model, Lease] | None:
        job = self.some(index, *LEASED)
        return (job, job.lease) if job is not None and job.lease is not None else None

    def is_at_work(self) -> bool:
        return any(each.state in LEASED for each in self.jobs)

    @precondition(is_at_work)
    @rule(index=index, count=st.integers(0, 3))
    def work(self, index: int, count: int) -> None:
        job, lease = self.at_work(index)
        wishes = self.store.heartbeat(lease, 0.5)
        assert (wishes.cancel, wishes.pause) == (job.state is State.CANCELLING, job.pause)
        assert wishes.last_sequence == job.events
        self.store.emit(lease, [pb.JobEvent(progress=pb.Progress(step=n)) for n in range(count)])
        job.events += count

    @precondition(is_at_work)
    @rule(index=index)
    def checkpoint(self, index: int) -> None:
        job, lease = self.at_work(index)
        job.checkpoint, job.lost = uuid.uuid4().hex, 0
        self.store.checkpoint(lease, job.checkpoint)

    @precondition(is_at_work)
    @rule(index=index)
    def publishing(self, index: int) -> None:
        job, lease = self.at_work(index)
        if job.state is State.RUNNING:
            job.go(State.PUBLISHING)
        self.store.publishing(lease)

    @precondition(is_at_work)
    @rule(index=index, times=st.integers(1, 2))
    def succeed(self, index: int, times: int) -> None:
        job, lease = self.at_work(index)
        if job.state is State.RUNNING:
            job.go(State.PUBLISHING)
        job.go(State.SUCCEEDED)
        job.stale.pop()  # to succeed once more is no error
        job.artifacts, job.checkpoint = 2, ""
        for _ in range(times):
            result = pb.JobResult(artifacts=[pb.Artifact(name=name, sha256=job.id) for name in "ab"])
            assert self.store.succeed(lease, result).state is State.SUCCEEDED

    @precondition(is_at_work)
    @rule(index=index)
    def abandon(self, index: int) -> None:
        job, lease = self.at_work(index)
        job.end(retried=True)
        assert self.store.abandon(lease, "stopped").state is job.state

    @precondition(is_at_work)
    @rule(index=index, error=st.sampled_from(sorted(ERRORS)))
    def fail(self, index: int, error: str) -> None:
        job, lease = self.at_work(index)
        failure_class, memory = ERRORS[error]
        job.lost += error == "lost"
        job.memory += memory
        if memory and job.memory <= RETRIES.memory and job.state is not State.CANCELLING:
            job.batch_scale /= 2
        job.end((error == "lost" and job.lost <= RETRIES.lost) or (memory and job.memory <= RETRIES.memory))
        error_of = pb.JobError(failure_class=failure_class, message=error)
        assert self.store.fail(lease, error_of, memory=memory).state is job.state

    @precondition(is_at_work)
    @rule(index=index, alive=st.booleans())
    def reclaim(self, index: int, alive: bool) -> None:
        job, lease = self.at_work(index)
        held = next(each for each in self.store.leases() if each.lease == lease)
        if alive:
            self.store.heartbeat(lease)
            with pytest.raises(LeaseLost):
                self.store.reclaim(held, "no heartbeat")
            return
        job.lost += 1
        job.end(retried=job.lost <= RETRIES.lost)
        assert self.store.reclaim(held, "no heartbeat").state is job.state

    @precondition(lambda self: any(each.stale for each in self.jobs))
    @rule(
        index=index,
        verb=st.sampled_from(["require_lease", "heartbeat", "publishing", "emit", "succeed", "fail", "abandon"]),
    )
    def come_back_with_a_lost_lease(self, index: int, verb: str) -> None:
        stale = [lease for job in self.jobs for lease in job.stale]
        more = {
            "emit": [[pb.JobEvent(log=pb.Log(message="stale"))]],
            "succeed": [pb.JobResult(artifacts=[pb.Artifact(name="stale")])],
            "fail": [pb.JobError(message="stale")],
            "abandon": ["stale"],
        }
        with pytest.raises(LeaseLost):
            getattr(self.store, verb)(stale[index % len(stale)], *more.get(verb, []))

    # ---- what is true at any time

    @invariant()
    def the_store_agrees(self) -> None:
        store = self.store
        for owner in OWNERS:
            mine = [each for each in self.jobs if each.owner == owner]
            listed = store.list(owner, Query()).jobs
            assert [job.id for job in listed] == [each.id for each in sorted(mine, key=lambda m: -m.number)]
            for job in listed:
                model = next(each for each in mine if each.id == job.id)
                assert (job.state, job.attempt, job.pause) == (model.state, model.attempt, model.pause)
                assert (job.lost, job.memory_deaths) == (model.lost, model.memory)
                assert job.batch_scale == model.batch_scale
                assert (job.checkpoint, job.worker) == (model.checkpoint, model.worker)
                assert job.last_sequence == model.events
                assert (job.ended is not None) == (job.state in FINAL)
                assert (job.error is not None) == (job.state is State.FAILED)
                assert (job.result is not None) == (job.state is State.SUCCEEDED)
        assert {each.lease for each in store.leases()} == {each.lease for each in self.jobs if each.lease is not None}

    @invariant()
    def the_log_agrees(self) -> None:
        """Only of the job that was made last but one: all of them at each step would take too long."""
        for job in self.jobs[-2:-1]:
            events = self.store.events(job.owner, job.id)
            assert [each.sequence for each in events] == list(range(1, job.events + 1))
            at = State.UNSPECIFIED
            for each in events:
                if each.HasField("state_change"):
                    assert State(each.state_change.previous) is at
                    at = State(each.state_change.state)
            assert at is job.state
            assert len(self.store.artifacts(job.owner, job.id)) == job.artifacts
            needed = {job.checkpoint} if job.checkpoint else set()
            assert self.store.referenced([job.id, *needed]) == needed | ({job.id} if job.artifacts else set())


def run(new_url: Callable[[], str], examples: int, steps: int) -> None:
    class Machine(StoreMachine):
        pass

    Machine.new_url = staticmethod(new_url)  # type: ignore[assignment,method-assign]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sqlite_does_what_the_model_does(tmp_path: Path) -> None:
    def new_url() -> str:
        folder = tempfile.mkdtemp(dir=tmp_path)
        return f"sqlite://{folder}/jobs.db"

    run(new_url, examples=30, steps=40)
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_postgres_does_what_the_model_does(postgres: str) -> None:
    """One database for all examples: to make one takes longer than an example."""
    name = f"machine_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as raw:
        raw.execute(f'CREATE DATABASE "{name}"')
    url = postgres.replace("/postgres?", f"/{name}?")
    open_store(url).close()

    def new_url() -> str:
        with psycopg.connect(url) as raw:
            raw.execute("TRUNCATE jobs CASCADE")
        return url

    run(new_url, examples=12, steps=40)
