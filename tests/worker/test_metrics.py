"""What a worker tells of itself: numbers, lines of JSON, and traces that go on in the processes of its jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import Worker, count, ended, submit, until, worker
from support.metrics import Metrics
from support.otlp import Collector, collector
from support.stub_kinds.maximize import Fault

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as made:
        yield made


@pytest.fixture(scope="module")
def telling(collected: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    flags = ["--metrics-port", "0", "--log-format", "json", "--lost", "0", "--no-fork"]
    with worker(f"sqlite://{folder / 'jobs.db'}", folder / "state", *flags, variables=collected.environment) as made:
        yield made


def url(told: Worker) -> str:
    until(lambda: "/metrics" in told.log.read_text())
    match = re.search(r"http://\S+/metrics", told.log.read_text())
    assert match
    return match[0]


def test_jobs_are_counted_by_what_becomes_of_them(telling: Worker) -> None:
    before = Metrics(url(telling))
    jobs = [telling.create(count(2, fault=fault)).id for fault in (Fault.NONE, Fault.REFUSED, Fault.KILLED)]
    states = [pb.Job.State.Name(telling.result(job).state) for job in jobs]
    assert states == ["SUCCEEDED", "FAILED", "FAILED"]
    with pytest.raises(grpc.RpcError, match="refused"):
        telling.create(count(model="refused"))
    with pytest.raises(grpc.RpcError):
        telling.call("GetJob", pb.GetJobRequest(id=jobs[0]), token="guessed")

    def seen() -> bool:
        now = Metrics(url(telling))
        ended = sum(now.value("ouzel_worker_jobs", state=state) for state in ("SUCCEEDED", "FAILED"))
        return (now.value("ouzel_worker_attempts_total"), ended) == (3, 3)

    until(seen)  # the runner looks ten times a second, the figures of the store are kept for a moment
    after = Metrics(url(telling))

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("ouzel_worker_claims_total", kind="maximize") == 3
    assert more("ouzel_worker_job_wait_seconds_count", kind="maximize") == 3
    assert more("ouzel_worker_job_run_seconds_count", kind="maximize") == 3
    assert more("ouzel_worker_attempts_total", outcome="succeeded") == 1
    assert more("ouzel_worker_attempts_total", outcome="failed") == 2
    assert after.value("ouzel_worker_jobs", state="SUCCEEDED", kind="maximize") == 1
    assert after.value("ouzel_worker_jobs", state="FAILED", kind="maximize") == 2
    assert after.value("ouzel_worker_queue_oldest_seconds") == 0
    requests = "ouzel_worker_requests_total"
    assert more(requests, method="JobService/CreateJob", code="OK") == 3
    assert more(requests, method="JobService/CreateJob", code="INVALID_ARGUMENT") == 1
    assert more(requests, method="JobService/GetJob", code="UNAUTHENTICATED") == 1
    assert more("ouzel_worker_request_seconds_count", method="JobService/WaitJob") >= 3
    (size,) = [each.size for each in telling.call("ListArtifacts", pb.ListArtifactsRequest(id=jobs[0])).artifacts]
    assert after.value("ouzel_worker_artifact_bytes") in (0.0, size)  # it is looked at now and then
    assert after.value("ouzel_worker_store_up") == 1
    assert after.value("ouzel_worker_slots") == 1
    assert after.value("ouzel_worker_disk_free_bytes", folder="artifacts") > 0
    # Who is refused is in the log, in its own time: the refusal above, at least.
    entries = ("ouzel_worker_ledger_entries", "ouzel_worker_ledger_pending")
    assert sum(after.value(name) for name in entries) >= 1
    until(lambda: Metrics(url(telling)).value("ouzel_worker_ledger_pending") == 0)
    assert "ouzel_worker_ledger_checkpoint_age_seconds" in Metrics(url(telling)).samples


def test_methods_that_are_made_up_are_no_labels(telling: Worker) -> None:
    def make_up(number: int) -> None:
        for metadata in (telling.metadata, ()):
            with pytest.raises(grpc.RpcError):
                telling.channel.unary_unary(f"/ouzel.v1.JobService/Made{number}")(b"", metadata=metadata, timeout=20)

    make_up(0)
    before = Metrics(url(telling))
    for number in range(1, 5):
        make_up(number)
    after = Metrics(url(telling))
    name = "ouzel_worker_requests_total"
    assert len(after.samples[name]) == len(before.samples[name])
    assert after.value(name, method="other") - before.value(name, method="other") == 4
    assert "Made" not in after.text


def test_a_trace_goes_on_in_the_process_of_the_job(telling: Worker, collected: Collector) -> None:
    def create(parent: str) -> pb.Job:
        trace = (("traceparent", parent), ("tracestate", "vendor=x"))
        metadata = (*telling.metadata, *trace, ("x-request-id", "mine-7"))
        request = pb.CreateJobRequest(spec=count(2), request_id="once")
        answer, call = telling.stub.CreateJob.with_call(request, metadata=metadata, timeout=30)
        assert dict(call.trailing_metadata())["x-request-id"] == "mine-7"
        return answer

    job = create(PARENT)
    assert create(PARENT.replace("c80319c", "c803190")).id == job.id  # traced otherwise, and the same request
    assert telling.result(job.id).state == pb.Job.SUCCEEDED
    until(lambda: any(each.attributes["ouzel.job"] == job.id for each in collected.named("job maximize")))
    (run,) = [each for each in collected.named("job maximize") if each.attributes["ouzel.job"] == job.id]
    calls = {each.trace: each for each in collected.named("JobService/CreateJob")}
    created = calls[PARENT[3:35]]
    assert (created.service, created.parent) == ("ouzel-worker", PARENT[36:52])
    assert (run.service, run.trace, run.parent) == ("ouzel-job", created.trace, created.id)
    assert job.spec.traceparent == f"00-{created.trace}-{created.id}-01"
    assert job.spec.tracestate == created.state == run.state == "vendor=x"
    children = {each.name: each for each in collected.spans if each.parent == run.id}
    assert set(children) == {"counting", "publish"}
    assert all(run.begun <= each.begun <= each.ended <= run.ended for each in children.values())
    assert children["counting"].ended <= children["publish"].begun
    assert run.attributes == {"ouzel.job": job.id, "ouzel.kind": "maximize", "ouzel.attempt": 1}


def test_spans_of_jobs_that_fail_say_which_way(telling: Worker, collected: Collector) -> None:
    job = telling.create(count(2, fault=Fault.ERROR))
    assert telling.result(job.id).state == pb.Job.FAILED

    def spans() -> list:
        return [each for each in collected.named("job maximize") if each.attributes["ouzel.job"] == job.id]

    until(lambda: bool(spans()))
    assert spans()[0].failed
    assert spans()[0].attributes["error.type"] == "INFRASTRUCTURE"
    assert not any("secret" in str(each) for each in collected.spans)


def test_logs_of_the_worker_and_its_jobs_are_json(telling: Worker) -> None:
    job = telling.create(count(2, fault=Fault.ERROR))
    telling.result(job.id)
    lines = [json.loads(each) for each in telling.log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    own = telling.log.parent / "jobs" / "logs" / f"{job.id}-1.log"
    said = [json.loads(each) for each in own.read_text().splitlines()]
    (failed,) = [each for each in said if "the job failed" in each["message"]]
    assert "RuntimeError" in failed["exception"]
    assert failed["level"] == "ERROR"


def test_jobs_of_lost_workers_are_counted(tmp_path: Path) -> None:
    from ouzel.worker.store.open import open_store

    path = f"sqlite://{tmp_path / 'jobs.db'}"
    store = open_store(path)
    with worker(path, tmp_path / "one", "--no-fork", artifacts=tmp_path / "files") as lost:
        job = submit(store, count(1000, seconds=0.05))
        until(lambda: store.statistics().jobs.get(("RUNNING", "maximize")) == 1)
        lost.stop(kill=True)
    flags = ["--no-fork", "--metrics-port", "0"]
    with worker(path, tmp_path / "two", *flags, artifacts=tmp_path / "files") as next_:
        until(lambda: Metrics(url(next_)).value("ouzel_worker_leases_lost_total") == 1)
        assert Metrics(url(next_)).value("ouzel_worker_jobs", kind="maximize") == 1
        store.cancel(job.owner, job.id)
        ended(store, job)
        assert store.state(job.id) == store.get(job.owner, job.id).state
        store.delete(job.owner, job.id)
        assert store.state(job.id) is None
    store.close()
