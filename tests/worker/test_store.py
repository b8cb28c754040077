"""What callers ask of the store, and which answers they get."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from ouzel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OuzelError,
    ResourceExhausted,
    Unavailable,
)
from ouzel.worker.store import client_ops
from ouzel.worker.store.job import FINAL, TRANSITIONS, Job, Lease, NewJob, Query, State
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb

ALICE, BOB = "alice", "bob"
USER_ERROR = pb.JobError(failure_class=pb.JobError.USER, message="no such layer")
RESULT = pb.JobResult(
    artifacts=[pb.Artifact(name="b.png", sha256="bb", size=2), pb.Artifact(name="a.png", sha256="aa", size=1)]
)


def new(model: str = "lite0", **rest: Any) -> NewJob:
    return NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model=model)), **rest)


def search(**rest: Any) -> NewJob:
    return NewJob(pb.JobSpec(search_activations=pb.SearchActivationsSpec(model="lite0")), **rest)


def log(text: str) -> pb.JobEvent:
    return pb.JobEvent(log=pb.Log(level=pb.Log.INFO, message=text))


def claim(store: Store) -> tuple[Job, Lease]:
    claimed = store.claim("worker-1")
    assert claimed is not None
    return claimed


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)


def states_of(events: list[pb.JobEvent]) -> list[State]:
    return [State(each.state_change.state) for each in events if each.WhichOneof("kind") == "state_change"]


# ---- creating


def test_what_was_asked_for_is_what_is_stored(store: Store) -> None:
    wished = new("lite0", request_id="r", priority=7, labels={"team": "späh", "x": ""}, timeout=12.5)
    before = time.time()
    created = store.create(ALICE, wished)
    assert store.get(ALICE, created.id) == created
    assert created.id.startswith("job-")
    assert (created.owner, created.kind, created.spec) == (ALICE, "maximize", wished.spec)
    assert (created.request_id, created.priority, created.labels) == ("r", 7, {"team": "späh", "x": ""})
    assert (created.state, created.attempt, created.timeout) == (State.QUEUED, 0, 12.5)
    assert (created.started, created.ended, created.error, created.result) == (None, None, None, None)
    assert before - 60 < created.created < time.time() + 60
    assert states_of(store.events(ALICE, created.id)) == [State.QUEUED]


def test_same_request_id_and_body_is_the_same_job(store: Store) -> None:
    wished = new(request_id="once", labels={"a": "1", "b": "2"})
    first = store.create(ALICE, wished)
    claim(store)
    again = store.create(ALICE, replace(wished, labels={"b": "2", "a": "1"}), limits=Limits(queued=0))
    assert again.id == first.id
    assert again.state is State.RUNNING
    assert len(store.list(ALICE, Query()).jobs) == 1


@pytest.mark.parametrize(
    "other",
    [new("resnet"), new(priority=1), new(labels={"a": "1"}), new(timeout=1.0), search()],
    ids=["spec", "priority", "labels", "timeout", "kind"],
)
def test_same_request_id_with_another_body_is_refused(store: Store, other: NewJob) -> None:
    store.create(ALICE, new(request_id="once"))
    with pytest.raises(AlreadyExists) as refused:
        store.create(ALICE, replace(other, request_id="once"))
    assert refused.value.field == "request_id"
    assert len(store.list(ALICE, Query()).jobs) == 1


def test_request_ids_are_each_owners_own_and_free_again_after_delete(store: Store) -> None:
    mine = store.create(ALICE, new(request_id="once"))
    assert store.create(BOB, new("resnet", request_id="once")).id != mine.id
    store.cancel(ALICE, mine.id)
    store.delete(ALICE, mine.id)
    assert store.create(ALICE, new("resnet", request_id="once")).id != mine.id


def test_jobs_without_request_id_are_all_new(store: Store) -> None:
    assert len({store.create(ALICE, new()).id for _ in range(3)}) == 3


def test_one_request_from_many_threads_is_one_job(store: Store) -> None:
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda _: store.create(ALICE, new(request_id="once")).id, range(24)))
    assert len(set(made)) == 1
    assert len(store.list(ALICE, Query()).jobs) == 1


# ---- owners


def test_a_foreign_job_does_not_exist(store: Store) -> None:
    """In no method: neither what it answers nor how it fails tells that there is such a job."""
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    store.succeed(lease, RESULT)
    calls: list[Callable[[str, str], object]] = [
        store.get,
        store.events,
        store.cancel,
        store.pause,
        store.resume,
        store.retry,
        store.delete,
        store.artifacts,
        lambda owner, id_: store.artifact(owner, id_, "a.png"),
    ]
    for call in calls:
        with pytest.raises(NotFound) as foreign:
            call(BOB, job)
        with pytest.raises(NotFound) as missing:
            call(BOB, "job-00")
        assert str(foreign.value).replace(job, "") == str(missing.value).replace("job-00", "")
        assert foreign.value.field == missing.value.field == "id"
    assert store.list(BOB, Query()).jobs == ()
    assert store.get(ALICE, job).state is State.SUCCEEDED


@pytest.mark.parametrize("nonsense", ["", "job-\0", "job-'; DROP TABLE jobs; --", "é" * 5000])
def test_nonsense_for_an_id_is_an_error_of_the_caller(store: Store, nonsense: str) -> None:
    with pytest.raises((NotFound, InvalidArgument)):
        store.get(ALICE, nonsense)
    with pytest.raises((NotFound, InvalidArgument)):
        store.cancel(ALICE, nonsense)
    store.create(ALICE, new())  # it still works


# ---- listing


def test_list_is_newest_first_in_pages(store: Store) -> None:
    made = [store.create(ALICE, new()).id for _ in range(7)]
    store.create(BOB, new())
    seen, token, sizes = [], "", []
    while True:
        page = store.list(ALICE, Query(page_size=3, page_token=token))
        seen += [job.id for job in page.jobs]
        sizes.append(len(page.jobs))
        store.create(ALICE, new())  # newer ones do not shift the later pages
        if not (token := page.next_page_token):
            break
    assert seen == made[::-1]
    assert sizes == [3, 3, 1]


def test_the_last_full_page_has_no_token(store: Store) -> None:
    for _ in range(2):
        store.create(ALICE, new())
    assert store.list(ALICE, Query(page_size=2)).next_page_token == ""
    assert store.list(BOB, Query(page_size=2)) == store.list("nobody", Query())


def test_list_filters(store: Store) -> None:
    red = store.create(ALICE, new(labels={"colour": "red", "size": "s"})).id
    blue = store.create(ALICE, search(labels={"colour": "blue", "size": "s"})).id
    plain = store.create(ALICE, new()).id
    store.cancel(ALICE, plain)

    def listed(**query: Any) -> list[str]:
        return [job.id for job in store.list(ALICE, Query(**query)).jobs]

    assert listed() == [plain, blue, red]
    assert listed(states=frozenset({State.QUEUED})) == [blue, red]
    assert listed(states=frozenset({State.CANCELLED, State.FAILED})) == [plain]
    assert listed(kind="maximize") == [plain, red]
    assert listed(kind="nonsense") == []
    assert listed(labels={"colour": "red"}) == [red]
    assert listed(labels={"size": "s"}) == [blue, red]
    assert listed(labels={"size": "s", "colour": "blue"}) == [blue]
    assert listed(labels={"colour": ""}) == []
    assert listed(states=frozenset({State.QUEUED}), kind="search_activations", labels={"size": "s"}) == [blue]


def test_a_page_token_works_for_its_owner_and_query_only(store: Store) -> None:
    for owner in (ALICE, BOB):
        for _ in range(3):
            store.create(owner, new(labels={"x": "1"}))
    token = store.list(ALICE, Query(page_size=1)).next_page_token
    assert len(store.list(ALICE, Query(page_size=2, page_token=token)).jobs) == 2  # the size may change
    for owner, query in [
        (BOB, Query(page_token=token)),
        (ALICE, Query(page_token=token, states=frozenset({State.QUEUED}))),
        (ALICE, Query(page_token=token, kind="maximize")),
        (ALICE, Query(page_token=token, labels={"x": "1"})),
    ]:
        with pytest.raises(InvalidArgument) as refused:
            store.list(owner, query)
        assert refused.value.field == "page_token"


def test_forged_page_tokens_are_refused(store: Store) -> None:
    for _ in range(3):
        store.create(ALICE, new())
    raw = base64.urlsafe_b64decode(store.list(ALICE, Query(page_size=1)).next_page_token)
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    forged = [base64.urlsafe_b64encode(each).decode() for each in [*flipped, raw[:-1], raw[:8], raw + b"\0", b"x"]]
    for token in [*forged, "nonsense", "é", "\udc80", "=", " ", "A" * 100_000]:
        with pytest.raises(InvalidArgument) as refused:
            store.list(ALICE, Query(page_token=token))
        assert refused.value.field == "page_token"


def test_page_tokens_outlive_the_process_that_gave_them_out(new_url: Callable[[], str]) -> None:
    url = new_url()
    first = open_store(url)
    made = [first.create(ALICE, new()).id for _ in range(2)]
    token = first.list(ALICE, Query(page_size=1)).next_page_token
    first.close()
    second, elsewhere = open_store(url), open_store(new_url())
    try:
        assert [job.id for job in second.list(ALICE, Query(page_token=token)).jobs] == made[:1]
        with pytest.raises(InvalidArgument):
            elsewhere.list(ALICE, Query(page_token=token))
    finally:
        second.close()
        elsewhere.close()


@pytest.mark.parametrize("size", [-1, 0, 501])
def test_page_sizes_beyond_the_limits_are_refused(store: Store, size: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        store.list(ALICE, Query(page_size=size))
    assert refused.value.field == "page_size"
    for allowed in (1, 500):
        assert store.list(ALICE, Query(page_size=allowed)).jobs == ()


# ---- the states that callers move a job through

SITUATIONS = ("QUEUED", "RUNNING", "PAUSING", "PUBLISHING", "PAUSED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED")


def bring(store: Store, situation: str) -> tuple[Job, Lease | None]:
    """A new job of Alice's, the only one that waits, brought to where it is wanted. PAUSING: RUNNING, pause wished."""
    job, lease = store.create(ALICE, new()), None
    if situation == "PAUSED":
        store.pause(ALICE, job.id)
    elif situation == "CANCELLED":
        store.cancel(ALICE, job.id)
    elif situation != "QUEUED":
        _, lease = claim(store)
    if situation == "PAUSING":
        store.pause(ALICE, job.id)
    elif situation == "CANCELLING":
        store.cancel(ALICE, job.id)
    elif lease is not None and situation == "PUBLISHING":
        store.publishing(lease)
    elif lease is not None and situation == "SUCCEEDED":
        store.succeed(lease, RESULT)
    elif lease is not None and situation == "FAILED":
        store.fail(lease, USER_ERROR)
    job = store.get(ALICE, job.id)
    assert job.state.name == ("RUNNING" if situation == "PAUSING" else situation)
    return job, lease


# What each call makes of each situation; what is not named here is refused.
OUTCOMES: dict[str, dict[str, str]] = {
    "cancel": {
        "QUEUED": "CANCELLED",
        "PAUSED": "CANCELLED",
        "RUNNING": "CANCELLING",
        "PAUSING": "CANCELLING",
        "PUBLISHING": "CANCELLING",
        "CANCELLING": "CANCELLING",
        "SUCCEEDED": "SUCCEEDED",
        "FAILED": "FAILED",
        "CANCELLED": "CANCELLED",
    },
    "pause": {"QUEUED": "PAUSED", "PAUSED": "PAUSED", "RUNNING": "PAUSING", "PAUSING": "PAUSING"},
    "resume": {"PAUSED": "QUEUED", "PAUSING": "RUNNING", "QUEUED": "QUEUED", "RUNNING": "RUNNING"},
    "retry": {"FAILED": "QUEUED", "CANCELLED": "QUEUED"},
    "delete": {"SUCCEEDED": "gone", "FAILED": "gone", "CANCELLED": "gone"},
}


def situation_of(job: Job) -> str:
    return "PAUSING" if job.state is State.RUNNING and job.pause else job.state.name


@pytest.mark.parametrize("verb", OUTCOMES)
def test_what_callers_may_do_in_which_state(new_url: Callable[[], str], verb: str) -> None:
    store = open_store(new_url())
    try:
        for situation in SITUATIONS:
            job, _ = bring(store, situation)
            call = getattr(store, verb)
            expected = OUTCOMES[verb].get(situation)
            if expected is None:
                with pytest.raises(FailedPrecondition, match=job.state.name):
                    call(ALICE, job.id)
                assert store.get(ALICE, job.id) == job, situation
            elif expected == "gone":
                call(ALICE, job.id)
                with pytest.raises(NotFound):
                    store.get(ALICE, job.id)
            else:
                after = call(ALICE, job.id)
                assert after == store.get(ALICE, job.id)
                assert situation_of(after) == expected, situation
                if expected == situation:
                    assert after == job, "it changes nothing, and writes no event"
                assert (after.ended is not None) == (after.state in FINAL)
            if expected != "gone":
                store.cancel(ALICE, job.id)  # so that the next claim gets the next job
    finally:
        store.close()


def test_the_event_log_tells_every_transition(store: Store) -> None:
    """Each state change starts where the one before ended, and is one that the diagram has."""
    jobs = []
    for situation in SITUATIONS:
        job, lease = bring(store, situation)
        store.cancel(ALICE, job.id)
        if lease is not None and store.get(ALICE, job.id).state not in FINAL:
            store.abandon(lease, "stopped")
        jobs.append(job.id)
    for id_ in jobs:
        at = State.UNSPECIFIED
        for each in store.events(ALICE, id_):
            if each.WhichOneof("kind") == "state_change":
                assert State(each.state_change.previous) is at
                assert State(each.state_change.state) in TRANSITIONS[at]
                assert each.state_change.reason
                at = State(each.state_change.state)
        assert at is store.get(ALICE, id_).state
        assert at in FINAL


def test_pause_of_a_running_job_happens_when_the_worker_stops(store: Store) -> None:
    job, lease = bring(store, "PAUSING")
    assert lease is not None
    assert store.heartbeat(lease).pause
    paused = store.abandon(lease, "checkpoint written")
    assert (paused.state, paused.pause, paused.worker) == (State.PAUSED, False, "")
    assert store.resume(ALICE, job.id).state is State.QUEUED
    assert claim(store)[0].attempt == 2


def test_pause_can_be_taken_back_even_while_publishing(store: Store) -> None:
    job, lease = bring(store, "PAUSING")
    assert lease is not None
    store.publishing(lease)
    assert not store.resume(ALICE, job.id).pause
    assert not store.heartbeat(lease).pause
    assert store.abandon(lease, "stopped").state is State.QUEUED


def test_a_cancel_that_comes_too_late(store: Store) -> None:
    job, lease = bring(store, "CANCELLING")
    assert lease is not None
    assert store.heartbeat(lease).cancel
    assert store.succeed(lease, RESULT).state is State.SUCCEEDED
    assert [each.name for each in store.artifacts(ALICE, job.id)] == ["a.png", "b.png"]


def test_retry_starts_the_counts_anew_and_keeps_the_checkpoint(store: Store) -> None:
    job = store.create(ALICE, new())
    _, lease = claim(store)
    store.checkpoint(lease, "c1")
    store.heartbeat(lease, ran=5.0)
    store.fail(lease, pb.JobError(failure_class=pb.JobError.RESOURCE), memory=True)
    store.fail(claim(store)[1], USER_ERROR)
    failed = store.get(ALICE, job.id)
    assert (failed.ran, failed.memory_deaths, failed.batch_scale, failed.error) == (5.0, 1, 0.5, USER_ERROR)
    again = store.retry(ALICE, job.id)
    assert (again.ran, again.lost, again.memory_deaths, again.batch_scale) == (0.0, 0, 0, 1.0)
    assert (again.error, again.ended, again.attempt, again.checkpoint) == (None, None, 2, "c1")
    assert again.started is None
    third = claim(store)[0]
    assert third.attempt == 3
    assert third.started is not None
    assert failed.ended is not None
    assert third.started >= failed.ended


def test_delete_takes_everything_along(store: Store) -> None:
    job, lease = bring(store, "SUCCEEDED")
    assert lease is not None
    assert store.referenced(["aa", "bb"]) == {"aa", "bb"}
    store.delete(ALICE, job.id)
    assert store.referenced(["aa", "bb"]) == set()
    assert store.list(ALICE, Query()).jobs == ()
    for call in (store.get, store.events, store.artifacts, store.delete, store.cancel):
        with pytest.raises(NotFound):
            call(ALICE, job.id)


# ---- limits


def test_limit_of_waiting_jobs(store: Store) -> None:
    limits = Limits(queued=2)
    first, second = (store.create(ALICE, new(), limits=limits).id for _ in range(2))
    store.pause(ALICE, second)  # a paused job waits too
    with pytest.raises(ResourceExhausted) as refused:
        store.create(ALICE, new(), limits=limits)
    assert refused.value.retry_after > 0
    assert len(store.list(ALICE, Query()).jobs) == 2
    store.create(BOB, new(), limits=limits)  # each owner has a limit of their own
    assert claim(store)[0].id == first
    third = store.create(ALICE, new(), limits=limits).id
    store.cancel(ALICE, third)
    store.create(ALICE, new(), limits=limits)
    with pytest.raises(ResourceExhausted) as refused:
        store.retry(ALICE, third, limits=limits)
    assert refused.value.retry_after > 0
    assert store.get(ALICE, third).state is State.CANCELLED


def test_limit_of_running_jobs_counts_all_that_have_a_lease(store: Store) -> None:
    limits = Limits(running=2)
    for _ in range(3):
        store.create(ALICE, new())
    (first, lease), (second, publishing) = (claim(store) for _ in range(2))
    store.cancel(ALICE, first.id)
    store.publishing(publishing)
    assert store.claim("worker-2", limits=limits) is None
    theirs = store.create(BOB, new(priority=-100))
    claimed = store.claim("worker-2", limits=limits)
    assert claimed is not None
    assert claimed[0].id == theirs.id
    store.abandon(lease, "stopped")
    assert store.claim("worker-2", limits=limits) is not None
    assert second.owner == ALICE


# ---- the order of claims


def claims(store: Store) -> list[str]:
    return [claimed[0].id for claimed in iter(lambda: store.claim("w"), None)]


def test_higher_priority_runs_first_then_older(store: Store) -> None:
    made = {(p, n): store.create(ALICE, new(priority=p)).id for n, p in enumerate([0, 5, -5, 5, 0])}
    assert claims(store) == [made[key] for key in [(5, 1), (5, 3), (0, 0), (0, 4), (-5, 2)]]


def test_owners_take_turns_within_a_priority(store: Store) -> None:
    """Alice came first with many, and the others do not wait until she is done."""
    alice = [store.create(ALICE, new()).id for _ in range(4)]
    bob = [store.create(BOB, new()).id for _ in range(2)]
    carol = [store.create("carol", new()).id for _ in range(1)]
    assert claims(store) == [alice[0], bob[0], carol[0], alice[1], bob[1], alice[2], alice[3]]


def test_priority_goes_before_fairness(store: Store) -> None:
    urgent = [store.create(ALICE, new(priority=1)).id for _ in range(3)]
    theirs = store.create(BOB, new()).id
    assert claims(store) == [*urgent, theirs]


def test_a_job_put_back_keeps_its_place(store: Store) -> None:
    first, second = (store.create(ALICE, new()).id for _ in range(2))
    job, lease = claim(store)
    assert job.id == first
    store.abandon(lease, "the worker is shutting down")
    assert claims(store) == [first, second]


def test_nothing_to_claim(store: Store) -> None:
    assert store.claim("w") is None
    store.pause(ALICE, store.create(ALICE, new()).id)
    assert store.claim("w") is None


# ---- events


def test_events_are_numbered_without_gap_under_concurrent_writers(store: Store) -> None:
    """Workers emit, the owner pauses and resumes: all at once."""
    job = store.create(ALICE, new()).id
    _, lease = claim(store)

    def emit(writer: int) -> None:
        for each in range(10):
            store.emit(lease, [log(f"{writer}.{each}.{part}") for part in "ab"])

    def toggle(_: int) -> None:
        for _ in range(5):
            store.pause(ALICE, job)
            store.resume(ALICE, job)

    with ThreadPoolExecutor(7) as pool:
        for done in [*(pool.submit(emit, n) for n in range(6)), pool.submit(toggle, 0)]:
            done.result()
    events = store.events(ALICE, job)
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert store.get(ALICE, job).last_sequence == len(events)
    texts = [each.log.message for each in events if each.log.message[:1].isdigit()]
    assert len(texts) == 120
    for one, other in zip(texts[::2], texts[1::2], strict=True):
        assert (one[:-1], one[-1], other[-1]) == (other[:-1], "a", "b"), "what one call wrote stays together"


def test_events_after_a_sequence_and_up_to_a_limit(store: Store) -> None:
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    store.emit(lease, [log(str(n)) for n in range(8)])  # 3 to 10
    assert [each.sequence for each in store.events(ALICE, job, after=7)] == [8, 9, 10]
    assert [each.sequence for each in store.events(ALICE, job, after=2, limit=3)] == [3, 4, 5]
    assert store.events(ALICE, job, after=10) == []
    assert store.events(ALICE, job, after=2**62) == []
    assert {each.attempt for each in store.events(ALICE, job, after=2)} == {1}


def test_number_time_and_attempt_are_the_stores_to_fill_in(store: Store) -> None:
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    lie = log("x")
    lie.sequence, lie.attempt = 77, 9
    lie.time.FromSeconds(1)
    store.emit(lease, [lie])
    told = store.events(ALICE, job, after=2)[0]
    assert (told.sequence, told.attempt) == (3, 1)
    assert abs(told.time.ToSeconds() - time.time()) < 60
    assert lie.sequence == 77  # what the caller holds is left alone


def test_the_newest_progress_becomes_the_jobs(store: Store) -> None:
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    events = [pb.JobEvent(progress=pb.Progress(step=n, steps=9, phase="ascent")) for n in (1, 2)]
    store.emit(lease, [*events, log("between")])
    assert store.get(ALICE, job).progress == pb.Progress(step=2, steps=9, phase="ascent")
    store.emit(lease, [log("no progress")])
    assert store.get(ALICE, job).progress.step == 2
    store.emit(lease, [pb.JobEvent(progress=pb.Progress())])  # a default message is progress too
    assert store.get(ALICE, job).progress == pb.Progress()


def test_no_events_are_no_change(store: Store) -> None:
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    before = store.get(ALICE, job)
    store.emit(lease, [])
    store.emit(lease, iter(()))
    assert store.get(ALICE, job).last_sequence == before.last_sequence


# ---- listeners


class Heard:
    """A listener that keeps what it hears, as callers are told to: sequences that are known are skipped."""

    def __init__(self) -> None:
        self.events: dict[int, pb.JobEvent] = {}
        self.calls = 0

    def __call__(self, events: Any) -> None:
        self.calls += 1
        for each in events:
            self.events.setdefault(each.sequence, each)

    @property
    def sequences(self) -> list[int]:
        return sorted(self.events)


@pytest.fixture(params=["same store", "other store"])
def writer(request: pytest.FixtureRequest, store: Store, url: str) -> Any:
    """Who writes what `store` is to hear of."""
    if request.param == "same store":
        yield store
        return
    other = open_store(url)
    yield other
    other.close()


def test_listeners_hear_of_new_events(store: Store, writer: Store) -> None:
    job, quiet = (writer.create(ALICE, new()).id for _ in range(2))
    heard, other = Heard(), Heard()
    store.listen(job, heard, after=1)
    store.listen(quiet, other, after=1)
    claimed, lease = claim(writer)
    assert claimed.id == job
    for n in range(20):
        writer.emit(lease, [log(str(n))])
    writer.succeed(lease, RESULT)
    last = store.get(ALICE, job).last_sequence
    until(lambda: last in heard.events)
    until(lambda: heard.sequences == list(range(2, last + 1)))
    assert list(heard.events.values()) == store.events(ALICE, job, after=1), "in order"
    assert other.events == {}


def test_a_listener_hears_of_what_was_there_before(store: Store, writer: Store) -> None:
    """Between reading the events and listening there may be more; they must not wait for the next ones."""
    busy, job = (writer.create(ALICE, new()).id for _ in range(2))
    first = Heard()
    store.listen(busy, first)
    until(lambda: first.events)
    _, lease = claim(writer)
    until(lambda: 2 in first.events)  # the store has looked by now
    late, later = Heard(), Heard()
    store.listen(job, late)
    until(lambda: late.events)
    store.listen(busy, later, after=1)  # a second one for the same job, which knows less
    until(lambda: later.events)
    assert (late.sequences[0], later.sequences[-1]) == (1, 2)
    assert lease.job == busy


def test_a_listener_hears_all_of_a_long_log(store: Store, writer: Store) -> None:
    """Also what is more than one reading's worth."""
    job = writer.create(ALICE, new()).id
    _, lease = claim(writer)
    writer.emit(lease, [log(str(n)) for n in range(1200)])
    heard = Heard()
    store.listen(job, heard)
    until(lambda: len(heard.events) == 1202)
    writer.emit(lease, [log(str(n)) for n in range(1200)])
    until(lambda: len(heard.events) == 2402)


def test_a_removed_listener_hears_nothing_more(store: Store, writer: Store) -> None:
    job = writer.create(ALICE, new()).id
    gone, stays = Heard(), Heard()
    remove = store.listen(job, gone, after=1)
    store.listen(job, stays, after=1)
    _, lease = claim(writer)
    until(lambda: gone.events and stays.events)
    remove()
    calls = gone.calls
    writer.emit(lease, [log("unheard")])
    until(lambda: 3 in stays.events)
    assert gone.calls == calls
    remove()  # twice is harmless


def test_one_listener_registered_twice_is_removed_once_for_each(store: Store) -> None:
    job = store.create(ALICE, new()).id
    heard = Heard()
    remove = store.listen(job, heard, after=1)
    store.listen(job, heard, after=1)
    remove()
    remove()
    claim(store)
    until(lambda: heard.events)


def test_a_listener_that_fails_harms_nobody(store: Store, writer: Store) -> None:
    job = writer.create(ALICE, new()).id
    heard = Heard()

    def broken(_: object) -> None:
        raise RuntimeError("a fault of the listener's")

    store.listen(job, broken, after=1)
    store.listen(job, heard, after=1)
    _, lease = claim(writer)
    writer.emit(lease, [log("x")])
    until(lambda: 3 in heard.events)


def test_what_was_undone_is_neither_stored_nor_told(store: Store) -> None:
    """A transaction that fails after it has written, with an error of its own."""
    job = store.create(ALICE, new()).id
    heard = Heard()
    store.listen(job, heard, after=1)
    database: Any = store._db  # type: ignore[attr-defined]

    def broken(c: Any) -> None:
        client_ops.pause(c, ALICE, job)
        raise ValueError("a fault of its own")

    with pytest.raises(ValueError, match="of its own"):
        database.write(broken)
    assert store.get(ALICE, job).state is State.QUEUED
    store.cancel(ALICE, job)
    until(lambda: len(heard.events) >= 2)
    assert list(heard.events.values()) == store.events(ALICE, job, after=1)
    assert states_of(list(heard.events.values())) == [State.CANCELLING, State.CANCELLED]


# ---- threads, closing


def test_threads_that_come_and_go_leave_nothing_behind(store: Store) -> None:
    """Far more of them than the database has connections, though few at a time."""
    job = store.create(ALICE, new()).id
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            assert {each.id for each in pool.map(lambda _: store.get(ALICE, job), range(16))} == {job}


def test_checking_disturbs_nobody(store: Store) -> None:
    job = store.create(ALICE, new()).id
    _, lease = claim(store)
    stop, problems = threading.Event(), []

    def check() -> None:
        while not stop.is_set():
            try:
                store.check()
            except OuzelError as error:
                problems.append(error)

    checker = threading.Thread(target=check)
    checker.start()
    try:
        for n in range(100):
            store.emit(lease, [log(str(n))])
    finally:
        stop.set()
        checker.join()
    assert problems == []
    assert store.get(ALICE, job).last_sequence == 102


def test_a_closed_store_says_so(url: str) -> None:
    store = open_store(url)
    job = store.create(ALICE, new()).id
    store.close()
    store.close()
    for call in (store.get, store.cancel, store.events):
        with pytest.raises(Unavailable, match="closed"):
            call(ALICE, job)


def test_closing_while_others_call(url: str) -> None:
    """Every call gets its answer: the job, or Unavailable."""
    store = open_store(url)
    job = store.create(ALICE, new(), limits=Limits(queued=10**6)).id
    problems, answered, closed = [], threading.Barrier(5), threading.Event()

    def call(write: bool) -> None:
        answered.wait()
        while not closed.is_set():
            try:
                _ = store.pause(ALICE, job) if write else store.get(ALICE, job)
            except Unavailable:
                return
            except Exception as error:  # noqa: BLE001 - any other is what the test looks for
                problems.append(error)
                return

    callers = [threading.Thread(target=call, args=(n % 2 == 0,), daemon=True) for n in range(4)]
    for each in callers:
        each.start()
    answered.wait()
    time.sleep(0.05)  # in the middle of it
    store.close()
    for each in callers:
        each.join(10.0)
    closed.set()
    assert not any(each.is_alive() for each in callers)
    assert problems == []


def test_figures_are_those_of_all_owners(store: Store) -> None:
    assert store.statistics().jobs == {}
    asked = NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="m")))
    first, second = store.create("ann", asked), store.create("bob", asked)
    assert store.statistics().jobs == {("QUEUED", "maximize"): 2}
    assert store.statistics().oldest_queued >= 0
    for _ in range(2):  # both leave the same file, which counts once
        claimed = store.claim("w")
        assert claimed is not None
        result = pb.JobResult(artifacts=[pb.Artifact(name="a", media_type="text/plain", size=7, sha256="0" * 64)])
        store.succeed(claimed[1], result)
    known = store.statistics()
    assert (known.jobs, known.oldest_queued) == ({("SUCCEEDED", "maximize"): 2}, 0.0)
    assert store.artifact_bytes() == 7
    assert store.state(first.id) is store.state(second.id) is State.SUCCEEDED
    assert store.state("job-0") is None
