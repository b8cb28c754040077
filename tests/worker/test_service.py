"""The service in a process of its own, over the wire, on both stores."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import Worker, count, one_store, until, worker
from support.stub_kinds.maximize import Fault

Code = grpc.StatusCode
BOB = "bob-has-a-long-token"


@contextmanager
def started(url: str, folder: Path) -> Iterator[Worker]:
    tokens = folder / "tokens"
    tokens.write_text(f"# others\nbob {BOB}\n")
    with worker(url, folder / "state", "--tokens", str(tokens), "--queued", "20") as found:
        yield found
        assert found.process.poll() is None, "it has ended by itself"


@pytest.fixture
def service(url: str, tmp_path: Path) -> Iterator[Worker]:
    with started(url, tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """For tests that leave nothing behind which others could notice."""
    with started(shared_url, tmp_path_factory.mktemp("worker")) as found:
        yield found


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def detail(error: grpc.RpcError, kind: type) -> object:
    """The detail of this kind in an error's trailers."""
    found = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    message = kind()
    assert any(each.Unpack(message) for each in found.details)
    return message


def test_from_submission_to_download(shared: Worker) -> None:
    job = shared.create(count(5), labels={"team": "birds"}, priority=3)
    assert (job.state, job.priority, dict(job.labels)) == (pb.Job.QUEUED, 3, {"team": "birds"})
    events = list(shared.watch(job.id))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state_change.state == pb.Job.SUCCEEDED
    done = shared.result(job.id)
    (artifact,) = shared.call("ListArtifacts", pb.ListArtifactsRequest(id=job.id)).artifacts
    assert list(done.result.artifacts) == [artifact]
    for offset in (0, 5, artifact.size):
        chunks = list(
            shared.call("DownloadArtifact", pb.DownloadArtifactRequest(id=job.id, name=artifact.name, offset=offset))
        )
        assert chunks[0].artifact == artifact
        assert chunks[0].offset == offset
        assert b"".join(chunk.data for chunk in chunks) == b"m counted to 5"[offset:]
    listed = shared.call("ListJobs", pb.ListJobsRequest(kind="maximize", labels={"team": "birds"}))
    assert [each.id for each in listed.jobs] == [job.id]
    shared.call("DeleteJob", pb.DeleteJobRequest(id=job.id))
    assert refused(lambda: shared.call("GetJob", pb.GetJobRequest(id=job.id))).code() is Code.NOT_FOUND


def test_validate_only(service: Worker) -> None:
    job = service.create(count(5), validate_only=True)
    assert job.id == ""
    assert not service.call("ListJobs", pb.ListJobsRequest()).jobs


UNARY = {
    "GetJob": pb.GetJobRequest,
    "WaitJob": pb.WaitJobRequest,
    "CancelJob": pb.CancelJobRequest,
    "PauseJob": pb.PauseJobRequest,
    "ResumeJob": pb.ResumeJobRequest,
    "RetryJob": pb.RetryJobRequest,
    "DeleteJob": pb.DeleteJobRequest,
    "ListArtifacts": pb.ListArtifactsRequest,
}
STREAMS = {"WatchJob": pb.WatchJobRequest, "DownloadArtifact": pb.DownloadArtifactRequest}


def codes(service: Worker, job: str, token: str) -> set[grpc.StatusCode]:
    """What the methods that are about one job answer."""
    found = {refused(lambda: service.call(name, UNARY[name](id=job), token)).code() for name in UNARY}  # noqa: B023
    return found | {
        refused(lambda: list(service.call(name, STREAMS[name](id=job), token))).code()  # noqa: B023
        for name in STREAMS
    }


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000])
def test_no_or_wrong_token(shared: Worker, token: str) -> None:
    assert codes(shared, "x", token) == {Code.UNAUTHENTICATED}
    for name, request in (("CreateJob", pb.CreateJobRequest(spec=count())), ("ListJobs", pb.ListJobsRequest())):
        error = refused(lambda name=name, request=request: shared.call(name, request, token))
        assert error.code() is Code.UNAUTHENTICATED


def test_jobs_of_others_do_not_exist(service: Worker) -> None:
    job = service.create(count(1000, 0.05)).id
    until(lambda: service.call("GetJob", pb.GetJobRequest(id=job)).state == pb.Job.RUNNING)
    assert codes(service, job, BOB) == {Code.NOT_FOUND}
    assert not service.call("ListJobs", pb.ListJobsRequest(), BOB).jobs
    assert service.call("GetJob", pb.GetJobRequest(id=job)).state == pb.Job.RUNNING


def test_silent_streams_without_a_token_do_not_stay(shared: Worker) -> None:
    """Callers that open streams and never send a thing are sent away at once, and others are served."""
    methods = [
        shared.channel.stream_stream(f"/ouzel.v1.JobService/{name}") for name in ("WatchJob", "CreateJob", "GetJob")
    ]
    silence = threading.Event()

    def nothing() -> Iterator[bytes]:
        silence.wait(20)
        yield from ()

    calls = [methods[number % 3](nothing()) for number in range(300)]
    try:
        began = time.monotonic()
        for call in calls:
            assert refused(lambda call=call: list(call)).code() is Code.UNAUTHENTICATED
        assert time.monotonic() - began < 15, "they were kept until they spoke"
        assert shared.create(count(1)).id
    finally:
        silence.set()


def resident(service: Worker) -> float:
    return psutil.Process(service.process.pid).memory_info().rss / 2**20


def test_too_large_messages_cost_nothing(shared: Worker) -> None:
    before = resident(shared)
    large = count(model="x" * (5 * 2**20))
    assert refused(lambda: shared.create(large)).code() is Code.RESOURCE_EXHAUSTED
    method = shared.channel.unary_unary("/ouzel.v1.JobService/CreateJob")
    bomb, gzipped = bytes(400 * 2**20), grpc.Compression.Gzip
    error = refused(lambda: method(bomb, metadata=shared.metadata, timeout=60, compression=gzipped))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    metadata = (*shared.metadata, ("x-large", "y" * 64 * 2**10))
    error = refused(lambda: shared.stub.ListJobs(pb.ListJobsRequest(), metadata=metadata, timeout=30))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert resident(shared) - before < 20
    assert shared.create(count(1)).id


def test_bytes_that_are_no_message(shared: Worker) -> None:
    for name in ("CreateJob", "ListJobs"):
        method = shared.channel.unary_unary(f"/ouzel.v1.JobService/{name}")
        for junk in (b"\xff\xff\xff", gzip.compress(b"x"), b"\x0a\xff\xff\xff\xff\x0f"):
            error = refused(lambda method=method, junk=junk: method(junk, metadata=shared.metadata, timeout=30))
            assert error.code() in (Code.INTERNAL, Code.INVALID_ARGUMENT, Code.UNKNOWN)
            assert "Traceback" not in (error.details() or "")
            assert "File " not in (error.details() or "")


def test_bytes_that_are_no_grpc(shared: Worker) -> None:
    host, _, port = shared.address.partition(":")
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64):
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(junk)
    assert shared.create(count(1)).id


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateJobRequest(), "spec"),
        (pb.CreateJobRequest(spec=count(), request_id="x" * 129), "request_id"),
        (pb.CreateJobRequest(spec=count(), request_id="a\0b"), "request_id"),
        (pb.CreateJobRequest(spec=count(), priority=101), "priority"),
        (pb.CreateJobRequest(spec=count(), labels={"": "x"}), "labels"),
        (pb.CreateJobRequest(spec=count(), labels={"x": "y" * 129}), "labels"),
        (pb.CreateJobRequest(spec=count(), timeout={"seconds": 0}), "timeout"),
        (pb.CreateJobRequest(spec=count(), timeout={"seconds": 10**9}), "timeout"),
        (pb.CreateJobRequest(spec=count(model="refused")), "model"),
        (pb.CreateJobRequest(spec=count(model="x" * (2 * 2**20))), "spec"),
        (pb.ListJobsRequest(page_size=501), "page_size"),
        (pb.ListJobsRequest(page_size=-1), "page_size"),
        (pb.ListJobsRequest(page_token="forged"), "page_token"),
        (pb.ListJobsRequest(states=[77]), "states"),
        (pb.ListJobsRequest(kind="nonsense"), "kind"),
        (pb.ListJobsRequest(labels={"a": "\0"}), "labels"),
        (pb.ListJobsRequest(labels={str(number): "" for number in range(33)}), "labels"),
    ],
)
def test_refused(shared: Worker, request_: pb.CreateJobRequest | pb.ListJobsRequest, field: str) -> None:
    name = "CreateJob" if isinstance(request_, pb.CreateJobRequest) else "ListJobs"
    error = refused(lambda: shared.call(name, request_))
    assert error.code() is Code.INVALID_ARGUMENT
    assert error.details().startswith(field)
    violations = detail(error, details.BadRequest).field_violations  # type: ignore[attr-defined]
    assert [each.field for each in violations] == [field]
    assert detail(error, details.ErrorInfo).domain == "ouzel"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", "\0", "job-", "job-0", "job-\0", "'; DROP TABLE jobs; --", "job-" + "0" * 10**6])
def test_ids_that_are_none(shared: Worker, name: str) -> None:
    assert codes(shared, name, shared.token) == {Code.NOT_FOUND}


def test_the_same_request_id(shared: Worker) -> None:
    """The same body gives the same job, another one is refused; so a call may be repeated."""
    first = shared.create(count(5), request_id="r1")
    assert shared.create(count(5), request_id="r1").id == first.id
    assert refused(lambda: shared.create(count(6), request_id="r1")).code() is Code.ALREADY_EXISTS


def test_too_many_waiting(service: Worker) -> None:
    service.create(count(1000, 0.1))
    error = None
    for _ in range(22):
        try:
            service.create(count(1))
        except grpc.RpcError as caught:
            error = caught
            break
    assert error is not None
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert detail(error, details.RetryInfo).retry_delay.seconds > 0  # type: ignore[attr-defined]


def test_wait_does_not_cancel(service: Worker) -> None:
    job = service.create(count(1000, 0.05)).id
    began = time.monotonic()
    waited = service.call("WaitJob", pb.WaitJobRequest(id=job, timeout={"nanos": 300_000_000}))
    assert waited.state in (pb.Job.QUEUED, pb.Job.RUNNING)
    assert time.monotonic() - began < 10
    error = refused(lambda: service.call("WaitJob", pb.WaitJobRequest(id=job), seconds=0.3))
    assert error.code() is Code.DEADLINE_EXCEEDED
    until(lambda: service.call("GetJob", pb.GetJobRequest(id=job)).progress.step > 3)


def test_cancel_in_every_situation(service: Worker) -> None:
    """Within a second or so, and without effect on jobs that have ended."""
    running, queued = service.create(count(1000, 0.05)).id, service.create(count(1000, 0.05)).id
    until(lambda: service.call("GetJob", pb.GetJobRequest(id=running)).progress.step > 0)
    assert service.call("CancelJob", pb.CancelJobRequest(id=queued)).state == pb.Job.CANCELLED
    began = time.monotonic()
    assert service.call("CancelJob", pb.CancelJobRequest(id=running)).state == pb.Job.CANCELLING
    assert service.result(running).state == pb.Job.CANCELLED
    assert time.monotonic() - began < 10
    for job in (running, queued):
        before = service.call("GetJob", pb.GetJobRequest(id=job))
        assert service.call("CancelJob", pb.CancelJobRequest(id=job)) == before
    done = service.create(count(1)).id
    assert service.result(done).state == pb.Job.SUCCEEDED
    assert service.call("CancelJob", pb.CancelJobRequest(id=done)).state == pb.Job.SUCCEEDED


def test_retry_goes_on_in_the_same_stream_of_events(shared: Worker) -> None:
    job = shared.create(count(4, fault=Fault.REFUSED)).id
    first = list(shared.watch(job))
    assert first[-1].state_change.state == pb.Job.FAILED
    shared.call("RetryJob", pb.RetryJobRequest(id=job))
    rest = list(shared.watch(job, after=first[-1].sequence))
    assert [event.sequence for event in first + rest] == list(range(1, len(first + rest) + 1))
    assert [event.sequence for event in shared.watch(job)] == list(range(1, len(first + rest) + 1))
    error = refused(lambda: shared.call("ResumeJob", pb.ResumeJobRequest(id=job)))
    assert error.code() is Code.FAILED_PRECONDITION


def test_watchers_see_every_event_once(service: Worker) -> None:
    """Many at a time, from any point on, some of which leave and come back."""
    job = service.create(count(40, 0.05)).id
    seen: dict[int, list[int]] = {}

    def watch(number: int) -> None:
        mine = seen.setdefault(number, [])
        while True:
            stream = service.watch(job, mine[-1] if mine else 0)
            for event in stream:
                mine.append(event.sequence)
                if number % 2 and len(mine) % 5 == 0:
                    stream.cancel()
                    break
            else:
                return

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    last = service.call("GetJob", pb.GetJobRequest(id=job)).last_sequence
    assert all(seen[number] == list(range(1, last + 1)) for number in range(20))


def test_health_needs_no_token_and_reflection_is_off(shared: Worker) -> None:
    health = health_pb2_grpc.HealthStub(shared.channel)
    for name in ("", "ouzel.v1.JobService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = shared.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    error = refused(lambda: list(reflection(iter([b""]), metadata=shared.metadata, timeout=10)))
    assert error.code() is Code.UNIMPLEMENTED


@one_store
def test_terminated_worker_puts_its_jobs_back(url: str, tmp_path: Path) -> None:
    """Exit status 0, watchers told to come back, a checkpoint written; the next worker goes on from there."""
    with worker(url, tmp_path) as first:
        job = first.create(count(60, 0.05)).id
        until(lambda: first.call("GetJob", pb.GetJobRequest(id=job)).progress.step > 3)
        stream, seen = first.watch(job), [0]
        seen.append(next(stream).sequence)
        first.process.terminate()
        error = refused(lambda: seen.extend(event.sequence for event in stream))
        assert error.code() is Code.UNAVAILABLE
        last = seen[-1]
        assert first.process.wait(30) == 0
    assert not (tmp_path / "worker.json").exists()
    with worker(url, tmp_path) as second:
        events = list(second.watch(job, after=last))
        assert [event.sequence for event in events] == list(range(last + 1, last + 1 + len(events)))
        assert second.result(job).result.summary["from"] > 3


def test_killed_worker_loses_nothing(url: str, tmp_path: Path) -> None:
    """kill -9 right after the answer, and in the middle of a job."""
    with worker(url, tmp_path) as first:
        running, queued = first.create(count(60, 0.05)).id, ""
        until(lambda: first.call("GetJob", pb.GetJobRequest(id=running)).progress.step > 3)
        queued = first.create(count(2), request_id="once").id
        first.stop(kill=True)
    with worker(url, tmp_path) as second:
        assert second.create(count(2), request_id="once").id == queued
        done = second.result(running)
        assert (done.state, done.attempt) == (pb.Job.SUCCEEDED, 2)
        assert done.result.summary["from"] >= 1
        assert second.result(queued).state == pb.Job.SUCCEEDED


def test_one_worker_per_state_folder_and_port(service: Worker, url: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="another worker runs"), worker(url, tmp_path / "state"):
        pass
    port = service.address.rpartition(":")[2]
    with (
        pytest.raises(AssertionError, match=f"port {port} of 127.0.0.1"),
        worker(url, tmp_path / "other", "--port", port),
    ):
        pass
