"""What Ray starts for a job: checks that the node can run it, then runs the job's process and tidies up behind it.

    python -m ouzel.worker.processes.ray_guard --job ID --attempt N

Ray ends a job's children only where the job was stopped, and not where it died. This process stays in the process group
that Ray has made, with the job's process and its children: when the first is gone, so are the others. It ends as the
job's process has ended, so that Ray knows the exit status. When it is killed, the job's process ends itself, as on one
machine. Both are ended by Ray if the node's Ray dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time

import psutil

from ouzel.errors import FailedPrecondition
from ouzel.worker.processes import shared_folders

MODULE = "ouzel.worker.processes.ray_guard"
MARKS = "OUZEL_SHARED_FOLDERS"  # the variable with the folders' marks, as JSON
NOT_SHARED = 3  # the exit status of a node that sees other folders
_JOB = "ouzel.worker.processes.job_process"
_TIDY = 5.0  # s


def main() -> int:
    """Runs the job that the arguments and the environment name; returns the exit status."""
    try:
        shared_folders.check(json.loads(os.environ.pop(MARKS, "{}")))
    except FailedPrecondition as error:
        sys.stderr.write(f"{error}\n")
        return NOT_SHARED
    process = subprocess.Popen([sys.executable, "-m", _JOB, *sys.argv[1:]], stdin=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    code = process.wait()
    _end_group()
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _end_group() -> None:
    """Kills whoever is left of this process group, but not this process."""
    group, deadline = os.getpgrp(), time.monotonic() + _TIDY
    if group != os.getpid():  # somebody runs it by hand, in a group of theirs
        return
    while time.monotonic() < deadline:
        left = [pid for pid in psutil.pids() if pid != os.getpid() and _is_alive(pid, group)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _is_alive(pid: int, group: int) -> bool:
    with contextlib.suppress(OSError, psutil.Error):
        return os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


if __name__ == "__main__":
    sys.exit(main())
