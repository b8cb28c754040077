"""What a job says of itself, from its message: the same for both clients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ouzel_client._codec import jobs as wire
from ouzel_client._codec.usage import quote as quote_of
from ouzel_client._types.job_events import Progress
from ouzel_client._types.job_states import FINAL, State
from ouzel_client._types.usage import Quote
from ouzel_client.errors import JobCancelled, JobFailed
from ouzel_protos.v1 import job_pb2 as pb


class JobFields:
    """A job as it was at the last call."""

    def __init__(self, message: pb.Job) -> None:
        self._message = message
        self._quote = quote_of(message)  # which only the answer to its creation has

    @property
    def quote(self) -> Quote | None:
        """What it will probably cost, as the worker said when it was created; None if too few jobs like it are known,
        and of a job that was got by its id.
        """
        return self._quote

    @property
    def id(self) -> str:
        """What the worker calls it; `client.jobs.get(job.id)` gets it in another process."""
        return self._message.id

    @property
    def kind(self) -> str:
        """One of "maximize", "search_activations", "finetune" and "audit"."""
        return self._message.spec.WhichOneof("kind") or ""

    @property
    def state(self) -> State:
        """Its state, in capitals: "QUEUED", "RUNNING", "SUCCEEDED", ..."""
        state: State = wire.state(self._message.state)
        return state

    @property
    def attempt(self) -> int:
        """The number of the present attempt, from 1 on; 0 before the first start."""
        return self._message.attempt

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return wire.progress(self._message.progress)

    @property
    def model(self) -> str:
        """The model that it is about, "NAME" or "NAME@VERSION"; for a fine-tuning, the new model; for an audit of an
        endpoint, the endpoint.
        """
        return wire.model(self._message)

    @property
    def created(self) -> datetime | None:
        """When it was accepted."""
        return wire.time_of(self._message, "create_time")

    @property
    def started(self) -> datetime | None:
        """When it first ran, or None."""
        return wire.time_of(self._message, "start_time")

    @property
    def ended(self) -> datetime | None:
        """When it ended, successfully or not, or None."""
        return wire.time_of(self._message, "end_time")

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its request."""
        return dict(self._message.labels)

    @property
    def duration(self) -> float | None:
        """Seconds from `started` to `ended`, or until now, pauses included. None before it ran."""
        if self.started is None:
            return None
        return max(0.0, ((self.ended or datetime.now(UTC)) - self.started).total_seconds())

    @property
    def priority(self) -> int:
        """Jobs of a higher priority run first."""
        return self._message.priority

    @property
    def last_sequence(self) -> int:
        """The number of its newest event; `events(after=...)` continues from there."""
        return self._message.last_sequence

    @property
    def done(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state in FINAL

    @property
    def failure(self) -> JobFailed | JobCancelled | None:
        """Why it did not succeed. None if it did, or has not ended."""
        return wire.failure(self._message) if self.done and self.state != "SUCCEEDED" else None

    def _follow(self, message: pb.JobEvent) -> None:
        """Apply an event."""
        if message.HasField("progress"):
            self._message.progress.CopyFrom(message.progress)
        elif message.HasField("state_change"):
            wire.follow(self._message, message)
        self._message.attempt = message.attempt
        self._message.last_sequence = max(self._message.last_sequence, message.sequence)
