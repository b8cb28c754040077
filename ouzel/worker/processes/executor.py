"""What runs the processes of jobs. An executor knows processes, nothing of states: the store is the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ouzel.worker.environment import JobEnvironment

VARIABLE = "OUZEL_JOB"  # holds the task, as JSON; not among the arguments, which everybody may see


@dataclass(frozen=True)
class Task:
    """All that the process of a job must know.

    Attributes:
        job: Id of the job.
        attempt: Number of the attempt, from 1 on.
        worker: Who holds the lease.
        environment: What all jobs of the worker have in common.
        variables: Environment variables of the process, CUDA_VISIBLE_DEVICES above all.
        kind: Of the job, which says what the process needs.
        patience: Seconds without a heartbeat of its lease after which the process goes back into the queue; 0 where it
            ends with the one that started it.
        workers: Processes that compute the job together, each with as much as a job of one has.
    """

    job: str
    attempt: int
    worker: str
    environment: JobEnvironment
    variables: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    patience: float = 0.0
    workers: int = 1

    def to_json(self) -> str:
        """The task as the variable `VARIABLE` holds it."""
        return json.dumps(vars(self) | {"environment": self.environment.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The reverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"environment": JobEnvironment.from_dict(values["environment"])})


class State(Enum):
    """Whether a job's process runs."""

    RUNNING = "running"
    ENDED = "ended"
    # Nobody can tell now. The process may still run.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """What is known of a process.

    Attributes:
        state: Whether it runs.
        code: Exit status, negative for a signal; None if it is not known.
    """

    state: State
    code: int | None = None


class Executor(Protocol):
    """Runs the module `ouzel.worker.processes.job_process` for a task, somewhere. Any thread may call any method."""

    def submit(self, task: Task) -> str:
        """Starts a job's process.

        Args:
            task: What it must know.

        Returns:
            The handle that the other methods take, also in other processes and after a restart.

        Raises:
            Unavailable: What runs the processes does not answer. If it has started one all the same, that finds its
                lease gone.
        """

    def ready(self) -> bool:
        """Whether processes can be started now, as far as is known without waiting."""

    def probe(self, handle: str) -> Probe:
        """Never raises: UNKNOWN is an answer."""

    def stop(self, handle: str, *, kill: bool = False) -> None:
        """Asks a process to end after its next checkpoint. One that has ended is left as it is.

        Args:
            handle: Of the process.
            kill: Whether to end it at once, with all its children.
        """

    def close(self) -> None:
        """Looks after no process any longer. The processes go on."""

    def logs(self, handle: str, last: int = 4096) -> str:
        """The end of what a process has written to its output.

        Args:
            handle: Of the process.
            last: How many characters.

        Returns:
            The text; "" if it is gone.
        """
