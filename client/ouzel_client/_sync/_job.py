# Generated from _async/_job.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""One job of the worker."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from ouzel_client._sync._transport import Transport
from ouzel_client._codec import jobs as wire
from ouzel_client._codec.job_fields import JobFields
from ouzel_client._codec.message import made
from ouzel_client._display.jobs import how_far, presenter
from ouzel_client._types.job_events import JobEvent
from ouzel_client._types.jobs import Artifact, JobResult
from ouzel_client.errors import (
    DataLoss,
    DeadlineExceeded,
    TransportError,
    Unavailable,
    WaitTimeout,
)
from ouzel_protos.v1 import job_pb2 as pb

_STREAM_SECONDS = 600.0  # then a new stream takes over
_ROUND = 30.0  # s of one wait
_SHOWN_BYTES = 64 * 2**20  # of images that come with a result
_SHOWN = ("images/", "crops/", "curves.png", "compared/", "mistakes/", "gate/", "repaired/")


class Job(JobFields):
    """A job, as it was at the last call. Other processes can get the same job: `client.jobs.get(job.id)`."""

    def __init__(self, transport: Transport, message: pb.Job) -> None:
        super().__init__(message)
        self._transport = transport

    def __repr__(self) -> str:
        done = how_far(self.progress.step, self.progress.steps, self.state)
        shown = (repr(self.id), self.kind, self.model, self.state, done)
        return f"{type(self).__name__}({', '.join(filter(None, shown))})"

    def refresh(self) -> Job:
        """Get its present state from the worker. Returns itself, as the methods below do."""
        return self._do("GetJob", pb.GetJobRequest(id=self.id))

    def cancel(self) -> Job:
        """Stop it; `wait` returns when it has stopped. A job that has ended stays as it is."""
        return self._do("CancelJob", pb.CancelJobRequest(id=self.id))

    def pause(self) -> Job:
        """Stop it after a checkpoint; `resume` continues it.

        Raises:
            FailedPrecondition: It has ended.
        """
        return self._do("PauseJob", pb.PauseJobRequest(id=self.id))

    def resume(self) -> Job:
        """Queue a paused job; it continues from its checkpoint.

        Raises:
            FailedPrecondition: It has ended.
        """
        return self._do("ResumeJob", pb.ResumeJobRequest(id=self.id))

    def retry(self) -> Job:
        """Queue a job that FAILED or was CANCELLED; it continues from its checkpoint.

        Raises:
            FailedPrecondition: It is in another state.
        """
        return self._do("RetryJob", pb.RetryJobRequest(id=self.id))

    def delete(self) -> None:
        """Remove it, with its artifacts.

        Raises:
            FailedPrecondition: It has not ended.
        """
        from google.protobuf.empty_pb2 import Empty

        self._transport.call(wire.SERVICE + "DeleteJob", pb.DeleteJobRequest(id=self.id), Empty)

    def events(self, after: int = 0) -> Generator[JobEvent]:
        """Yield its events in order, each once, until it has ended.

        It continues where it was after a lost connection or a restart of the worker. A job that is retried has more
        events afterwards: call this again, with `after` of the last event.

        Args:
            after: Only events with a larger sequence number.

        Raises:
            Unavailable: The worker does not answer for a minute.
            NotFound: The job was deleted.
            InvalidArgument: `after` is larger than the number of its last event.
        """
        since = time.monotonic()
        while True:
            try:
                request = made(pb.WatchJobRequest, id=self.id, after_sequence=after)
                with closing(
                    self._transport.stream(wire.SERVICE + "WatchJob", request, pb.JobEvent, _STREAM_SECONDS)
                ) as messages:
                    for message in messages:
                        since, after = time.monotonic(), message.sequence
                        self._follow(message)
                        yield wire.event(message)
                return
            except TransportError as error:
                since = time.monotonic() if isinstance(error, DeadlineExceeded) else since
                self._transport.patient_pause(since, error)

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended. Returns itself.

        Args:
            timeout: Seconds to wait, None for no limit. The job continues when they are over.

        Raises:
            WaitTimeout: It has not ended in this time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        since = time.monotonic()
        while True:
            left = _ROUND if deadline is None else min(_ROUND, deadline - time.monotonic())
            if left <= 0:
                raise WaitTimeout(f"{self.id} is {self.state} after {timeout:g} s; it goes on", job=self.id)
            request = pb.WaitJobRequest(id=self.id)
            request.timeout.FromMicroseconds(round(left * 1e6))
            try:
                self._do("WaitJob", request, left + _ROUND)
                since = time.monotonic()
            except Unavailable as error:
                self._transport.patient_pause(since, error)
            if self.done:
                return self

    def result(self, timeout: float | None = None, *, pictures: bool = True) -> JobResult:
        """Wait until it has ended, and download its result.

        Args:
            timeout: Seconds to wait, None for no limit. The job continues when they are over.
            pictures: Whether to download its images too.

        Returns:
            A FinetuneResult for a job of kind "finetune".

        Raises:
            JobFailed: It failed.
            JobCancelled: It was cancelled.
            WaitTimeout: It has not ended in this time.
        """
        self.wait(timeout)
        if (failure := self.failure) is not None:
            raise failure
        shown = [each for each in self._message.result.artifacts if each.name.startswith(_SHOWN)]
        if not pictures or sum(each.size for each in shown) > _SHOWN_BYTES:
            shown = []
        return wire.result(self._message, {each.name: self.download(each.name) for each in shown})

    def artifacts(self, *, links: bool = False) -> tuple[Artifact, ...]:
        """The files that it has made; empty before it has SUCCEEDED.

        Args:
            links: Whether to ask for links: URLs that are valid for some minutes, without credentials. A worker whose
                files lie in a folder has none.
        """
        request = pb.ListArtifactsRequest(id=self.id, links=links)
        listed = self._transport.call(wire.SERVICE + "ListArtifacts", request, pb.ListArtifactsResponse)
        return tuple(map(wire.artifact, listed.artifacts))

    def download(self, name: str, to: str | os.PathLike[str] | None = None) -> bytes:
        """Download an artifact, and check it against its digest. A broken stream continues where it was.

        Args:
            name: The name of the artifact.
            to: A file to write it to. The file is complete, or is not changed.

        Returns:
            Its content.

        Raises:
            NotFound: There is no such artifact.
            DataLoss: The content does not fit its digest.
        """
        with tempfile.TemporaryFile() as file:
            self._fetch(name, file)
            file.seek(0)
            content = file.read()
        if to is not None:
            _write(Path(to), content)
        return content

    def watch(self, progress: bool | None = None) -> Job:
        """Show its progress until it has ended: a bar on a terminal, with previews in a notebook; lines elsewhere.

        Args:
            progress: False shows nothing.
        """
        with presenter(self.id, progress) as show:
            with closing(self.events()) as events:
                for event in events:
                    show(event)
        return self.refresh()

    def _fetch(self, name: str, file: BinaryIO) -> None:
        sha256, offset, expected = hashlib.sha256(), 0, ""
        since = time.monotonic()
        while True:
            try:
                request = made(pb.DownloadArtifactRequest, id=self.id, name=name, offset=offset)
                stream = self._transport.stream(
                    wire.SERVICE + "DownloadArtifact", request, pb.ArtifactChunk, _STREAM_SECONDS
                )
                with closing(stream) as chunks:
                    for chunk in chunks:
                        expected = chunk.artifact.sha256 or expected
                        file.write(chunk.data)
                        sha256.update(chunk.data)
                        offset, since = offset + len(chunk.data), time.monotonic()
                break
            except TransportError as error:
                self._transport.patient_pause(since, error)
        if sha256.hexdigest() != expected:
            raise DataLoss(f"{name} of {self.id} came with other content than its digest says")

    def _do(self, name: str, request: Any, timeout: float | None = None) -> Job:
        self._message = self._transport.call(wire.SERVICE + name, request, pb.Job, timeout)
        return self


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
