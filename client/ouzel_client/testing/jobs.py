"""Jobs of `testing.FakeServer`: they go through their states whenever a client looks at them, and compute nothing."""

from __future__ import annotations

import hashlib
import struct
import threading
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from ouzel_client.testing import finetune
from ouzel_client.testing.models import FakeModels
from ouzel_protos.limits import out_of_range
from ouzel_protos.progress import settled
from ouzel_protos.v1 import job_pb2 as pb

_FINAL = (pb.Job.SUCCEEDED, pb.Job.FAILED, pb.Job.CANCELLED)
_LIVE = tuple(state for state in pb.Job.State.values() if state not in _FINAL)
# Of a fake audit, in the form of a real one. Nothing is audited.
AUDITED = {
    "verdict": "inconclusive",
    "reason": "Pretended.",
    "concern": False,
    "classes": [{"label": "cat", "verdict": "inconclusive"}],
}
# By method: the state that a job goes to, the states in which that is refused, and how.
_CHANGES: dict[str, tuple[Any, Collection[Any], str]] = {
    "CancelJob": (pb.Job.CANCELLED, (), ""),
    "PauseJob": (pb.Job.PAUSED, _FINAL, "has ended"),
    "ResumeJob": (pb.Job.QUEUED, _FINAL, "has ended"),
    "RetryJob": (pb.Job.QUEUED, (*_LIVE, pb.Job.SUCCEEDED), "is neither FAILED nor CANCELLED"),
}
_CHUNK = 16  # bytes, so that small files come in several chunks too


@dataclass
class _FakeJob:
    message: pb.Job
    body: bytes
    events: list[pb.JobEvent] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    first: Mapping[str, Any] | None = None  # what was published early


class FakeJobs:
    """The jobs of a fake server.

    Attributes:
        models: Where fine-tuning jobs add their versions.
        steps: The steps of every job, one progress event each.
        better: Whether a fine-tuned version is better than the present default, for promote="if_better". Its figures
            are always the same.
        grounded: Whether a fine-tuned version passes the gate, for promote="if_grounded".
        improves: Whether a training is better than its head alone, with early=True.
        fail: Jobs fail with this message instead of succeeding. Empty does not fail them.
        hold: Whether jobs stay RUNNING.
        cut: The next stream breaks with UNAVAILABLE after this many messages. None does not break it.
        streams: How many streams were opened.
    """

    def __init__(self, models: FakeModels | None = None) -> None:
        self.models = models or FakeModels({})
        self.steps = 3
        self.better = True
        self.grounded = True
        self.improves = True
        self.fail = ""
        self.hold = False
        self.cut: int | None = None
        self.streams = 0
        self._jobs: dict[str, _FakeJob] = {}
        self._lock = threading.Lock()

    def call(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a method that has one answer."""
        if name == "CreateJob":
            return self._create(request, context)
        if name in ("GetUsage", "ListJobs"):
            return self._usage() if name == "GetUsage" else self._list(request)
        job = self._find(request.id, context)
        if name == "DeleteJob":
            if job.message.state not in _FINAL:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{request.id} has not ended")
            del self._jobs[request.id]
            return Empty()
        if name == "ListArtifacts":
            return pb.ListArtifactsResponse(artifacts=job.message.result.artifacts)
        if name == "WaitJob":
            return self._wait(job, request)
        self._change(name, job, context)
        return job.message

    def stream(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a method that has a stream of answers."""
        job = self._find(request.id, context)
        self.streams += 1
        if name == "DownloadArtifact":
            yield from self._download(job, request, context)
            return
        sent = request.after_sequence
        if problem := out_of_range(sent, 0, job.message.last_sequence):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"after_sequence: {problem}")
        for count in range(10**9):
            if count == self.cut:
                self.cut = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
            while sent >= len(job.events):
                if job.message.state in _FINAL or not context.is_active():
                    return
                self._advance(job)
            yield job.events[sent]
            sent += 1

    def _create(self, request: pb.CreateJobRequest, context: grpc.ServicerContext) -> pb.Job:
        body = request.spec.SerializeToString(deterministic=True)
        if request.spec.HasField("finetune"):
            self._check_finetune(request.spec.finetune, context)
        if request.validate_only:
            return self._checked(request)
        with self._lock:
            for known in self._jobs.values():
                if request.request_id and known.message.request_id == request.request_id:
                    if known.body != body:
                        context.abort(grpc.StatusCode.ALREADY_EXISTS, "request_id: was used for another job")
                    return known.message
            message = pb.Job(
                id=f"job-{len(self._jobs) + 1}",
                spec=request.spec,
                labels=request.labels,
                priority=request.priority,
                request_id=request.request_id,
            )
            message.create_time.GetCurrentTime()
            job = self._jobs[message.id] = _FakeJob(message, body)
        _move(job, pb.Job.QUEUED)
        return message

    def _list(self, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        listed = [each.message for each in reversed(self._jobs.values()) if _fits(each.message, request)]
        return pb.ListJobsResponse(jobs=listed)

    def _usage(self) -> pb.Usage:
        """A second for each job that has ended, all of them today."""
        ended = [each.message.state for each in self._jobs.values() if each.message.state in _FINAL]
        if not ended:
            return pb.Usage()
        counts = {pb.Job.State.Name(state).lower(): ended.count(state) for state in _FINAL}
        today = time.strftime("%Y-%m-%d", time.gmtime())
        return pb.Usage(days=[pb.DayUsage(day=today, kind="maximize", seconds=len(ended), **counts)])

    def _find(self, name: str, context: grpc.ServicerContext) -> _FakeJob:
        if name not in self._jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"id: no job {name!r}")
        return self._jobs[name]

    def _wait(self, job: _FakeJob, request: pb.WaitJobRequest) -> pb.Job:
        deadline = time.monotonic() + request.timeout.seconds + request.timeout.nanos / 1e9
        while job.message.state not in _FINAL and time.monotonic() < deadline:
            self._advance(job)
        return job.message

    def _change(self, name: str, job: _FakeJob, context: grpc.ServicerContext) -> None:
        if name == "GetJob" or (name == "CancelJob" and job.message.state in _FINAL):
            return
        state, refused, reason = _CHANGES[name]
        if job.message.state in refused:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{job.message.id} {reason}")
        if name == "RetryJob":
            job.message.ClearField("error")
            job.message.ClearField("start_time")
        _move(job, state)

    def _advance(self, job: _FakeJob) -> None:
        """One event further."""
        with self._lock:
            message = job.message
            if message.state == pb.Job.QUEUED:
                message.attempt += 1
                _move(job, pb.Job.RUNNING)
                if message.spec.finetune.search and message.attempt == 1:
                    for each in finetune.trials(message.spec.finetune):
                        _tell(job, each)
            elif message.state != pb.Job.RUNNING or self.hold:
                time.sleep(0.01)
            elif message.progress.step < self.steps:
                message.progress.CopyFrom(
                    pb.Progress(step=message.progress.step + 1, steps=self.steps, phase="pretending")
                )
                _tell(job, pb.JobEvent(progress=message.progress))
                if message.spec.HasField("finetune"):
                    _tell(job, pb.JobEvent(metric=finetune.metric(message.progress)))
                if message.spec.finetune.early and job.first is None:
                    job.first = self._publish(job, 1)
            elif self.fail:
                message.error.CopyFrom(pb.JobError(failure_class=pb.JobError.USER, message=self.fail, field="spec"))
                _move(job, pb.Job.FAILED)
            else:
                self._succeed(job)

    def _succeed(self, job: _FakeJob) -> None:
        kind = job.message.spec.WhichOneof("kind") or ""
        if kind == "finetune":
            names: Sequence[str] = finetune.FILES
            if job.first is None:
                summary = finetune.publish(job.message, self.models, self.better, self.grounded)
            else:
                summary = finetune.early(job.first, self._publish(job, 2) if self.improves else None)
        elif kind == "audit":
            names, summary = ("suspects/00.png",), AUDITED
        else:
            folder = "images" if kind == "maximize" else "crops"
            names = [f"{folder}/{n:03}.png" for n in range(len(getattr(job.message.spec, kind).targets))]
            summary = {"steps": self.steps}
        job.files = {name: _png(number) for number, name in enumerate(names)}
        for name, content in job.files.items():
            digest = hashlib.sha256(content).hexdigest()
            job.message.result.artifacts.add(name=name, media_type="image/png", size=len(content), sha256=digest)
        job.message.result.summary.update(summary)
        _move(job, pb.Job.SUCCEEDED)

    def _publish(self, job: _FakeJob, number: int) -> Mapping[str, Any]:
        summary = finetune.publish(job.message, self.models, self.better, self.grounded, number)
        _tell(job, finetune.published(summary, number))
        return summary

    def _check_finetune(self, spec: pb.FinetuneSpec, context: grpc.ServicerContext) -> None:
        if self.models.find(*spec.base.partition("@")[::2]) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"base: no model {spec.base!r}")
        if self.models.is_operators(spec.name):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"name: {spec.name!r} is the operator's model")

    def _checked(self, request: pb.CreateJobRequest) -> pb.Job:
        """The answer to a request that is only to be checked: a job without an id."""
        job = pb.Job(spec=request.spec, labels=request.labels, priority=request.priority)
        if request.spec.HasField("finetune"):
            job.result.summary.update(finetune.report(self.models.labels))
        return job

    def _download(self, job: _FakeJob, request: pb.DownloadArtifactRequest, context: grpc.ServicerContext) -> Any:
        if request.name not in job.files:
            context.abort(grpc.StatusCode.NOT_FOUND, f"name: {job.message.id} has no artifact {request.name!r}")
        content = job.files[request.name]
        artifact = next(each for each in job.message.result.artifacts if each.name == request.name)
        for count, start in enumerate(range(request.offset, max(len(content), request.offset + 1), _CHUNK)):
            if count == self.cut:
                self.cut = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
            first = artifact if start == request.offset else None
            yield pb.ArtifactChunk(offset=start, data=content[start : start + _CHUNK], artifact=first)


def _move(job: _FakeJob, state: Any) -> None:
    change = pb.StateChange(previous=job.message.state, state=state, reason="pretended")
    message = job.message
    message.state = state
    if state == pb.Job.RUNNING and not message.HasField("start_time"):
        message.start_time.GetCurrentTime()
    message.ClearField("end_time")
    if state in _FINAL:
        message.end_time.GetCurrentTime()
    _tell(job, pb.JobEvent(state_change=change))


def _tell(job: _FakeJob, event: pb.JobEvent) -> None:
    copied = pb.JobEvent()
    copied.CopyFrom(event)
    copied.sequence, copied.attempt = len(job.events) + 1, job.message.attempt
    copied.time.GetCurrentTime()
    job.events.append(copied)
    job.message.last_sequence = copied.sequence
    job.message.update_time.CopyFrom(copied.time)
    job.message.progress.CopyFrom(settled(job.message.progress, job.message.state))


def _fits(job: pb.Job, request: pb.ListJobsRequest) -> bool:
    return (
        (not request.states or job.state in request.states)
        and request.kind in ("", job.spec.WhichOneof("kind"))
        and request.labels.items() <= dict(job.labels).items()
    )


def _png(shade: int) -> bytes:
    """A grey pixel as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes([0, shade]))) + chunk(b"IEND", b"")
