"""The job service against its aims: a real `ouzel-worker`, its callers in two other processes, on both stores.

Submissions: 16 callers, each with a connection of its own, create jobs as fast as they are answered, while a long job
holds the only slot, so that nothing but the queue grows. Claims: jobs that end at once, one after another, from the
answer of CreateJob until a watcher has the RUNNING event. Events: a job tells of its progress, which 100 watchers with
a connection each follow; an event has arrived when the last of them has it, counted from the time that it carries.
First steps: real jobs on a small network, one after another, from the time of the RUNNING event to that of the first
event of a step, with a worker that forks jobs and one that does not. To look at the images of a data set is no step.
Memory is the worker's resident one: idle, after each measure, and with the real kinds of jobs after it has refused a
request. Every measure is repeated with a new worker and a new store; median and worst of the rounds are printed.

    python benchmarks/jobs.py [--stores sqlite postgres] [--seconds 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import psutil
from job_callers import Place, claims, pause, submit, watch

from ouzel.models.store import ModelStore
from ouzel.worker.datasets.store import Datasets
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.datasets import stored, two_colours
from support.jobs import Worker, count, worker
from support.postgres import server
from support.tuned import publish

PROCESSES = 2  # of the callers
CALLERS, WATCHERS = 16, 100
STEP = 0.1  # s, of the job that is watched
IDLE = 2.0  # s from the start until memory is looked at
SETTLE = 1.0  # s after the last watcher has come, before events count
# Jobs as operators run them, not as tests do; nothing but the first job may run while the queue grows.
OPTIONS = ("--lease", "15", "--checkpoint", "10", "--slots", "1", "--queued", "1000000")
Row = dict[str, float]


class Callers:
    """The processes of the callers, started before anything is measured."""

    def __init__(self, processes: ProcessPoolExecutor) -> None:
        self._processes = processes
        self.all(pause)

    def one(self, function: Callable[..., list[Any]], *args: Any) -> list[Any]:
        return self._processes.submit(function, *args).result()

    def all(self, function: Callable[..., list[Any]], *args: Any) -> list[Any]:
        """What all processes return together; they call it at the same time."""
        calls = [self._processes.submit(function, *args) for _ in range(PROCESSES)]
        return list(chain(*(each.result() for each in calls)))

    def begin(self, function: Callable[..., list[Any]], each: Sequence[tuple[Any, ...]]) -> list[Future[list[Any]]]:
        """Has as many processes work as there are arguments, and does not wait for them."""
        return [self._processes.submit(function, *arguments) for arguments in each]


def memory(row: Row, service: Worker, when: str) -> None:
    """Note it in `row`, and whether torch is loaded by now."""
    process = psutil.Process(service.process.pid)
    row[f"MiB, {when}"] = process.memory_info().rss / 2**20
    torch = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
    row["torch loaded"] = max(row.get("torch loaded", 0), torch)


def submissions(callers: Callers, service: Worker, seconds: float) -> Row:
    first = service.create(count(10**6, 3600))
    until_running(service, first.id)
    start, place = time.time() + 2, Place(service.address, service.metadata)
    spent = callers.all(submit, place, CALLERS // PROCESSES, start, seconds)
    return {"per second": len(spent) / seconds} | percentiles(spent)


def claimed(callers: Callers, service: Worker, seconds: float) -> Row:
    spent = callers.one(claims, Place(service.address, service.metadata), seconds)
    return {"jobs": len(spent)} | percentiles(spent)


def fan_out(callers: Callers, service: Worker, seconds: float) -> Row:
    job = service.create(count(round((seconds + 5) / STEP), STEP))
    place = Place(service.address, service.metadata)
    until_running(service, job.id)
    seen = callers.all(watch, place, WATCHERS // PROCESSES, job.id)
    last = service.call("GetJob", pb.GetJobRequest(id=job.id)).last_sequence
    wrong = sum([sequence for sequence, *_ in each] != list(range(1, last + 1)) for each in seen)
    assert not wrong, f"{wrong} watchers have gaps or duplicates"
    begun = max(each[0][2] for each in seen) + SETTLE
    late = [max(arrived - told for _, told, arrived in each) for each in zip(*seen, strict=True) if each[0][1] > begun]
    return {"events": len(late)} | percentiles(late)


def until_running(service: Worker, job: str) -> None:
    for event in service.watch(job):
        if event.state_change.state == pb.Job.RUNNING:
            return


def percentiles(seconds: Sequence[float]) -> Row:
    ordered = sorted(seconds)
    return {f"p{part} ms": 1000 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 99)}


def first_steps(service: Worker, spec: pb.JobSpec, seconds: float) -> Row:
    """From claim to first step. The first job is not counted: it fills caches."""
    spent: list[float] = []
    deadline = time.time() + seconds
    while time.time() < deadline or len(spent) < 4:
        if spec.HasField("finetune"):
            spec.finetune.name = f"tuned{len(spent)}"
        events = list(service.watch(service.create(spec).id))
        assert events[-1].state_change.state == pb.Job.SUCCEEDED, events[-1]
        times = {
            what: min(event.time.ToNanoseconds() / 1e9 for event in events if of(event))
            for what, of in (("claimed", _is_claim), ("stepped", _is_step))
        }
        spent.append(times["stepped"] - times["claimed"])
    return {"jobs": len(spent) - 1} | {name: each for name, each in percentiles(spent[1:]).items() if "p50" in name}


def _is_claim(event: pb.JobEvent) -> bool:
    return event.state_change.state == pb.Job.RUNNING


def _is_step(event: pb.JobEvent) -> bool:
    return event.progress.step > 0 and event.progress.phase != "checking the images"


def starts(new_url: Callable[[Path], str], seconds: float) -> dict[str, Row]:
    """First steps of two kinds of jobs, forked and not."""
    rows: dict[str, Row] = {}
    for way, options in {"forked": (), "not forked": ("--no-fork",)}.items():
        with started(new_url, *options, real=True, models=True) as service:
            dataset = stored(Datasets(service.log.parent / "datasets"), "local", two_colours()).id
            node = pb.Node(logit=explain_pb2.ClassRef(index=0))
            steps = {"steps": explain_pb2.Parameter(integer=8)}
            specs = {
                "maximize": pb.JobSpec(maximize=pb.MaximizeSpec(model="base", targets=[node], parameters=steps)),
                "finetune": pb.JobSpec(finetune=pb.FinetuneSpec(base="base", dataset=dataset)),
            }
            for kind, spec in specs.items():
                rows[f"claim to first step, {kind}, {way}"] = first_steps(service, spec, seconds)
    return rows


MEASURES: dict[str, Callable[[Callers, Worker, float], Row]] = {
    f"submissions, {CALLERS} callers": submissions,
    "claims, one job after another": claimed,
    f"events, {WATCHERS} watchers": fan_out,
}


def refuse(service: Worker) -> None:
    """Have it load what checks the requests of the real kinds."""
    try:
        service.create(count(model="nowhere"))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise


@contextmanager
def stores(kind: str) -> Iterator[Callable[[Path], str]]:
    """Makes URLs of new, empty stores, given a folder."""
    if kind == "sqlite":
        yield lambda folder: f"sqlite://{folder / 'jobs.db'}"
        return
    import psycopg

    def create(_: Path) -> str:
        name = f"ouzel_{uuid.uuid4().hex}"
        with psycopg.connect(running, autocommit=True) as raw:
            raw.execute(f'CREATE DATABASE "{name}"')
        return running.replace("/postgres?", f"/{name}?")

    with server() as running, psycopg.connect(running) as raw:
        settings = [raw.execute(f"SHOW {name}").fetchall()[0][0] for name in ("server_version", "fsync")]
        print(f"PostgreSQL {settings[0]}, fsync {settings[1]}", file=sys.stderr)
        yield create


@contextmanager
def started(new_url: Callable[[Path], str], *more: str, real: bool = False, models: bool = False) -> Iterator[Worker]:
    """models: whether its store holds a small network."""
    folder = Path(tempfile.mkdtemp(prefix="ouzel-jobs-"))
    try:
        options = (*OPTIONS, "--store", str(folder / "models"), *more)
        if models:
            publish(ModelStore(folder / "models"), "job", 1, "base", owner="local")
        with worker(new_url(folder), folder, *options, real=real) as service:
            yield service
            service.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(callers: Callers, kind: str, seconds: float) -> dict[str, Row]:
    """One round. By name of the measure."""
    rows: dict[str, Row] = {"worker": {}}
    with stores(kind) as new_url:
        for name, one in MEASURES.items():
            with started(new_url) as service:
                time.sleep(IDLE)
                memory(rows["worker"], service, "idle")
                rows[name] = one(callers, service, seconds)
                memory(rows["worker"], service, f"after {name.partition(',')[0]}")
        with started(new_url, real=True) as service:
            refuse(service)
            time.sleep(IDLE)
            memory(rows["worker"], service, "idle, real kinds")
        rows |= starts(new_url, seconds)
    print(kind, {name: {k: round(v, 1) for k, v in row.items()} for name, row in rows.items()}, file=sys.stderr)
    return rows


def table(rounds: dict[str, list[dict[str, Row]]]) -> str:
    """rounds: by store."""
    lines = ["| store | measure | figure | median | worst |", "|---|---|---|---|---|"]
    for kind, measured in rounds.items():
        for name, row in measured[0].items():
            for figure in row:
                values = [each[name][figure] for each in measured]
                worst = min(values) if figure in ("per second", "jobs", "events") else max(values)
                places = 1 if figure.endswith(" ms") else 0
                lines.append(f"| {kind} | {name} | {figure} | {median(values):.{places}f} | {worst:.{places}f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measure in each round")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "apsw", "psycopg"))
    print(f"{date.today()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as processes:
        callers = Callers(processes)
        rounds: dict[str, list[dict[str, Row]]] = {kind: [] for kind in chosen.stores}
        for _ in range(chosen.rounds):  # the stores take turns, so that both meet the same noise
            for kind, measured in rounds.items():
                measured.append(measure(callers, kind, chosen.seconds))
    print(f"\n{table(rounds)}")


if __name__ == "__main__":
    main()
