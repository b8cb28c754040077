"""The job worker beside TorchServe: a process of its own, known here by its command only."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

from ouzel import secret_files
from ouzel.serving import config, extras, processes, readiness, state_folder
from ouzel.serving.errors import StartFailed
from ouzel.serving.options import HOST, ServingOptions
from ouzel_protos.local import Worker

logger = logging.getLogger(__name__)
LOG = "worker.log"
_POLL = 0.05
_LEFT = 5.0  # s for jobs of a worker that was killed to write their checkpoints


def installed() -> bool:
    """Whether the extra `worker` is installed."""
    return not extras.missing("worker")


def start(options: ServingOptions, *, again: bool = False) -> Worker | None:
    """Starts a worker and waits until it accepts jobs. One that runs with this state folder already is left as it is.

    Args:
        options: Of the services.
        again: Whether it follows one that died, whose log goes on.

    Returns:
        Its record; None if the extra `worker` is not installed.

    Raises:
        StartFailed: It ended, or was not ready in time.
    """
    if (worker := state_folder.running_worker(options.state)) is not None:
        return worker
    if not installed():
        logger.warning("no jobs are accepted: run `pip install 'ouzel[worker]'` for that")
        return None
    processes.stop(options.state, _LEFT, processes.WORKER)
    command = [sys.executable, "-m", "ouzel.cli.worker", "--state", str(options.state), "--store", str(options.store)]
    if options.door.worker_tokens is not None:  # by which the gateway brings its tenants
        command += ["--tokens", str(options.door.worker_tokens)]
    log = options.state / LOG
    with secret_files.open_log(log, append=again) as output:
        process = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(options.ports.worker)],
            env=os.environ | {config.RUN: str(options.state / "jobs"), processes.PART: processes.WORKER},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # as TorchServe: it is stopped in order, not by Ctrl-C
        )
    deadline = time.monotonic() + options.timeout
    while (worker := state_folder.running_worker(options.state)) is None:
        if (status := process.poll()) is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise StartFailed(f"the worker ended with status {status}: {' '.join(said)}; the log is {log}")
        if time.monotonic() > deadline:
            raise StartFailed(
                f"the worker was not ready after {options.timeout:g} s ({readiness.PATIENCE}); the log is {log}"
            )
        time.sleep(_POLL)
    return worker
