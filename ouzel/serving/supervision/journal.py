"""Who watches over the services of a state folder, as others see it: the record, and how to talk to the process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ouzel import secret_files
from ouzel.serving import config, processes, state_folder
from ouzel.serving.errors import StartFailed
from ouzel_protos.local import SUPERVISOR

LOG = "supervisor.log"
NUDGE = signal.SIGUSR1  # start at once what is missing
_ENDS = 30.0  # s in which it stops all parts when it is asked to end: the gateway, then the others
_APPEARS = 30.0  # s in which a new one must have recorded itself
_POLL = 0.05


@dataclass(frozen=True)
class Restarts:
    """What the supervisor did for one part.

    Attributes:
        restarts: How often it was started again.
        last: When, in seconds since the epoch.
        reason: Why.
        trouble: Why the last try failed; "" unless the part is down.
        next: When the next try is, in seconds since the epoch.
        starting: Whether it starts now.
        progress: How far that is: "model-3 1, 4 of 20".
    """

    restarts: int = 0
    last: float = 0.0
    reason: str = ""
    trouble: str = ""
    next: float = 0.0
    starting: bool = False
    progress: str = ""


@dataclass(frozen=True)
class Supervision:
    """The record of a supervisor.

    Attributes:
        pid: Of its process.
        create_time: When that began, in seconds since the epoch.
        hung_after: Time without an answer after which it starts a part again, in seconds.
        parts: What it did, by name.
    """

    pid: int
    create_time: float
    hung_after: float  # s without an answer after which it starts a part again
    parts: dict[str, Restarts] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return processes.find(self.pid, self.create_time) is not None


def read(state: Path) -> Supervision | None:
    """What is recorded; None if the services of `state` never had a supervisor."""
    content = state_folder.read(state, SUPERVISOR)
    try:
        parts = {name: Restarts(**values) for name, values in (content or {}).pop("parts").items()}
        return Supervision(**(content or {}), parts=parts)
    except (KeyError, TypeError, AttributeError):
        return None


def write(state: Path, record: Supervision) -> None:
    """Records what the supervisor did."""
    state_folder.write(state, SUPERVISOR, asdict(record))


def nudge(record: Supervision) -> None:
    """Has the supervisor start at once what is missing, whatever pause it is in."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, NUDGE)


def end(state: Path) -> bool:
    """Ends the supervisor of `state`, which stops the parts; returns whether there was one."""
    record = read(state)
    process = processes.find(record.pid, record.create_time) if record else None
    if process is None or process.pid == os.getpid():
        return False
    processes.end(process, _ENDS)
    return True


def spawn(state: Path, lock: int) -> None:
    """Starts a supervisor in the background, which inherits the lock of the state folder. Raises StartFailed."""
    log = state / LOG
    with secret_files.open_log(log, append=True) as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ouzel.cli.supervisor", "--state", str(state)],
            env=os.environ | {config.RUN: str(state / "supervisor"), processes.PART: processes.SUPERVISOR},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
    deadline = time.monotonic() + _APPEARS
    while (record := read(state)) is None or record.pid != process.pid:
        if (status := process.poll()) is not None or time.monotonic() > deadline:
            process.kill()
            raise StartFailed(f"the supervisor did not start (status {status}); the log is {log}")
        time.sleep(_POLL)
