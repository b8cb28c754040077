"""Kills workers and jobs at random while jobs are submitted, then counts what was lost or done twice.

python tests/support/chaos.py [--kills 260] [--stores sqlite postgres] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

import grpc
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from ouzel.errors import Unavailable
from ouzel.forking import server
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.artifacts.protocol import Artifacts
from ouzel.worker.store.job import State
from ouzel.worker.store.open import open_store
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import Worker, count, processes_of, until, worker

_WORKERS = 2
_PATIENCE = 240.0  # s in which none of the jobs that are left ends; on a busy machine many still wait in the queue


class Ground(Protocol):
    """What workers and jobs stand on.

    Attributes:
        url: Of the job store.
        artifacts: Where files of jobs lie.
        waiting: Jobs that are not done, beyond which no more are submitted.
        orphans: Seconds that processes of jobs may live on when all is over.
        kills: Parts that can be killed besides workers and jobs, by name, with what kills one and starts it again.
        stops: The same of what stops for a while.
    """

    url: str
    artifacts: Artifacts
    waiting: int
    orphans: float
    kills: Mapping[str, Callable[[random.Random], None]]
    stops: Mapping[str, Callable[[random.Random], None]]

    def worker(self, number: int) -> AbstractContextManager[Worker]:
        """Starts the worker of this number, over whatever the last one has left."""
        ...


class OneMachine:
    """Workers that start their jobs themselves."""

    waiting, orphans = 1000, 5.0
    kills: Mapping[str, Callable[[random.Random], None]] = {}
    stops: Mapping[str, Callable[[random.Random], None]] = {}

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self.artifacts: Artifacts = FolderArtifacts(folder / "artifacts")

    def worker(self, number: int) -> AbstractContextManager[Worker]:
        state = self._folder / f"state{number}"
        return worker(self.url, state, "--lost", "1000", "--slots", "2", artifacts=self._folder / "artifacts")


@dataclass
class Report:
    """harm: how often what was killed or stopped for a while. lost: acknowledged jobs that did not succeed. twice: jobs
    published more than once.
    """

    harm: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    attempts: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # gaps in events, artifacts that cannot be read
    left: list[int] = field(default_factory=list)  # processes


class Rampage:
    """Two workers on one store, one of which or one of whose jobs is killed or stopped every now and then."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._random = random.Random(seed)
        self._stack = ExitStack()
        self._workers: list[Worker] = []
        self._acknowledged: dict[str, str] = {}
        self._over = threading.Event()
        self.report = Report()

    def run(self, kills: int, jobs: int = 6) -> Report:
        """Goes on until at least so many were killed, and so many jobs submitted."""
        began = time.monotonic()
        with self._stack:
            self._workers = [self._start(number) for number in range(_WORKERS)]
            submitting = threading.Thread(target=self._submit_all)
            submitting.start()
            try:
                killed = ("worker", "job", *self._ground.kills)
                while sum(self.report.harm.get(what, 0) for what in killed) < kills or len(self._acknowledged) < jobs:
                    time.sleep(self._random.uniform(0.05, 0.6))
                    self._harm()
            finally:
                self._over.set()
                submitting.join()
            self._wait()
        self._judge()
        self.report.seconds = time.monotonic() - began
        return self.report

    def _start(self, number: int) -> Worker:
        return self._stack.enter_context(self._ground.worker(number))

    def _submit_all(self) -> None:
        """One request at a time, until it is acknowledged, and then a few times again."""
        number = 0
        while not self._over.is_set():
            most = self._ground.waiting
            if len(self._acknowledged) > most and self._not_done() > most:
                time.sleep(0.2)
                continue
            number += 1
            spec = count(self._random.randint(1, 12), 0.05)
            ids = {self._acknowledge(spec, f"request-{number}") for _ in range(self._random.randint(1, 2))}
            if len(ids) > 1:
                self.report.twice.append(f"request-{number}")
            time.sleep(self._random.uniform(0.0, 0.3))

    def _not_done(self) -> int:
        with suppress(Unavailable), closing(open_store(self._ground.url)) as store:
            jobs = store.statistics().jobs
            return sum(count for (state, _), count in jobs.items() if state != State.SUCCEEDED.name)
        return sys.maxsize  # the database is away

    def _acknowledge(self, spec: pb.JobSpec, request: str) -> str:
        while True:
            chosen = self._random.choice(self._workers)
            with suppress(grpc.RpcError, ValueError):  # killed meanwhile
                job = chosen.call("CreateJob", pb.CreateJobRequest(spec=spec, request_id=request), seconds=5)
                self._acknowledged[request] = job.id
                return str(job.id)
            time.sleep(0.05)

    def _harm(self) -> None:
        number = self._random.randrange(_WORKERS)
        victim = self._workers[number]
        jobs = processes_of(*self._acknowledged.values())
        more = {**self._ground.kills, **self._ground.stops}
        often = ["worker", "job", "job", "job stopped", "worker stopped", "forks"] * 10
        what = self._random.choice([*often, *more])
        if what in more:
            more[what](self._random)
        elif what == "worker":
            victim.stop(kill=True)
            self._workers[number] = self._start(number)
        elif what == "worker stopped":  # longer than its lease
            victim.process.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            victim.process.send_signal(signal.SIGCONT)
        elif what == "forks":  # what jobs are forked from; those that run go on
            if not (forks := _forks_of(victim.process.pid)):
                return
            for each in forks:
                each.kill()
        elif not jobs:
            return
        else:
            with suppress(psutil.Error):
                job = self._random.choice(jobs)
                if what == "job":
                    job.kill()
                else:
                    job.suspend()
                    time.sleep(self._random.uniform(0.1, 1.0))
                    job.resume()
        self.report.harm[what] = self.report.harm.get(what, 0) + 1

    def _wait(self) -> None:
        with closing(open_store(self._ground.url)) as store:
            waiting = set(self._acknowledged.values())
            deadline = time.monotonic() + _PATIENCE
            while waiting and time.monotonic() < deadline:
                left = {job for job in waiting if store.get("local", job).state is not State.SUCCEEDED}
                if len(left) < len(waiting):
                    deadline = time.monotonic() + _PATIENCE
                waiting = left
                time.sleep(0.1)
        jobs = processes_of(*self._acknowledged.values())
        jobs += [forks for each in self._workers for forks in _forks_of(each.process.pid)]
        for each in self._workers:
            if each.stop() != 0:
                self.report.broken.append(f"worker {each.process.pid} ended with {each.process.returncode}")
        with suppress(AssertionError):
            until(lambda: not any(job.is_running() for job in jobs), self._ground.orphans)
        self.report.left = [job.pid for job in jobs if job.is_running()]

    def _judge(self) -> None:
        with closing(open_store(self._ground.url)) as store:
            store.check()
            for job in set(self._acknowledged.values()):
                stored = store.get("local", job)
                self.report.jobs += 1
                self.report.attempts += stored.attempt
                if stored.state is not State.SUCCEEDED:
                    self.report.lost.append(f"{job} {stored.state.name} {stored.error}")
                    continue
                events = store.events("local", job, limit=100_000)
                done = [each for each in events if each.state_change.state == pb.Job.SUCCEEDED]
                if len(done) != 1:
                    self.report.twice.append(job)
                if [each.sequence for each in events] != list(range(1, stored.last_sequence + 1)):
                    self.report.broken.append(f"{job}: gaps in its events")
                (artifact,) = store.artifacts("local", job)
                if self._ground.artifacts.get(artifact.sha256) != f"m counted to {stored.progress.steps}".encode():
                    self.report.broken.append(f"{job}: another's artifact")


def _forks_of(worker: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [each for each in psutil.Process(worker).children() if each.name() == server.NAME]
    return []


@contextmanager
def one_machine(store: str) -> Iterator[Ground]:
    """store: "sqlite" or "postgres"."""
    from support.postgres import server as postgres

    with tempfile.TemporaryDirectory(prefix="soak-") as folder, ExitStack() as stack:
        url = f"sqlite://{folder}/jobs.db" if store == "sqlite" else stack.enter_context(postgres())
        yield OneMachine(url, Path(folder))


def rampages(grounds: Mapping[str, AbstractContextManager[Ground]], kills: int, seed: int) -> int:
    """One after the other; prints a table. Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started ends, too
    print(f"{date.today()}, {psutil.cpu_count()} cores, seed {seed}\n")
    print("| store | killed or stopped | jobs | attempts | lost | published twice | broken | processes left | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    bad = False
    for name, opened in grounds.items():
        with opened as ground:
            report = Rampage(ground, seed).run(kills)
        harm = ", ".join(f"{what}: {times}" for what, times in sorted(report.harm.items()))
        counts = [len(each) for each in (report.lost, report.twice, report.broken, report.left)]
        cells = [name, harm, report.jobs, report.attempts, *counts, f"{report.seconds:.0f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        bad = bad or any(counts)
        for each in (*report.lost, *report.twice, *report.broken):
            print(f"  {each}", file=sys.stderr)
    return int(bad)


def arguments(words: str, kills: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=kills, help="of each store")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> int:
    parser = arguments(__doc__ or "", 260)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    chosen = parser.parse_args()
    return rampages({store: one_machine(store) for store in chosen.stores}, chosen.kills, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
