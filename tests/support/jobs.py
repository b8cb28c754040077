"""Runners over real processes of stub kinds."""

from __future__ import annotations

import atexit
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from ouzel.forking.client import ForkServer
from ouzel.worker import kinds
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.runner.runner import Runner, RunnerOptions
from ouzel.worker.runner.supervisor import Slot, Timing
from ouzel.worker.store.job import FINAL, Job, NewJob, State
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1.job_pb2_grpc import JobServiceStub
from support import stub_kinds

TESTS = Path(__file__).parents[1]
# For tests of what happens round the store: what happens within it is tested with both.
one_store = pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)
QUICK = RunnerOptions(timing=Timing(beat=0.1, watchdog=60, cancel_grace=1, pause_grace=5), lease=2.0)

# Variables of a process that finds the stub kinds.
STUBS = {
    "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
    kinds.VARIABLE: "support.stub_kinds",
}


def environment(url: str, folder: Path, **more: Any) -> JobEnvironment:
    """Of jobs that save at every chance; everything is in `folder`."""
    values = {"models": folder / "models", "uploads": folder / "datasets", "checkpoint_seconds": 0.0, **more}
    return JobEnvironment(url, folder / "artifacts", **values)


def count(steps: int = 5, seconds: float = 0.0, fault: int = 0, model: str = "m") -> pb.JobSpec:
    """A job that counts."""
    parameters = {
        "steps": explain_pb2.Parameter(integer=steps),
        "seconds": explain_pb2.Parameter(number=seconds),
    }
    return pb.JobSpec(maximize=pb.MaximizeSpec(model=model, parameters=parameters, seed=fault))


@functools.cache
def _forks() -> ForkServer:
    """For all runners of this process, with which it ends."""
    made = ForkServer(stub_kinds.LIBRARIES)
    atexit.register(made.close)
    return made


@contextmanager
def runner(
    store: Store, url: str, folder: Path, options: RunnerOptions = QUICK, slots: int = 1, **more: Any
) -> Iterator[Runner]:
    """more: of the environment of its jobs."""
    rooms = [Slot(f"cpu{number}", STUBS) for number in range(slots)]
    told = environment(url, folder, retries=store.retries, **more)
    made = Runner(store, LocalExecutor(folder / "logs", _forks()), rooms, told, options=options)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until it does; fails if it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ended(store: Store, job: Job, seconds: float = 30.0) -> Job:
    until(lambda: store.get(job.owner, job.id).state in FINAL, seconds)
    return store.get(job.owner, job.id)


def states(store: Store, job: Job) -> list[str]:
    """The names of the states that it has gone through."""
    events = store.events(job.owner, job.id, limit=10_000)
    return [State(each.state_change.state).name for each in events if each.HasField("state_change")]


def processes_of(*ids: str) -> list[psutil.Process]:
    """The processes of jobs, whoever has started them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "ouzel.worker.processes.job_process" in words and not set(ids).isdisjoint(words):
                found.append(process)
    return found


def submit(store: Store, spec: pb.JobSpec, **more: object) -> Job:
    return store.create("me", NewJob(spec, **more))  # type: ignore[arg-type]


@dataclass
class Worker:
    """A real `ouzel-worker` of its own process, with stub kinds."""

    process: subprocess.Popen[str]
    address: str
    token: str
    log: Path

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.address, [("grpc.enable_retries", 0)])
        self.stub = JobServiceStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def create(self, spec: pb.JobSpec, **more: Any) -> pb.Job:
        return self.call("CreateJob", pb.CreateJobRequest(spec=spec, **more))

    def call(self, name: str, request: Any, token: str | None = None, seconds: float = 30.0) -> Any:
        metadata = self.metadata if token is None else (("authorization", f"Bearer {token}"),)
        return getattr(self.stub, name)(request, metadata=metadata, timeout=seconds)

    def watch(self, job: str, after: int = 0, seconds: float = 60.0) -> Any:
        return self.stub.WatchJob(
            pb.WatchJobRequest(id=job, after_sequence=after), metadata=self.metadata, timeout=seconds
        )

    def result(self, job: str, seconds: float = 60.0) -> pb.Job:
        request = pb.WaitJobRequest(id=job)
        return self.call("WaitJob", request, seconds=seconds)

    def stop(self, kill: bool = False) -> int:
        """Its exit status."""
        self.channel.close()
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def worker(
    url: str,
    state: Path,
    *options: str,
    real: bool = False,
    artifacts: Path | str | None = None,
    variables: Mapping[str, str] = {},
) -> Iterator[Worker]:
    """state: its folder. Another one in the same folder goes on where an earlier one has ended. real: its kinds."""
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ouzel.cli.worker", "--state", str(state), "--port", "0", "--jobs", url]
    command += ["--lease", "2", "--checkpoint", "0", "--artifacts", str(artifacts or state / "files")]
    log = state / "worker.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, *options],
            env=os.environ | ({} if real else STUBS) | dict(variables),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "accepted at" in line, log.read_text()[-2000:]
        address = line.partition("accepted at ")[2].split(". ")[0]
        yield Worker(process, address, (state / "jobs" / "token").read_text(), log)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
