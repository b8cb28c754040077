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

from ouzel.worker.store.job import FINAL, State
from ouzel_protos.v1 import audit_pb2, dataset_pb2, model_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import Worker, count, one_store, until, worker
from support.stub_kinds.maximize import Fault

Code = grpc.StatusCode
BOB = "bob-has-a-long-token"


@contextmanager
def started(url: str, folder: Path) -> Iterator[Worker]:
    tokens = folder / "tokens"
    tokens.write_text(f"# others\nbob {BOB}\n")
    with worker(url, folder / "state", "--tokens", str(tokens), "--queued", "20") as running:
        yield running
        assert running.process.poll() is None, "it has ended by itself"


@pytest.fixture
def service(url: str, tmp_path: Path) -> Iterator[Worker]:
    with started(url, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """For tests that leave nothing behind which others could notice."""
    with started(shared_url, tmp_path_factory.mktemp("worker")) as running:
        yield running


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def detail(error: grpc.RpcError, kind: type) -> object:
    """The detail of this kind in an error's trailers."""
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    message = kind()
    assert any(each.Unpack(message) for each in status.details)
    return message


def test_from_submission_to_download(shared: Worker) -> None:
    job = shared.create(count(5), labels={"team": "birds"}, priority=3)
    assert (job.state, job.priority, dict(job.labels)) == (pb.Job.QUEUED, 3, {"team": "birds"})
    events = list(shared.watch(job.id))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state_change.state == pb.Job.SUCCEEDED
    done = shared.result(job.id)
    assert done.progress == pb.Progress(step=5, steps=5)  # and no phase any more
    assert job.create_time.ToNanoseconds() <= done.start_time.ToNanoseconds() <= done.end_time.ToNanoseconds()
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
    refusals = {refused(lambda: service.call(name, UNARY[name](id=job), token)).code() for name in UNARY}  # noqa: B023
    return refusals | {
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
    assert shared.create(count(1)).id  # whichever call is the first loads what all of them need
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


METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in (pb, dataset_pb2, model_pb2, audit_pb2, health_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
JUNK = (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", gzip.compress(b"x"))
SURROGATE = "\ud800".encode(errors="surrogatepass")


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_message(shared: Worker, name: str) -> None:
    """Of every method, as the first message and as a later one; a lone surrogate is no text."""
    method = METHODS[name]
    streams, answers = method.client_streaming, method.server_streaming
    kind = f"{'stream' if streams else 'unary'}_{'stream' if answers else 'unary'}"
    call = getattr(shared.channel, kind)(name)
    texts = [field.number for field in method.input_type.fields if field.type == field.TYPE_STRING]
    surrogates = [bytes([8 * number + 2, len(SURROGATE)]) + SURROGATE for number in texts]
    for junk in (*JUNK, *surrogates):
        for messages in ([junk], [b"", junk]) if name.endswith("CreateDataset") else ([junk],):
            sent = iter(messages) if streams else junk
            error = refused(lambda sent=sent: drained(call(sent, metadata=shared.metadata, timeout=30)))
            assert error.code() is Code.INVALID_ARGUMENT
            said = error.details() or ""
            assert not any(word in said for word in ("class", "Error", "Traceback", "File ", "\n")), said


def drained(answer: object) -> object:
    return list(answer) if hasattr(answer, "__next__") else answer


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x1b[31m", "a\x85b", "a\u2028b"])
def test_text_that_nobody_could_show(shared: Worker, text: str) -> None:
    """In every text field of requests, wherever it lies; the field is named as everywhere."""
    node = pb.Node(unit=pb.Unit(layer=text))
    asked = [
        ("CreateJob", pb.CreateJobRequest(spec=count(model=text)), "model"),
        ("CreateJob", pb.CreateJobRequest(spec=count(), request_id=text), "request_id"),
        ("CreateJob", pb.CreateJobRequest(spec=count(), labels={text: ""}), "labels"),
        ("CreateJob", pb.CreateJobRequest(spec=count(), labels={"a": text}), "labels.a"),
        (
            "CreateJob",
            pb.CreateJobRequest(spec=pb.JobSpec(maximize={"targets": [node, node]})),
            "targets[0].unit.layer",
        ),
        (
            "CreateJob",
            pb.CreateJobRequest(spec=pb.JobSpec(maximize={"parameters": {"x": {"text": text}}})),
            "parameters.x.text",
        ),
        ("CreateJob", pb.CreateJobRequest(spec=pb.JobSpec(finetune={"dataset": text})), "dataset"),
        ("GetJob", pb.GetJobRequest(id=text), "id"),
        ("ListJobs", pb.ListJobsRequest(page_token=text), "page_token"),
        ("ListJobs", pb.ListJobsRequest(labels={"a": text}), "labels.a"),
    ]
    for name, request, field in asked:
        error = refused(lambda name=name, request=request: shared.call(name, request))
        assert error.code() is Code.INVALID_ARGUMENT
        assert [each.field for each in detail(error, details.BadRequest).field_violations] == [field]  # type: ignore[attr-defined]
        assert text not in (error.details() or "")
        assert (error.details() or "").startswith(f"{field}: ")


def test_text_of_all_scripts_is_taken(shared: Worker) -> None:
    """Joiners, wide spaces, emoji with joiners: none of them is a control character."""
    labels = {
        "persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
        "space": "a\u3000b\u00a0c",
        "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f466",
    }
    assert dict(shared.create(count(1), labels=labels).labels) == labels


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
        (pb.CreateJobRequest(spec=count(), max_duration={"seconds": 0}), "max_duration"),
        (pb.CreateJobRequest(spec=count(), max_duration={"seconds": 10**9}), "max_duration"),
        (pb.CreateJobRequest(spec=count(model="refused")), "model"),
        (pb.CreateJobRequest(spec=count(model="x" * (2 * 2**20))), "spec"),
        (pb.ListJobsRequest(states=[2] * 33), "states"),
        (pb.ListJobsRequest(states=[2] * 10_001), "request"),
        (pb.ListJobsRequest(page_size=501), "page_size"),
        (pb.ListJobsRequest(page_size=-1), "page_size"),
        (pb.ListJobsRequest(page_token="forged"), "page_token"),
        (pb.ListJobsRequest(states=[77]), "states"),
        (pb.ListJobsRequest(kind="nonsense"), "kind"),
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


@pytest.mark.parametrize("name", ["", "job-", "job-0", "'; DROP TABLE jobs; --", "job-" + "0" * 10**6])
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


@pytest.mark.parametrize(
    ("fault", "state"), [(Fault.NONE, pb.Job.SUCCEEDED), (Fault.REFUSED, pb.Job.FAILED), (None, pb.Job.CANCELLED)]
)
def test_watching_a_job_that_has_ended_ends(shared: Worker, fault: Fault | None, state: int) -> None:
    """At once, from whichever event on; beyond the last there is nothing to ask for. A retry makes more."""
    job = shared.create(count(3, 0.0 if fault is not None else 0.05, fault or Fault.NONE)).id
    if fault is None:
        shared.call("CancelJob", pb.CancelJobRequest(id=job))
    done = shared.result(job)
    assert done.state == state
    last = done.last_sequence
    began = time.monotonic()
    for after in (0, last - 1, last):
        assert [event.sequence for event in shared.watch(job, after, seconds=10)] == list(range(after + 1, last + 1))
    assert time.monotonic() - began < 1.5, "it waited for news"
    error = refused(lambda: list(shared.watch(job, last + 1, seconds=10)))
    assert (error.code(), "after_sequence" in error.details()) == (Code.INVALID_ARGUMENT, True)
    if state == pb.Job.SUCCEEDED:
        return
    shared.call("RetryJob", pb.RetryJobRequest(id=job))
    again = list(shared.watch(job, last, seconds=30))
    assert [event.sequence for event in again] == list(range(last + 1, last + 1 + len(again)))
    assert State(again[-1].state_change.state) in FINAL
    assert list(shared.watch(job, again[-1].sequence, seconds=10)) == []


def test_watching_beyond_the_last_event_of_a_job_that_runs(service: Worker) -> None:
    job = service.create(count(1000, 0.05)).id
    error = refused(lambda: list(service.watch(job, 10**6, seconds=10)))
    assert error.code() is Code.INVALID_ARGUMENT


def test_streams_end_with_their_job(service: Worker) -> None:
    """Of a job that is cancelled while they watch, and of one that is deleted."""
    job = service.create(count(1000, 0.05)).id
    streams = [service.watch(job, seconds=30) for _ in range(3)]
    seen = [next(stream).sequence for stream in streams]
    service.call("CancelJob", pb.CancelJobRequest(id=job))
    assert service.result(job).state == pb.Job.CANCELLED
    service.call("DeleteJob", pb.DeleteJobRequest(id=job))
    began = time.monotonic()
    for stream, first in zip(streams, seen, strict=True):
        try:
            events = list(stream)
        except grpc.RpcError as error:  # deleted before all of it was sent
            assert error.code() is Code.NOT_FOUND  # noqa: PT017
        else:
            assert [event.sequence for event in events] == list(range(first + 1, first + 1 + len(events)))
            assert events[-1].state_change.state == pb.Job.CANCELLED
    assert time.monotonic() - began < 5
    assert refused(lambda: list(service.watch(job, seconds=10))).code() is Code.NOT_FOUND


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
        worker(url, tmp_path / "other", "--port", port, artifacts=tmp_path / "state" / "files"),
    ):
        pass
