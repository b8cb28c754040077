"""JobService over a store: what callers see. The store blocks, so it is asked in threads, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from ouzel.checks import within
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Event, Recorder
from ouzel.telemetry import tracing
from ouzel.worker import kinds
from ouzel.worker.api import requests
from ouzel.worker.api.auth import stream, unary
from ouzel.worker.api.event_stream import Watches
from ouzel.worker.api.service import Context, Service
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.artifacts.protocol import Artifacts
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.quotas.accounts import Accounts
from ouzel.worker.store.job import FINAL, Job, State, timestamp
from ouzel.worker.store.protocol import ClientStore
from ouzel.worker.webhooks.receivers import NOBODY, Receivers
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.job_pb2_grpc import JobServiceServicer

_THREADS = 16
_LONGEST_WAIT = 60.0
_READ = 500  # events at a time


class JobService(Service, JobServiceServicer):
    """The service of jobs.

    Args:
        store: Holds the jobs.
        artifacts: Holds what jobs leave behind.
        catalogue: The models that jobs can be about.
        tokens: Tell the owners of calls.
        nudge: Called when a runner may have something to do.
        accounts: Of all owners.
        recorder: Records what is refused and what is deleted.
        denials: See `Service`.
        receivers: Who may be told of jobs.
        link_seconds: How long links to artifacts are valid; 0 gives none.
    """

    def __init__(
        self,
        store: ClientStore,
        artifacts: Artifacts,
        catalogue: Catalogue,
        tokens: Tokens,
        *,
        nudge: Callable[[], None],
        accounts: Accounts,
        recorder: Recorder,
        denials: Denials | None = None,
        receivers: Receivers = NOBODY,
        link_seconds: float = 0.0,
    ) -> None:
        super().__init__(tokens, threads=_THREADS, name="jobs", recorder=recorder, denials=denials)
        self._store, self._artifacts, self._catalogue = store, artifacts, catalogue
        self._nudge, self._accounts, self._receivers = nudge, accounts, receivers
        self._link_seconds = link_seconds
        self._watches = Watches(store)

    def close(self) -> None:
        """End those who watch and wait, so that they ask another worker, or later."""
        self._watches.close()

    @unary
    async def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> pb.Job:
        owner = self.owner(context)
        self._receivers.check(request.spec.notify, owner)
        seen = self._catalogue.seen_by(owner, self.may_name(context))
        if request.validate_only:
            new = await self.run(requests.new_job, request, seen)
            quote, refusal = await self.run(self._accounts.quoted, owner, new)
            if refusal is not None:
                raise refusal
            job = pb.Job(spec=request.spec, priority=request.priority, labels=request.labels, quote=quote)
            report = await self.run_slow(kinds.report_of, new.kind, new.spec, seen)
            if report is not None:
                job.result.summary.update(report)
            return job
        trace = tracing.carried()

        def accept() -> pb.Job:  # in one thread: each change of threads costs as much as the rest
            new = requests.new_job(request, seen)
            if trace:
                new.spec.traceparent, new.spec.tracestate = (trace.get(key, "") for key in tracing.KEYS)
            quote, refusal = self._accounts.quoted(owner, new)
            new = replace(new, refusal=refusal)
            job = self._store.create(owner, new, limits=self._accounts.limits(owner)).message()
            if quote is not None:
                job.quote.CopyFrom(quote)
            return job

        job = await self.run(accept)
        self._nudge()
        return job

    @unary
    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.Job:
        return (await self._get(context, request.id)).message()

    @unary
    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        page = await self.run(self._store.list, self.owner(context), requests.query(request))
        return pb.ListJobsResponse(jobs=[job.message() for job in page.jobs], next_page_token=page.next_page_token)

    @stream
    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.JobEvent]:
        if request.after_sequence < 0:
            raise InvalidArgument(f"after_sequence: {request.after_sequence} is negative", field="after_sequence")
        job = await self._get(context, request.id)
        sent = request.after_sequence
        if sent > job.last_sequence:
            raise InvalidArgument(
                f"after_sequence: {sent} is beyond the last event of {job.id}, {job.last_sequence}",
                field="after_sequence",
            )
        with self._watches.watch(request.id, job.last_sequence) as watch:
            events: list[pb.JobEvent] | None = None
            final = False  # whether what was sent last is the event of a final state
            while not self._watches.closing:
                if events is None:
                    events = await self._unsent(context, request.id, sent, final)
                    if events is None:
                        return
                for event in events:
                    yield event
                    sent, final = event.sequence, _is_final(event)
                # Read the store again in three cases. A full batch: there may be more events. A final state: the stream
                # ends, unless there was a retry. No events in time: other processes may have written some.
                look = len(events) == _READ or (bool(events) and final)
                events = watch.take(sent) if not look and await watch.news() else None
        raise Unavailable("the worker is stopping")

    @unary
    async def WaitJob(self, request: pb.WaitJobRequest, context: Context) -> pb.Job:
        seconds = _LONGEST_WAIT
        if request.HasField("timeout"):
            seconds = min(seconds, max(0.0, request.timeout.seconds + request.timeout.nanos / 1e9))
        deadline = asyncio.get_running_loop().time() + seconds
        job = await self._get(context, request.id)
        with self._watches.watch(request.id, job.last_sequence) as watch:
            while True:
                job = await self._get(context, request.id)
                left = deadline - asyncio.get_running_loop().time()
                if job.state in FINAL or left <= 0:
                    return job.message()
                if self._watches.closing:
                    raise Unavailable("the worker is stopping")
                await watch.news(left)
                watch.take(job.last_sequence)

    @unary
    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.Job:
        return await self._changed(self._store.cancel, self.owner(context), request.id)

    @unary
    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.Job:
        return await self._changed(self._store.pause, self.owner(context), request.id)

    @unary
    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.Job:
        return await self._changed(self._store.resume, self.owner(context), request.id)

    @unary
    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.Job:
        owner = self.owner(context)
        return await self._changed(self._store.retry, owner, request.id, limits=self._accounts.limits(owner))

    @unary
    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Context) -> Empty:
        owner = self.owner(context)
        job = await self._get(context, request.id)
        if job.state not in FINAL:  # the store refuses it, too, but then the entry is there already
            raise FailedPrecondition(f"{job.id} is {job.state.name}; only a job that has ended can be deleted")
        await self.run(self.recorder.append, Event("deletion", {"what": "job", "id": job.id}, owner=owner))
        await self.run(self._store.delete, owner, request.id)
        return Empty()

    @unary
    async def ListArtifacts(self, request: pb.ListArtifactsRequest, context: Context) -> pb.ListArtifactsResponse:
        artifacts = await self.run(self._store.artifacts, self.owner(context), request.id)
        if request.links and self._link_seconds:
            await self.run(self._add_links, artifacts)
        return pb.ListArtifactsResponse(artifacts=artifacts)

    @stream
    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[pb.ArtifactChunk]:
        artifact = await self.run(self._store.artifact, self.owner(context), request.id, request.name)
        within("offset", request.offset, 0, artifact.size)
        chunks = self._artifacts.read(artifact.sha256, request.offset)
        offset, first = request.offset, True
        while (chunk := await self.run(next, chunks, b"")) or first:
            yield pb.ArtifactChunk(offset=offset, data=chunk, artifact=artifact if first else None)
            offset, first = offset + len(chunk), False

    @unary
    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.Usage:
        return await self.run(self._accounts.usage, self.owner(context), requests.usage_days(request))

    def _add_links(self, artifacts: Sequence[pb.Artifact]) -> None:
        for each in artifacts:
            if (link := self._artifacts.link(each.sha256, self._link_seconds)) is not None:
                each.url = link.url
                each.url_expire_time.CopyFrom(timestamp(link.expires))

    async def _unsent(self, context: Context, name: str, sent: int, final: bool) -> list[pb.JobEvent] | None:
        """The events after `sent`; None if there are no more and the job's state is final."""
        try:
            job = await self._get(context, name)
        except NotFound:
            if final:  # deleted since, and all of it was sent
                return None
            raise
        if sent >= job.last_sequence:
            return None if job.state in FINAL else []
        return await self.run(self._store.events, job.owner, name, sent, _READ)

    async def _get(self, context: Context, job: str) -> Job:
        return await self.run(self._store.get, self.owner(context), job)

    async def _changed(self, method: Callable[..., Job], *args: Any, **more: Any) -> pb.Job:
        job = await self.run(method, *args, **more)
        self._nudge()
        return job.message()


def _is_final(event: pb.JobEvent) -> bool:
    return event.HasField("state_change") and State(event.state_change.state) in FINAL
