"""What a job's process reports to the store, and what it asks: progress, checkpoints, whether to go on."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouzel.errors import OuzelError
from ouzel.ledger.recorder import Event, Recorded, Recorder
from ouzel.telemetry.phases import Phases
from ouzel.worker.artifacts.patience import patiently
from ouzel.worker.artifacts.protocol import StorageAway
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.store.job import Lease
from ouzel.worker.store.protocol import LeaseLost, WorkerStore
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.torchserve.server import Server

_PROGRESS_SECONDS = 0.25
_PREVIEW_SECONDS = 2.0
_SIGN_SECONDS = 30.0
LARGEST_PREVIEW = 64 * 2**10  # bytes


@dataclass(frozen=True)
class File:
    """A file that a job leaves behind.

    Attributes:
        name: A relative path, unique within the job.
        media_type: "image/png", for instance.
        content: Of the file.
    """

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class JobOutput:
    """What a job leaves behind.

    Attributes:
        files: Become the job's artifacts.
        summary: Figures by name, of JSON's types.
    """

    files: Sequence[File]
    summary: Mapping[str, Any]


def proof_files(recorded: Recorded | None, folder: str = "ledger") -> list[File]:
    """What proves an entry of the log, as artifacts in a folder; nothing without a log."""
    if recorded is None:
        return []
    return [
        File(f"{folder}/entry.json", "application/json", recorded.entry),
        File(f"{folder}/entry.salt", "text/plain", recorded.salt.hex().encode() + b"\n"),
        File(f"{folder}/entry.tlog-proof", "text/plain", recorded.proof.encode()),
    ]


class JobInterrupted(Exception):
    """Raised by a kind that has stopped because of `stop_wanted`, after its checkpoint."""


class JobContext:
    """What a kind may ask and tell while its job runs.

    Args:
        store: The job store.
        lease: The right to work on the job.
        environment: The settings that all jobs share.
        owner: Owner of the job.
        checkpoint: What an earlier attempt has saved, None at the first.
        batch_scale: 1, and less after the job ran out of memory: the share of a usual batch that is computed at a time.
        stop: Set when the job is to stop.

    Attributes:
        job: Id of the job.
        attempt: Number of the attempt, from 1 on.
        uploads: The data sets of callers.
        stop: Set when the job is to stop.
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
        self.uploads = Datasets(environment.uploads, cache=environment.upload_cache)
        self._store, self._lease, self.stop = store, lease, stop
        self._artifacts = environment.open_artifacts()
        self._recorder = Recorder(Path(environment.ledger) if environment.ledger else None)
        self._saved = time.monotonic()
        self._phases = Phases()
        # The mark makes the bytes unique to the job. Two jobs then never share a checkpoint file, so it can be removed.
        self._mark = f"{lease.job}\n".encode()
        self._last = "" if checkpoint is None else hashlib.sha256(self._mark + checkpoint).hexdigest()
        self._told_away = False
        self._progress_told = self._preview_shown = float("-inf")

    def check_lease(self) -> None:
        """Checks that the job still belongs to this process; to be called before something that others see.

        Raises:
            LeaseLost: Another worker has the job by now.
        """
        self._store.require_lease(self._lease)

    @property
    def serving(self) -> Server | None:
        """The TorchServe that serves tuned models; None if it does not run at this moment."""
        from ouzel.torchserve.server import Server  # most jobs never need it, and all wait for what is imported

        return Server.found(self.environment.serving)

    @property
    def serving_expected(self) -> bool:
        """Whether a TorchServe is meant to run, even if it is down at this moment."""
        from ouzel.torchserve.server import expected

        return expected(self.environment.serving)

    def record(self, kind: str, facts: Mapping[str, Any]) -> Recorded | None:
        """Makes something an entry of the log; the same facts once for each attempt of the job.

        Args:
            kind: One of `ouzel.ledger.KINDS`.
            facts: What happened; the job's id is added.

        Returns:
            The entry with its proof; None without a log.

        Raises:
            OuzelError: It is not known to be recorded, and what it is about must not happen.
        """
        told = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        key = f"job:{self.job}:{self.attempt}:{kind}:{told[:16]}"
        whole = {**facts, "job": self.job, "attempt": self.attempt}
        return self._recorder.proven(Event(kind, whole, owner=self.owner, key=key))

    def end_phase(self) -> None:
        """Ends the span of the last phase that `progress` told: what the kind does is over."""
        self._phases.close()

    def close(self) -> None:
        """Closes the log, and the span of the last phase."""
        self._phases.close()
        self._recorder.close()

    def progress(self, step: int, steps: int = 0, phase: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """Reports progress: at most four times a second, and always the last step.

        Args:
            step: 0, 1, ... of `steps`.
            steps: 0 while unknown.
            phase: What is being done, in a word.
            metrics: Figures of this step, by name.
        """
        self._phases.enter(phase)
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
        """Reports a sign of life every 30 s while the block runs, for work that is long and silent.

        Without one the watchdog would end the process. The block must bound its time itself.

        Args:
            phase: What is being done.
        """
        over = threading.Event()

        def tell() -> None:
            while not over.wait(_SIGN_SECONDS):
                with suppress(LeaseLost, OuzelError):  # the job itself finds out
                    self.progress(0, phase=phase)

        thread = threading.Thread(target=tell, name="keepalive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def preview_wanted(self) -> bool:
        """Whether it is time for another preview: one every two seconds."""
        return time.monotonic() - self._preview_shown >= _PREVIEW_SECONDS

    def preview(self, step: int, images: Sequence[tuple[str, bytes]]) -> None:
        """Reports preview images.

        Args:
            step: The step that they show.
            images: Titles, and PNG files of at most 64 KiB; larger ones are left out.
        """
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
        """Reports a message.

        Args:
            message: Cut off after 4096 characters.
            level: Of the message.
        """
        self._store.emit(self._lease, [pb.JobEvent(log=pb.Log(level=level, message=message[:4096]))])

    def save_wanted(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved >= self.environment.checkpoint_seconds

    def save(self, checkpoint: bytes, events: Sequence[pb.JobEvent] = (), *, needed: bool = False) -> None:
        """Stores a checkpoint durably. The next attempt gets it as `checkpoint`; the one before is removed.

        While the storage is away, the one before stays, and the job goes on. A checkpoint with events, or one that is
        needed, waits for the storage instead.

        Args:
            checkpoint: As the kind reads it again.
            events: Of what it says, which are told if and only if it is stored.
            needed: Whether the job must not go on without it.

        Raises:
            ResourceExhausted: The disk is full.
            StorageAway: The storage was away for long, and the checkpoint is needed.
            LeaseLost: Another worker has the job by now.
        """
        self._saved = time.monotonic()
        try:
            content = self._mark + checkpoint
            put = partial(self._artifacts.put, content)
            digest, _ = patiently(put, self.stop) if events or needed else put()
        except StorageAway:
            if events or needed:
                raise
            if not self._told_away:
                self.log("the storage is away: no checkpoint is stored until it is back", pb.Log.WARNING)
            self._told_away = True
            return
        self._store.checkpoint(self._lease, digest, events)
        if self._last not in ("", digest):
            with suppress(StorageAway):  # then a later look for what nobody needs removes it
                self._artifacts.discard(self._last)
        self._last, self._told_away = digest, False
        self._saved = time.monotonic()

    def stop_within(self, seconds: float) -> bool:
        """Waits, but not on when the job is to stop.

        Args:
            seconds: How long at most.

        Returns:
            Whether the job is to stop.
        """
        return self.stop.wait(seconds)

    def stop_wanted(self) -> bool:
        """Whether to save and raise JobInterrupted: the job was cancelled or paused, or the worker goes down."""
        return self.stop.is_set()
