"""Jobs that take several slots: who gets them, who waits, and how they are counted; on both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ouzel.errors import FailedPrecondition
from ouzel.gpus import VISIBLE
from ouzel.worker.options import WorkerOptions
from ouzel.worker.options import slots as slots_of_worker
from ouzel.worker.processes.executor import Task
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.processes.ray_options import RayOptions, Resources
from ouzel.worker.quotas.accounts import Accounts
from ouzel.worker.quotas.quotes import Quotes
from ouzel.worker.quotas.storage import Storage
from ouzel.worker.ranks import RESOURCES
from ouzel.worker.runner.runner import Runner, RunnerOptions
from ouzel.worker.runner.supervisor import Slot, together
from ouzel.worker.store.job import Job, Lease, NewJob
from ouzel.worker.store.limits import Limits, OwnerLimits
from ouzel.worker.store.protocol import Store
from ouzel.worker.store.roster import Roster
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import QUICK, STUBS, count, ended, environment, one_store, runner, submit, until

ALICE, BOB = "alice", "bob"
RESULT = pb.JobResult()


def new(workers: int = 0, **more: Any) -> NewJob:
    spec = pb.JobSpec(finetune=pb.FinetuneSpec(name="m", workers=workers), scale="s", work_units=10.0)
    return NewJob(spec, **more)


def claim(store: Store, **more: Any) -> tuple[Job, Lease]:
    claimed = store.claim("w", **more)
    assert claimed is not None
    return claimed


def test_a_job_waits_for_its_slots_and_those_after_it_wait_too(store: Store) -> None:
    wide, narrow = store.create(ALICE, new(3)), store.create(ALICE, new())
    assert store.claim("w", free=2, slots=3) is None
    job, lease = claim(store, free=3, slots=3)
    assert (job.id, job.slots) == (wide.id, 3)
    store.succeed(lease, RESULT)
    assert claim(store, free=1, slots=3)[0].id == narrow.id


def test_one_that_a_worker_can_never_run_is_left_to_others(store: Store) -> None:
    wide = store.create(ALICE, new(3, priority=9))
    narrow = [store.create(ALICE, new()), store.create(BOB, new(2))]
    taken = [claim(store, free=2, slots=2)[0].id for _ in narrow]
    assert taken == [each.id for each in narrow]
    assert store.claim("w", free=2, slots=2) is None
    assert claim(store, free=4, slots=4)[0].id == wide.id


def test_each_slot_counts_for_the_limit_and_for_whose_turn_it_is(store: Store) -> None:
    limits = Limits(running=3)
    store.create(ALICE, new(2))
    claim(store, free=9, slots=9, limits=limits)
    store.create(ALICE, new(2))
    assert store.claim("w", free=9, slots=9, limits=limits) is None
    assert store.today_of(ALICE).running == 2
    second = store.create(ALICE, new(1, priority=1))
    first = store.create(BOB, new(1, priority=1))
    assert claim(store, free=9, slots=9, limits=limits)[0].id == first.id  # who has fewer slots
    assert claim(store, free=9, slots=9, limits=limits)[0].id == second.id


def test_seconds_are_counted_in_each_slot(store: Store) -> None:
    store.create(ALICE, new(3))
    _, lease = claim(store, free=3, slots=3, gpus=1)
    store.heartbeat(lease, 2.0, 3)
    store.heartbeat(lease, 4.0, 3)
    store.succeed(lease, RESULT)
    store.settle(lease, 5.0, 3)
    (used,) = store.usage(ALICE, 1)
    assert (used.seconds, used.gpu_seconds) == (15.0, 15.0)
    assert store.get(ALICE, lease.job).ran == 5.0
    assert store.measured("finetune", "s", 3) == [(10.0, 5.0)]


def waiting(store: Store, job: Job) -> list[str]:
    return [each.log.message for each in store.events(ALICE, job.id) if each.HasField("log")]


def test_a_job_that_no_worker_can_run_says_why_it_waits(store: Store) -> None:
    wide, wider = store.create(ALICE, new(8)), store.create(ALICE, new(9))
    store.create(ALICE, new(4))
    store.enter("small", 2, 60.0)
    store.enter("large", 4, 60.0)
    assert waiting(store, wide) == []  # one that has them may just be started
    store.enter("small", 2, 0.0)
    until(lambda: store.enter("large", 4, 0.05) or len(waiting(store, wide)) == 1)
    (said,) = waiting(store, wide)
    assert said.startswith("it waits: it needs 8 slots, and the ")
    assert said.endswith(" has 4")
    store.enter("small", 2, 60.0)
    for _ in range(3):  # not again
        store.enter("large", 4, 60.0)
    assert (len(waiting(store, wide)), len(waiting(store, wider))) == (1, 1)
    assert store.roster() == Roster(2, 4)
    store.leave("large")
    until(lambda: store.enter("small", 2, 0.05) or len(waiting(store, wide)) == 2)
    assert waiting(store, wide)[1] == "it waits: it needs 8 slots, and the only worker has 2"
    store.enter("huge", 8, 60.0)
    assert claim(store, free=8, slots=8)[0].id == wide.id
    assert len(waiting(store, wide)) == 2
    store.cancel(ALICE, wider.id)
    store.delete(ALICE, wider.id)


def test_one_that_is_told_has_waited_no_shorter(store: Store) -> None:
    job = store.create(ALICE, new(8))
    until(lambda: store.enter("large", 4, 0.05) or len(waiting(store, job)) == 1)
    assert store.get(ALICE, job.id).updated == job.updated
    assert store.get(ALICE, job.id).last_sequence == job.last_sequence + 1


def test_who_has_too_few_slots_knows_of_who_has_more(store: Store) -> None:
    small = accounts(store, 2)
    store.enter("me", 2, 60.0)
    assert "this worker has 2 (" in str(small.quoted(ALICE, new(3))[1])
    store.enter("large", 4, 60.0)
    assert small.quoted(ALICE, new(4))[1] is None
    assert "workers: 5 need as many slots, but the largest of 2 workers has 4 (" in str(small.quoted(ALICE, new(5))[1])


@one_store
def test_a_runner_says_that_it_is_there(store: Store, url: str, tmp_path: Path) -> None:
    wide = store.create(ALICE, new(3))
    with runner(store, url, tmp_path, RunnerOptions(timing=QUICK.timing, lease=0.2), slots=2):
        until(lambda: store.roster() == Roster(1, 2))
        until(lambda: waiting(store, wide) == ["it waits: it needs 3 slots, and the only worker has 2"])
    assert store.roster() == Roster(0, 0)


def accounts(store: Store, slots: int, running: int = 64, **more: Any) -> Accounts:
    limits = OwnerLimits(Limits(running=running))
    return Accounts(store, Storage(store, lambda owner: 0, limits), limits, Quotes(store, 1, **more), slots)


def test_more_workers_than_can_ever_run_are_refused(store: Store) -> None:
    for slots, running, words in ((2, 64, "this worker has 2 ("), (8, 2, "only 2 of your jobs may run at a time")):
        _, refusal = accounts(store, slots, running).quoted(ALICE, new(3))
        assert isinstance(refusal, FailedPrecondition)
        assert refusal.field == "workers"
        assert words in str(refusal)
    assert accounts(store, 3, 3).quoted(ALICE, new(3))[1] is None
    assert accounts(store, 1, 0).quoted(ALICE, new())[1] is None  # the limit itself says when it may run


def test_a_quote_counts_the_gpus_of_all_and_the_cost_each_slot(store: Store) -> None:
    for _ in range(3):
        store.create(ALICE, new(3))
        _, lease = claim(store, free=3, slots=3)
        store.succeed(lease, RESULT)
        store.settle(lease, 10.0, 3)
    priced = new(3)
    priced.spec.max_cost.seconds = 29
    quote, refusal = accounts(store, 3).quoted(ALICE, priced)
    assert quote is not None
    assert (quote.likely, quote.gpus) == (pytest.approx(10.0), 3)
    assert "10 to 10 s in each of 3 slots" in str(refusal)
    priced.spec.max_cost.seconds = 30
    assert accounts(store, 3).quoted(ALICE, priced)[1] is None


def test_slots_together_have_the_gpus_of_all() -> None:
    slots = [Slot(f"gpu{each}", {VISIBLE: each}, gpus=1) for each in ("0", "2", "2")]
    assert together(slots[:1]) is slots[0]
    both = together(slots)
    assert (both.environment[VISIBLE], both.gpus, both.parts) == ("0,2", 3, tuple(slots))
    cpus = together([Slot("cpu0", {"OMP_NUM_THREADS": "4"}), Slot("cpu1", {"OMP_NUM_THREADS": "4"})])
    assert (cpus.environment, cpus.gpus) == ({"OMP_NUM_THREADS": "4"}, 0)


def test_on_a_cluster_the_gpus_are_those_that_it_reserves_for_the_kind(tmp_path: Path) -> None:
    ray = RayOptions(resources={"finetune": Resources(gpus=2), "maximize": Resources(gpus=0.5)})
    options = WorkerOptions(tmp_path, store="postgresql://x", artifacts=tmp_path, slots=3, ray=ray)
    places = slots_of_worker(options)
    assert [each.of("finetune") for each in places] == [2, 2, 2]
    both = together(places[:2])
    assert (both.of("finetune"), both.of("maximize"), both.of("audit")) == (4, 1.0, 0)


def test_a_share_of_a_gpu_is_counted_and_limited_and_quoted(store: Store) -> None:
    limits, shares = Limits(gpu_seconds_per_day=4.0), {"finetune": 0.5}
    for _ in range(3):
        store.create(ALICE, new(2))
        _, lease = claim(store, free=2, slots=2, gpus_by_kind=shares)
        store.succeed(lease, RESULT)
        store.settle(lease, 2.0, 1.0)
    (used,) = store.usage(ALICE, 1)
    assert (used.seconds, used.gpu_seconds) == (12.0, 6.0)
    quote, _ = accounts(store, 2, by_kind=shares).quoted(ALICE, new(2))
    assert quote is not None
    assert (quote.gpus, quote.likely) == (1.0, pytest.approx(2.0))
    quote, _ = accounts(store, 2, by_kind={"finetune": 0.25}).quoted(ALICE, new(2))
    assert quote is None  # nothing was measured with so much
    store.create(ALICE, new())
    assert store.claim("w", limits=limits, gpus_by_kind=shares) is None  # the day is used up
    assert claim(store, limits=limits, gpus_by_kind={"finetune": 0.0})[0].slots == 1


@one_store
def test_a_job_is_counted_with_the_gpus_of_its_kind(store: Store, url: str, tmp_path: Path) -> None:
    told = environment(url, tmp_path, retries=store.retries)
    place = Slot("ray0", STUBS, by_kind={"maximize": 0.5})
    made = Runner(store, LocalExecutor(tmp_path / "logs"), [place], told, options=QUICK)
    made.start()
    try:
        done = ended(store, submit(store, count(2)), 60)
        until(lambda: store.usage("me", 1)[0].seconds > 0)
    finally:
        made.stop()
    assert done.state.name == "SUCCEEDED"
    (used,) = store.usage("me", 1)
    assert used.gpu_seconds == pytest.approx(used.seconds / 2)


@pytest.mark.usefixtures("ray_token")
def test_ray_is_told_what_each_worker_needs(tmp_path: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from ouzel.worker.processes.ray_executor import RayExecutor  # Ray reads its token when it is first imported

    options = RayOptions(resources={"finetune": Resources(cpus=2, gpus=1, memory=2**30)})
    executor = RayExecutor(tmp_path, store, options)
    told: list[dict[str, str]] = []
    monkeypatch.setattr(executor._cluster, "submit", lambda name, line, variables, resources: told.append(variables))
    try:
        for workers in (1, 3):
            place = environment("postgresql://x", tmp_path)
            executor.submit(Task("job-1", workers, "w", place, kind="finetune", workers=workers))
    finally:
        executor.close()
    alone, several = told
    assert RESOURCES not in alone
    assert json.loads(several[RESOURCES]) == {"cpus": 2, "gpus": 1, "memory": 2**30, "threads": 2}
