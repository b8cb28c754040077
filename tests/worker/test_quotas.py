"""What owners have used, what they may use, and what jobs are said to cost; on both databases."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from ouzel.cli.usage import usage as usage_verb
from ouzel.errors import InvalidArgument, NotFound, ResourceExhausted
from ouzel.worker import kinds
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.quotas import file as quotas_file
from ouzel.worker.quotas import quotes
from ouzel.worker.quotas.storage import Storage
from ouzel.worker.store import reservations, usage
from ouzel.worker.store.job import Job, Lease, NewJob, State
from ouzel.worker.store.limits import Limits, OwnerLimits
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import dataset_pb2, explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.dataset_pb2_grpc import DatasetServiceStub
from support.jobs import Worker, count, ended, one_store, processes_of, runner, submit, until, worker

ALICE, BOB = "alice", "bob"
LOST = pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message="gone")
RESULT = pb.JobResult(artifacts=[pb.Artifact(name="a", sha256="aa", size=10), pb.Artifact(name="b", sha256="bb")])


def new(**more: Any) -> NewJob:
    return NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="m")), **more)


def claim(store: Store, **more: Any) -> tuple[Job, Lease]:
    claimed = store.claim("w", **more)
    assert claimed is not None
    return claimed


def total(store: Store, owner: str | None = ALICE) -> tuple[float, float, int, int, int]:
    rows = store.usage(owner, 1)
    assert len({(each.owner, each.day, each.kind) for each in rows}) == len(rows)
    return (
        sum(each.seconds for each in rows),
        sum(each.gpu_seconds for each in rows),
        sum(each.succeeded for each in rows),
        sum(each.failed for each in rows),
        sum(each.cancelled for each in rows),
    )


# ---- usage


def test_seconds_are_counted_once_over_beats_attempts_and_retries(store: Store) -> None:
    job = store.create(ALICE, new())
    _, first = claim(store)
    store.heartbeat(first, 2.0)
    store.heartbeat(first, 2.0)  # said again, because nobody heard the answer
    store.heartbeat(first, 3.5, 1)  # with a GPU from then on
    assert total(store)[:2] == (3.5, 1.5)
    store.settle(first, 4.0)
    store.fail(first, LOST)
    store.settle(first, 4.0)
    assert store.get(ALICE, job.id).ran == total(store)[0] == 4.0
    _, second = claim(store)
    store.settle(first, 9.0)  # of a supervisor that was stopped for long: others have the job
    store.heartbeat(second, 5.0)
    store.succeed(second, RESULT)
    store.settle(second, 5.5)
    store.settle(second, 5.5)
    assert total(store) == (5.5, 1.5, 1, 0, 0)


def test_a_retry_by_the_owner_counts_from_nothing_and_nothing_twice(store: Store) -> None:
    job = store.create(ALICE, new())
    _, lease = claim(store)
    store.heartbeat(lease, 3.0)
    store.fail(lease, pb.JobError(failure_class=pb.JobError.USER))
    store.retry(ALICE, job.id)
    store.settle(lease, 4.0)  # too late: it would count 4 s for a job that has run for none
    assert total(store) == (3.0, 0.0, 0, 1, 0)
    _, again = claim(store)
    store.heartbeat(again, 1.0)
    store.cancel(ALICE, job.id)
    store.abandon(again, "stopped")
    assert total(store) == (4.0, 0.0, 0, 1, 1)


def test_usage_is_each_owners_own_and_outlives_the_job(store: Store) -> None:
    for owner in (ALICE, BOB):
        job = store.create(owner, new())
        _, lease = claim(store)
        store.heartbeat(lease, 2.0)
        store.succeed(lease, RESULT)
        if owner == ALICE:
            assert store.artifact_bytes_of(ALICE) == 10
        store.delete(owner, job.id)
    assert total(store, ALICE) == total(store, BOB) == (2.0, 0.0, 1, 0, 0)
    assert total(store, None) == (4.0, 0.0, 2, 0, 0)
    assert store.usage("nobody", 1) == []


def test_artifacts_of_an_owner_count_each_content_once(store: Store) -> None:
    for owner, size in ((ALICE, 10), (ALICE, 10), (BOB, 10)):
        store.create(owner, new())
        _, lease = claim(store)
        store.succeed(lease, pb.JobResult(artifacts=[pb.Artifact(name="a", sha256="same", size=size)]))
    assert store.artifact_bytes_by_owner() == {ALICE: 10, BOB: 10}
    assert store.artifact_bytes_of(ALICE) == 10
    assert store.artifact_bytes_of("nobody") == 0


def test_a_store_without_these_tables_gets_them(url: str) -> None:
    older = open_store(url)
    kept = older.create(ALICE, new())
    for table in ("usage", "measured", "reservations"):
        older._db.write(lambda c, table=table: c.run(f"DROP TABLE {table}"))  # type: ignore[attr-defined]
    older.close()
    newer = open_store(url)
    _, lease = claim(newer)
    newer.heartbeat(lease, 1.0)
    assert (lease.job, total(newer)[0]) == (kept.id, 1.0)
    newer.close()


@one_store
def test_what_a_runner_counts_is_what_its_processes_ran(store: Store, url: str, tmp_path: Path) -> None:
    """Also of a process that is killed, and of one that ends its lease itself."""
    job = submit(store, count(steps=6, seconds=0.2))
    began = time.monotonic()
    with runner(store, url, tmp_path):
        until(lambda: store.get("me", job.id).progress.step >= 2)
        (process,) = processes_of(job.id)
        process.kill()
        done = ended(store, job)
        assert done.attempt == 2
        until(lambda: total(store, "me")[0] >= 1.2)
    passed = time.monotonic() - began
    seconds, gpu, succeeded, _, _ = total(store, "me")
    assert 1.2 <= seconds <= passed
    assert (gpu, succeeded) == (0.0, 1)
    assert store.get("me", done.id).ran == pytest.approx(seconds)


# ---- quotas of the day


def spend(store: Store, owner: str, seconds: float, gpus: int = 0) -> None:
    store.create(owner, new())
    _, lease = claim(store)
    store.heartbeat(lease, seconds, gpus)
    store.succeed(lease, pb.JobResult())


@pytest.mark.parametrize(("name", "gpus"), [("seconds_per_day", 0), ("gpu_seconds_per_day", 1)])
def test_an_owner_whose_day_is_used_up_is_refused_until_midnight(store: Store, name: str, gpus: int) -> None:
    limits = Limits(**{name: 10.0})  # type: ignore[arg-type]
    first = new(request_id="again")
    kept = store.create(ALICE, first, limits=limits)
    _, lease = claim(store)
    store.heartbeat(lease, 9.5, gpus)
    store.create(ALICE, new(), limits=limits)  # there is half a second left
    store.heartbeat(lease, 12.0, gpus)  # a job that runs goes on
    store.fail(lease, pb.JobError(failure_class=pb.JobError.USER))
    for refused in (
        lambda: store.create(ALICE, new(), limits=limits),
        lambda: store.retry(ALICE, kept.id, limits=limits),
    ):
        with pytest.raises(ResourceExhausted, match=rf"{name}: 12 s of 10 s are used.*00:00 UTC") as error:
            refused()
        now = datetime.now(UTC)
        left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
        assert error.value.retry_after == pytest.approx(left, abs=120)
    assert store.create(ALICE, first, limits=limits).id == kept.id  # it was accepted before
    store.create(BOB, new(), limits=limits)


def test_jobs_of_a_used_up_day_wait_and_others_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = store.create(ALICE, new(priority=9))
    other = store.create(BOB, new())
    limits = OwnerLimits(Limits(), {ALICE: Limits(seconds_per_day=10.0, gpu_seconds_per_day=5.0)})
    store.create(ALICE, new())
    _, lease = claim(store, limits=limits)
    assert lease.job == waits.id
    store.heartbeat(lease, 6.0, 1)
    held = store.create(ALICE, new(priority=9))
    assert claim(store, limits=limits, gpus=1)[0].id == other.id  # of Alice's GPU seconds none are left
    assert claim(store, limits=limits)[0].id == held.id  # on a processor there are seconds left
    store.heartbeat(lease, 10.0, 1)
    assert store.claim("w", limits=limits) is None
    tomorrow = datetime.fromtimestamp(time.time() + usage.DAY, UTC).strftime("%Y-%m-%d")
    monkeypatch.setattr(usage, "_day", lambda c, back=0: tomorrow)
    assert claim(store, limits=limits)[0].owner == ALICE


def test_each_owner_has_its_own_number_of_running_jobs(store: Store) -> None:
    limits = OwnerLimits(Limits(running=1), {BOB: Limits(running=2)})
    for owner in (ALICE, ALICE, BOB, BOB, BOB):
        store.create(owner, new())
    owners = []
    while (claimed := store.claim("w", limits=limits)) is not None:
        owners.append(claimed[0].owner)
    assert sorted(owners) == [ALICE, BOB, BOB]


# ---- the operator's file


def test_a_file_of_quotas_overrides_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "quotas.toml"
    path.write_text(
        "[defaults]\nseconds_per_day = 60.5\nqueued = 5\n\n[owners.alice]\nseconds_per_day = 0\nstored_bytes = 1000\n"
    )
    limits = quotas_file.read(path, Limits(queued=9, running=7))
    assert limits.of(BOB) == Limits(queued=5, running=7, seconds_per_day=60.5)
    assert limits.of(ALICE) == Limits(queued=5, running=7, seconds_per_day=0, stored_bytes=1000)
    assert quotas_file.read(None, Limits(queued=9)).of(ALICE) == Limits(queued=9)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[defaults]\nsecond_per_day = 1", "defaults.second_per_day"),
        ("[owners.a]\nrunning = 0", "owners.a.running"),
        ("[owners.a]\nqueued = 1.5", "owners.a.queued"),
        ("[owners.a]\nseconds_per_day = -2", "owners.a.seconds_per_day"),
        ("[owners.a]\nseconds_per_day = -1", "owners.a.seconds_per_day"),
        ("[owners.a]\nqueued = -1", "owners.a.queued"),
        ("[owners.a]\ngpu_seconds_per_day = nan", "owners.a.gpu_seconds_per_day"),
        ("[owners.a]\nseconds_per_day = inf", "owners.a.seconds_per_day"),
        ("[owners.a]\nstored_bytes = 99999999999999999999", "owners.a.stored_bytes"),  # which no message can carry
        ("[owners]\na = 1", "owners.a"),
        ("[others]", "others"),
        ("[defaults", "quotas file"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "quotas.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument) as wrong:
        quotas_file.read(path, Limits())
    assert wrong.value.field == field
    with pytest.raises((NotFound, InvalidArgument)):
        quotas_file.read(tmp_path / "none.toml", Limits())


# ---- bytes


def put(datasets: Datasets, owner: str, content: bytes, storage: Storage) -> None:
    upload = datasets.upload(owner, storage.hold(owner))
    try:
        upload.begin(dataset_pb2.FileRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content)))
        upload.write(dataset_pb2.Chunk(data=content))
        upload.check_complete()
    finally:
        upload.close()


def test_bytes_are_reserved_over_streams_and_workers(url: str, tmp_path: Path) -> None:
    """Of many streams of two workers only as many are admitted as fit, whatever they do meanwhile."""
    stores = open_store(url), open_store(url)
    datasets = Datasets(tmp_path)
    storages = [Storage(each, datasets.used, Limits(stored_bytes=100)) for each in stores]
    admitted, refused, gate = [], [], threading.Barrier(8)

    def stream(number: int) -> None:
        content = bytes([number]) * 30
        upload = datasets.upload(ALICE, storages[number % 2].hold(ALICE))
        gate.wait()
        try:
            upload.begin(dataset_pb2.FileRef(sha256=hashlib.sha256(content).hexdigest(), size=30))
        except ResourceExhausted as error:
            refused.append(str(error))
        else:
            admitted.append((upload, content))

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(admitted), len(refused)) == (3, 5)
    assert all("stored_bytes: 90 bytes of 100 bytes are used, and 30 bytes more" in each for each in refused)
    assert stores[0].reserved(ALICE) == 90
    admitted[0][0].close()  # fails
    assert stores[1].reserved(ALICE) == 60
    for upload, content in admitted[1:]:
        upload.write(dataset_pb2.Chunk(data=content))
        upload.close()
    assert (stores[1].reserved(ALICE), datasets.used(ALICE)) == (0, 60)
    put(datasets, ALICE, b"x" * 40, storages[0])  # what is stored is not counted twice
    with pytest.raises(ResourceExhausted, match="100 bytes of 100 bytes"):
        put(datasets, ALICE, b"y", storages[1])
    put(datasets, BOB, b"y", storages[1])
    for each in stores:
        each.close()


def test_a_reservation_of_a_killed_worker_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def reserve(name: str, size: int) -> int | None:
        return store.reserve(ALICE, name, size, stored=0, seen=store.clock(), limit=100)

    assert reserve("a", 80) is None
    assert reserve("b", 30) == 80
    monkeypatch.setattr(reservations, "LIVES", -1.0)
    store.renew(ALICE, "a", 80)  # for the last time, so to say
    monkeypatch.undo()
    assert reserve("b", 30) is None
    store.renew(ALICE, "a", 80)  # it was alive after all
    assert store.reserved(ALICE) == 110


def test_a_full_owner_creates_no_jobs_until_something_is_deleted(store: Store, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    storage = Storage(store, datasets.used, Limits(stored_bytes=10))
    assert storage.refusal(ALICE) is None
    job = store.create(ALICE, new())
    _, lease = claim(store)
    store.succeed(lease, RESULT)
    full = Storage(store, datasets.used, Limits(stored_bytes=10))
    assert "stored_bytes: 10 bytes of 10 bytes" in str(full.refusal(ALICE))
    with pytest.raises(ResourceExhausted):
        store.create(ALICE, new(refusal=full.refusal(ALICE)))
    store.delete(ALICE, job.id)
    assert full.refusal(ALICE) is None  # at once, though it was counted a moment ago


# ---- quotes


def test_a_quote_is_the_spread_of_what_jobs_like_it_took() -> None:
    rates = [0.5, 0.7, 0.8, 1.0, 1.1, 1.3, 2.0, 2.5, 3.0, 4.0]
    measured = [(10.0, 10 * rate) for rate in rates] + [(1000.0, 1.0), (0.1, 100.0)]  # too large, too small
    quote = quotes.of(20.0, measured, gpus=1)
    assert quote is not None
    assert quote.likely == pytest.approx(20 * statistics.median(rates))
    assert quote.low == pytest.approx(20 * (0.5 + 0.9 * 0.2))  # between the lowest two, by hand
    assert quote.high == pytest.approx(20 * (3.0 + 0.1 * 1.0))
    assert (quote.jobs, quote.gpus) == (10, 1)
    assert quotes.of(20.0, measured[:2], gpus=1) is None
    assert quotes.of(20.0, [], gpus=0) is None


def measure(store: Store, units: float, seconds: float, gpus: int = 0, scale: str = "counting") -> None:
    spec = pb.JobSpec(maximize=pb.MaximizeSpec(model="m"), scale=scale, work_units=units)
    store.create(ALICE, NewJob(spec))
    _, lease = claim(store)
    store.succeed(lease, pb.JobResult())
    store.settle(lease, seconds, gpus)
    store.settle(lease, seconds, gpus)


def test_only_whole_first_attempts_are_measured_by_scale_and_device(store: Store) -> None:
    measure(store, 5, 2.0)
    measure(store, 5, 1.0, gpus=1)
    measure(store, 5, 3.0, scale="other")
    again = store.create(ALICE, NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(), scale="counting", work_units=5)))
    store.abandon(claim(store)[1], "stopped")
    _, lease = claim(store)
    store.succeed(lease, pb.JobResult())
    store.settle(lease, 9.0)
    assert store.get(ALICE, again.id).state is State.SUCCEEDED
    assert store.measured("maximize", "counting", 0) == [(5.0, 2.0)]
    assert store.measured("maximize", "counting", 1) == [(5.0, 1.0)]
    assert store.measured("maximize", "none", 0) == []


def test_only_the_newest_measurements_are_kept(store: Store) -> None:
    for number in range(103):
        measure(store, 5, 1.0 + number)
    seconds = sorted(each for _, each in store.measured("maximize", "counting", 0))
    assert seconds == [1.0 + number for number in range(3, 103)]


# ---- as callers see it


@pytest.fixture(scope="module")
def limited(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("limited")
    (folder / "quotas.toml").write_text(
        "[owners.dora]\nseconds_per_day = 0.1\n[owners.emil]\nstored_bytes = 50\n[owners.fritz]\nqueued = 1\n"
    )
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{name} {name}-{'x' * 40}\n" for name in ("dora", "emil", "fritz")))
    tokens.chmod(0o600)
    with worker(shared_url, folder / "state", "--tokens", str(tokens), "--quotas", str(folder / "quotas.toml")) as made:
        yield made


def token(owner: str) -> str:
    return f"{owner}-{'x' * 40}"


def refusal(error: grpc.RpcError) -> tuple[str, float]:
    """What it says, and when to try again."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    for each in status.details:
        each.Unpack(retry)
    return error.details(), retry.retry_delay.seconds


def test_a_caller_sees_its_usage_and_quota_and_is_refused(limited: Worker) -> None:
    request = pb.CreateJobRequest(spec=count(steps=2, seconds=0.2))
    job = limited.call("CreateJob", request, token("dora"))
    until(lambda: limited.call("GetJob", pb.GetJobRequest(id=job.id), token("dora")).state == pb.Job.SUCCEEDED)

    def told() -> pb.Usage:
        return limited.call("GetUsage", pb.GetUsageRequest(days=1), token("dora"))

    until(lambda: sum(each.seconds for each in told().days) >= 0.4)
    mine = told()
    (day,) = mine.days
    assert (day.kind, day.succeeded, day.failed) == ("maximize", 1, 0)
    assert mine.artifact_bytes == len("m counted to 2")
    quota = {each.name: each for each in mine.quotas}["seconds_per_day"]
    assert (quota.limit, quota.used) == (pytest.approx(0.1), pytest.approx(day.seconds))
    with pytest.raises(grpc.RpcError) as refused:
        limited.call("CreateJob", request, token("dora"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    words, wait = refusal(refused.value)
    assert words.startswith("seconds_per_day: ")
    assert 0 < wait <= 86_400
    assert not limited.call("GetUsage", pb.GetUsageRequest(), token("emil")).days
    with pytest.raises(grpc.RpcError) as wrong:
        limited.call("GetUsage", pb.GetUsageRequest(days=367), token("emil"))
    assert wrong.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_upload_beyond_the_quota_is_refused_before_it_comes(limited: Worker) -> None:
    stub = DatasetServiceStub(limited.channel)
    content = b"z" * 60
    ref = dataset_pb2.FileRef(sha256=hashlib.sha256(content).hexdigest(), size=60)
    with pytest.raises(grpc.RpcError) as refused:
        stub.UploadFiles(
            iter([dataset_pb2.UploadFilesRequest(file=ref)]),
            metadata=(("authorization", f"Bearer {token('emil')}"),),
            timeout=30,
        )
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details().startswith("stored_bytes: 0 bytes of 50 bytes are used, and 60")
    half = dataset_pb2.FileRef(sha256=hashlib.sha256(b"q" * 40).hexdigest(), size=40)
    for _ in range(2):  # an upload that breaks off leaves nothing reserved
        with pytest.raises(grpc.RpcError) as broken:
            stub.UploadFiles(
                iter([dataset_pb2.UploadFilesRequest(file=half)]),
                metadata=(("authorization", f"Bearer {token('emil')}"),),
                timeout=30,
            )
        assert broken.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        until(lambda: limited.call("GetUsage", pb.GetUsageRequest(), token("emil")).reserved_bytes == 0)


def test_quotes_and_max_cost(limited: Worker) -> None:
    spec = count(steps=4, seconds=0.1)
    asked = pb.CreateJobRequest(spec=spec, validate_only=True)
    assert not limited.call("CreateJob", asked).HasField("quote")
    for _ in range(3):
        limited.result(limited.create(spec).id)
    until(lambda: limited.call("CreateJob", asked).quote.jobs >= 3)
    quote = limited.call("CreateJob", asked).quote
    assert 0.4 <= quote.low <= quote.likely <= quote.high
    assert limited.create(spec).quote.jobs >= 3
    larger = count(steps=30, seconds=0.1)
    of_larger = pb.CreateJobRequest(spec=larger, validate_only=True)
    until(lambda: limited.call("CreateJob", of_larger).quote.jobs >= 3)  # the smaller one is like other tests', too
    larger.max_cost.CopyFrom(Duration(seconds=1))
    with pytest.raises(grpc.RpcError) as refused:
        limited.create(larger)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details().startswith("max_cost: 1 s, but")


def test_a_job_that_passes_its_max_cost_ends_and_says_what_it_reached(limited: Worker) -> None:
    spec = count(steps=1000, seconds=0.1)  # so much work that nothing is known of it
    spec.max_cost.CopyFrom(Duration(seconds=2, nanos=500_000_000))
    job = limited.create(spec)
    assert not job.HasField("quote")
    ended = limited.result(job.id)
    assert (ended.state, ended.error.failure_class, ended.error.field) == (
        pb.Job.FAILED,
        pb.JobError.TIMEOUT,
        "spec.max_cost",
    )
    assert "of a max_cost of 2.5 s; it had " in ended.error.message
    reached = re.search(r"reached step (\d+) of 1000 \(counting\)$", ended.error.message)
    if reached is None:  # a slow machine: no step was told in time
        assert ended.error.message.endswith("counted no steps yet")
    else:
        assert 1 <= int(reached[1]) <= ended.progress.step
    for wrong in (Duration(), Duration(seconds=10**9)):
        spec.max_cost.CopyFrom(wrong)
        with pytest.raises(grpc.RpcError) as refused:
            limited.create(spec)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_operators_verb_reads_the_store(url: str, store: Store, tmp_path: Path) -> None:
    spend(store, ALICE, 2.0, 1)
    spend(store, BOB, 3.0)
    put(Datasets(tmp_path / "uploads"), BOB, b"b" * 7, Storage(store, lambda _: 0))
    place = ["--state", str(tmp_path / "state"), "--jobs", url, "--uploads", str(tmp_path / "uploads")]

    def run(*words: str) -> str:
        result = CliRunner().invoke(usage_verb, [*place, *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    told = json.loads(run("--json"))
    rows = {each["owner"]: (each["seconds"], each["gpu_seconds"], each["succeeded"]) for each in told["usage"]}
    assert rows == {ALICE: (2.0, 2.0, 1), BOB: (3.0, 0.0, 1)}
    assert told["stored"] == [{"owner": BOB, "artifacts": 0, "datasets": 7}]
    assert BOB in run()
    assert BOB not in run("--owner", ALICE)
    missing = CliRunner().invoke(usage_verb, ["--state", str(tmp_path / "none")])
    assert missing.exit_code == 1
    assert not (tmp_path / "none").exists()


def test_the_work_of_real_kinds(tiny_base: Path, tmp_path: Path) -> None:
    """Twice the images, steps or epochs are twice the units on the same scale; by hand where it can be counted."""
    uploads = Datasets(tmp_path / "uploads")
    storage = Storage(None, uploads.used)  # type: ignore[arg-type]
    entries = []
    for number in range(4):
        put(uploads, ALICE, bytes([number]) * 5, storage)
        ref = dataset_pb2.FileRef(sha256=hashlib.sha256(bytes([number]) * 5).hexdigest(), size=5)
        entries.append(dataset_pb2.DatasetEntry(path=f"{number}.png", label="ab"[number % 2], file=ref))
    dataset = uploads.create(ALICE, "four", entries).id
    catalogue = Catalogue(tiny_base.parent, tmp_path / "cache", uploads=uploads).seen_by(ALICE)

    def filled(**spec: Any) -> pb.JobSpec:
        (name,) = spec
        return kinds.pinned(name, pb.JobSpec(**spec, scale="forged", work_units=7.0), catalogue)

    def maximize(steps: int) -> pb.JobSpec:
        node = pb.Node(channel=pb.Channel(layer="layer1", channel=0))
        parameters = {"steps": explain_pb2.Parameter(integer=steps)}
        return filled(maximize=pb.MaximizeSpec(model="base", targets=[node, node], parameters=parameters))

    assert maximize(10).work_units == pytest.approx(10 * 2 * 3 * 32 * 32 / 1e6)
    assert maximize(20).scale == maximize(10).scale != "forged"

    def tune(dataset: str = dataset, **more: Any) -> pb.JobSpec:
        return filled(finetune=pb.FinetuneSpec(base="base", dataset=dataset, name="new", **more))

    three = {"epochs": explain_pb2.Parameter(integer=3)}
    assert tune(parameters=three).work_units == pytest.approx(4 * 3 * 32 * 32 / 1e6)
    assert tune(image_size=64).work_units == pytest.approx(4 * 64 * 64 / 1e6)
    assert tune().scale != tune(parameters=three).scale
    for unknown in (tune(max_training_seconds=5), tune("s3://bucket/x")):
        assert (unknown.work_units, unknown.scale) == (0.0, "")
    audit = filled(audit=pb.AuditSpec(model="base", dataset=dataset, fills=["blur"]))
    assert audit.work_units == 4
    assert "blur" in audit.scale
    assert filled(search_activations=pb.SearchActivationsSpec(model="base", dataset="birds")).work_units == 1
