"""One job of the worker."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ouzel_client._async._transport import AsyncTransport
from ouzel_client._codec import jobs as wire
from ouzel_client._codec.message import made
from ouzel_client._display.jobs import how_far, presenter
from ouzel_client._types.jobs import FINAL, Artifact, JobEvent, JobResult, Progress, State
from ouzel_client.errors import (
    DataLoss,
    DeadlineExceeded,
    JobCancelled,
    JobFailed,
    TransportError,
    Unavailable,
    WaitTimeout,
)
from ouzel_protos.v1 import job_pb2 as pb

_STREAM_SECONDS = 600.0  # then a new stream takes over
_ROUND = 30.0  # s of one wait
_SHOWN_BYTES = 64 * 2**20  # of images that come with a result
_SHOWN = ("images/", "crops/", "curves.png", "compared/", "mistakes/")


class AsyncJob:
    """A job, as it was at the last call. Several processes may hold the same one: `client.jobs.get(job.id)`."""

    def __init__(self, transport: AsyncTransport, message: pb.Job) -> None:
        self._transport = transport
        self._message = message

    @property
    def id(self) -> str:
        return self._message.id

    @property
    def kind(self) -> str:
        """ "maximize", "search_activations" or "finetune"."""
        return self._message.spec.WhichOneof("kind") or ""

    @property
    def state(self) -> State:
        found: State = wire.state(self._message.state)
        return found

    @property
    def attempt(self) -> int:
        """Counts from 1; 0 before the first start."""
        return self._message.attempt

    @property
    def progress(self) -> Progress:
        return wire.progress(self._message.progress)

    @property
    def model(self) -> str:
        """The model that it is about, "NAME" or "NAME@VERSION"; of a fine-tuning the new one."""
        return wire.model(self._message)

    @property
    def created(self) -> datetime | None:
        """When it was accepted."""
        return wire.time_of(self._message, "create_time")

    @property
    def started(self) -> datetime | None:
        """When it was first run; None before that."""
        return wire.time_of(self._message, "start_time")

    @property
    def ended(self) -> datetime | None:
        """When it ended, in one way or another; None before that."""
        return wire.time_of(self._message, "end_time")

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self._message.labels)

    @property
    def duration(self) -> float | None:
        """Seconds from `started` to `ended`, or until now, pauses included. None before it ran."""
        if self.started is None:
            return None
        return max(0.0, ((self.ended or datetime.now(UTC)) - self.started).total_seconds())

    @property
    def priority(self) -> int:
        """Higher runs first."""
        return self._message.priority

    @property
    def last_sequence(self) -> int:
        """Number of its newest event; `events(after=...)` goes on from there."""
        return self._message.last_sequence

    @property
    def done(self) -> bool:
        """Whether it has ended, in one way or another."""
        return self.state in FINAL

    @property
    def failure(self) -> JobFailed | JobCancelled | None:
        """Why it did not succeed; None for one that did, or has not ended."""
        return wire.failure(self._message) if self.done and self.state != "SUCCEEDED" else None

    def __repr__(self) -> str:
        done = how_far(self.progress.step, self.progress.steps, self.state)
        shown = (repr(self.id), self.kind, self.model, self.state, done)
        return f"{type(self).__name__}({', '.join(filter(None, shown))})"

    async def refresh(self) -> AsyncJob:
        """Ask how it stands; returns itself."""
        return await self._do("GetJob", pb.GetJobRequest(id=self.id))

    async def cancel(self) -> AsyncJob:
        """Have it stopped; `wait` tells when it is. One that has ended stays as it is."""
        return await self._do("CancelJob", pb.CancelJobRequest(id=self.id))

    async def pause(self) -> AsyncJob:
        """Have it write a checkpoint and free its processor. Raises FailedPrecondition if it has ended."""
        return await self._do("PauseJob", pb.PauseJobRequest(id=self.id))

    async def resume(self) -> AsyncJob:
        """Queue a paused job. Raises FailedPrecondition if it has ended."""
        return await self._do("ResumeJob", pb.ResumeJobRequest(id=self.id))

    async def retry(self) -> AsyncJob:
        """Queue a job that FAILED or was CANCELLED; it goes on from its checkpoint."""
        return await self._do("RetryJob", pb.RetryJobRequest(id=self.id))

    async def delete(self) -> None:
        """Remove a job that has ended, with its artifacts. Raises FailedPrecondition."""
        from google.protobuf.empty_pb2 import Empty

        await self._transport.call(wire.SERVICE + "DeleteJob", pb.DeleteJobRequest(id=self.id), Empty)

    async def events(self, after: int = 0) -> AsyncGenerator[JobEvent]:
        """Every event with sequence > `after`, in order, each once. Ends when the job has, at once if it had before and
        no event is left. One that is retried later has more: ask again, after the last that you have.

        A lost connection, a worker that is started anew, a stream that grew old: it goes on where it was. Raises
        Unavailable if the worker stays away for a minute, NotFound if the job is deleted meanwhile, and InvalidArgument
        for an `after` beyond its last event.
        """
        since = time.monotonic()
        while True:
            try:
                request = made(pb.WatchJobRequest, id=self.id, after_sequence=after)
                async with aclosing(
                    self._transport.stream(wire.SERVICE + "WatchJob", request, pb.JobEvent, _STREAM_SECONDS)
                ) as messages:
                    async for message in messages:
                        since, after = time.monotonic(), message.sequence
                        self._follow(message)
                        yield wire.event(message)
                return
            except TransportError as error:
                since = time.monotonic() if isinstance(error, DeadlineExceeded) else since
                await self._transport.patient_pause(since, error)

    async def wait(self, timeout: float | None = None) -> AsyncJob:
        """Until it has ended; returns itself. Raises WaitTimeout after `timeout` seconds; the job goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        since = time.monotonic()
        while True:
            left = _ROUND if deadline is None else min(_ROUND, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimeout(f"{self.id} is {self.state} after {timeout:g} s; it goes on", job=self.id)
            request = pb.WaitJobRequest(id=self.id)
            request.timeout.FromMicroseconds(round(left * 1e6))
            try:
                await self._do("WaitJob", request, left + _ROUND)
                since = time.monotonic()
            except Unavailable as error:
                await self._transport.patient_pause(since, error)
            if self.done:
                return self

    async def result(self, timeout: float | None = None, *, pictures: bool = True) -> JobResult:
        """Wait for it, and fetch what it found; of kind finetune, a FinetuneResult.

        pictures: False leaves the images where they are. Raises JobFailed, JobCancelled or WaitTimeout.
        """
        await self.wait(timeout)
        if (failure := self.failure) is not None:
            raise failure
        shown = [each for each in self._message.result.artifacts if each.name.startswith(_SHOWN)]
        if not pictures or sum(each.size for each in shown) > _SHOWN_BYTES:
            shown = []
        return wire.result(self._message, {each.name: await self.download(each.name) for each in shown})

    async def artifacts(self) -> tuple[Artifact, ...]:
        """The files that it left behind; none before it has SUCCEEDED."""
        found = await self._transport.call(
            wire.SERVICE + "ListArtifacts", pb.ListArtifactsRequest(id=self.id), pb.ListArtifactsResponse
        )
        return tuple(map(wire.artifact, found.artifacts))

    async def download(self, name: str, to: str | os.PathLike[str] | None = None) -> bytes:
        """The content of an artifact, checked against its digest; written to the file `to` as well, if that is given.

        A broken stream goes on where it was. Raises NotFound or DataLoss.
        """
        with tempfile.TemporaryFile() as file:
            await self._fetch(name, file)
            file.seek(0)
            content = file.read()
        if to is not None:
            _write(Path(to), content)
        return content

    async def watch(self, progress: bool | None = None) -> AsyncJob:
        """Show how it goes until it has ended: a bar on a terminal, with previews in a notebook; lines elsewhere.

        progress: False shows nothing. Returns itself.
        """
        with presenter(self.id, progress) as show:
            async with aclosing(self.events()) as events:
                async for event in events:
                    show(event)
        return await self.refresh()

    async def _fetch(self, name: str, file: BinaryIO) -> None:
        sha256, offset, expected = hashlib.sha256(), 0, ""
        since = time.monotonic()
        while True:
            try:
                request = made(pb.DownloadArtifactRequest, id=self.id, name=name, offset=offset)
                stream = self._transport.stream(
                    wire.SERVICE + "DownloadArtifact", request, pb.ArtifactChunk, _STREAM_SECONDS
                )
                async with aclosing(stream) as chunks:
                    async for chunk in chunks:
                        expected = chunk.artifact.sha256 or expected
                        file.write(chunk.data)
                        sha256.update(chunk.data)
                        offset, since = offset + len(chunk.data), time.monotonic()
                break
            except TransportError as error:
                await self._transport.patient_pause(since, error)
        if sha256.hexdigest() != expected:
            raise DataLoss(f"{name} of {self.id} came with other content than its digest says")

    async def _do(self, name: str, request: Any, timeout: float | None = None) -> AsyncJob:
        self._message = await self._transport.call(wire.SERVICE + name, request, pb.Job, timeout)
        return self

    def _follow(self, message: pb.JobEvent) -> None:
        """What an event tells of the job itself."""
        if message.HasField("progress"):
            self._message.progress.CopyFrom(message.progress)
        elif message.HasField("state_change"):
            wire.follow(self._message, message)
        self._message.attempt = message.attempt
        self._message.last_sequence = max(self._message.last_sequence, message.sequence)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
