"""What runs the processes of jobs. An executor knows processes, nothing of states: the store is the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Protocol

VARIABLE = "OUZEL_JOB"  # holds the task, as JSON; not among the arguments, which everybody may see


@dataclass(frozen=True)
class Task:
    """All that the process of a job must know.

    worker: who holds the lease. store: URL of the job store. artifacts, models: folders. datasets: folders by the name
    that callers use. kinds: the package whose modules are the kinds of jobs. checkpoint_seconds: between two
    checkpoints. retries: as `policy.Retries` has them. environment: variables. serving: where the TorchServe is found
    that tuned models are published in, see `ouzel.torchserve.publication.Server.found`; None if there is none. uploads:
    folder of the data sets of callers.
    """

    job: str
    attempt: int
    worker: str
    store: str
    artifacts: str
    models: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    kinds: str = "ouzel.worker.kinds"
    checkpoint_seconds: float = 10.0
    retries: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    serving: Mapping[str, str] | None = None
    uploads: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        return cls(**json.loads(text))


class State(Enum):
    RUNNING = "running"
    ENDED = "ended"
    # Nobody can tell from here: not the same as ended.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """code: exit status, negative for a signal; None if it is not known."""

    state: State
    code: int | None = None


class Executor(Protocol):
    """Runs `python -m ouzel.worker.processes.job_process` for a task, somewhere. Any thread may call any method."""

    def submit(self, task: Task) -> str:
        """Start it; returns the handle that the other methods take, also in other processes and after a restart."""

    def probe(self, handle: str) -> Probe:
        """Never raises: UNKNOWN is an answer."""

    def stop(self, handle: str, *, kill: bool = False) -> None:
        """Ask it to end after its next checkpoint, or end it with all its children. One that has ended is left so."""

    def logs(self, handle: str, last: int = 4096) -> str:
        """The end of what it has written to its output, in so many characters; "" if that is gone."""
