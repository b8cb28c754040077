"""What the process of a job has to do with the world: it tells how it goes, saves what it would be sad to lose, and
asks whether it shall go on.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ouzel.errors import OuzelError
from ouzel.worker.artifacts import Artifacts
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.store.job import Lease
from ouzel.worker.store.protocol import LeaseLost, WorkerStore
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.torchserve.publication import Server

_PROGRESS_SECONDS = 0.25
_PREVIEW_SECONDS = 2.0
_SIGN_SECONDS = 30.0
LARGEST_PREVIEW = 64 * 2**10  # bytes


@dataclass(frozen=True)
class File:
    """name: a relative path, unique within the job."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class JobOutput:
    """What a job leaves behind. summary: figures by name, of JSON's types."""

    files: Sequence[File]
    summary: Mapping[str, Any]


class JobInterrupted(Exception):
    """Raised by a kind when it has stopped because `stop_wanted`, after its checkpoint."""


class JobContext:
    """What a kind may ask and tell while its job runs.

    Args:
        store: The job store.
        lease: The right to work on the job.
        environment: What all jobs are told.
        owner: Owner of the job.
        checkpoint: What an earlier attempt has saved, None at the first.
        batch_scale: 1, and less after the job ran out of memory: the share of a usual batch that is computed at a time.
        stop: Set when the job is to stop.

    Attributes:
        job: Id of the job.
        attempt: Number of the attempt, from 1 on.
        uploads: The data sets of callers.
    """

    def __init__(
        self,
        store: WorkerStore,
        lease: Lease,
        environment: JobEnvironment,
        *,
        stop: threading.Event,
        owner: str = "",
        checkpoint: bytes | None = None,
        batch_scale: float = 1.0,
    ) -> None:
        self.environment, self.owner, self.checkpoint, self.batch_scale = environment, owner, checkpoint, batch_scale
        self.job, self.attempt = lease.job, lease.attempt
        self.uploads = Datasets(environment.uploads)
        self._store, self._lease, self._stop = store, lease, stop
        self._artifacts = Artifacts(environment.artifacts)
        self._saved = time.monotonic()
        # Their own bytes for every job: so none shares the file of another's checkpoint, and it can go.
        self._mark = f"{lease.job}\n".encode()
        self._last = "" if checkpoint is None else hashlib.sha256(self._mark + checkpoint).hexdigest()
        self._progress_told = self._preview_shown = float("-inf")

    def check_lease(self) -> None:
        """Raises LeaseLost if others have the job by now: for the moment before something that others see."""
        self._store.require_lease(self._lease)

    @property
    def serving(self) -> Server | None:
        """The TorchServe that tuned models are published in, if there is one at this moment."""
        from ouzel.torchserve import publication  # most jobs never need it, and all wait for what is imported

        return publication.Server.found(self.environment.serving)

    @property
    def serving_expected(self) -> bool:
        """Whether there is meant to be one, be it down at this moment."""
        from ouzel.torchserve import publication

        return publication.expected(self.environment.serving)

    def progress(self, step: int, steps: int = 0, phase: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """step: 0, 1, ... of `steps`, 0 while unknown. Told at most four times a second, but the last always."""
        now = time.monotonic()
        if now - self._progress_told < _PROGRESS_SECONDS and step != steps:
            return
        self._progress_told = now
        events = [pb.JobEvent(progress=pb.Progress(step=step, steps=steps, phase=phase))]
        if metrics:
            events.append(pb.JobEvent(metric=pb.Metric(step=step, values=metrics)))
        self._store.emit(self._lease, events)

    @contextmanager
    def keepalive(self, phase: str) -> Iterator[None]:
        """For what takes long, says nothing, and bounds its time itself: the watchdog hears of it from here."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(_SIGN_SECONDS):
                with suppress(LeaseLost, OuzelError):  # whoever works on finds out
                    self.progress(0, phase=phase)

        thread = threading.Thread(target=tell, name="keepalive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def preview_wanted(self) -> bool:
        """Whether it is time for another preview, one in two seconds."""
        return time.monotonic() - self._preview_shown >= _PREVIEW_SECONDS

    def preview(self, step: int, images: Sequence[tuple[str, bytes]]) -> None:
        """images: titles, and PNG files of at most 64 KiB; larger ones are left out."""
        self._preview_shown = time.monotonic()
        self._store.emit(
            self._lease,
            [
                pb.JobEvent(preview=pb.Preview(step=step, title=title, media_type="image/png", image=image))
                for title, image in images
                if len(image) <= LARGEST_PREVIEW
            ],
        )

    def log(self, message: str, level: pb.Log.Level = pb.Log.INFO) -> None:
        self._store.emit(self._lease, [pb.JobEvent(log=pb.Log(level=level, message=message[:4096]))])

    def save_wanted(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved >= self.environment.checkpoint_seconds

    def save(self, checkpoint: bytes) -> None:
        """Make it durable: the next attempt gets it as `checkpoint`. The one before goes: many fill disks."""
        digest, _ = self._artifacts.put(self._mark + checkpoint)
        self._store.checkpoint(self._lease, digest)
        if self._last not in ("", digest):
            self._artifacts.discard(self._last)
        self._last = digest
        self._saved = time.monotonic()

    def stop_within(self, seconds: float) -> bool:
        """Wait; returns early, and True, when `stop_wanted`."""
        return self._stop.wait(seconds)

    def stop_wanted(self) -> bool:
        """Whether to save and raise JobInterrupted: cancelled, paused, or the worker is going down."""
        return self._stop.is_set()
