"""A long queue: what submissions, claims, lists and watchers cost when thousands of jobs wait.

Submissions: 16 callers create jobs, in turn at the real `ouzel-worker`, at a server of the same library whose CreateJob
does nothing but answer, and, as threads of one process, at the store alone. If the two things that a submission cannot
do without took turns in one interpreter, as they must, they would leave the figure called "bound".
Queue: at each length of it, claims (each with the end of the job) of the store itself, and calls of the worker by one
caller: the first page of the list, a job, and the way from an event to its watcher. Watchers: 1,000 streams, with a
connection each, first of as many jobs that wait, beside a job that is watched once; then all of one job.

    python benchmarks/long_queue.py [--stores sqlite postgres] [--jobs 100 1000 10000] [--watchers 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import psutil
from job_callers import Place, hold, queued, submit, watch
from jobs import CALLERS, PROCESSES, SETTLE, Callers, percentiles, started, stores, until_running

from ouzel.worker.store.job import NewJob, Query
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.open import open_store
from ouzel_protos.v1 import job_pb2 as pb
from ouzel_protos.v1 import job_pb2_grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.jobs import Worker, count

SUBMITTING = 5.0  # s of each round
CLAIMS, CALLS = 300, 300
MANY = Limits(queued=10**7)
EVENTS = 50
STEADY = 30.0  # s that those stay who watch what waits
Row = dict[str, float]


class _Nothing(job_pb2_grpc.JobServiceServicer):
    """Answers with a message of the size of a job."""

    def __init__(self, answer: pb.Job) -> None:
        self._answer = answer

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:  # noqa: N802 - as on the wire
        return self._answer


def nothing(answer: bytes, ready: Any) -> None:
    """The server that does nothing but answer."""

    async def serve() -> None:
        server = grpc.aio.server()
        job_pb2_grpc.add_JobServiceServicer_to_server(_Nothing(pb.Job.FromString(answer)), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.put(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    asyncio.run(serve())


def at_the_store(url: str, seconds: float) -> list[float]:
    """Seconds of each call, of 16 threads, in time."""
    with closing(open_store(url)) as store, ThreadPoolExecutor(CALLERS) as threads:
        start = time.time()

        def caller(number: int) -> list[float]:
            spent = []
            while (begun := time.time()) < start + seconds:
                store.create("local", NewJob(count(), request_id=f"{start}-{number}-{len(spent)}"), limits=MANY)
                spent.append(time.time() - begun)
            return spent

        return list(chain(*threads.map(caller, range(CALLERS))))


def submissions(callers: Callers, new_url: Callable[[Path], str], rounds: int) -> Row:
    context = multiprocessing.get_context("spawn")
    rates: dict[str, list[float]] = {"worker": [], "nothing": [], "store": []}
    with started(new_url) as service, tempfile.TemporaryDirectory() as folder:
        alone = new_url(Path(folder))
        first = service.create(count(10**6, 3600))
        until_running(service, first.id)
        ready = context.Queue()
        server = context.Process(target=nothing, args=(first.SerializeToString(), ready), daemon=True)
        server.start()
        try:
            places = {"worker": Place(service.address, service.metadata), "nothing": Place(ready.get(timeout=60), ())}
            for number in range(rounds + 1):  # the first warms up
                for name, place in places.items():
                    spent = callers.all(submit, place, CALLERS // PROCESSES, time.time() + 1, SUBMITTING)
                    if number:
                        rates[name].append(len(spent) / SUBMITTING)
                spent = callers.one(at_the_store, alone, SUBMITTING)
                if number:
                    rates["store"].append(len(spent) / SUBMITTING)
        finally:
            server.kill()
            server.join()
    row = {f"{name} per second": median(each) for name, each in rates.items()}
    bound = 1 / (1 / row["nothing per second"] + 1 / row["store per second"])
    return row | {"bound per second": bound, "share of it": row["worker per second"] / bound}


def timed(times: int, call: Callable[[], object]) -> Row:
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begun)
    return percentiles(spent)


def of_the_store(url: str, jobs: int) -> dict[str, Row]:
    """Fills a new store up to `jobs`, and asks it; each claim is followed by the job's end and another job."""
    with closing(open_store(url)) as store:
        for _ in range(jobs):
            store.create("local", NewJob(count()), limits=MANY)

        def claim() -> None:
            claimed = store.claim("benchmark")
            assert claimed
            store.succeed(claimed[1], pb.JobResult())
            store.create("local", NewJob(count()), limits=MANY)

        return {
            "claim, end, next": timed(CLAIMS, claim),
            "list": timed(CALLS, lambda: store.list("local", Query(page_size=50))),
        }


def of_the_worker(callers: Callers, service: Worker, jobs: int) -> dict[str, Row]:
    """With a job that tells of its progress, and `jobs` that wait."""
    told = service.create(count(10**6, 0.1), priority=1)
    until_running(service, told.id)
    place = Place(service.address, service.metadata)
    spent = callers.one(queued, place, jobs)
    page = pb.ListJobsRequest(page_size=50)
    rows = {
        "CreateJob": percentiles(spent),
        "ListJobs": timed(CALLS, lambda: service.call("ListJobs", page)),
        "GetJob": timed(CALLS, lambda: service.call("GetJob", pb.GetJobRequest(id=told.id))),
    }
    return rows | {"event at its watcher": percentiles(delays(service, told.id))}


def delays(service: Worker, job: str) -> list[float]:
    """Seconds from each of the next events of a job to its arrival."""
    known = service.call("GetJob", pb.GetJobRequest(id=job)).last_sequence
    late = []
    for event in service.watch(job, after=known):
        late.append(time.time() - event.time.ToNanoseconds() / 1e9)
        if len(late) == EVENTS:
            break
    return late


def of_watchers(callers: Callers, service: Worker, watchers: int) -> dict[str, Row]:
    place = Place(service.address, service.metadata)
    rows: dict[str, Row] = {}
    told = service.create(count(10**6, 0.1), priority=1)
    until_running(service, told.id)
    waiting = [service.create(count()).id for _ in range(watchers)]
    parts = [waiting[number::PROCESSES] for number in range(PROCESSES)]
    held = callers.begin(hold, [(place, part, STEADY) for part in parts])
    time.sleep(STEADY / 2)
    rows[f"event at its watcher, beside {watchers} watchers of other jobs"] = percentiles(delays(service, told.id))
    assert sum(len(each.result()) for each in held) == watchers
    for job in (told.id, *waiting):
        service.call("CancelJob", pb.CancelJobRequest(id=job))
    told = service.create(count(EVENTS, 1.0))
    until_running(service, told.id)
    seen = callers.all(watch, place, watchers // PROCESSES, told.id)
    begun = max(each[0][2] for each in seen) + SETTLE
    late = [max(came - said for _, said, came in each) for each in zip(*seen, strict=True) if each[0][1] > begun]
    rows[f"event at all of {watchers} watchers"] = percentiles(late) | {"events": float(len(late))}
    rows["worker"] = {"MiB": psutil.Process(service.process.pid).memory_info().rss / 2**20}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--jobs", nargs="+", type=int, default=[100, 1000, 10000])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="of the submissions")
    chosen = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "apsw", "psycopg"))
    print(f"{date.today()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    print("\n| store | queue | measure | figures |\n|---|---|---|---|")

    def tell(kind: str, jobs: int | str, rows: dict[str, Row]) -> None:
        for name, row in rows.items():
            figures = ", ".join(f"{what} {value:.2f}" for what, value in row.items())
            print(f"| {kind} | {jobs} | {name} | {figures} |", flush=True)

    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as processes:
        callers = Callers(processes)
        for kind in chosen.stores:
            with stores(kind) as new_url:
                tell(kind, "grows", {f"submissions, {CALLERS} callers": submissions(callers, new_url, chosen.rounds)})
                for jobs in chosen.jobs:
                    with tempfile.TemporaryDirectory() as folder:
                        tell(kind, jobs, of_the_store(new_url(Path(folder)), jobs))
                    with started(new_url) as service:
                        tell(kind, jobs, of_the_worker(callers, service, jobs))
                with started(new_url) as service:
                    tell(kind, 0, of_watchers(callers, service, chosen.watchers))


if __name__ == "__main__":
    main()
